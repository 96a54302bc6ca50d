"""A cluster of cores without any I/O: messages, disks and clocks are lists, numbers and a seeded random stream.

Every step of every member is checked by the invariants.
"""

import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from copycat.errors import check
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import (
    ChangeRefused,
    ClearFault,
    Committed,
    Discard,
    InstallSnapshot,
    MembershipChanged,
    Persist,
    ProposalRefused,
    ReadReady,
    ReadRefused,
    Replicate,
    RoleChanged,
    Send,
    SendSnapshot,
    Store,
    StoreChunk,
    StoreReceived,
    Truncate,
)
from copycat.raft.core.events import (
    Applied,
    ChangeProposed,
    Event,
    FaultCleared,
    Flushed,
    Persisted,
    Proposed,
    Reachable,
    ReadRequested,
    Received,
    SnapshotLost,
    Unreachable,
)
from copycat.raft.core.invariants import ClusterWatch, MembershipWatch, Watch
from copycat.raft.core.membership import Membership
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.messages import Append
from tests.raft.core.disk import FakeBlock, FakeDisk, list_of, read_list


@dataclass(slots=True, kw_only=True)
class Node(FakeDisk):
    """A member: its core, and a disk that outlives it."""

    name: str
    raft: Raft | None = None
    watch: Watch = field(default_factory=Watch)
    metadata: tuple[int, str] = (0, "")
    faulty: bool = False  # durable blocks were lost
    life: int = 0  # counts restarts, so that what an earlier life began is not believed
    flush_ms: tuple[int, int] = (1, 3)
    paused: list[Event] | None = None
    refused: list[bytes] = field(default_factory=list)
    changes: list[Membership] = field(default_factory=list)
    changes_refused: list[str] = field(default_factory=list)
    reads_ready: list[tuple[object, int]] = field(default_factory=list)
    reads_refused: list[object] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[bytes]:
        """What it has applied."""
        return [body for *_, body in self.state]


class CoreCluster:
    """`size` cores, a network with delays and losses drawn from `seed`, and a clock in milliseconds."""

    def __init__(self, size: int, seed: int = 0, config: RaftConfig | None = None) -> None:
        self.random = random.Random(seed)
        self.config = config or RaftConfig(notice_ms=0)
        self.now = 1_000
        self.queue: list[tuple[int, int, str, int, Any]] = []
        self.count = 0
        self.names = [chr(ord("a") + position) for position in range(size)]
        self.nodes = {name: Node(name=name) for name in self.names}
        self.cut: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.delay_ms = (1, 5)
        self.cluster = ClusterWatch()
        self.membership = MembershipWatch(self.cluster)
        for name in self.names:
            self.nodes[name].formed = list_of(self.names)
            self.start(name)

    def join(self, *names: str) -> None:
        """Members more, of whom the others do not know yet."""
        formed = self.nodes[self.names[0]].formed
        for name in names:
            self.names.append(name)
            self.nodes[name] = Node(name=name, formed=formed)
            self.start(name)

    def start(self, name: str) -> None:
        """Start a member from what its disk holds."""
        node = self.nodes[name]
        node.life += 1
        log = node.open()
        node.raft = Raft(
            member_id=name,
            memberships=node.lists(),
            read_membership=read_list,
            config=self.config,
            log=log,
            term=node.metadata[0],
            vote=node.metadata[1],
            log_time=node.blocks[-1].time if node.blocks else 0,
            random=self.random.random,
            now_ms=self.now,
            snapshot=node.newest,
            voting=not node.faulty,
        )
        node.watch = Watch()
        node.paused = None
        self.wake(name)

    def kill(self, name: str) -> None:
        """Stop a member at once: only what was flushed remains."""
        self.nodes[name].raft = None

    def damage(self, name: str, kept: int) -> None:
        """A dead member's disk loses all but the first `kept` durable blocks."""
        node = self.nodes[name]
        del node.blocks[kept:]
        node.durable = kept
        node.faulty = True

    def tell_dead(self, name: str, *witnesses: str) -> None:
        """The connections to `name` are reset and its port refuses: `witnesses` notice, all others by default."""
        for other in witnesses or self.names:
            if other != name:
                self.step(other, [Unreachable(name, refused=False)])
                self.step(other, [Unreachable(name, refused=True)])

    def tell_back(self, name: str) -> None:
        """Everyone has a connection to `name` again."""
        for other in self.names:
            if other != name:
                self.step(other, [Reachable(name)])

    def isolate(self, name: str) -> None:
        """Cut a member off from all others, both ways."""
        for other in self.names:
            if other != name:
                self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()

    def post(self, delay: int, name: str, event: Any) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + delay, self.count, name, self.nodes[name].life, event))

    def wake(self, name: str) -> None:
        raft = self.nodes[name].raft
        if raft is not None and raft.deadline_ms < 1 << 60:
            self.post(max(raft.deadline_ms - self.now, 0), name, "wake")

    def step(self, name: str, events: list[Event]) -> None:
        """One turn of one member."""
        node = self.nodes[name]
        if node.raft is None:
            return
        if node.paused is not None:
            node.paused.extend(events)
            return
        effects = node.raft.step(self.now, events)
        node.watch.check(node.raft, effects)
        self.cluster.check(node.raft, effects)
        self.membership.check(node.raft, effects)
        for effect in effects:
            self.perform(node, effect)
        self.wake(name)

    def resume(self, name: str) -> None:
        """After a pause, handle everything that waited, in one turn."""
        node = self.nodes[name]
        events, node.paused = node.paused or [], None
        self.step(name, events)

    def perform(self, node: Node, effect: Any) -> None:
        if isinstance(effect, Store):
            check(effect.chain == crc32(effect.body, effect.chain_before), "a wrong chain")
            self.store(node, [FakeBlock(*(getattr(effect, f) for f in FakeBlock.__slots__))])
        elif isinstance(effect, StoreReceived):
            self.store(node, [block for block in effect.blocks if isinstance(block, FakeBlock)])
        elif isinstance(effect, Truncate):
            while node.blocks and node.blocks[-1].last_index > effect.index:
                node.blocks.pop()
            node.durable = min(node.durable, len(node.blocks))
        elif isinstance(effect, Persist):
            node.metadata = (effect.term, effect.vote)
            self.post(self.random.randint(0, 2), node.name, Persisted(effect.term, effect.vote))
        elif isinstance(effect, ClearFault):
            node.faulty = False
            self.post(self.random.randint(0, 2), node.name, FaultCleared())
        elif isinstance(effect, Send):
            self.transmit(node.name, effect.member, Received(node.name, effect.message))
        elif isinstance(effect, Replicate):
            blocks = [b for b in node.blocks if effect.first_index <= b.first_index <= effect.last_index]
            self.transmit(node.name, effect.member, Received(node.name, append_of(effect, blocks)))
        elif isinstance(effect, Committed):
            node.apply(effect.index)
            self.post(0, node.name, Applied(effect.index))
        elif isinstance(effect, SendSnapshot):
            if (message := node.piece(effect)) is not None:
                self.transmit(node.name, effect.member, Received(node.name, message))
            else:
                self.post(0, node.name, SnapshotLost(effect.snapshot))
        elif isinstance(effect, StoreChunk):
            self.post(self.random.randint(*node.flush_ms), node.name, effect)
        elif isinstance(effect, InstallSnapshot):
            node.install(effect.snapshot)
        elif isinstance(effect, Discard):
            node.discard(effect.index)
        elif isinstance(effect, ReadReady):
            node.reads_ready += [(token, effect.index) for token in effect.tokens]
        elif isinstance(effect, ReadRefused):
            node.reads_refused += effect.tokens
        elif isinstance(effect, ProposalRefused):
            node.refused += effect.bodies
        elif isinstance(effect, ChangeRefused):
            node.changes_refused.append(effect.reason)
        elif isinstance(effect, MembershipChanged):
            node.changes.append(effect.membership)
        else:
            assert isinstance(effect, RoleChanged)

    def store(self, node: Node, blocks: list[FakeBlock]) -> None:
        node.blocks += blocks
        last = node.blocks[-1]
        self.post(self.random.randint(*node.flush_ms), node.name, Flushed(last.last_index, last.term))

    def transmit(self, sender: str, receiver: str, event: Received) -> None:
        if (sender, receiver) not in self.cut and self.random.random() >= self.loss:
            self.post(self.random.randint(*self.delay_ms), receiver, event)

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        end = self.now + duration_ms
        while self.queue and self.queue[0][0] <= end:
            self.now, _, name, life, event = heapq.heappop(self.queue)
            node = self.nodes[name]
            if node.life != life:
                continue
            if event == "wake":
                self.step(name, [])
            elif isinstance(event, StoreChunk):
                if node.raft is not None:
                    self.step(name, [node.store_chunk(event)])
            elif isinstance(event, Flushed):
                if node.raft is not None and node.flushed(event.index, event.term):
                    self.step(name, [event])
            elif isinstance(event, Applied):
                if node.raft is not None and event.index > node.raft.applied_index:
                    self.step(name, [event])
            else:
                self.step(name, [event])
        self.now = end

    def leader(self) -> str | None:
        """The ready leader of the highest term, if there is one."""
        ready = [node for node in self.nodes.values() if node.raft is not None and node.raft.is_ready]
        return max(ready, key=lambda node: node.raft.term if node.raft else 0).name if ready else None

    def elect(self, limit_ms: int = 10_000) -> str:
        """Run until a leader is ready."""
        for _ in range(limit_ms // 10):
            self.run(10)
            if (name := self.leader()) is not None:
                return name
        raise AssertionError("no leader came up")

    def propose(self, name: str, body: bytes, count: int = 1) -> None:
        self.step(name, [Proposed(count=count, body=body)])

    def take_snapshot(self, name: str, keep: int) -> None:
        """A member that is up snapshots what it has applied, and lets go of all but `keep` entries before that."""
        node = self.nodes[name]
        if node.raft is not None and node.paused is None:
            event = node.take_snapshot(node.raft.memberships, keep)
            if event is not None:
                self.step(name, [event])

    def change(self, name: str, active: Iterable[str], passive: Iterable[str] = ()) -> None:
        """Ask a member to have the list of members replaced."""
        self.step(name, [ChangeProposed(list_of(active, passive))])

    def read(self, name: str, token: object) -> None:
        self.step(name, [ReadRequested(token)])

    def bodies(self, name: str) -> list[bytes]:
        """What a member's log holds, without the leaders' own first entries."""
        return [block.body for block in self.nodes[name].blocks if block.kind == 2]


def append_of(effect: Replicate, blocks: list[FakeBlock]) -> Append:
    """The message a replication effect stands for."""
    return Append(
        term=effect.term,
        previous_index=effect.previous_index,
        previous_term=effect.previous_term,
        previous_chain=effect.previous_chain,
        commit_index=effect.commit_index,
        last_index=effect.log_index,
        round=effect.round,
        lease_ms=effect.lease_ms,
        echo_ms=effect.echo_ms,
        confirm=effect.confirm,
        settled=effect.settled,
        blocks=blocks,
    )
