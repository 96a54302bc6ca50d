"""Everything the core wants done, in the order it is returned."""

from collections.abc import Sequence
from dataclasses import dataclass

from copycat.raft.core.membership import Membership
from copycat.raft.protocol.messages import BlockHead, Message, SnapshotId


@dataclass(slots=True, kw_only=True)
class Store:
    """Append this leader's own proposal to the log: readable at once, durable when `Flushed` says so."""

    first_index: int
    count: int
    term: int
    kind: int
    time: int
    chain_before: int
    chain: int
    body: bytes


@dataclass(slots=True)
class StoreReceived:
    """Append these blocks of a received append, exactly as they came."""

    blocks: Sequence[BlockHead]


@dataclass(slots=True)
class Truncate:
    """Drop everything after `index`: it conflicts with a leader's log. Never below the commit index."""

    index: int


@dataclass(slots=True)
class ClearFault:
    """The log is refilled: forget that it had a hole or was outdated, durably, then report `FaultCleared`."""


@dataclass(slots=True)
class Persist:
    """Make term and vote durable, then report `Persisted`."""

    term: int
    vote: str


@dataclass(slots=True)
class Send:
    """Send a message to a member; it may be lost."""

    member: str
    message: Message


@dataclass(slots=True, kw_only=True)
class Replicate:
    """Send a member the blocks from `first_index` to `last_index`; none when first > last: a heartbeat."""

    member: str
    term: int
    previous_index: int
    previous_term: int
    previous_chain: int
    first_index: int
    last_index: int
    commit_index: int
    log_index: int
    round: int
    lease_ms: int
    echo_ms: int
    confirm: bool
    settled: bool


@dataclass(slots=True, kw_only=True)
class SendSnapshot:
    """Send a member `length` bytes of a snapshot's file from `offset` on, in an `Install`; none: the question."""

    member: str
    term: int
    snapshot: SnapshotId
    serial: int
    offset: int
    length: int


@dataclass(slots=True)
class StoreChunk:
    """Put a leader's piece aside, then report `ChunkStored`; behind the last one check it all, make it durable as this
    member's own snapshot, prepare to go on from it, and report `SnapshotReceived`. `SnapshotSpoiled` if that fails.
    """

    snapshot: SnapshotId
    offset: int
    data: bytes


@dataclass(slots=True)
class InstallSnapshot:
    """Go on from this snapshot, which was received: its state in the place of the own, and the log begins behind it."""

    snapshot: SnapshotId
    state: object  # as it came with `SnapshotReceived`


@dataclass(slots=True)
class Discard:
    """Entries up to `index` are not needed any more: a snapshot covers them and they are applied."""

    index: int


@dataclass(slots=True)
class Committed:
    """Everything up to `index` is committed: apply it, then report `Applied`."""

    index: int


@dataclass(slots=True)
class MembershipChanged:
    """Another list is in force here: it was appended, or taken back. It is certain once it is committed."""

    membership: Membership


@dataclass(slots=True)
class ChangeRefused:
    """This change of members was not appended, because of `reason`."""

    body: bytes
    reason: str


@dataclass(slots=True)
class ReadReady:
    """Leadership was confirmed after these reads arrived: evaluate once applied up to `index`."""

    tokens: list[object]
    index: int


@dataclass(slots=True)
class ReadRefused:
    """These reads cannot be answered here: try the new leader."""

    tokens: list[object]


@dataclass(slots=True)
class ProposalRefused:
    """These proposals were never appended."""

    bodies: list[bytes]


@dataclass(slots=True, kw_only=True)
class RoleChanged:
    """The member's role, term or known leader changed."""

    role: str
    term: int
    leader: str | None


Effect = (
    Store
    | StoreReceived
    | Truncate
    | ClearFault
    | Persist
    | Send
    | Replicate
    | SendSnapshot
    | StoreChunk
    | InstallSnapshot
    | Discard
    | Committed
    | MembershipChanged
    | ChangeRefused
    | ReadReady
    | ReadRefused
    | ProposalRefused
    | RoleChanged
)
