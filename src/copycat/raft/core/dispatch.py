"""What each event means to a member, whatever its role; and which file knows what its role does about it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from copycat.errors import broken
from copycat.raft.core import candidate, follower, install, leader, passive, succession
from copycat.raft.core.effects import ChangeRefused, ProposalRefused, ReadRefused
from copycat.raft.core.events import (
    Applied,
    ChangeProposed,
    ChunkStored,
    CommitAwaited,
    FaultCleared,
    Flushed,
    Outdated,
    Persisted,
    Proposed,
    Reachable,
    ReadRequested,
    Received,
    SnapshotLost,
    SnapshotReceived,
    SnapshotSpoiled,
    SnapshotTaken,
    TransferRequested,
    Unreachable,
)

if TYPE_CHECKING:
    from copycat.raft.core.raft import Raft


def on_received(raft: Raft, event: Received) -> None:
    raft.on_message(event.member, event.message)


def on_flushed(raft: Raft, event: Flushed) -> None:
    """Believe a flush only for the very entries it wrote: a rewritten index has another term (reliability §5 (15))."""
    if event.index > raft.durable_index and raft.log.term_at(event.index) == event.term:
        raft.durable_index = event.index
        # The disk moves: what is still outstanding counts from now.
        raft.flush_since = None if event.index >= raft.log.last_index else raft.now
    ROOMS[type(raft.role)].on_flushed(raft, raft.role)


def on_persisted(raft: Raft, event: Persisted) -> None:
    """Term and vote are durable: what waited for them may now be said."""
    raft.persisted_term, raft.persisted_vote = event.term, event.vote
    if event.term == raft.term:
        ROOMS[type(raft.role)].on_persisted(raft, raft.role)


def on_fault_cleared(raft: Raft, event: FaultCleared) -> None:
    if isinstance(raft.role, passive.Passive) and raft.role.clearing:
        passive.on_fault_cleared(raft, raft.role)


def on_outdated(raft: Raft, event: Outdated) -> None:
    passive.on_outdated(raft, event)


def on_applied(raft: Raft, event: Applied) -> None:
    if not raft.applied_index <= event.index <= raft.commit_index:
        raise broken("applied beyond the commit index", event.index)
    raft.applied_index = event.index


def on_snapshot_taken(raft: Raft, event: SnapshotTaken) -> None:
    install.on_snapshot_taken(raft, raft.role if type(raft.role) is leader.Leader else None, event)


def on_chunk_stored(raft: Raft, event: ChunkStored) -> None:
    if isinstance(raft.role, follower.Follower):
        install.on_chunk_stored(raft, raft.role, event)


def on_snapshot_received(raft: Raft, event: SnapshotReceived) -> None:
    """It is on disk, so it may be sent, whatever has become of this member meanwhile."""
    if raft.snapshot is None or raft.snapshot.index < event.snapshot.index:
        raft.snapshot = event.snapshot
    if isinstance(raft.role, follower.Follower):
        install.on_snapshot_received(raft, raft.role, event)


def on_snapshot_lost(raft: Raft, event: SnapshotLost) -> None:
    if type(raft.role) is leader.Leader:
        install.on_snapshot_lost(raft.role, event)


def on_snapshot_spoiled(raft: Raft, event: SnapshotSpoiled) -> None:
    if isinstance(raft.role, follower.Follower):
        install.on_snapshot_spoiled(raft, raft.role, event)


def on_commit_awaited(raft: Raft, event: CommitAwaited) -> None:
    if type(raft.role) is leader.Leader:
        leader.on_commit_awaited(raft, raft.role)


def on_proposed(raft: Raft, event: Proposed) -> None:
    if type(raft.role) is leader.Leader and raft.is_ready and raft.role.heir is None:
        leader.propose(raft, raft.role, event)
    else:
        raft.effects.append(ProposalRefused([event.body]))


def on_change_proposed(raft: Raft, event: ChangeProposed) -> None:
    if type(raft.role) is leader.Leader:
        leader.change(raft, raft.role, event.body)
    else:
        raft.effects.append(ChangeRefused(event.body, "this member does not lead"))


def on_transfer_requested(raft: Raft, event: TransferRequested) -> None:
    if type(raft.role) is leader.Leader:
        succession.begin(raft, raft.role, event.member)


def on_read(raft: Raft, event: ReadRequested) -> None:
    if type(raft.role) is leader.Leader and raft.is_ready:
        leader.read(raft, raft.role, event.token)
    else:
        raft.effects.append(ReadRefused([event.token]))


def on_unreachable(raft: Raft, event: Unreachable) -> None:
    if event.refused:
        raft.dead.add(event.member)
    ROOMS[type(raft.role)].on_unreachable(raft, raft.role, event.member)


def on_reachable(raft: Raft, event: Reachable) -> None:
    raft.dead.discard(event.member)
    if type(raft.role) is leader.Leader:
        leader.on_reachable(raft, raft.role, event.member)


ON_EVENT: dict[type, Callable[..., None]] = {
    Received: on_received,
    Flushed: on_flushed,
    Persisted: on_persisted,
    FaultCleared: on_fault_cleared,
    Outdated: on_outdated,
    Applied: on_applied,
    SnapshotTaken: on_snapshot_taken,
    ChunkStored: on_chunk_stored,
    SnapshotReceived: on_snapshot_received,
    SnapshotLost: on_snapshot_lost,
    SnapshotSpoiled: on_snapshot_spoiled,
    CommitAwaited: on_commit_awaited,
    Proposed: on_proposed,
    ChangeProposed: on_change_proposed,
    TransferRequested: on_transfer_requested,
    ReadRequested: on_read,
    Unreachable: on_unreachable,
    Reachable: on_reachable,
}

ROOMS: dict[type, ModuleType] = {
    follower.Follower: follower,
    candidate.Candidate: candidate,
    leader.Leader: leader,
    passive.Passive: passive,
}
