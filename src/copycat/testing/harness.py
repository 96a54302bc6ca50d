"""StateMachineHarness: unit tests of a state machine, without servers and without waiting.

A machine in the harness is configured, called and told of sessions by the code that does it on a server, and every
operation, result and event goes through its bytes. What it does is in a log, which `check_replay` applies once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from copycat.errors import ConfigurationError
from copycat.io.serializer import Serializer
from copycat.raft.machine.executor import Results
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.single import TARGET, SingleMachine
from copycat.raft.machine.timers import Timer
from copycat.raft.protocol.entries import ItemKind
from copycat.raft.protocol.operations import Command, Operation, Query
from copycat.raft.protocol.state_machine import Session, StateMachine
from copycat.raft.protocol.typed import TypedOperations
from copycat.raft.protocol.wire import decode_events, encode_events, encode_operations
from copycat.testing.local import result_of
from copycat.testing.portrait import differences, portrait
from copycat.testing.replicas import Replica, ReplicatedLog
from copycat.testing.snapshots import check_snapshots

R = TypeVar("R")

ALL_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Event:
    """What was published to a session: `index` in the log, `instance` of the session, event `id`, `arguments`."""

    index: int
    instance: int
    id: int
    arguments: tuple[Any, ...]


class _Strict(SingleMachine):
    """Lets out what hooks and timers raise. A server passes over it, and a test had better not."""

    def session_began(self, session: ServerSession) -> None:
        self._host.machine.register(session)

    def session_ended(self, session: ServerSession, expired: bool) -> None:
        if expired:
            self._host.machine.expire(session)
        self._host.machine.close(session)

    def fire(self, timer: Timer) -> None:
        getattr(self._host.machine, timer.method)(*timer.arguments)


class _Member(Replica):
    """A replica of one machine."""

    def __init__(self, make: Callable[[], StateMachine], serializer: Serializer) -> None:
        clockwork = Clockwork()
        self.machine = make()
        super().__init__(clockwork, _Strict(self.machine, clockwork, serializer))


class StateMachineHarness:
    """One state machine, with a log of its own: `bank = StateMachineHarness(Bank)`.

    make: the class, or what makes the machine; called again by `check_replay`.
    serializer: of the operations' fields and of the state in snapshots; None: the built-in types.

    `machine` is the machine itself, to look into. What its hooks and timers raise, which a server passes over, is
    raised by the call that made them run.
    """

    def __init__(self, make: Callable[[], StateMachine], *, serializer: Serializer | None = None) -> None:
        serializer = serializer if serializer is not None else Serializer()
        self._log = ReplicatedLog(lambda: _Member(make, serializer))
        self._replica = self._log.replicas[0]
        self._typed = TypedOperations(serializer, "the state machine")
        self._sequences: dict[int, int] = {}  # by session
        self._outcomes: list[bytes] = []  # of every command
        self._events: dict[int, list[Event]] = {}  # by session; of those that have ended, too
        self._own_session: Session | None = None
        self.machine: Any = self._replica.machine

    # -- sessions and time ---------------------------------------------------------------------------------------------

    @property
    def time(self) -> int:
        """Log time in milliseconds, as `Executor.time`."""
        return self._replica.clockwork.time

    @property
    def index(self) -> int:
        """The last index of the log, as `Executor.index`."""
        return self._log.index

    def session(self) -> Session:
        """Begin a session."""
        session = self._replica.session(self._log.register())
        if session is None:
            raise ConfigurationError("the machine's register hook ended the session it was told of")
        self._gather()
        return session

    def close(self, session: Session) -> None:
        """End a session in good order, as a client that closes: the machine's `close` is called."""
        self._end(session, expired=False)

    def expire(self, session: Session) -> None:
        """End a session that fell silent: the machine's `expire` is called, then its `close`."""
        self._end(session, expired=True)

    def _end(self, session: Session, *, expired: bool) -> None:
        if not session.is_open:
            raise ConfigurationError(f"{session!r} has ended before")
        self._log.end(session.id, expired=expired)
        self._gather()

    def advance(self, seconds: float) -> None:
        """Let log time pass, and timers fire."""
        if not seconds > 0:
            raise ConfigurationError(f"time passes in positive seconds, not {seconds!r}")
        self._log.advance(seconds)
        self._gather()

    # -- operations ----------------------------------------------------------------------------------------------------

    @overload
    def apply(self, operation: Command[R], *, session: Session | None = None, instance: int = 0) -> R: ...

    @overload
    def apply(self, operation: int, *arguments: Any, session: Session | None = None, instance: int = 0) -> Any: ...

    def apply(self, operation: Any, *arguments: Any, session: Session | None = None, instance: int = 0) -> Any:
        """The result of a command, as a program gets it.

        operation: an object of a Command class, or the id of `register_command`, with its arguments behind it.
        session: whose command it is; None: of a session of the harness's own, which begins when it is first needed.
        instance: the handle within the session.

        Raises ApplicationError for what the machine raised, with `kind`.
        """
        session = self._session_or_own(session)
        row, decode = self._row(Command, operation, arguments, instance)
        sequence = self._sequences[session.id] = self._sequences.get(session.id, 0) + 1
        outcome = self._log.append(ItemKind.COMMANDS, session.id, sequence, sequence - 1, 1, encode_operations([row]))
        self._gather()
        if not isinstance(outcome, Results):
            raise ConfigurationError(f"{session!r} has ended, and commands no more")
        self._outcomes.append(outcome.data)
        return decode(result_of(outcome.data))

    @overload
    def query(self, operation: Query[R], *, session: Session | None = None, instance: int = 0) -> R: ...

    @overload
    def query(self, operation: int, *arguments: Any, session: Session | None = None, instance: int = 0) -> Any: ...

    def query(self, operation: Any, *arguments: Any, session: Session | None = None, instance: int = 0) -> Any:
        """The result of a query; as `apply`, but without a session it is nobody's, whose id is 0.

        Raises AssertionError when the query changed the machine.
        """
        row, decode = self._row(Query, operation, arguments, instance)
        before = portrait(self.machine)
        asking = self._replica.session(session.id) if session is not None else None
        data = self._replica.executor.query(asking, encode_operations([row]), 1)
        changed = differences(before, portrait(self.machine))
        if changed:
            raise AssertionError(f"a query changes nothing, but {operation!r} changed {changed}")
        return decode(result_of(data or b""))

    def _session_or_own(self, session: Session | None) -> Session:
        if session is not None:
            return session
        if self._own_session is None:
            self._own_session = self.session()
        return self._own_session

    def _row(
        self, kind: type[Operation[Any]], operation: Any, arguments: tuple[Any, ...], instance: int
    ) -> tuple[list[Any], Callable[[Any], Any]]:
        """The operation as it travels, and what decodes its result."""
        if type(operation) is int:
            return [TARGET, instance, operation, *arguments], lambda result: result
        if not isinstance(operation, kind) or arguments:
            raise ConfigurationError(
                f"an operation is a {kind.__name__} object, or an id with arguments; not {operation!r} {arguments!r}"
            )
        data = self._typed.encode(operation)
        return [TARGET, instance, operation.operation_id, data], self._typed.decoder(operation)

    # -- what came of it -----------------------------------------------------------------------------------------------

    def events(self, session: Session) -> list[Event]:
        """Everything published to the session so far, in order."""
        return list(self._events.get(session.id, []))

    def _gather(self) -> None:
        for session in self._replica.executor.sessions:
            seen = self._events.setdefault(session.id, [])
            if session.events is not None:
                seen += _decoded(session.id, session.events.after(seen[-1].index if seen else 0, ALL_BYTES))

    def check_replay(self) -> None:
        """Apply the same log to a new machine, which must come out the same; then, from snapshots taken in between,
        only what came after. AssertionError tells what differs, SnapshotError what cannot be put into a snapshot.

        Compared are the results of all commands, the events of all open sessions, the timers, and the state: the
        machine's attributes, and what they hold, all the way down. Sessions count as equal by their ids, dicts by their
        order too, objects of your own by class and attributes, even where they have no `==`.

        What is caught: a clock, random numbers, the state of other objects, the order of identities; state that is not
        in a snapshot, comes back as something else, or changes in it while commands go on. What is not: the order of a
        set of strings, which only differs between processes; sort before order matters.
        """
        replica = self._log.make()
        outcomes: list[bytes] = []
        for block in self._log.blocks:
            outcomes += [each.data for each in replica.executor.apply(block) if isinstance(each, Results)]
        for number, (first, second) in enumerate(zip(self._outcomes, outcomes, strict=True), 1):
            if first != second:
                raise AssertionError(f"command {number} came out as {first!r}, and in the replay as {second!r}")
        for session in self._replica.executor.sessions:
            again = replica.session(session.id)
            events = again.events.after(0, ALL_BYTES) if again is not None and again.events is not None else []
            if self.events(session) != _decoded(session.id, events):
                raise AssertionError(f"{session!r} was told {self.events(session)}, and in the replay something else")
        state = differences(portrait(self.machine), portrait(replica.machine))
        if state:
            raise AssertionError(f"the replay left another state: {state}")
        timers = differences(portrait(self._replica.clockwork.timers), portrait(replica.clockwork.timers))
        if timers:
            raise AssertionError(f"the replay left other timers: {timers}")
        check_snapshots(self._log)


def _decoded(session_id: int, batches: Any) -> list[Event]:
    return [
        Event(index, instance, event_id, tuple(arguments))
        for index, *events in decode_events(encode_events(session_id, 0, batches))
        for _, instance, event_id, *arguments in events
    ]
