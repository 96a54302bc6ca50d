"""How a leader lets another lead, without an election timeout in between.

The heir is brought level, while no commands are taken; then it is told to campaign at once, and the others vote in
spite of their promise, for its request says whose wish it is. From the moment the heir is told, no lease read is served
in this term again: the promise that leases rest on is broken by it (protocol §3.2).

Source: Raft dissertation §3.10, §4.2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from copycat.raft.core import follower
from copycat.raft.protocol.messages import TimeoutNow

if TYPE_CHECKING:
    from copycat.raft.core.leader import Leader
    from copycat.raft.core.raft import Raft

NEVER = 1 << 62


def begin(raft: Raft, role: Leader, member: str | None) -> None:
    """Let `member` lead, None: whoever holds most. Given up after an election timeout."""
    able = [each for each in raft.electors if role.members[each].reachable and not role.members[each].refilling]
    if member is None and able:
        member = max(able, key=lambda each: role.members[each].match_index)
    if member in able and role.heir is None:
        role.heir, role.heir_until_ms = member, raft.now + raft.config.election_timeout_ms


def hand_over(raft: Raft, role: Leader) -> None:
    """Tell the heir once it holds everything durably; or take commands again, for it does not get there."""
    heir = role.heir
    if heir is None:
        return
    if raft.now >= role.heir_until_ms or heir not in raft.electors:
        role.heir, role.heir_until_ms = None, NEVER
    elif role.members[heir].match_index == raft.log.last_index and (
        not role.has_handed_over or raft.now >= role.heartbeat_ms  # what was said may be lost
    ):
        role.has_handed_over = True
        raft.send(heir, TimeoutNow(term=raft.term))


def abdicate(raft: Raft, role: Leader) -> None:
    """This leader is a voter no longer: whoever holds most goes on."""
    heir = max(raft.electors, key=lambda member: role.members[member].match_index)
    raft.send(heir, TimeoutNow(term=raft.term))
    raft.leader = None
    raft.become(follower.enter(raft))
