"""One state machine as a replica runs it: its operations, its timers' names, and the rule for what it raises.

Only ordinary exceptions become results. What says that this *process* is unwell (no memory, too deep, a missing
module, an operating system error) would differ between replicas, so it stops the member instead.

Source: protocol §5.7.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from copycat.errors import ConfigurationError, check
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.machine.timers import Timer, Timers
from copycat.raft.protocol.operations import Failure, Operation, Query
from copycat.raft.protocol.state_machine import Commit, Scheduled, Session, StateMachine

HALTING = (MemoryError, RecursionError, ImportError, OSError)


class ValueCodec(Protocol):
    """Encodes what user-defined operations carry."""

    def encode_value(self, value: Any) -> bytes: ...

    def decode_value(self, data: bytes) -> Any: ...


class Clockwork:
    """What all hosts of a replica share: sessions, timers, and where in the log it stands."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.timers = Timers()
        self.index = 0
        self.time = 0
        self.wall_ms = 0
        self.applying = False  # whether a command or a session's start or end is being applied
        self.encode_event: Callable[[list[Any]], bytes]  # set by the executor
        self.published: dict[int, None] = {}  # sessions with events their connections were not sent yet
        self.overflowing: list[ServerSession] = []  # to be ended at this index


class Host:
    """Runs one state machine; handed to its `configure` as the executor."""

    def __init__(self, target: int, machine: StateMachine, clockwork: Clockwork, codec: ValueCodec) -> None:
        self.target = target
        self.machine = machine
        self._clockwork = clockwork
        self._codec = codec
        self.commands: dict[int, Callable[..., Any]] = {}
        self.queries: dict[int, Callable[..., Any]] = {}
        machine.configure(self)

    # -- the face shown to the machine -------------------------------------------------------------------------------

    @property
    def index(self) -> int:
        return self._clockwork.index

    @property
    def time(self) -> int:
        return self._clockwork.time

    @property
    def sessions(self) -> Iterator[Session]:
        return iter(self._clockwork.sessions)

    def register(self, operation: type[Operation[Any]], callback: Callable[[Commit, Any], Any]) -> None:
        codec = self._codec

        def decoded(commit: Commit, data: bytes) -> bytes | None:
            result = callback(commit, operation(*codec.decode_value(data)))
            return None if result is None else codec.encode_value(result)

        if operation.operation_id < 0:
            raise ConfigurationError(f"operation {operation.__name__} has no id: declare it with `id=`")
        table = self.queries if issubclass(operation, Query) else self.commands
        self._add(table, operation.operation_id, decoded)

    def register_command(self, operation_id: int, callback: Callable[..., Any]) -> None:
        self._add(self.commands, operation_id, callback)

    def register_query(self, operation_id: int, callback: Callable[..., Any]) -> None:
        self._add(self.queries, operation_id, callback)

    def _add(self, table: dict[int, Callable[..., Any]], operation_id: int, callback: Callable[..., Any]) -> None:
        if operation_id in self.commands or operation_id in self.queries:
            raise ConfigurationError(f"{type(self.machine).__name__} registers operation {operation_id} twice")
        table[operation_id] = callback

    def schedule(
        self, delay_ms: int, callback: Callable[..., None], *arguments: Any, interval_ms: int = 0
    ) -> Scheduled:
        check(self._clockwork.applying, "timers are set only while a command or a session's start or end is applied")
        if delay_ms <= 0 or interval_ms < 0:
            raise ConfigurationError(f"a timer's delay must be positive: {delay_ms} ms, interval {interval_ms} ms")
        if getattr(callback, "__self__", None) is not self.machine:
            raise ConfigurationError("a timer calls a method of its own state machine, so that it can be snapshotted")
        name: str = callback.__name__
        return self._clockwork.timers.add(self.target, name, arguments, self._clockwork.time + delay_ms, interval_ms)

    def publish(self, session: Session, instance: int, event_id: int, *arguments: Any) -> None:
        clockwork = self._clockwork
        check(clockwork.applying, "events are published only while a command or a session's start or end is applied")
        receiver = clockwork.sessions.get(session.id)
        if receiver is None:
            return
        event = clockwork.encode_event([self.target, instance, event_id, *arguments])
        queue = receiver.publish(clockwork.index, event)
        clockwork.published[receiver.id] = None
        if queue.overflows and receiver not in clockwork.overflowing:
            clockwork.overflowing.append(receiver)

    # -- what the replica calls --------------------------------------------------------------------------------------

    def execute(self, table: dict[int, Callable[..., Any]], commit: Commit, operation: list[Any]) -> Any:
        """The result of one operation, [target, instance, id, *arguments]: a value, or the Failure it raised."""
        handler = table.get(operation[2])
        if handler is None:
            kind = "query" if table is self.queries else "command"
            return Failure(
                "UnknownOperation", f"{self.machine.type_name or 'the machine'} has no {kind} {operation[2]}"
            )
        try:
            return handler(commit, *operation[3:])
        except HALTING:
            raise
        except Exception as error:
            return Failure(type(error).__name__, str(error))

    def fire(self, timer: Timer) -> None:
        """A timer of this machine is due. What it raises is the same on every replica, and has no caller to tell."""
        try:
            getattr(self.machine, timer.method)(*timer.arguments)
        except HALTING:
            raise
        except Exception:  # deterministic: every replica passes over it alike
            return

    def session_began(self, session: ServerSession) -> None:
        _tell(self.machine.register, session)

    def session_ended(self, session: ServerSession, expired: bool) -> None:
        if expired:
            _tell(self.machine.expire, session)
        _tell(self.machine.close, session)


def _tell(hook: Callable[[Session], None], session: Session) -> None:
    """Call a session hook. What it raises is the same on every replica, and has no caller to tell."""
    try:
        hook(session)
    except HALTING:
        raise
    except Exception:  # deterministic: every replica passes over it alike
        return
