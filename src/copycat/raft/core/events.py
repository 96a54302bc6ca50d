"""Everything that can happen to the core."""

from dataclasses import dataclass

from copycat.raft.protocol.messages import Message


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
    """The log's hole is forgotten, durably."""


@dataclass(slots=True)
class Applied:
    """Every entry up to `index` has been applied."""

    index: int


@dataclass(slots=True)
class CommitAwaited:
    """Clients of other members wait for what was committed, such as events: let the members hear of it at once."""


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
    | Flushed
    | Persisted
    | FaultCleared
    | Applied
    | CommitAwaited
    | ReadRequested
    | Unreachable
    | Reachable
)
