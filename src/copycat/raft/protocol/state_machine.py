"""What the author of a state machine sees: StateMachine, Commit, Session, Executor and Scheduled.

A state machine is a pure function of the log. It takes time from the log (`Executor.time`), never from a clock; it
draws no random numbers and does no I/O; it never iterates a set of strings where order matters. Then every replica, and
every replay, computes the same.

Source: protocol §4, §5.7; ARCHITECTURE.md "Time comes from the log".
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol

from copycat.errors import ConfigurationError
from copycat.raft.protocol.operations import Operation


class Session(Protocol):
    """A client's session as a state machine sees it: the same object at every commit of that session.

    `id` is the log index of its registration, so ids grow and are never reused.
    """

    @property
    def id(self) -> int: ...

    @property
    def is_open(self) -> bool: ...


class Commit:
    """One operation as it is applied.

    index: its place in the log; for a query, the last index applied.
    time: what the leader's wall clock showed when it was appended, in milliseconds since 1970, never decreasing: for
        people to read. Spans are measured in log time, with `Executor.time`.
    session: whose operation it is.
    instance: the handle within the session it came through; two handles are two participants.
    """

    __slots__ = ("index", "instance", "session", "time")

    def __init__(self, index: int, time: int, session: Session, instance: int) -> None:
        self.index = index
        self.time = time
        self.session = session
        self.instance = instance


Many = Callable[[Commit, list[list[Any]], list[Any]], None]
"""`many(commit, operations, results)`: several operations with one id, of one handle, in a loop of their own.

Each of `operations` is [resource, handle, id, *arguments]. `commit` is the first one's; each command has the index
after the one before it, queries have all the same. From the front on, the result of each is appended to `results`:
None, a bool, int, float, str or bytes. It may stop, or raise, before any of them: those without a result must not have
been begun, and are called one by one. State and results are to be as these calls would leave them; nothing is published
and no timer is set.
"""


class Scheduled(Protocol):
    """A timer of a state machine. `id` is its own for ever, see `Executor.timer`."""

    @property
    def id(self) -> int: ...

    def cancel(self) -> None:
        """Never fire (again). Does nothing after the only firing or an earlier cancel."""


class Executor(Protocol):
    """What `configure` is handed: registers operations, schedules timers, tells time."""

    @property
    def index(self) -> int:
        """The index being applied."""

    @property
    def time(self) -> int:
        """Log time in milliseconds: never falls, and runs while a leader does. Measure spans with it."""

    @property
    def sessions(self) -> Iterator[Session]:
        """The open sessions, in order of registration."""

    def session(self, session_id: int) -> Session | None:
        """The open session with this id: a machine that was restored finds those again whose ids it kept."""

    def timer(self, timer_id: int) -> Scheduled | None:
        """The timer with this `Scheduled.id`; None when it has fired for the last time or was cancelled."""

    def register(self, operation: type[Operation[Any]], callback: Callable[[Commit, Any], Any]) -> None:
        """Call `callback(commit, operation)` for every operation of this class.

        Raises ConfigurationError when its id is taken or it has none.
        """

    def register_command(self, operation_id: int, callback: Callable[..., Any], *, many: Many | None = None) -> None:
        """Call `callback(commit, *arguments)` for commands with this id, without an object for each.

        The arguments and the result are what MessagePack carries: None, bool, int of 64 bits, float, str, bytes, and
        lists and dicts of these.

        many: for an operation that is called very often: does what `callback` would for several that came together,
        see `Many`. None: each is called by itself.

        Raises ConfigurationError when the id is taken.
        """

    def register_query(self, operation_id: int, callback: Callable[..., Any], *, many: Many | None = None) -> None:
        """As `register_command`, for queries: neither may change state."""

    def schedule(
        self, delay_ms: int, callback: Callable[..., None], *arguments: Any, interval_ms: int = 0
    ) -> Scheduled:
        """Call a bound method of the state machine after `delay_ms` of log time, then every `interval_ms` if not zero.

        The arguments are what a serializer encodes, and what they come back as, for timers are part of snapshots: an
        object of a class that is not registered is a dict. Fires before the entry whose time reaches it, in order of
        due time, never early. Legal only while a command or a session's start or end is applied.

        Raises ConfigurationError when the delay is not positive or the callback is not a method of the machine,
        SerializationError for arguments that cannot be encoded.
        """

    def publish(self, session: Session, instance: int, event_id: int, *arguments: Any) -> None:
        """Tell a handle something: `instance` of `session`, as they came with one of its commits.

        The client hears it once, and in the order of publishing, whichever server it is connected to and whoever
        leads. The arguments are what MessagePack carries. A session that has ended is passed over. Legal only while a
        command or a session's start or end is applied, or a timer fires; never in a query.
        """


class Derived:
    """What a state machine keeps only to be quick: an order, an index. Subclass it for what holds that.

    It must follow from the rest of the state. So queries may change it, replicas may differ in it, and no snapshot
    holds it.
    """


class Attributes(Protocol):
    """The state of a machine that keeps it in annotated attributes; see `StateMachine.snapshot`."""

    def snapshot(self, machine: "StateMachine") -> list[Any]: ...

    def restore(self, machine: "StateMachine", parts: Iterable[Any]) -> None: ...


class StateMachine:
    """Subclass with a stable wire name and a version: `class Bank(StateMachine, name="acme.bank", version=1)`.

    Override `configure`; the session hooks when needed. Hooks run at one index everywhere, `expire` before `close`.
    An exception raised by a handler becomes the operation's result on every replica. Annotate the attributes that are
    the state, in the body of the class, or override `snapshot` and `restore`.
    """

    type_name: ClassVar[str] = ""
    type_version: ClassVar[int] = 1
    _attributes: Attributes  # handed in by whoever runs the machine

    def __init_subclass__(cls, name: str = "", version: int = 1, **options: Any) -> None:
        super().__init_subclass__(**options)
        if version < 1:
            raise ConfigurationError(f"the version of state machine {cls.__name__} must be 1 or more, not {version}")
        cls.type_name, cls.type_version = name, version

    def configure(self, executor: Executor) -> None:
        """Register every operation."""

    def register(self, session: Session) -> None:
        """A session began."""

    def expire(self, session: Session) -> None:
        """A session ended because nothing was heard from it."""

    def close(self, session: Session) -> None:
        """A session ended, for whatever reason."""

    def delete(self) -> None:
        """The resource was deleted: let go of everything."""

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Iterable[Any]:
        """The state, in parts that a serializer encodes. `restore` is handed equal ones.

        It must be handed over quickly, for nothing else happens meanwhile. A list is encoded at once, which suits a
        small state. An iterator is asked for its parts a few at a time while commands go on, so it must go over copies
        made here: `return iter_parts(self.entries.copy())`, of entries that are replaced rather than changed. Parts of
        some kilobytes are best. Their order must be the same on every replica: that of a dict is, that of a set is not.

        Without an override this is every attribute annotated in the body of the class, as `accounts: dict[str, int]`,
        encoded at once. Annotations say how it is decoded. Left out are those of ClassVar and Executor, and what is
        Derived. Any other attribute, a Session among them, is a SnapshotError: keep `session.id`.
        """
        return self._attributes.snapshot(self)

    def restore(self, parts: Iterable[Any]) -> None:
        """Become the state that `snapshot` handed over: once, on a machine that has just been configured.

        Timers and sessions are there already: `Executor.timer` and `Executor.session` find them. An override takes
        every part. What it raises stops the member.
        """
        self._attributes.restore(self, parts)
