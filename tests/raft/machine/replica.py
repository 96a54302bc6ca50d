"""A replicated half of a server without consensus: the test writes the log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from copycat.raft.machine.executor import Executor, Outcome, Registered
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.entries import KEEP_ALIVE, REGISTER, BlockKind, ItemKind, pack_item
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.protocol.wire import decode_operations, encode_msgpack, encode_operations, encode_results


@dataclass(slots=True)
class LoggedBlock:
    """A committed block."""

    first_index: int
    count: int
    kind: int
    time: int
    wall_ms: int
    body: bytes


class ReprCodec:
    """Encodes what `repr` and `eval` of literals carry: enough for tests of operation classes."""

    def encode_value(self, value: Any) -> bytes:
        return repr(value).encode()

    def decode_value(self, data: bytes) -> Any:
        return eval(data)

    def encode_state(self, value: Any) -> bytes:
        return self.encode_value(value)

    def decode_state(self, data: bytes, kind: Any = Any) -> Any:
        return self.decode_value(data)


def commands(session: int, first: int, *operations: list[Any], ack: int = 0) -> tuple[int, bytes]:
    """(count, bytes) of a session's batch."""
    blob = encode_operations([[0, 0, *operation] for operation in operations])
    return len(operations), pack_item(ItemKind.COMMANDS, session, first, ack, len(operations), blob)


def register(name: str, timeout_ms: int = 5000) -> tuple[int, bytes]:
    """(count, bytes) of a registration; `name` makes nonce and secret."""
    nonce, secret = name.encode().ljust(16, b"n"), name.encode().ljust(16, b"s")
    return 1, pack_item(ItemKind.REGISTER, 0, 0, 0, 1, REGISTER.pack(nonce, secret, timeout_ms))


def keep_alive(*acks: tuple[int, int]) -> tuple[int, bytes]:
    """(count, bytes) of keep-alives, (session, ack) each."""
    blob = b"".join(KEEP_ALIVE.pack(session, ack, 0) for session, ack in acks)
    return 1, pack_item(ItemKind.KEEP_ALIVE, 0, 0, 0, 1, blob)


def internal(kind: int, session: int = 0, ack: int = 0, blob: bytes = b"") -> tuple[int, bytes]:
    """(count, bytes) of an entry of the leader's own."""
    return 1, pack_item(kind, session, 0, ack, 1, blob)


class Replica:
    """Applies what the test appends. `log` can be applied to another replica, which must come out the same."""

    def __init__(self, make: Callable[[], StateMachine]) -> None:
        self.machine = make()
        self.clockwork = Clockwork()
        self.executor = Executor(
            clockwork=self.clockwork,
            machines=SingleMachine(self.machine, self.clockwork, ReprCodec()),
            decode_operations=decode_operations,
            encode_results=encode_results,
            encode_event=encode_msgpack,
        )
        self.log: list[LoggedBlock] = []
        self.time = 0

    def apply(
        self, *items: tuple[int, bytes], time: int | None = None, kind: int = BlockKind.ITEMS, wall_ms: int = 0
    ) -> list[Outcome]:
        """Append the items as one block, `time` being its log time, and apply it."""
        self.time = self.time if time is None else time
        count = sum(count for count, _ in items) or 1
        first = self.executor.applied_index + 1
        block = LoggedBlock(first, count, kind, self.time, wall_ms, b"".join(body for _, body in items))
        self.log.append(block)
        return self.executor.apply(block)

    def session(self, name: str = "one", timeout_ms: int = 5000) -> ServerSession:
        """Register a session."""
        (outcome,) = self.apply(register(name, timeout_ms))
        match outcome:
            case Registered(session):
                return session
        raise TypeError(outcome)
