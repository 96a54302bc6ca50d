"""What servers say to each other about consensus.

Plain dataclasses, one per turn and member at most, so that the pure core can make and read them; `message_wire` gives
them bytes. `Append` names blocks by their heads; the records travel beside it.

Source: Raft dissertation §3, §4.2.3, §6.4, §9.6; protocol §3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class BlockHead(Protocol):
    """What the core may know of a block: where it stands. What it holds is opaque, but for who takes part.

    See `io.storage.Block`.
    """

    first_index: int
    count: int
    term: int
    kind: int
    time: int
    chain_before: int
    chain: int
    body: bytes

    @property
    def last_index(self) -> int: ...

    @property
    def size(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class PollRequest:
    """Would you vote for me in `term`? Changes nothing at either side (pre-vote)."""

    term: int  # the term the sender would campaign in: its own plus one
    last_index: int
    last_term: int


@dataclass(slots=True, kw_only=True)
class PollResponse:
    """`term` is the responder's own; `proposed` repeats the poll's term so that late answers are recognised."""

    term: int
    proposed: int
    granted: bool


@dataclass(slots=True, kw_only=True)
class VoteRequest:
    """Vote for me in `term`: sent only after the candidate's own vote is durable.

    `transfer`: the leader of the term before asked for it, and holds no lease any more (protocol §3.2).
    """

    term: int
    last_index: int
    last_term: int
    transfer: bool = False


@dataclass(slots=True, kw_only=True)
class VoteResponse:
    """Sent only after the vote is durable."""

    term: int
    granted: bool


@dataclass(slots=True, kw_only=True)
class Append:
    """The leader's blocks after a position, or none: then a heartbeat.

    `confirm` asks for an answer at once, before any flush: it confirms leadership and freshness.
    `lease_ms` is the promise asked for: no votes and no higher terms for so long after accepting this.
    `echo_ms` returns the follower's own clock from its latest answer (protocol §3.6).
    `settled` says that the leader has committed in its own term, so `last_index` bounds what a refilled member needs.
    """

    term: int
    previous_index: int
    previous_term: int
    previous_chain: int
    commit_index: int
    last_index: int  # the leader's own, at sending
    round: int
    lease_ms: int
    echo_ms: int
    confirm: bool
    settled: bool
    blocks: Sequence[BlockHead] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class AppendResponse:
    """`accepted` vouches for the round; `match_index` vouches for what is verified *and durable*, so it may lag.

    When refused, the leader goes on from `hint_index`, the highest index that may still agree. `refilling`: the disk
    lost what was durable, so whatever this member vouched for beyond that is void.
    """

    term: int
    round: int
    accepted: bool
    match_index: int
    hint_index: int
    sent_ms: int  # the follower's clock, to be echoed
    refilling: bool = False


@dataclass(slots=True, frozen=True, kw_only=True)
class SnapshotId:
    """Which snapshot: the last entry it covers, with its chain and log time, and how long its file is."""

    index: int
    term: int
    chain: int
    time: int
    size: int


@dataclass(slots=True, kw_only=True)
class Install:
    """A piece of the leader's snapshot, for a member that lacks entries the leader no longer has; or, without data, the
    question how much of it has come. `index` to `size` name the snapshot. `serial` counts what was sent.
    """

    term: int
    index: int
    last_term: int
    chain: int
    time: int
    size: int
    serial: int
    offset: int
    data: bytes

    @property
    def snapshot(self) -> SnapshotId:
        return SnapshotId(index=self.index, term=self.last_term, chain=self.chain, time=self.time, size=self.size)


@dataclass(slots=True, kw_only=True)
class InstallResponse:
    """How much of the snapshot at `index` has come; its size, once the member goes on from there."""

    term: int
    index: int
    serial: int
    offset: int


@dataclass(slots=True, kw_only=True)
class TimeoutNow:
    """Campaign at once: you hold all I have, and I serve no lease reads any more."""

    term: int


Message = (
    PollRequest
    | PollResponse
    | VoteRequest
    | VoteResponse
    | Append
    | AppendResponse
    | Install
    | InstallResponse
    | TimeoutNow
)
