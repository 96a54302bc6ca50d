"""The base of every resource a program holds: a path, and operations that start when they are called.

A resource is two classes. Its StateMachine runs on the servers; its Resource is what programs hold:

    class Counter(Resource, machine=CounterMachine):
        def add(self, amount: int) -> Future[int]:
            return self.command(ADD, amount, what="add")

Methods are plain functions. They check their arguments, so that mistakes raise at the call, and return the future of
an operation that has already started: the order of calls is the order of effect, with as many in flight as you like.

Source: protocol §7.2, §7.4.
"""

from asyncio import Future
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast, get_args, get_origin

from copycat.errors import ClosedError, ConfigurationError, Outcome, ResourceTypeError
from copycat.io.serializer import Serializer
from copycat.raft.client.states import Loss
from copycat.raft.protocol.operations import ConsistencyLevel, Operation, Query
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.protocol.typed import TypedOperations
from copycat.resource.operations import CATALOG, DELETE
from copycat.resource.subscription import Subscription
from copycat.util.listeners import Listener
from copycat.util.tasks import TaskOwner

EventHandler = Callable[[int, int, list[Any]], object]

R = TypeVar("R")
T = TypeVar("T", bound="Resource")

Timeout = float | EllipsisType | None
"""Seconds until a call gives up; None: never; `...`: what its handle says."""


class Submitter(Protocol):
    """What resources need of a client: sends operations, and says how the cluster is."""

    def command(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        timeout: float | None = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "",
    ) -> Future[R]: ...

    def query(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        consistency: ConsistencyLevel,
        timeout: float | None = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "",
    ) -> Future[R]: ...

    def listen(self, target: int, instance: int, handler: EventHandler) -> None:
        """Call `handler(index, event id, arguments)` for every event published to this instance."""

    def unlisten(self, target: int, instance: int) -> None:
        """Call the handler no more."""

    def on_loss(self, callback: Callable[[Loss], object]) -> Listener[Loss]:
        """Hear when what rests on the session must be given up, and why."""

    def on_recovery(self, callback: Callable[[int], object]) -> Listener[int]:
        """Hear when another session has begun in the place of a lost one."""

    @property
    def state(self) -> object:
        """How the session stands: connected, suspended, expired, closed."""

    @property
    def is_connected(self) -> bool:
        """Whether the servers are known to know that the session lives."""

    @property
    def is_lost(self) -> bool:
        """Whether what rests on the session must be given up, for now at least."""

    @property
    def leader(self) -> str | None:
        """The id of the leader last heard of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceContext:
    """What a handle stands on. Made by `Copycat.create` and `Copycat.get`; resources pass it on to `Resource`.

    instance: which of the process's handles this is; two handles are two participants.
    type_arguments: `(str, User)` of `DistributedMap[str, User]`; empty for a bare class.
    consistency: of queries that name none; None leaves it to the query.
    timeout: in seconds, of calls that name none; None waits for ever.
    """

    client: Submitter
    serializer: Serializer
    path: str
    resource_id: int
    instance: int
    type_arguments: tuple[Any, ...] = ()
    consistency: ConsistencyLevel | None = None
    timeout: float | None = 30.0


class Resource:
    """A handle on a replicated resource. Subclass with `class X(Resource, machine=XMachine)`.

    Get one from `Copycat.create` or `Copycat.get`. Every call takes `timeout=` in seconds (None: for ever); every query
    takes `consistency=`. What any call may raise when awaited, besides what it documents: UnknownResourceError after
    the resource was deleted, and the errors of its session (see `copycat.errors`).
    """

    machine: ClassVar[type[StateMachine] | None] = None

    def __init_subclass__(cls, machine: type[StateMachine] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if machine is None:
            return
        if not getattr(machine, "type_name", ""):
            raise ConfigurationError(
                f"machine= of resource {cls.__name__} must be a StateMachine class with a name, not {machine!r}"
            )
        cls.machine = machine

    @classmethod
    def machine_class(cls) -> type[StateMachine]:
        """The state machine behind this resource. Raises ConfigurationError when the class names none."""
        if cls.machine is None:
            raise ConfigurationError(f"{cls.__name__} names no state machine: class X(Resource, machine=XMachine)")
        return cls.machine

    def __init__(self, context: ResourceContext) -> None:
        self._context = context
        self._target = context.resource_id
        self._instance = context.instance
        self._level = context.consistency or ConsistencyLevel.LINEARIZABLE
        self._timeout = context.timeout
        self._submit_command = context.client.command
        self._submit_query = context.client.query
        self._closed = False
        self._is_twin = False
        self._events: dict[int, Callable[..., object]] = {}
        self._subscriptions: dict[Subscription[Any], None] = {}  # those that have listeners
        self._callbacks = TaskOwner(f"{type(self).__name__} {context.path!r}")  # what coroutine callbacks do
        self._names = _CallNames(context.path)
        self._typed = TypedOperations(context.serializer, f"{type(self).__name__} {context.path!r}")

    def __repr__(self) -> str:
        client = self._context.client
        state = "closed" if self._closed else f"{client.state} leader={client.leader}"
        return f"<{type(self).__name__} {self.path!r} {state}>"

    @property
    def path(self) -> str:
        """Where the resource is found."""
        return self._context.path

    @property
    def serializer(self) -> Serializer:
        """Encodes what this handle sends: keys and values of the shipped resources, operations of your own."""
        return self._context.serializer

    @property
    def type_arguments(self) -> tuple[Any, ...]:
        """`(str, User)` of `create(path, DistributedMap[str, User])`; empty for a bare class."""
        return self._context.type_arguments

    def with_consistency(self, consistency: ConsistencyLevel) -> Self:
        """This handle once more, for queries that have this level unless they name another.

        The same participant, with the same listeners, which are closed with the first; otherwise closed on its own.

        Raises ConfigurationError for what is no level.
        """
        level = check_level(consistency)
        return self._once_more(_level=level, _context=replace(self._context, consistency=level))

    def with_timeout(self, timeout: float | None) -> Self:
        """This handle once more, for calls that give up after `timeout` seconds unless they say otherwise; None: never.

        The same participant, with the same listeners, which are closed with the first; otherwise closed on its own.
        """
        return self._once_more(_timeout=timeout)

    def _once_more(self, **changes: Any) -> Self:
        """A copy that shares with this handle whatever is not a plain value."""
        twin = copy(self)
        twin._is_twin = True
        vars(twin).update(changes)
        return twin

    def delete(self, *, timeout: Timeout = ...) -> Future[bool]:
        """Delete the resource and its state, everywhere. False if that had happened already.

        Handles on it, here and elsewhere, fail with UnknownResourceError from then on, also when something new is
        created at its path. Raises ClosedError after `close()`.
        """
        self.check_open()
        context = self._context
        return self._submit_command(
            CATALOG,
            self._instance,
            DELETE,
            (context.path, context.resource_id),
            timeout=self._timeout if timeout is ... else timeout,
            what=self._names["delete"],
        )

    async def close(self) -> None:
        """Let go of this handle and close its listeners; idempotent. The resource stays. Calls raise ClosedError."""
        if self._is_twin:
            self._closed = True
            return
        if not self._closed:
            for subscription in list(self._subscriptions):
                subscription.end(self._closed_error())
            self._context.client.unlisten(self._target, self._instance)
            self._closed = True
        await self._callbacks.close()

    # -- for authors of resources ------------------------------------------------------------------------------------

    def command(
        self,
        operation_id: int,
        *arguments: Any,
        timeout: Timeout = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "",
    ) -> Future[R]:
        """Start a command that the state machine registered with `register_command`.

        arguments: what MessagePack carries, see `Executor.register_command`.
        decode: makes the result from what the state machine returned; called when the answer is here.
        what: the verb, for error messages.

        Raises ClosedError after `close()`, TooLargeError when the arguments exceed an entry, and what the client
        refuses at once. The future raises ApplicationError for what the state machine raised.
        """
        if self._closed:
            raise self._closed_error()
        return self._submit_command(
            self._target,
            self._instance,
            operation_id,
            arguments,
            timeout=self._timeout if timeout is ... else timeout,
            decode=decode,
            what=self._names[what],
        )

    def query(
        self,
        operation_id: int,
        *arguments: Any,
        consistency: ConsistencyLevel | None = None,
        timeout: Timeout = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "",
    ) -> Future[R]:
        """Start a query that the state machine registered with `register_query`; otherwise as `command`.

        consistency: None means the handle's level, or LINEARIZABLE if it has none.
        """
        if self._closed:
            raise self._closed_error()
        level = self._level if consistency is None else check_level(consistency)
        return self._submit_query(
            self._target,
            self._instance,
            operation_id,
            arguments,
            consistency=level,
            timeout=self._timeout if timeout is ... else timeout,
            decode=decode,
            what=self._names[what],
        )

    def on_event(self, event_id: int, handler: Callable[..., object]) -> None:
        """Call `handler(index, *arguments)` for every event with this id published to this handle, in order, once.

        The state machine publishes to the session and the instance of a commit: with `Executor.publish`. `index` is
        the event's place in the log. A handler is plain; it returns before later events and answers are seen. See
        `Subscription` for listeners of whoever uses the resource.
        """
        if not self._events:
            self._context.client.listen(self._target, self._instance, self._dispatch)
        self._events[event_id] = handler

    def subscription(
        self, what: str, listen: Callable[[], Future[Any]], unlisten: Callable[[], Future[Any]]
    ) -> Subscription[Any]:
        """Listeners of whoever uses this handle, closed with it.

        what: names them in messages, such as "messages". listen, unlisten: start the commands that register this handle
        with the state machine, and deregister it.
        """
        return Subscription(
            self._names[what],
            listen,
            unlisten,
            self._context.client,
            tasks=self._callbacks,
            active=self._subscriptions,
        )

    def _dispatch(self, index: int, event_id: int, arguments: list[Any]) -> None:
        handler = self._events.get(event_id)
        if handler is not None:
            handler(index, *arguments)

    @property
    def session(self) -> Submitter:
        """The session behind this handle: `state`, `leader`, `on_loss`, `on_recovery`."""
        return self._context.client

    @property
    def default_timeout(self) -> float | None:
        """Seconds until calls that name no time give up; None: never."""
        return self._timeout

    @property
    def is_closed(self) -> bool:
        """True from the call of `close()` on."""
        return self._closed

    def check_open(self) -> None:
        """Raise ClosedError after `close()`, as every call does."""
        if self._closed:
            raise self._closed_error()

    def submit(
        self, operation: Operation[R], *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[R]:
        """Start an operation of a class that the state machine registered with `register`.

        The result is decoded as the R of its `Command[R]` or `Query[R]`. The level of a query is the one named here, or
        the handle's, or its class's.

        Raises ConfigurationError for what is no operation or has no id, or when a command is given a level;
        SerializationError or TooLargeError for fields that cannot be encoded; otherwise as `command`.
        """
        kind = type(operation)
        data, decode = self._typed.encode(operation), self._typed.decoder(operation)
        what = kind.__name__
        if isinstance(operation, Query):
            level = consistency or self._context.consistency or operation.consistency
            return self.query(kind.operation_id, data, consistency=level, timeout=timeout, decode=decode, what=what)
        if consistency is not None:
            raise ConfigurationError(f"{what} is a command: commands are always linearizable and take no consistency")
        return self.command(kind.operation_id, data, timeout=timeout, decode=decode, what=what)

    def decode(self, data: bytes, kind: Any, what: str, outcome: Outcome = Outcome.NOT_APPLIED) -> Any:
        """Decode canonical bytes as `kind`, for `decode=` of `command` (with outcome APPLIED) and `query`.

        Raises DecodeError that names the path, `what` and `kind`, and whether a command was applied all the same.
        """
        return self._typed.decode(data, kind, what, outcome)

    def decode_key(self, data: bytes, kind: Any, outcome: Outcome = Outcome.NOT_APPLIED) -> Any:
        """Decode canonical bytes of a key as `kind`; otherwise as `decode`."""
        return self._typed.decode_key(data, kind, outcome)

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"this handle on {type(self).__name__} {self.path!r} is closed; create or get another")


class _CallNames(dict[str, str]):
    """What the calls of one handle are named in messages: `put on 'users'`, made once per verb."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def __missing__(self, verb: str) -> str:
        name = self[verb] = f"{verb or 'call'} on {self._path!r}"
        return name


def resource_class(resource: type[T]) -> tuple[type[T], tuple[Any, ...]]:
    """The class and the type arguments of `DistributedMap[str, User]`, or of a bare class and ().

    Raises ResourceTypeError for what is no Resource class, ConfigurationError for one without a state machine.
    """
    kind: Any = get_origin(resource) or resource
    if isinstance(kind, type) and issubclass(kind, Resource):
        kind.machine_class()
        return cast(type[T], kind), tuple(Any if isinstance(each, TypeVar) else each for each in get_args(resource))
    hint = ""
    if isinstance(kind, type) and issubclass(kind, StateMachine):
        hint = f": it is a state machine; write class X(Resource, machine={kind.__name__}) and use that"
    elif isinstance(kind, Resource):
        hint = ": it is a handle; give its class"
    raise ResourceTypeError(f"{resource!r} is no Resource class{hint}")


def check_level(consistency: Any) -> ConsistencyLevel:
    """The consistency level. Raises ConfigurationError for what is none."""
    if consistency.__class__ is ConsistencyLevel:
        return consistency
    try:
        return ConsistencyLevel(consistency)
    except ValueError:
        raise ConfigurationError(f"{consistency!r} is no ConsistencyLevel") from None
