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
