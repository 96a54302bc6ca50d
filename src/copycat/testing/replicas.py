"""Replicas without servers: a log in a list, and replicated halves of servers that apply it.

Time stands still until `advance`. All replicas of one log are compared at every block: that they agree is what a state
machine owes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from copycat.errors import check
from copycat.raft.machine.executor import Ended, Executor, Machines, Outcome, Registered
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.protocol.entries import REGISTER, BlockKind, End, ItemKind, pack_item
from copycat.raft.protocol.wire import decode_operations, encode_msgpack, encode_results

R = TypeVar("R", bound="Replica")

FOR_EVER = 1 << 60
SESSION_TIMEOUT_MS = 5_000


@dataclass(slots=True)
class Block:
    """A block as the executor reads it."""

    first_index: int
    count: int
    time: int
    body: bytes
    kind: int = BlockKind.ITEMS
    wall_ms: int = 0


class Replica:
    """One member's replicated half: `machines`, and what drives them."""

    def __init__(self, clockwork: Clockwork, machines: Machines) -> None:
        self.clockwork = clockwork
        self.executor = Executor(
            clockwork=clockwork,
            machines=machines,
            decode_operations=decode_operations,
            encode_results=encode_results,
            encode_event=encode_msgpack,
        )

    def session(self, session_id: int) -> ServerSession | None:
        """The session with this id, if it is open."""
        return self.executor.sessions.get(session_id)


class ReplicatedLog(Generic[R]):
    """`count` replicas of one log, kept in `blocks`. `on_published` is called with sessions that have new events."""

    def __init__(
        self,
        make: Callable[[], R],
        *,
        count: int = 1,
        on_published: Callable[[list[int]], object] | None = None,
    ) -> None:
        self.replicas = [make() for _ in range(count)]
        self.blocks: list[Block] = []
        self.time = 1_000
        self.make = make
        self._nonces = 0
        self._on_published = on_published

    @property
    def index(self) -> int:
        """The last index of the log."""
        return self.blocks[-1].first_index + self.blocks[-1].count - 1 if self.blocks else 0

    def append(self, kind: ItemKind, session: int, sequence: int, ack: int, count: int, blob: bytes) -> Outcome:
        """One item becomes a block, and every replica applies it. Raises InvariantError when they come out unlike."""
        body = pack_item(kind, session, sequence, ack, count, blob)
        self.blocks.append(Block(self.index + 1, count, self.time, body))
        outcomes = [replica.executor.apply(self.blocks[-1]) for replica in self.replicas]
        published = [replica.executor.take_published() for replica in self.replicas]
        first = outcomes[0]
        if not isinstance(first[0] if first else None, Registered):  # a session is equal to itself only
            check(all(each == first for each in outcomes), "replicas answer alike", *outcomes)
        check(all(each == published[0] for each in published), "replicas publish alike", *published)
        if published[0] and self._on_published is not None:
            self._on_published(published[0])
        return first[0] if first else Ended(0, End.UNKNOWN)

    def advance(self, seconds: float) -> None:
        """Let log time pass, as a tick of the leader would."""
        self.time += round(seconds * 1000)
        self.append(ItemKind.TICK, 0, 0, 0, 1, b"")

    def register(self) -> int:
        """Begin a session; returns its id."""
        self._nonces += 1
        blob = REGISTER.pack(self._nonces.to_bytes(16, "big"), bytes(16), SESSION_TIMEOUT_MS)
        outcome = self.append(ItemKind.REGISTER, 0, 0, 0, 1, blob)
        if not isinstance(outcome, Registered):
            raise TypeError(outcome)
        return outcome.session.id

    def end(self, session: int, *, expired: bool = False) -> None:
        """End a session, in good order or because it fell silent."""
        self.append(ItemKind.EXPIRE if expired else ItemKind.UNREGISTER, session, 0, FOR_EVER, 1, b"")

    def replay(self) -> R:
        """A replica that starts anew and applies the whole log."""
        fresh = self.make()
        for block in self.blocks:
            fresh.executor.apply(block)
        return fresh
