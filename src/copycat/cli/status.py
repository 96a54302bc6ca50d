"""`copycat status`: what every member of a cluster says of itself."""

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from copycat.cli.command import Command
from copycat.cli.settings import Setting, SettingError, positive_number
from copycat.cli.text import table
from copycat.errors import CopycatError
from copycat.raft.client.client import RaftClient
from copycat.raft.protocol.members import Member, parse_members

SETTINGS = (
    Setting(name="members", metavar="LIST", help="some or all members: host:port,... or id=host:port,..."),
    Setting(
        name="timeout",
        metavar="SECONDS",
        parse=positive_number,
        default=3.0,
        help="how long to wait for each member (3)",
    ),
)

EPILOG = """\
example: copycat status 127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003

Members that those named know of are asked as well.

exit status: 0 there is a leader; 1 there is none, and it says why; 2 wrong usage.
"""

COLUMNS = {
    "id": "id",
    "role": "role",
    "term": "term",
    "commit": "commit_index",
    "applied": "applied_index",
    "sessions": "sessions",
}

Answers = dict[str, dict[str, Any]]
"""By member: its status, or {"unreachable": reason}."""


async def ask_all(members: Sequence[Member], timeout: float) -> Answers:
    """Ask these members and then those that they know of, each for `timeout` seconds; the answers by id."""
    answers = await _ask(members, timeout)
    known = {
        address: Member.parse(f"{member_id}={address}")
        for answer in answers.values()
        for member_id, address in answer.get("members", {}).items()
    }
    others = [member for address, member in known.items() if address not in answers]
    answers |= await _ask(others, timeout)
    names = {member.address: member.id for member in members} | {address: each.id for address, each in known.items()}
    return dict(sorted((str(answer.get("id", names[address])), answer) for address, answer in answers.items()))


async def _ask(members: Sequence[Member], timeout: float) -> Answers:
    """The answers, by address."""
    answers = await asyncio.gather(*(ask(member, timeout) for member in members))
    return {member.address: answer for member, answer in zip(members, answers, strict=True)}


async def ask(member: Member, timeout: float) -> dict[str, Any]:
    """One member's status, or {"unreachable": reason}."""
    client = RaftClient([member])
    try:
        async with asyncio.timeout(timeout):
            return dict(await client.status_of(member, timeout=timeout))
    except TimeoutError:
        return {"unreachable": f"no answer within {timeout:g} s"}
    except (CopycatError, OSError) as error:
        return {"unreachable": str(error)}
    finally:
        await client.close()


def has_answered(answer: Mapping[str, Any]) -> bool:
    """Whether this is a status. (One has an "unreachable" too: the others that this member cannot reach.)"""
    return "role" in answer


def summary(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The cluster as a whole: `leader` (None: there is none), `term`, `members`, `why_no_leader`.

    Members may differ for a moment; who speaks of the highest term is believed.
    """
    present = [answer for answer in answers.values() if has_answered(answer)]
    term = max((answer["term"] for answer in present), default=0)
    newest = [answer for answer in present if answer["term"] == term]
    leader = next((answer["leader"] for answer in newest if answer["leader"]), None)
    return {
        "leader": leader,
        "term": term,
        "members": answers,
        "why_no_leader": None if leader else _why(answers, newest),
    }


def _why(answers: Mapping[str, Mapping[str, Any]], newest: Sequence[Mapping[str, Any]]) -> str:
    if newest:
        return "; ".join(dict.fromkeys(str(answer["why_no_leader"]) for answer in newest))
    missing = "; ".join(f"{name}: {answer['unreachable']}" for name, answer in answers.items())
    return f"no member answered: {missing}"


def describe(cluster: Mapping[str, Any]) -> str:
    """The summary for a person: a table, and a line on the leader."""
    rows = []
    for name, answer in cluster["members"].items():
        if has_answered(answer):
            rows.append([str(answer[field]) for field in COLUMNS.values()])
        else:
            rows.append([name, f"unreachable: {answer['unreachable']}"])
    if cluster["leader"]:
        line = f"{cluster['leader']} leads term {cluster['term']}"
    else:
        line = f"no leader: {cluster['why_no_leader']}"
    return f"{table(list(COLUMNS), rows)}\n{line}"


def run(options: Namespace) -> int:
    """Ask, and print what was answered."""
    named = options.addresses or options.members
    if not named:
        raise SettingError("name the members: copycat status host:port,...")
    members = parse_members(named)
    cluster = summary(asyncio.run(ask_all(members, options.timeout)))
    print(json.dumps(cluster) if options.json else describe(cluster))
    return 0 if cluster["leader"] else 1


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("addresses", metavar="MEMBERS", nargs="?", help="the same as --members")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="status",
    summary="ask every member how it is",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
