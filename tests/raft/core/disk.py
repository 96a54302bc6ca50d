"""What a member of a test's cluster keeps: a log of which some is durable, snapshots, and the state it has applied.

A snapshot's file is the state as bytes, so what goes from member to member in pieces is what the next goes on from.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from copycat.errors import check
from copycat.raft.core.effects import SendSnapshot, StoreChunk
from copycat.raft.core.events import ChunkStored, SnapshotReceived, SnapshotSpoiled, SnapshotTaken
from copycat.raft.core.log_view import LogView
from copycat.raft.core.membership import Membership, Memberships
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.messages import Install, SnapshotId


def list_of(active: Iterable[str], passive: Iterable[str] = (), places: str = "") -> bytes:
    """A list of members as tests write it into a log: a,b,c;d;places, of which the core knows nothing"""
    return ";".join([",".join(active), ",".join(passive), places]).rstrip(";").encode()


def read_list(index: int, body: bytes) -> Membership:
    active, passive, *_ = [*body.decode().split(";"), ""]
    return Membership(
        index, tuple(active.split(",")) if active else (), tuple(passive.split(",")) if passive else (), body
    )


Applied = tuple[int, int, int, bytes]  # last index, term, chain, body


@dataclass(slots=True)
class FakeBlock:
    """A block as the core sees it, and its body for the test to compare."""

    first_index: int
    count: int
    term: int
    kind: int
    time: int
    chain_before: int
    chain: int
    body: bytes

    @property
    def last_index(self) -> int:
        return self.first_index + self.count - 1

    @property
    def size(self) -> int:
        return len(self.body)


@dataclass(slots=True)
class FakeDisk:
    """`durable` is how many of `blocks` a crash leaves; `base` is the entry they follow."""

    blocks: list[FakeBlock] = field(default_factory=list)
    durable: int = 0
    base: tuple[int, int, int] = (0, 0, 0)  # index, term, chain
    formed: bytes = b""  # the list of members that the cluster formed with
    snapshots: list[tuple[SnapshotId, bytes]] = field(default_factory=list)  # durable, oldest first, two at most
    aside: bytes = b""  # of a leader's snapshot, so far
    state: list[Applied] = field(default_factory=list)

    def open(self) -> LogView:
        """What a start finds: what was durable, from the newest snapshot on, whose state this member goes on from."""
        del self.blocks[self.durable :]
        self.aside, self.state = b"", []
        if self.snapshots:
            newest, data = self.snapshots[-1]
            self.state = decode_state(data)
            held = [block for block in self.blocks if block.last_index == newest.index]
            is_base = self.base == (newest.index, newest.term, newest.chain)
            if not is_base and (not held or (held[0].term, held[0].chain) != (newest.term, newest.chain)):
                self.reset(newest)
        log = LogView(*self.base)
        for block in self.blocks:
            log.append(block.first_index, block.count, block.term, block.chain, block.size)
        return log

    def lists(self) -> list[Membership]:
        """Who takes part, as the start finds it: in the snapshot, then along the log behind it."""
        first = decode_list(self.snapshots[-1][1]) if self.snapshots else read_list(0, self.formed)
        carry = [block for block in self.blocks if block.kind in (BlockKind.INITIALIZE, BlockKind.CONFIGURE)]
        return [first, *(read_list(b.first_index, b.body) for b in carry if b.first_index > first.index)]

    @property
    def newest(self) -> SnapshotId | None:
        return self.snapshots[-1][0] if self.snapshots else None

    def reset(self, snapshot: SnapshotId) -> None:
        self.blocks, self.durable = [], 0
        self.base = (snapshot.index, snapshot.term, snapshot.chain)

    def flushed(self, index: int, term: int) -> bool:
        """Whether the log still holds what a flush wrote; then it is durable."""
        for number, block in enumerate(self.blocks, 1):
            if (block.last_index, block.term) == (index, term):
                self.durable = max(self.durable, number)
                return True
        return False

    def apply(self, index: int) -> None:
        applied = self.state[-1][0] if self.state else 0
        ahead = [block for block in self.blocks if applied < block.last_index <= index]
        check(not ahead or ahead[0].first_index == applied + 1, "nothing is left out when applying", applied)
        self.state += [(block.last_index, block.term, block.chain, block.body) for block in ahead]

    def discard(self, index: int) -> None:
        gone = [block for block in self.blocks if block.last_index <= index]
        check(len(gone) <= self.durable and gone[-1].last_index == index, "only what is durable goes", index)
        del self.blocks[: len(gone)]
        self.durable -= len(gone)
        self.base = (gone[-1].last_index, gone[-1].term, gone[-1].chain)

    # Snapshots.

    def take_snapshot(self, memberships: Memberships, keep: int = 0) -> SnapshotTaken | None:
        """Of what is applied; `keep`: how many of the last entries before it the log should keep."""
        if not self.state or (self.newest is not None and self.newest.index >= self.state[-1][0]):
            return None
        index, term, chain, _ = self.state[-1]
        membership = memberships.at(index)
        data = encode_state(self.state, membership.index, membership.body)
        taken = SnapshotId(index=index, term=term, chain=chain, time=0, size=len(data))
        self.keep(taken, data)
        return SnapshotTaken(taken, max(index - keep, 0))

    def keep(self, snapshot: SnapshotId, data: bytes) -> None:
        self.snapshots = [*self.snapshots, (snapshot, data)][-2:]

    def piece(self, effect: SendSnapshot) -> Install | None:
        """None when the file is gone meanwhile."""
        for snapshot, data in self.snapshots:
            if snapshot == effect.snapshot:
                return Install(
                    term=effect.term,
                    index=snapshot.index,
                    last_term=snapshot.term,
                    chain=snapshot.chain,
                    time=snapshot.time,
                    size=snapshot.size,
                    serial=effect.serial,
                    offset=effect.offset,
                    data=data[effect.offset : effect.offset + effect.length],
                )
        return None

    def store_chunk(self, effect: StoreChunk) -> ChunkStored | SnapshotReceived | SnapshotSpoiled:
        if effect.offset == 0:
            self.aside = b""
        if effect.offset != len(self.aside):
            return SnapshotSpoiled(effect.snapshot)
        self.aside += effect.data
        if len(self.aside) < effect.snapshot.size:
            return ChunkStored(effect.snapshot, len(self.aside))
        data, self.aside = self.aside, b""
        try:
            state = decode_state(data)
        except ValueError:
            return SnapshotSpoiled(effect.snapshot)
        check(state[-1][:3] == (effect.snapshot.index, effect.snapshot.term, effect.snapshot.chain), "another snapshot")
        if self.newest is None or self.newest.index < effect.snapshot.index:
            self.keep(effect.snapshot, data)
        return SnapshotReceived(effect.snapshot, decode_list(data))

    def install(self, snapshot: SnapshotId) -> None:
        self.state = decode_state(next(data for known, data in self.snapshots if known == snapshot))
        self.reset(snapshot)


Contents = tuple[list[Applied], int, bytes]


def encode_state(state: list[Applied], index: int, members: bytes) -> bytes:
    """A snapshot: the state, and who takes part as of which entry."""
    data = msgspec.msgpack.encode((state, index, members))
    return data + crc32(data).to_bytes(4, "little")


def decode_state(data: bytes) -> list[Applied]:
    """Raises: ValueError when it is not what was encoded."""
    return _decode(data)[0]


def decode_list(data: bytes) -> Membership:
    _, index, members = _decode(data)
    return read_list(index, members)


def _decode(data: bytes) -> Contents:
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("the checksum differs")
    contents: Contents = msgspec.msgpack.decode(data[:-4], type=Contents)
    return contents
