"""How a member that lacks entries its leader no longer has goes on from the leader's snapshot.

The leader finds out by a refusal: the member's log may agree only below where its own log begins. It then sends the
file of its newest snapshot, a piece at a time; heartbeats go on beside it, so no election comes of it. The member puts
the pieces aside. Whole, sound, durable and read into a new state machine, the snapshot takes the place of log and state
in one step. Another leader begins anew, for its snapshots are its own.

A piece is not repeated, since what is sent is not small: a leader that has waited a heartbeat asks how much has come.
Answers name what they answer, so one that was late or came twice moves nothing.

Source: Raft dissertation §5.3; protocol §8.5; reliability §5 (27-33).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from copycat.errors import check
from copycat.raft.core.effects import Discard, SendSnapshot, StoreChunk
from copycat.raft.core.transfer import Reception, Transfer
from copycat.raft.protocol.messages import Install, InstallResponse

if TYPE_CHECKING:
    from copycat.raft.core.events import ChunkStored, SnapshotLost, SnapshotReceived, SnapshotSpoiled, SnapshotTaken
    from copycat.raft.core.follower import Follower
    from copycat.raft.core.leader import Leader
    from copycat.raft.core.progress import Progress
    from copycat.raft.core.raft import Raft


# -- every member: what the log no longer needs to hold ---------------------------------------------------------------


def on_snapshot_taken(raft: Raft, role: Leader | None, event: SnapshotTaken) -> None:
    """Send this one to laggards from now on, and let go of entries, except for those that must follow a transfer.

    `role` is that of a leader, else None.
    """
    raft.snapshot = event.snapshot
    index = min(event.discard_index, event.snapshot.index, raft.applied_index, raft.durable_index)
    if role is not None:
        transfers = [p.transfer.snapshot.index for p in role.members.values() if p.transfer is not None]
        index = min([index, *transfers])
    index = raft.log.boundary_at_or_below(index)
    if index <= raft.log.base_index:
        return
    raft.log.discard_to(index)
    raft.memberships.discard_to(index)
    raft.effects.append(Discard(index))
    if role is not None:
        for progress in role.members.values():
            if progress.next_index <= index:
                progress.probe(index + 1)


# -- the leader -------------------------------------------------------------------------------------------------------


def begin(raft: Raft, member: str, progress: Progress) -> None:
    """The member lacks what the log no longer holds: send the newest snapshot, unless one is on its way already."""
    if progress.transfer is None:
        snapshot = raft.snapshot
        check(
            snapshot is not None and snapshot.index >= raft.log.base_index, "no snapshot stands for what is discarded"
        )
        if snapshot is not None:
            progress.transfer = Transfer(snapshot=snapshot)
            _send(raft, member, progress.transfer)


def ask_again(raft: Raft, role: Leader) -> None:
    """Every heartbeat: a piece or its answer may be lost, or the member is busy with what it has."""
    for member, progress in role.members.items():
        transfer = progress.transfer
        if transfer is not None and progress.reachable and raft.now - transfer.sent_ms >= raft.config.heartbeat_ms:
            _send(raft, member, transfer, question=True)


def on_install_response(raft: Raft, role: Leader, member: str, response: InstallResponse) -> None:
    """Send what comes next, from where the member says; or go on with the log behind the snapshot."""
    progress = role.members.get(member)
    transfer = progress.transfer if progress is not None else None
    if progress is None or transfer is None or response.term < raft.term:
        return
    if (response.index, response.serial) != (transfer.snapshot.index, transfer.serial):
        return
    check(response.offset <= transfer.snapshot.size, "a member has more of a snapshot than there is", member)
    if response.offset == transfer.snapshot.size:
        progress.transfer = None
        progress.probe(max(transfer.snapshot.index, raft.log.base_index) + 1)
        return
    transfer.offset = response.offset
    _send(raft, member, transfer)


def on_snapshot_lost(role: Leader, event: SnapshotLost) -> None:
    """Whoever was being sent it is sent the newest there is then, once it has refused an append again."""
    for progress in role.members.values():
        if progress.transfer is not None and progress.transfer.snapshot == event.snapshot:
            progress.transfer = None


def _send(raft: Raft, member: str, transfer: Transfer, *, question: bool = False) -> None:
    left = transfer.snapshot.size - transfer.offset
    transfer.serial += 1
    transfer.sent_ms = raft.now
    raft.effects.append(
        SendSnapshot(
            member=member,
            term=raft.term,
            snapshot=transfer.snapshot,
            serial=transfer.serial,
            offset=transfer.offset,
            length=0 if question else min(left, raft.config.install_bytes_max),
        )
    )


# -- the member -------------------------------------------------------------------------------------------------------


def on_install(raft: Raft, role: Follower, member: str, request: Install) -> None:
    """Put the next piece aside; answer when that is done, or at once if it is not the next."""
    if request.term < raft.term:
        refuse(raft, member, request)
        return
    raft.follow(member)
    snapshot, reception = request.snapshot, role.reception
    if snapshot.index <= raft.commit_index:
        _answer(raft, member, snapshot.index, request.serial, snapshot.size)
        return
    if reception is None or (reception.snapshot, reception.term) != (snapshot, raft.term):
        if request.offset != 0 or not request.data:
            _answer(raft, member, snapshot.index, request.serial, 0)
            return
        role.reception = Reception(snapshot=snapshot, term=raft.term, serial=request.serial)
    else:
        reception.serial = max(reception.serial, request.serial)
        if reception.is_storing:
            return
        if request.offset != reception.offset or not request.data:
            _answer(raft, member, snapshot.index, reception.serial, reception.offset)
            return
        reception.is_storing = True
    raft.effects.append(StoreChunk(snapshot, request.offset, request.data))


def refuse(raft: Raft, member: str, request: Install) -> None:
    """From a leader of an earlier term: tell it of this one."""
    _answer(raft, member, request.index, request.serial, 0)


def _answer(raft: Raft, member: str, index: int, serial: int, offset: int) -> None:
    if raft.persisted_term == raft.term:
        raft.send(member, InstallResponse(term=raft.term, index=index, serial=serial, offset=offset))


def on_chunk_stored(raft: Raft, role: Follower, event: ChunkStored) -> None:
    reception = role.reception
    if reception is not None and reception.snapshot == event.snapshot and reception.is_storing:
        reception.offset, reception.is_storing = event.offset, False
        if raft.leader is not None and reception.term == raft.term:
            _answer(raft, raft.leader, event.snapshot.index, reception.serial, event.offset)


def on_snapshot_spoiled(raft: Raft, role: Follower, event: SnapshotSpoiled) -> None:
    """Begin anew, when the leader asks next: not at once, for a full disk stays full for a while."""
    if role.reception is not None and role.reception.snapshot == event.snapshot:
        role.reception = None


def on_snapshot_received(raft: Raft, role: Follower, event: SnapshotReceived) -> None:
    """Everything up to the snapshot's index is committed. If the log agrees there, apply it; else go on from there."""
    reception, snapshot = role.reception, event.snapshot
    if reception is None or reception.snapshot != snapshot:
        return
    role.reception = None
    if snapshot.index > raft.commit_index:
        log = raft.log
        if (log.term_at(snapshot.index), log.chain_at(snapshot.index)) == (snapshot.term, snapshot.chain):
            role.verified_index = max(role.verified_index, snapshot.index)
            raft.commit(snapshot.index)
        else:
            raft.go_on_from(snapshot, event.membership, event.state)
            role.verified_index, role.told_match = snapshot.index, 0
    if raft.leader is not None and reception.term == raft.term:
        _answer(raft, raft.leader, snapshot.index, reception.serial, snapshot.size)
