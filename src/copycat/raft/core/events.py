"""Everything that can happen to the core."""

from dataclasses import dataclass

from copycat.raft.core.membership import Membership
from copycat.raft.protocol.messages import Message, SnapshotId


@dataclass(slots=True)
class Received:
    """A message from a member, over a connection whose handshake named it."""

    member: str
    message: Message


@dataclass(slots=True, kw_only=True)
class Proposed:
    """A turn's items, `count` indices long. Refused by anyone but a leader whose first entry is applied."""

    count: int
    body: bytes  # opaque here but for its checksum; comes back in `Store`


@dataclass(slots=True)
class ChangeProposed:
    """A list of members that is to follow the one in force. Refused unless this member leads, has applied an entry of
    its own, and nothing else is being changed."""

    body: bytes


@dataclass(slots=True)
class TransferRequested:
    """Let `member` lead, None: whoever is best suited. Nothing comes of it unless this member leads."""

    member: str | None


@dataclass(slots=True)
class Flushed:
    """The log is durable up to `index`, whose block had `term` when the flush began."""

    index: int
    term: int


@dataclass(slots=True)
class Persisted:
    """Term and vote are durable."""

    term: int
    vote: str


@dataclass(slots=True)
class FaultCleared:
    """The log is whole and level again, and the disk says so, too."""


@dataclass(slots=True)
class Outdated:
    """This member's data turned out to be older than what it has vouched for, in `term` at least. It has no vote until
    a leader has refilled it.
    """

    term: int


@dataclass(slots=True)
class Applied:
    """Every entry up to `index` has been applied."""

    index: int


@dataclass(slots=True)
class CommitAwaited:
    """Clients of other members wait for what was committed, such as events: let the members hear of it at once."""


@dataclass(slots=True)
class SnapshotTaken:
    """This member has a snapshot of its own, durably: the log up to `discard_index` may go, and laggards get this."""

    snapshot: SnapshotId
    discard_index: int


@dataclass(slots=True)
class ChunkStored:
    """So many bytes of a leader's snapshot lie aside."""

    snapshot: SnapshotId
    offset: int


@dataclass(slots=True)
class SnapshotReceived:
    """A leader's snapshot is whole, sound and durable. `state`, opaque here, is what this member could go on from.

    `membership`: who took part as of the snapshot.
    """

    snapshot: SnapshotId
    membership: Membership
    state: object = None


@dataclass(slots=True)
class SnapshotLost:
    """This member's own snapshot cannot be sent: its file is gone or has rotted."""

    snapshot: SnapshotId


@dataclass(slots=True)
class SnapshotSpoiled:
    """What came of a leader's snapshot is of no use: it was not sound, or the disk would not have it."""

    snapshot: SnapshotId


@dataclass(slots=True)
class ReadRequested:
    """Linearizable reads wait under `token`; answered by `ReadReady` or `ReadRefused`, once."""

    token: object


@dataclass(slots=True)
class Unreachable:
    """The link to a member broke. `refused`: a redial was refused too, so nobody listens there (protocol §3.3)."""

    member: str
    refused: bool


@dataclass(slots=True)
class Reachable:
    """The link to a member stands."""

    member: str


Event = (
    Received
    | Proposed
    | ChangeProposed
    | TransferRequested
    | Flushed
    | Persisted
    | FaultCleared
    | Outdated
    | Applied
    | CommitAwaited
    | SnapshotTaken
    | ChunkStored
    | SnapshotReceived
    | SnapshotLost
    | SnapshotSpoiled
    | ReadRequested
    | Unreachable
    | Reachable
)
