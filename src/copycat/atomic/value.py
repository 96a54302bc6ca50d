"""DistributedAtomicValue: one value that every process sees alike, set and exchanged in one step.

It is canonical bytes on its way and on the servers, which compare and keep it and never look inside. None is no value:
so it is before the first write, after its time to live, and when the session that wrote it as ephemeral has ended.

Source: protocol §4.3, §6, §7.1.
"""

from asyncio import Future
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from copycat.errors import ConfigurationError, Outcome, UnknownResourceError
from copycat.resource import (
    Audience,
    Commit,
    ConsistencyLevel,
    Entry,
    Executor,
    HandoverFuture,
    Lifetimes,
    OnGap,
    PersistenceMode,
    Resource,
    ResourceContext,
    Session,
    StateMachine,
    Timeout,
    encode_lifetime,
    section,
    update_entry,
)
from copycat.util.listeners import Listener

V = TypeVar("V")

SET: Final = 1  # value, milliseconds to live or 0, mode
GET_AND_SET: Final = 2  # as SET -> the previous value
COMPARE_AND_SET: Final = 3  # expected value, value, milliseconds, mode -> whether it was set
REPLACE_VERSION: Final = 4  # version or 0 for no value, value, milliseconds, mode -> whether it was set
LISTEN: Final = 5
UNLISTEN: Final = 6

GET: Final = 32  # -> the value
ENTRY: Final = 33  # -> [value, version], or None

CHANGED: Final = 1  # event: old value, new value
DELETED: Final = 2  # event: to every handle that listens, when the resource is gone

_ONLY: Final = b""  # the key of the only entry
_PERSISTENT: Final = PersistenceMode.PERSISTENT


class ValueMachine(StateMachine, name="copycat.value", version=1):
    """The value on a server. Writing replaces value, time to live and owner together."""

    def __init__(self) -> None:
        self._value: bytes | None = None
        self._version = 0  # of the value; 0 for none
        self._lifetimes = Lifetimes()
        self._audience = Audience()

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(SET, self._set)
        executor.register_command(GET_AND_SET, self._get_and_set)
        executor.register_command(COMPARE_AND_SET, self._compare_and_set)
        executor.register_command(REPLACE_VERSION, self._replace_version)
        executor.register_command(LISTEN, self._listen)
        executor.register_command(UNLISTEN, self._unlisten)
        executor.register_query(GET, self._get)
        executor.register_query(ENTRY, self._entry)

    def close(self, session: Session) -> None:
        """The session listens no more, and what it set as ephemeral goes."""
        self._audience.leave(session)
        if self._lifetimes.leave(session):
            self._become(None, 0)

    def delete(self) -> None:
        self._audience.end(self._executor, DELETED)
        self._lifetimes.clear()
        self._value, self._version = None, 0

    def snapshot(self) -> Iterator[Any]:
        return chain(
            section("value", [[self._value, self._version]]),
            section("lifetimes", self._lifetimes.snapshot()),
            section("audience", self._audience.snapshot()),
        )

    def restore(self, parts: Iterable[Any]) -> None:
        for name, part in parts:
            if name == "value":
                self._value, self._version = part
            elif name == "lifetimes":
                self._lifetimes.restore(self._executor, part)
            elif name == "audience":
                self._audience.restore(self._executor, part)
            else:
                raise ValueError(f"a value has no {name!r}")

    def _set(self, commit: Commit, value: bytes | None, ttl_ms: int, mode: int) -> None:
        if value is None:
            if ttl_ms or mode:
                raise ValueError("no value has no time to live, and belongs to no session")
            self._lifetimes.end(_ONLY)
            self._become(None, 0)
        elif value.__class__ is bytes:
            self._lifetimes.begin(self._executor, self._expire, commit, _ONLY, ttl_ms, mode)
            self._become(value, commit.index)
        else:
            raise TypeError("a value is canonical bytes, or None")

    def _get_and_set(self, commit: Commit, value: bytes | None, ttl_ms: int, mode: int) -> bytes | None:
        previous = self._value
        self._set(commit, value, ttl_ms, mode)
        return previous

    def _compare_and_set(
        self, commit: Commit, expect: bytes | None, value: bytes | None, ttl_ms: int, mode: int
    ) -> bool:
        if self._value != expect:
            return False
        self._set(commit, value, ttl_ms, mode)
        return True

    def _replace_version(self, commit: Commit, version: int, value: bytes | None, ttl_ms: int, mode: int) -> bool:
        if self._version != version:
            return False
        self._set(commit, value, ttl_ms, mode)
        return True

    def _expire(self, key: bytes, index: int) -> None:
        if self._lifetimes.expires(key, index):
            self._become(None, 0)

    def _become(self, value: bytes | None, version: int) -> None:
        old, self._value, self._version = self._value, value, version
        if old is not None or value is not None:
            self._audience.publish(self._executor, CHANGED, CHANGED, old, value)

    def _listen(self, commit: Commit) -> None:
        self._audience.add(commit, CHANGED)

    def _unlisten(self, commit: Commit) -> None:
        self._audience.remove(commit, CHANGED)

    def _get(self, commit: Commit) -> bytes | None:
        return self._value

    def _entry(self, commit: Commit) -> list[bytes | int] | None:
        return None if self._value is None else [self._value, self._version]


@dataclass(frozen=True, slots=True)
class ValueChange(Generic[V]):
    """What happened to a value. None stands for no value.

    version: the log index at which it happened: the version of `new`.
    """

    old: V | None
    new: V | None
    version: int


class DistributedAtomicValue(Resource, Generic[V], machine=ValueMachine):
    """A value shared by path. `await cc.create("config", DistributedAtomicValue[Config])`.

    Values are what the serializer encodes, at most 1 MiB. None is no value, for `get`, `compare_and_set` and all else:
    setting None removes what there is. With `DistributedAtomicValue[Config]` values come back as Config, or raise
    DecodeError. They are compared by their encodings, in which the order of a dict counts.

    ttl: seconds of log time after which the value goes, never earlier and about a heartbeat later; None: never.
    mode: EPHEMERAL: the value goes when the session that wrote it ends. Writing replaces the value, its time to live
        and its mode together.
    consistency: how fresh a query's answer must be; None means the handle's level, or LINEARIZABLE if it has none.
    timeout: seconds until a call gives up; None waits for ever; `...` means the handle's.

    Calls raise at once: SerializationError for what cannot be a value, TooLargeError, ConfigurationError for a `ttl` or
    a `mode` that makes no sense, ClosedError after `close()`. Futures raise what `Resource` says.
    """

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._type: Any = context.type_arguments[0] if context.type_arguments else Any
        self._changes = self.subscription(
            "changes",
            lambda: self.command(LISTEN, what="on_change"),
            lambda: self.command(UNLISTEN, timeout=None, what="close a listener"),
        )
        self.on_event(CHANGED, self._on_change)
        self.on_event(DELETED, self._on_deleted)

    def set(
        self,
        value: V | None,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[None]:
        """Set the value; None removes it."""
        return self.command(SET, *self._new(value, ttl, mode), timeout=timeout, what="set")

    def get_and_set(
        self,
        value: V | None,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[V | None]:
        """Set the value. The result is the previous one."""
        arguments = self._new(value, ttl, mode)
        return self.command(GET_AND_SET, *arguments, timeout=timeout, decode=self._previous, what="get_and_set")

    def compare_and_set(
        self,
        expect: V | None,
        update: V | None,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[bool]:
        """Set the value to `update` if it is `expect`. The result is whether it was."""
        arguments = self._encode(expect), *self._new(update, ttl, mode)
        return self.command(COMPARE_AND_SET, *arguments, timeout=timeout, what="compare_and_set")

    def replace(
        self,
        value: V | None,
        *,
        version: int,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[bool]:
        """Set the value if it is the very one that `entry` found, not merely one that is equal.

        version: the entry's; 0: if there is no value. The result is whether it was.
        """
        if version.__class__ is not int:
            raise ConfigurationError(f"a version is the int that entry() answers, not {version!r}")
        return self.command(REPLACE_VERSION, version, *self._new(value, ttl, mode), timeout=timeout, what="replace")

    async def update(
        self,
        function: Callable[[V | None], V | None],
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> V | None:
        """Set the value to `function(value)` and return that.

        Reads, calls, and writes unless the value was written meanwhile; then once more. So `function` is called at
        least once, and must be plain. What it raises is raised here, with nothing written. Nothing happens before the
        await.

        timeout: of every reading and writing.
        """
        encode_lifetime(ttl, mode)  # before the function is called in vain

        async def write(entry: Entry[V] | None, value: V | None) -> bool:
            version = 0 if entry is None else entry.version
            if value is None:
                return entry is None or await self.replace(None, version=version, timeout=timeout)
            return await self.replace(value, version=version, ttl=ttl, mode=mode, timeout=timeout)

        return await update_entry(
            function, lambda: self.entry(consistency=ConsistencyLevel.LINEARIZABLE, timeout=timeout), write
        )

    def get(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[V | None]:
        """The value."""
        return self.query(GET, consistency=consistency, timeout=timeout, decode=self._found, what="get")

    def entry(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[Entry[V] | None]:
        """The value with its version, for `replace`; None if there is none."""
        return self.query(ENTRY, consistency=consistency, timeout=timeout, decode=self._entry, what="entry")

    def on_change(
        self, callback: Callable[[ValueChange[V]], object], *, on_gap: OnGap | None = None
    ) -> HandoverFuture[Listener[ValueChange[V]]]:
        """Call `callback(change)` with every write from now on, be it of the same value, and when the value goes: after
        its time, or with its session. The result is the Listener, once it is certain that it hears of them. Whoever
        stops waiting for it closes it.

        on_gap: called when changes may have been missed, because the session was lost and another began; None: logged.
        """
        self.check_open()
        return self._changes.add(callback, on_gap)

    # -- values as they travel -----------------------------------------------------------------------------------------

    def _encode(self, value: V | None) -> bytes | None:
        return None if value is None else self.serializer.encode_value(value)

    def _new(self, value: V | None, ttl: float | None, mode: PersistenceMode) -> tuple[bytes | None, int, int]:
        ttl_ms, mode_id = encode_lifetime(ttl, mode)
        if value is None and (ttl_ms or mode_id):
            raise ConfigurationError("None removes the value: it takes no ttl and no mode")
        return self._encode(value), ttl_ms, mode_id

    def _found(self, data: bytes | None, outcome: Outcome = Outcome.NOT_APPLIED) -> V | None:
        return None if data is None else self.decode(data, self._type, "the value", outcome)

    def _previous(self, data: bytes | None) -> V | None:
        return self._found(data, Outcome.APPLIED)

    def _entry(self, answer: list[Any] | None) -> Entry[V] | None:
        return None if answer is None else Entry(self.decode(answer[0], self._type, "the value"), answer[1])

    def _on_change(self, index: int, old: bytes | None, new: bytes | None) -> None:
        self._changes.notify(ValueChange(self._previous(old), self._previous(new), index))

    def _on_deleted(self, _index: int) -> None:
        self._changes.end(UnknownResourceError(f"value {self.path!r} was deleted"))
