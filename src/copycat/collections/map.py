"""DistributedMap: a map that every process sees alike. What the servers do is in `map_machine`.

The handle encodes and decodes; on their way and on the servers keys and values are canonical bytes.

Source: protocol §4.3, §6, §7.1, §7.4.
"""

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import not_
from typing import Any, Final, Generic, TypeVar, overload

from copycat.collections import map_machine as machine
from copycat.collections.map_machine import ADDED, OF_KEY, REMOVED, UPDATED, MapMachine
from copycat.collections.pages import encode_prefix, walk
from copycat.errors import ConfigurationError, DecodeError, Outcome, UnknownResourceError
from copycat.resource import (
    ConsistencyLevel,
    Entry,
    HandoverFuture,
    OnGap,
    PersistenceMode,
    Resource,
    ResourceContext,
    Subscription,
    Timeout,
    encode_lifetime,
    update_entry,
)
from copycat.util.listeners import Listener

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_PERSISTENT: Final = PersistenceMode.PERSISTENT  # looking a member up costs as much as encoding a key
_NOT_GIVEN: Final[Any] = object()  # None is a mistake that is found


@dataclass(frozen=True, slots=True)
class MapChange(Generic[K, V]):
    """What happened to a key. `old` is None when it was added, `new` when it was removed.

    version: the log index at which it happened: the version of `new`.
    """

    key: K
    old: V | None
    new: V | None
    version: int


class DistributedMap(Resource, Generic[K, V], machine=MapMachine):
    """A map shared by path. `await cc.create("users", DistributedMap[str, User])`.

    Keys are str, bytes, int, bool, UUID, registered Enums, or tuples of these, at most 4 KiB, and strict about their
    type: True, 1 and "1" are three keys. Values are what the serializer encodes, at most 1 MiB with their key. Neither
    may be None, which means absent. With `DistributedMap[str, User]` values come back as User, or raise DecodeError;
    from a bare DistributedMap they come back as the built-in or registered types they were. Values are compared by
    their encodings, in which the order of a dict counts.

    ttl: seconds of log time after which the entry goes, never earlier and about a heartbeat later; None: never.
    mode: EPHEMERAL: the entry goes when the session that wrote it ends. Writing a key replaces its value, its time to
        live and its mode together.
    consistency: how fresh a query's answer must be; None means the handle's level, or LINEARIZABLE if it has none.
    timeout: seconds until a call gives up; None waits for ever; `...` means the handle's.

    Calls raise at once: SerializationError for a key or a value of a type that cannot be one, TooLargeError,
    ConfigurationError for a `ttl` or a `mode` that makes no sense, ClosedError after `close()`. Futures raise what
    `Resource` says.
    """

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._key = context.serializer.encode_key
        self._value = context.serializer.encode_value
        self._decode_value = context.serializer.decode_value
        self._key_type, self._value_type = context.type_arguments or (Any, Any)
        self._first = self  # of this handle and its twins: the one that listens, until it is closed
        self._watched: dict[tuple[int, bytes | None], Subscription[MapChange[K, V]]] = {}  # kind, key or None: all
        for kind in (ADDED, UPDATED, REMOVED):
            self.on_event(kind, partial(self._on_change, kind, False))
            self.on_event(OF_KEY + kind, partial(self._on_change, kind, True))
        self.on_event(machine.DELETED, self._on_deleted)

    # -- commands ----------------------------------------------------------------------------------------------------

    def put(
        self, key: K, value: V, *, ttl: float | None = None, mode: PersistenceMode = _PERSISTENT, timeout: Timeout = ...
    ) -> Future[V | None]:
        """Set the value of a key. The result is the previous value, or None."""
        ttl_ms, mode_id = (0, 0) if ttl is None and mode is _PERSISTENT else encode_lifetime(ttl, mode)
        return self.command(
            machine.PUT,
            self._key(key),
            self._value(value),
            ttl_ms,
            mode_id,
            timeout=timeout,
            decode=partial(self._previous, key),
            what="put",
        )

    def put_if_absent(
        self, key: K, value: V, *, ttl: float | None = None, mode: PersistenceMode = _PERSISTENT, timeout: Timeout = ...
    ) -> Future[V | None]:
        """Set the value of a key that has none. The result is None if it was set, else the value there is."""
        arguments = self._key(key), self._value(value), *encode_lifetime(ttl, mode)
        decode = partial(self._previous, key)
        return self.command(machine.PUT_IF_ABSENT, *arguments, timeout=timeout, decode=decode, what="put_if_absent")

    @overload
    def remove(self, key: K, /, *, timeout: Timeout = ...) -> Future[V | None]: ...
    @overload
    def remove(self, key: K, value: V, /, *, timeout: Timeout = ...) -> Future[bool]: ...
    @overload
    def remove(self, key: K, /, *, version: int, timeout: Timeout = ...) -> Future[bool]: ...
    def remove(
        self, key: K, value: Any = _NOT_GIVEN, /, *, version: Any = _NOT_GIVEN, timeout: Timeout = ...
    ) -> Future[Any]:
        """Remove a key; with a value, only if that is its value; with a version, only while it has that.

        The result is the previous value or None; with a value or a version, whether it was removed.
        """
        if version is not _NOT_GIVEN:
            return self.command(
                machine.REMOVE_VERSION, self._key(key), _version(version, value), timeout=timeout, what="remove"
            )
        if value is not _NOT_GIVEN:
            return self.command(
                machine.REMOVE_VALUE, self._key(key), self._value(value), timeout=timeout, what="remove"
            )
        decode = partial(self._previous, key)
        return self.command(machine.REMOVE, self._key(key), timeout=timeout, decode=decode, what="remove")

    @overload
    def replace(
        self, key: K, value: V, /, *, ttl: float | None = ..., mode: PersistenceMode = ..., timeout: Timeout = ...
    ) -> Future[V | None]: ...
    @overload
    def replace(
        self, key: K, old: V, new: V, /, *, ttl: float | None = ..., mode: PersistenceMode = ..., timeout: Timeout = ...
    ) -> Future[bool]: ...
    @overload
    def replace(
        self,
        key: K,
        value: V,
        /,
        *,
        version: int,
        ttl: float | None = ...,
        mode: PersistenceMode = ...,
        timeout: Timeout = ...,
    ) -> Future[bool]: ...
    def replace(
        self,
        key: K,
        value: V,
        new: Any = _NOT_GIVEN,
        /,
        *,
        version: Any = _NOT_GIVEN,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[Any]:
        """Set the value of a key that has one: `replace(key, value)`; that one: `replace(key, old, new)`; or that
        version of one, from `entry`: `replace(key, value, version=7)`.

        The result is the previous value, or None if the key was absent and stays so; with `old` or `version`, whether
        it was replaced.
        """
        encoded, lifetime = (self._key(key), self._value(value)), encode_lifetime(ttl, mode)
        if version is not _NOT_GIVEN:
            arguments = *encoded, _version(version, new), *lifetime
            return self.command(machine.REPLACE_VERSION, *arguments, timeout=timeout, what="replace")
        if new is not _NOT_GIVEN:
            return self.command(
                machine.REPLACE_VALUE, *encoded, self._value(new), *lifetime, timeout=timeout, what="replace"
            )
        decode = partial(self._previous, key)
        return self.command(machine.REPLACE, *encoded, *lifetime, timeout=timeout, decode=decode, what="replace")

    async def update(
        self,
        key: K,
        function: Callable[[V | None], V | None],
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> V | None:
        """Set a key to `function(value)` and return that. The value is None while there is none; None removes it.

        Reads, calls, and writes unless the key was written meanwhile; then once more. So `function` is called at least
        once, and must be plain. What it raises is raised here, with nothing written. Nothing happens before the await.

        timeout: of every reading and writing.
        """
        encode_lifetime(ttl, mode)  # before the function is called in vain

        async def write(entry: Entry[V] | None, value: V | None) -> bool:
            if value is None:
                return entry is None or await self.remove(key, version=entry.version, timeout=timeout)
            if entry is None:
                return await self.put_if_absent(key, value, ttl=ttl, mode=mode, timeout=timeout) is None
            return await self.replace(key, value, version=entry.version, ttl=ttl, mode=mode, timeout=timeout)

        return await update_entry(
            function, lambda: self.entry(key, consistency=ConsistencyLevel.LINEARIZABLE, timeout=timeout), write
        )

    def clear(self, *, timeout: Timeout = ...) -> Future[None]:
        """Remove every key."""
        return self.command(machine.CLEAR, timeout=timeout, what="clear")

    # -- queries -----------------------------------------------------------------------------------------------------

    def get(self, key: K, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[V | None]:
        """The value of a key, or None."""
        decode = partial(self._found, key, None)
        return self.query(
            machine.GET, self._key(key), consistency=consistency, timeout=timeout, decode=decode, what="get"
        )

    def get_or_default(
        self, key: K, default: D, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[V | D]:
        """The value of a key, or `default`, which stays in this process and may be anything."""
        encoded, decode = self._key(key), partial(self._found, key, default)
        return self.query(
            machine.GET, encoded, consistency=consistency, timeout=timeout, decode=decode, what="get_or_default"
        )

    def entry(
        self, key: K, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[Entry[V] | None]:
        """The value of a key with its version, for `replace` and `remove`; or None."""
        decode = partial(self._entry, key)
        return self.query(
            machine.ENTRY, self._key(key), consistency=consistency, timeout=timeout, decode=decode, what="entry"
        )

    def contains_key(
        self, key: K, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[bool]:
        """Whether the key has a value."""
        return self.query(
            machine.CONTAINS_KEY, self._key(key), consistency=consistency, timeout=timeout, what="contains_key"
        )

    def contains_value(
        self, value: V, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[bool]:
        """Whether any key has the value. Looks at every entry."""
        encoded = self._value(value)
        return self.query(
            machine.CONTAINS_VALUE, encoded, consistency=consistency, timeout=timeout, what="contains_value"
        )

    def size(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[int]:
        """How many keys have a value."""
        return self.query(machine.SIZE, consistency=consistency, timeout=timeout, what="size")

    def is_empty(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[bool]:
        """Whether no key has a value."""
        return self.query(machine.SIZE, consistency=consistency, timeout=timeout, decode=not_, what="is_empty")

    # -- pages -------------------------------------------------------------------------------------------------------

    def keys(
        self, prefix: str | bytes | None = None, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> AsyncIterator[K]:
        """The keys: `async for key in users.keys(prefix="a"):`, in the order of their canonical bytes.

        prefix: only those that begin with it, of its type, str or bytes. None: all.

        Asks for a page at a time, each with `consistency` and `timeout`. A key that is there all the time comes once;
        one that comes or goes meanwhile may come, once at most.
        """
        return self._walk(machine.KEYS, "keys", prefix, consistency, timeout, self._read_keys)

    def values(
        self, prefix: str | bytes | None = None, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> AsyncIterator[V]:
        """The values of `keys(prefix)`, likewise: each as it was when its page was asked for."""
        return self._walk(machine.VALUES, "values", prefix, consistency, timeout, self._read_values)

    def items(
        self, prefix: str | bytes | None = None, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> AsyncIterator[tuple[K, V]]:
        """The pairs of `keys(prefix)` and their values, likewise."""
        return self._walk(machine.ITEMS, "items", prefix, consistency, timeout, self._read_items)

    def _walk(
        self,
        shown: int,
        what: str,
        prefix: str | bytes | None,
        consistency: ConsistencyLevel | None,
        timeout: Timeout,
        read: Callable[[list[bytes]], Iterable[Any]],
    ) -> AsyncIterator[Any]:
        self.check_open()
        begin = encode_prefix(self._key, prefix)
        return walk(
            lambda after: self.query(
                machine.PAGE, begin, after, shown, consistency=consistency, timeout=timeout, what=what
            ),
            read,
        )

    # -- listening ---------------------------------------------------------------------------------------------------

    def on_add(
        self, callback: Callable[[MapChange[K, V]], object], *, key: K | None = None, on_gap: OnGap | None = None
    ) -> HandoverFuture[Listener[MapChange[K, V]]]:
        """Call `callback(change)` whenever a key that had no value gets one, from now on. The result is the Listener,
        once it is certain that it hears of them. Whoever stops waiting for it closes it.

        key: only of this key; None: of all.
        on_gap: called when changes may have been missed, because the session was lost and another began; None: logged.
        """
        return self._listen(ADDED, "additions", callback, key, on_gap)

    def on_update(
        self, callback: Callable[[MapChange[K, V]], object], *, key: K | None = None, on_gap: OnGap | None = None
    ) -> HandoverFuture[Listener[MapChange[K, V]]]:
        """As `on_add`, whenever a key that has a value is written, be it with the same value."""
        return self._listen(UPDATED, "updates", callback, key, on_gap)

    def on_remove(
        self, callback: Callable[[MapChange[K, V]], object], *, key: K | None = None, on_gap: OnGap | None = None
    ) -> HandoverFuture[Listener[MapChange[K, V]]]:
        """As `on_add`, whenever a key loses its value: removed, cleared, after its time, or with its session."""
        return self._listen(REMOVED, "removals", callback, key, on_gap)

    def _listen(
        self, kind: int, what: str, callback: Callable[[Any], object], key: K | None, on_gap: OnGap | None
    ) -> HandoverFuture[Listener[Any]]:
        self.check_open()
        topic = kind, None if key is None else self._key(key)
        subscription = self._watched.get(topic)
        if subscription is None:
            subscription = self.subscription(
                what if key is None else f"{what} of key {key!r}",
                lambda: self._first.command(machine.LISTEN, *topic, what=what),
                lambda: self._unlisten(topic),
            )
        added = subscription.add(callback, on_gap)
        self._watched[topic] = subscription
        return added

    def _unlisten(self, topic: tuple[int, bytes | None]) -> Future[None]:
        self._watched.pop(topic, None)
        return self._first.command(machine.UNLISTEN, *topic, timeout=None, what="close a listener")

    def _on_change(self, kind: int, of_key: bool, index: int, key: bytes, old: bytes | None, new: bytes | None) -> None:
        subscription = self._watched.get((kind, key if of_key else None))
        if subscription is not None:
            shown = self.decode_key(key, self._key_type)
            before, after = self._previous(shown, old), self._previous(shown, new)
            subscription.notify(MapChange(shown, before, after, index))

    def _on_deleted(self, _index: int) -> None:
        for subscription in list(self._watched.values()):
            subscription.end(UnknownResourceError(f"map {self.path!r} was deleted"))

    # -- what the servers answered -------------------------------------------------------------------------------------

    def _previous(self, key: K, data: bytes | None) -> V | None:
        """Of a command about the key: it was applied, whatever becomes of its result here."""
        if data is None:
            return None
        try:
            value: V = self._decode_value(data, self._value_type)
        except DecodeError:
            value = self._explain(key, data, Outcome.APPLIED)
        return value

    def _found(self, key: K, default: Any, data: bytes | None) -> Any:
        if data is None:
            return default
        try:
            return self._decode_value(data, self._value_type)
        except DecodeError:
            return self._explain(key, data, Outcome.NOT_APPLIED)

    def _explain(self, key: K, data: bytes, outcome: Outcome) -> Any:
        """Decode once more, for an error that names the key: too dear to be written each time."""
        return self.decode(data, self._value_type, f"key {key!r}", outcome)

    def _entry(self, key: K, answer: list[Any] | None) -> Entry[V] | None:
        return None if answer is None else Entry(self._found(key, None, answer[0]), answer[1])

    def _read_keys(self, page: list[bytes]) -> Iterable[K]:
        return (self.decode_key(key, self._key_type) for key in page)

    def _read_values(self, page: list[bytes]) -> Iterable[V]:
        return (self.decode(value, self._value_type, "a value") for value in page)

    def _read_items(self, page: list[bytes]) -> Iterable[tuple[K, V]]:
        for key, value in zip(self._read_keys(page[::2]), page[1::2], strict=True):
            yield key, self._found(key, None, value)


def _version(version: Any, other: Any) -> int:
    """Raise ConfigurationError for what is no version, and for a version beside a value to compare."""
    if other is not _NOT_GIVEN:
        raise ConfigurationError("give the value that is expected, or its version; not both")
    if version.__class__ is not int:
        raise ConfigurationError(f"a version is the int that entry() answers, not {version!r}")
    return version
