"""What a member does that may not vote: one whose log has a hole or is an older copy, until a leader has refilled it.

It keeps the log as a follower does, but never campaigns and never votes, for it may have forgotten entries it once
vouched for. It votes again after holding everything its leader had when that leader committed in its own term.

Source: protocol §1.2, §2.8; reliability §4 "Recovery table".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from copycat.raft.core import follower, install
from copycat.raft.core.effects import ClearFault
from copycat.raft.core.events import Outdated
from copycat.raft.protocol.messages import Append, Install

if TYPE_CHECKING:
    from copycat.raft.core.raft import Raft

NEVER = 1 << 62


@dataclass(slots=True, kw_only=True)
class Passive(follower.Follower):
    """A follower without a vote. `target_index` is what it must hold, durably, to vote again."""

    name: str = "passive"
    target_index: int | None = None
    target_term: int = 0
    clearing: bool = False


def enter(raft: Raft) -> Passive:
    return Passive(deadline_ms=NEVER)


def on_outdated(raft: Raft, event: Outdated) -> None:
    """Others hold this member's word for more than it knows. In its term it may have voted: it does so no more."""
    if event.term > raft.term:
        raft.adopt_term(event.term)
    if raft.vote == "":
        raft.set_vote(raft.member_id)
    if raft.is_leader:
        raft.leader = None
    raft.become(enter(raft))  # anew, if it was passive before: to hold what was wanted then is not enough


def on_deadline(raft: Raft, role: Passive) -> None:
    """Waits for ever: without a leader there is nobody to be refilled by."""
    role.deadline_ms = NEVER


def on_append(raft: Raft, role: Passive, member: str, request: Append) -> None:
    """As a follower; and note what must be held before voting again."""
    if request.term > role.target_term:
        role.target_index, role.target_term, role.verified_index, role.told_match = None, request.term, 0, 0
        role.round = 0
    follower.on_append(raft, role, member, request)
    role.deadline_ms = NEVER
    if request.term == raft.term and request.settled and role.target_index is None:
        role.target_index = request.last_index


def finish(raft: Raft, role: Passive) -> None:
    follower.answer(raft, role)
    if role.target_index is None or role.target_term != raft.term:
        return
    if not role.clearing and min(raft.durable_index, role.verified_index) >= role.target_index:
        role.clearing = True
        raft.effects.append(ClearFault())


def on_fault_cleared(raft: Raft, role: Passive) -> None:
    """Refilled, and the disk says so too: a voter again."""
    again = follower.enter(raft)
    again.verified_index, again.round, again.told_match = role.verified_index, role.round, role.told_match
    again.reception = role.reception
    raft.become(again)


def on_unreachable(raft: Raft, role: Passive, member: str) -> None:
    """Changes nothing: it may not campaign."""


def on_persisted(raft: Raft, role: Passive) -> None:
    """A term, or a vote of before: it is not given any more."""


on_flushed = follower.on_flushed

HANDLERS = {Append: on_append, Install: install.on_install}
