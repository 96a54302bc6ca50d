"""DistributedMap: a map that every process sees alike.

Keys and values are canonical bytes on their way and on the servers, which compare and keep them and never look
inside; the handle encodes and decodes. A plain entry is two bytes objects in a dict. Only an entry that will go by
itself (after a time, or with its session) has a record in a second table.

Source: protocol §4.3, §7.1, §7.4.
"""

from asyncio import Future
from functools import partial
from math import ceil
from typing import Any, Final, Generic, TypeVar, overload

from copycat.errors import ConfigurationError, Outcome
from copycat.resource import (
    Commit,
    ConsistencyLevel,
    Executor,
    PersistenceMode,
    Resource,
    ResourceContext,
    Scheduled,
    Session,
    StateMachine,
    Timeout,
)

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

PUT: Final = 1
PUT_IF_ABSENT: Final = 2
REMOVE: Final = 3
REMOVE_VALUE: Final = 4
REPLACE: Final = 5
REPLACE_VALUE: Final = 6
CLEAR: Final = 7

GET: Final = 32
CONTAINS_KEY: Final = 33
CONTAINS_VALUE: Final = 34
SIZE: Final = 35

TTL_SECONDS_MAX: Final = 100 * 366 * 86_400  # a century: longer is a mistake of units

_PERSISTENT: Final = PersistenceMode.PERSISTENT  # looking a member up costs as much as encoding a key
_STAYS: Final = (0, 0)
_NOT_GIVEN: Final[Any] = object()  # None is a mistake that the encoding finds


class Lifetime:
    """Why and when an entry goes by itself. `index` tells it from later ones of the same key."""

    __slots__ = ("index", "session_id", "timer")

    def __init__(self, index: int, session_id: int, timer: Scheduled | None) -> None:
        self.index = index
        self.session_id = session_id  # 0: of no session
        self.timer = timer


class MapMachine(StateMachine, name="copycat.map", version=1):
    """The map on a server. Writing a key replaces value, time to live and owner together."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._lifetimes: dict[bytes, Lifetime] = {}
        self._owned: dict[int, dict[bytes, None]] = {}  # session -> its ephemeral keys, in the order they were written

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(PUT, self._put)
        executor.register_command(PUT_IF_ABSENT, self._put_if_absent)
        executor.register_command(REMOVE, self._remove)
        executor.register_command(REMOVE_VALUE, self._remove_value)
        executor.register_command(REPLACE, self._replace)
        executor.register_command(REPLACE_VALUE, self._replace_value)
        executor.register_command(CLEAR, self._clear)
        executor.register_query(GET, self._get)
        executor.register_query(CONTAINS_KEY, self._contains_key)
        executor.register_query(CONTAINS_VALUE, self._contains_value)
        executor.register_query(SIZE, self._size)

    def close(self, session: Session) -> None:
        """Remove what the session wrote as ephemeral."""
        for key in self._owned.pop(session.id, ()):
            del self._values[key]
            self._end_lifetime(key)

    def delete(self) -> None:
        self._values.clear()
        self._lifetimes.clear()
        self._owned.clear()

    # -- commands ----------------------------------------------------------------------------------------------------

    def _put(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        if key.__class__ is not bytes or value.__class__ is not bytes:
            raise TypeError("a map takes keys and values as canonical bytes")
        previous = self._values.get(key)
        if ttl_ms or mode or key in self._lifetimes:
            self._begin_lifetime(commit, key, ttl_ms, mode)
        self._values[key] = value
        return previous

    def _put_if_absent(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        existing = self._values.get(key)
        return self._put(commit, key, value, ttl_ms, mode) if existing is None else existing

    def _remove(self, commit: Commit, key: bytes) -> bytes | None:
        previous = self._values.pop(key, None)
        if key in self._lifetimes:
            self._end_lifetime(key)
        return previous

    def _remove_value(self, commit: Commit, key: bytes, value: bytes) -> bool:
        previous = self._values.get(key)
        if previous is None or previous != value:
            return False
        self._remove(commit, key)
        return True

    def _replace(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        return self._put(commit, key, value, ttl_ms, mode) if key in self._values else None

    def _replace_value(
        self, commit: Commit, key: bytes, old: bytes, new: bytes, ttl_ms: int = 0, mode: int = 0
    ) -> bool:
        previous = self._values.get(key)
        if previous is None or previous != old:
            return False
        self._put(commit, key, new, ttl_ms, mode)
        return True

    def _clear(self, commit: Commit) -> None:
        for lifetime in self._lifetimes.values():
            if lifetime.timer is not None:
                lifetime.timer.cancel()
        self.delete()

    # -- queries -----------------------------------------------------------------------------------------------------

    def _get(self, commit: Commit, key: bytes) -> bytes | None:
        return self._values.get(key)

    def _contains_key(self, commit: Commit, key: bytes) -> bool:
        return key in self._values

    def _contains_value(self, commit: Commit, value: bytes) -> bool:
        return value in self._values.values()

    def _size(self, commit: Commit) -> int:
        return len(self._values)

    # -- entries that go by themselves -------------------------------------------------------------------------------

    def _begin_lifetime(self, commit: Commit, key: bytes, ttl_ms: int, mode: int) -> None:
        """Replace what bound the key before, now that it is written anew."""
        if ttl_ms.__class__ is not int or mode not in (PersistenceMode.PERSISTENT, PersistenceMode.EPHEMERAL):
            raise TypeError("a time to live is in milliseconds, a persistence mode is 0 or 1")
        # The timer comes first: a delay it refuses leaves the entry as it was.
        timer = self._executor.schedule(ttl_ms, self._expire, key, commit.index) if ttl_ms else None
        if key in self._lifetimes:
            self._end_lifetime(key)
        session_id = 0
        if mode:
            session_id = commit.session.id
            self._owned.setdefault(session_id, {})[key] = None
        if timer is not None or session_id:
            self._lifetimes[key] = Lifetime(commit.index, session_id, timer)

    def _end_lifetime(self, key: bytes) -> None:
        lifetime = self._lifetimes.pop(key)
        if lifetime.timer is not None:
            lifetime.timer.cancel()
        keys = self._owned.get(lifetime.session_id)
        if keys is not None:  # None while the session's end empties it
            del keys[key]
            if not keys:
                del self._owned[lifetime.session_id]

    def _expire(self, key: bytes, index: int) -> None:
        lifetime = self._lifetimes.get(key)
        # A key written since has another lifetime, or none; its own timer, if any, will remove it.
        if lifetime is not None and lifetime.index == index:
            del self._values[key]
            self._end_lifetime(key)


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
        self._value_type: Any = context.type_arguments[1] if context.type_arguments else Any

    # -- commands ----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: K,
        value: V,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[V | None]:
        """Set the value of a key. The result is the previous value, or None."""
        ttl_ms, mode_id = _STAYS if ttl is None and mode is _PERSISTENT else _lifetime(ttl, mode)
        return self.command(
            PUT,
            self._key(key),
            self._value(value),
            ttl_ms,
            mode_id,
            timeout=timeout,
            decode=partial(self._previous, key),
            what="put",
        )

    def put_if_absent(
        self,
        key: K,
        value: V,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[V | None]:
        """Set the value of a key that has none. The result is None if it was set, else the value there is."""
        ttl_ms, mode_id = _STAYS if ttl is None and mode is _PERSISTENT else _lifetime(ttl, mode)
        return self.command(
            PUT_IF_ABSENT,
            self._key(key),
            self._value(value),
            ttl_ms,
            mode_id,
            timeout=timeout,
            decode=partial(self._previous, key),
            what="put_if_absent",
        )

    @overload
    def remove(self, key: K, /, *, timeout: Timeout = ...) -> Future[V | None]: ...
    @overload
    def remove(self, key: K, value: V, /, *, timeout: Timeout = ...) -> Future[bool]: ...
    def remove(self, key: K, value: Any = _NOT_GIVEN, /, *, timeout: Timeout = ...) -> Future[Any]:
        """Remove a key; with a value, only if that is its value.

        The result is the previous value or None; with a value, whether it was removed.
        """
        if value is _NOT_GIVEN:
            decode = partial(self._previous, key)
            return self.command(REMOVE, self._key(key), timeout=timeout, decode=decode, what="remove")
        return self.command(REMOVE_VALUE, self._key(key), self._value(value), timeout=timeout, what="remove")

    @overload
    def replace(
        self,
        key: K,
        value: V,
        /,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[V | None]: ...
    @overload
    def replace(
        self,
        key: K,
        old: V,
        new: V,
        /,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[bool]: ...
    def replace(
        self,
        key: K,
        value: V,
        new: Any = _NOT_GIVEN,
        /,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = _PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[Any]:
        """Set the value of a key that has one: `replace(key, value)`; or that one: `replace(key, old, new)`.

        The result is the previous value, or None if the key was absent and stays so; with `old`, whether it was
        replaced.
        """
        ttl_ms, mode_id = _STAYS if ttl is None and mode is _PERSISTENT else _lifetime(ttl, mode)
        if new is _NOT_GIVEN:
            return self.command(
                REPLACE,
                self._key(key),
                self._value(value),
                ttl_ms,
                mode_id,
                timeout=timeout,
                decode=partial(self._previous, key),
                what="replace",
            )
        return self.command(
            REPLACE_VALUE,
            self._key(key),
            self._value(value),
            self._value(new),
            ttl_ms,
            mode_id,
            timeout=timeout,
            what="replace",
        )

    def clear(self, *, timeout: Timeout = ...) -> Future[None]:
        """Remove every key."""
        return self.command(CLEAR, timeout=timeout, what="clear")

    # -- queries -----------------------------------------------------------------------------------------------------

    def get(self, key: K, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[V | None]:
        """The value of a key, or None."""
        return self.query(
            GET,
            self._key(key),
            consistency=consistency,
            timeout=timeout,
            decode=partial(self._found, key, None),
            what="get",
        )

    def get_or_default(
        self, key: K, default: D, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[V | D]:
        """The value of a key, or `default`, which stays in this process and may be anything."""
        return self.query(
            GET,
            self._key(key),
            consistency=consistency,
            timeout=timeout,
            decode=partial(self._found, key, default),
            what="get_or_default",
        )

    def contains_key(
        self, key: K, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[bool]:
        """Whether the key has a value."""
        return self.query(CONTAINS_KEY, self._key(key), consistency=consistency, timeout=timeout, what="contains_key")

    def contains_value(
        self, value: V, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[bool]:
        """Whether any key has the value. Looks at every entry."""
        return self.query(
            CONTAINS_VALUE, self._value(value), consistency=consistency, timeout=timeout, what="contains_value"
        )

    def size(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[int]:
        """How many keys have a value."""
        return self.query(SIZE, consistency=consistency, timeout=timeout, what="size")

    def is_empty(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[bool]:
        """Whether no key has a value."""
        return self.query(SIZE, consistency=consistency, timeout=timeout, decode=_is_zero, what="is_empty")

    # -- results -----------------------------------------------------------------------------------------------------

    def _previous(self, key: K, data: bytes | None) -> V | None:
        """What a command answered about the key: it was applied, whatever becomes of its result here."""
        return None if data is None else self.decode(data, self._value_type, f"key {key!r}", Outcome.APPLIED)

    def _found(self, key: K, default: Any, data: bytes | None) -> Any:
        return default if data is None else self.decode(data, self._value_type, f"key {key!r}")


def _is_zero(size: int) -> bool:
    return size == 0


def _lifetime(ttl: float | None, mode: PersistenceMode) -> tuple[int, int]:
    """How long an entry lives, as it travels: milliseconds or 0, mode."""
    if mode.__class__ is not PersistenceMode:
        raise ConfigurationError(f"mode must be PersistenceMode.PERSISTENT or EPHEMERAL, not {mode!r}")
    if ttl is None:
        return 0, mode.value
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise ConfigurationError(f"ttl is a number of seconds, not {ttl!r}")
    if not 0 < ttl <= TTL_SECONDS_MAX:  # which NaN is not either
        raise ConfigurationError(f"ttl must be more than 0 and at most {TTL_SECONDS_MAX} seconds, not {ttl!r}")
    return ceil(ttl * 1000), mode.value  # up, for an entry must not go early
