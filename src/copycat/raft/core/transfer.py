"""How far a snapshot has come on its way to one member."""

from dataclasses import dataclass

from copycat.raft.protocol.messages import SnapshotId


@dataclass(slots=True, kw_only=True)
class Transfer:
    """What a leader knows of a snapshot that it sends: one piece at a time, each answered before the next leaves."""

    snapshot: SnapshotId
    offset: int = 0  # what the member has said to hold
    serial: int = 0  # of the latest piece or question; only its answer counts
    sent_ms: int = 0


@dataclass(slots=True, kw_only=True)
class Reception:
    """What a follower knows of a snapshot that it is sent, by the leader of `term`."""

    snapshot: SnapshotId
    term: int
    serial: int
    offset: int = 0  # what lies aside
    is_storing: bool = True  # a piece is on its way to the disk
