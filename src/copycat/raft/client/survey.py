"""What every member of a cluster says of itself, and what that comes to."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from copycat.errors import CopycatError
from copycat.raft.client.client import RaftClient
from copycat.raft.protocol.members import Member

Answers = dict[str, dict[str, Any]]
"""By member: its status, or {"unreachable": reason}."""


async def ask_all(members: Sequence[Member], timeout: float) -> Answers:
    """Ask these members and then those that they know of, each for `timeout` seconds; the answers by id.

    Members may reach one another at other addresses than these: who has answered is not asked again.
    """
    answers = await _ask(members, timeout)
    present = {answer["id"] for answer in answers.values() if has_answered(answer)}
    known = {
        address: Member.parse(f"{name}={address}")
        for answer in answers.values()
        for name, address in answer.get("members", {}).items()
    }
    others = [each for each in known.values() if each.id not in present and each.address not in answers]
    answers |= await _ask(others, timeout)
    names = {member.address: member.id for member in (*members, *known.values())}
    found: Answers = {}
    for address, answer in answers.items():
        name = str(answer.get("id", names[address]))
        if name not in found or has_answered(answer):
            found[name] = answer
    return dict(sorted(found.items()))


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
