"""One state machine as a replica runs it: its operations, its timers' names, and the rule for what it raises.

Only ordinary exceptions become results. What says that this *process* is unwell (no memory, too deep, a missing
module, an operating system error) would differ between replicas, so it stops the member instead.

Source: protocol §5.7.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from copycat.errors import ConfigurationError, SnapshotError, check
from copycat.raft.machine.attributes import AnnotatedAttributes
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.machine.timers import Timer, Timers
from copycat.raft.protocol.operations import Failure, Operation, Query
from copycat.raft.protocol.state_machine import Commit, Many, Scheduled, Session, StateMachine

HALTING = (MemoryError, RecursionError, ImportError, OSError)

_UNCHANGING = frozenset({type(None), bool, int, float, str, bytes})
_GENERATOR_FUNCTION = 0x20  # in the flags of code: inspect.CO_GENERATOR


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
        self.configuring_again = False  # a machine of a snapshot: what its `configure` set off is in the snapshot


class Host:
    """Runs one state machine; handed to its `configure` as the executor."""

    def __init__(self, target: int, machine: StateMachine, clockwork: Clockwork, codec: ValueCodec, where: str) -> None:
        self.target = target
        self.where = where  # as people know it, for messages
        self.machine = machine
        self._clockwork = clockwork
        self._codec = codec
        self.commands: dict[int, Callable[..., Any]] = {}
        self.queries: dict[int, Callable[..., Any]] = {}
        self._many: dict[int, Many] = {}  # of either
        machine._attributes = AnnotatedAttributes(self, codec)
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

    def session(self, session_id: int) -> Session | None:
        return self._clockwork.sessions.get(session_id)

    def timer(self, timer_id: int) -> Scheduled | None:
        return self._clockwork.timers.get(timer_id)

    def register(self, operation: type[Operation[Any]], callback: Callable[[Commit, Any], Any]) -> None:
        codec = self._codec

        def decoded(commit: Commit, data: bytes) -> bytes | None:
            result = callback(commit, operation(*codec.decode_value(data)))
            return None if result is None else codec.encode_value(result)

        if operation.operation_id < 0:
            raise ConfigurationError(f"operation {operation.__name__} has no id: declare it with `id=`")
        table = self.queries if issubclass(operation, Query) else self.commands
        self._add(table, operation.operation_id, decoded, None)

    def register_command(self, operation_id: int, callback: Callable[..., Any], *, many: Many | None = None) -> None:
        self._add(self.commands, operation_id, callback, many)

    def register_query(self, operation_id: int, callback: Callable[..., Any], *, many: Many | None = None) -> None:
        self._add(self.queries, operation_id, callback, many)

    def _add(
        self,
        table: dict[int, Callable[..., Any]],
        operation_id: int,
        callback: Callable[..., Any],
        many: Many | None,
    ) -> None:
        if operation_id in self.commands or operation_id in self.queries:
            raise ConfigurationError(f"{type(self.machine).__name__} registers operation {operation_id} twice")
        table[operation_id] = callback
        if many is not None:
            self._many[operation_id] = many

    def schedule(
        self, delay_ms: int, callback: Callable[..., None], *arguments: Any, interval_ms: int = 0
    ) -> Scheduled:
        clockwork = self._clockwork
        check(
            clockwork.applying or clockwork.configuring_again,
            "timers are set only while a command or a session's start or end is applied",
        )
        if delay_ms <= 0 or interval_ms < 0:
            raise ConfigurationError(f"a timer's delay must be positive: {delay_ms} ms, interval {interval_ms} ms")
        if getattr(callback, "__self__", None) is not self.machine:
            raise ConfigurationError("a timer calls a method of its own state machine, so that it can be snapshotted")
        name: str = callback.__name__
        if not _UNCHANGING.issuperset(map(type, arguments)):
            # As they will be when they come from a snapshot; and nobody can change them until then.
            arguments = tuple(self._codec.decode_state(self._codec.encode_state(list(arguments))))
        due = clockwork.time + delay_ms
        if clockwork.configuring_again:
            return Timer(None, self.target, name, arguments, due, interval_ms, 0)
        return clockwork.timers.add(self.target, name, arguments, due, interval_ms)

    def publish(self, session: Session, instance: int, event_id: int, *arguments: Any) -> None:
        clockwork = self._clockwork
        if clockwork.configuring_again:
            return
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
            return failure_of(error)

    def execute_many(
        self, table: dict[int, Callable[..., Any]], commit: Commit, operations: list[list[Any]]
    ) -> list[Any]:
        """The results of operations with one id and handle, as many from the front on as could be done together.

        What could not is to be called by itself: a failure then is the result of the one that it is of.
        """
        results: list[Any] = []
        operation_id = operations[0][2]
        many = self._many.get(operation_id)
        if many is not None and operation_id in table:
            try:
                many(commit, operations, results)
            except HALTING:
                raise
            except Exception:
                pass
            check(len(results) <= len(operations), "operations have one result each", self.where, operation_id)
        return results

    def fire(self, timer: Timer) -> None:
        """A timer of this machine is due. What it raises is the same on every replica, and has no caller to tell."""
        try:
            getattr(self.machine, timer.method)(*timer.arguments)
        except HALTING:
            raise
        except Exception:  # deterministic: every replica passes over it alike
            return

    def snapshot(self) -> Iterator[bytes]:
        """The parts of the machine's state as it is now, encoded one by one as they are asked for.

        Raises SnapshotError, at once or with a part; and what the machine raises.
        """
        machine = self.machine
        code = getattr(type(machine).snapshot, "__code__", None)
        if code is not None and code.co_flags & _GENERATOR_FUNCTION:
            raise SnapshotError(
                f"{type(machine).__name__}.snapshot is a generator, which looks at the state when it has changed: "
                "return a list, or an iterator over copies that are made at the call"
            )
        parts = machine.snapshot()
        encode = self._codec.encode_state
        return map(encode, parts) if isinstance(parts, Iterator) else iter([encode(part) for part in parts])

    def restore(self, parts: Iterable[bytes]) -> None:
        """Give a machine that was just configured its state back.

        Raises SnapshotError when it leaves parts alone; and what the machine raises.
        """
        left = map(self._codec.decode_state, parts)
        self.machine.restore(left)
        if next(left, left) is not left:
            raise SnapshotError(f"{type(self.machine).__name__}.restore did not take all parts of the snapshot")

    def session_began(self, session: ServerSession) -> None:
        _tell(self.machine.register, session)

    def session_ended(self, session: ServerSession, expired: bool) -> None:
        if expired:
            _tell(self.machine.expire, session)
        _tell(self.machine.close, session)


def failure_of(error: Exception) -> Failure:
    """The result of an operation that raised. A message that cannot be made must not stop a member either."""
    try:
        return Failure(type(error).__name__, str(error))
    except Exception:
        return Failure(type(error).__name__, "")


def _tell(hook: Callable[[Session], None], session: Session) -> None:
    """Call a session hook. What it raises is the same on every replica, and has no caller to tell."""
    try:
        hook(session)
    except HALTING:
        raise
    except Exception:  # deterministic: every replica passes over it alike
        return
