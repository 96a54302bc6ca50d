"""The map on the servers: canonical bytes by canonical bytes, which are compared and kept and never looked into.

A plain entry is a record of value and version in one dict. What goes by itself, who listens, and the order of the keys
are beside it, and cost a put nothing while there is none of it.

Source: protocol §4.3, §6, §7.1.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from copycat.collections.pages import KeyOrder, make_page
from copycat.resource import Audience, Commit, Executor, Lifetimes, Session, StateMachine, iter_parts, rows, section

PUT: Final = 1  # key, value, milliseconds to live or 0, mode -> the previous value or None
PUT_IF_ABSENT: Final = 2  # as PUT -> the value there was, which stays, or None
REMOVE: Final = 3  # key -> the previous value or None
REMOVE_VALUE: Final = 4  # key, value -> whether it was removed
REPLACE: Final = 5  # as PUT -> the previous value; None: there is none, and none was set
REPLACE_VALUE: Final = 6  # key, old, new, milliseconds, mode -> whether it was replaced
CLEAR: Final = 7
REMOVE_VERSION: Final = 8  # key, version -> whether it was removed
REPLACE_VERSION: Final = 9  # key, value, version, milliseconds, mode -> whether it was replaced
LISTEN: Final = 10  # kind, key or None for all
UNLISTEN: Final = 11  # as LISTEN

GET: Final = 32
CONTAINS_KEY: Final = 33
CONTAINS_VALUE: Final = 34
SIZE: Final = 35
ENTRY: Final = 36  # key -> [value, version], or None
PAGE: Final = 37  # prefix, key to go on behind, what -> key to go on behind or None, then the page

ADDED: Final = 1  # events, and kinds of them to listen for: key, old value or None, new value or None
UPDATED: Final = 2
REMOVED: Final = 3
DELETED: Final = 4  # event: to every handle that listens, when the map is gone
OF_KEY: Final = 8  # added to the id of an event for those who listen for its key alone

KEYS: Final = 1  # what a page shows
VALUES: Final = 2
ITEMS: Final = 3  # key and value in turn


class Record(msgspec.Struct, gc=False, frozen=True):
    """An entry, made anew by every write, so that a snapshot is a copy of the dict.

    A struct that the collector passes over: a map may have very many.
    """

    value: bytes
    version: int


class MapMachine(StateMachine, name="copycat.map", version=1):
    """The map on a server. Writing a key replaces value, time to live and owner together."""

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._lifetimes = Lifetimes()
        self._audience = Audience()
        self._order = KeyOrder(self._records)
        self._bound = self._lifetimes.by_key  # at hand, for every put looks at them
        self._heard = self._audience.by_topic

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(PUT, self._put, many=self._put_many)
        executor.register_command(PUT_IF_ABSENT, self._put_if_absent)
        executor.register_command(REMOVE, self._remove)
        executor.register_command(REMOVE_VALUE, self._remove_value)
        executor.register_command(REMOVE_VERSION, self._remove_version)
        executor.register_command(REPLACE, self._replace)
        executor.register_command(REPLACE_VALUE, self._replace_value)
        executor.register_command(REPLACE_VERSION, self._replace_version)
        executor.register_command(CLEAR, self._clear)
        executor.register_command(LISTEN, self._listen)
        executor.register_command(UNLISTEN, self._unlisten)
        executor.register_query(GET, self._get, many=self._get_many)
        executor.register_query(ENTRY, self._entry)
        executor.register_query(CONTAINS_KEY, self._contains_key)
        executor.register_query(CONTAINS_VALUE, self._contains_value)
        executor.register_query(SIZE, self._size)
        executor.register_query(PAGE, self._page)

    def close(self, session: Session) -> None:
        """The session listens no more, and what it wrote as ephemeral goes."""
        self._audience.leave(session)
        for key in self._lifetimes.leave(session):
            self._drop(key)

    def delete(self) -> None:
        self._audience.end(self._executor, DELETED)
        self._lifetimes.clear()
        self._records.clear()

    def snapshot(self) -> Iterator[Any]:
        records = self._records.copy()
        return chain(
            section("entries", iter_parts((key, each.value, each.version) for key, each in records.items())),
            section("lifetimes", self._lifetimes.snapshot()),
            section("audience", self._audience.snapshot()),
        )

    def restore(self, parts: Iterable[Any]) -> None:
        for name, part in parts:
            if name == "entries":
                for key, value, version in rows(part, 3):
                    self._records[key] = Record(value, version)
                    self._order.added += 1
            elif name == "lifetimes":
                self._lifetimes.restore(self._executor, part)
            elif name == "audience":
                self._audience.restore(self._executor, part)
            else:
                raise ValueError(f"a map has no {name!r}")

    # -- commands ----------------------------------------------------------------------------------------------------

    def _put(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        if key.__class__ is not bytes or value.__class__ is not bytes:
            raise TypeError("a map takes keys and values as canonical bytes")
        if ttl_ms or mode or (self._bound and key in self._bound):
            self._lifetimes.begin(self._executor, self._expire, commit, key, ttl_ms, mode)
        records = self._records
        record = records.get(key)
        records[key] = Record(value, commit.index)
        if record is None:
            previous = None
            self._order.added += 1
        else:
            previous = record.value
        if self._heard:
            self._tell(key, previous, value)
        return previous

    def _put_many(self, commit: Commit, operations: list[list[Any]], results: list[Any]) -> None:
        """Plain puts, while nobody listens and nothing goes by itself."""
        if self._bound or self._heard:
            return
        records, order, index = self._records, self._order, commit.index
        for _, _, _, key, value, ttl_ms, mode in operations:
            if key.__class__ is not bytes or value.__class__ is not bytes or ttl_ms or mode:
                break
            record = records.get(key)
            records[key] = Record(value, index)
            index += 1
            if record is None:
                order.added += 1
                results.append(None)
            else:
                results.append(record.value)

    def _put_if_absent(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        existing = self._get(commit, key)
        return self._put(commit, key, value, ttl_ms, mode) if existing is None else existing

    def _remove(self, commit: Commit, key: bytes) -> bytes | None:
        if key in self._lifetimes.by_key:
            self._lifetimes.end(key)
        return self._drop(key)

    def _remove_value(self, commit: Commit, key: bytes, value: bytes) -> bool:
        record = self._records.get(key)
        if record is None or record.value != value:
            return False
        self._remove(commit, key)
        return True

    def _remove_version(self, commit: Commit, key: bytes, version: int) -> bool:
        record = self._records.get(key)
        if record is None or record.version != version:
            return False
        self._remove(commit, key)
        return True

    def _replace(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> bytes | None:
        return self._put(commit, key, value, ttl_ms, mode) if key in self._records else None

    def _replace_value(
        self, commit: Commit, key: bytes, old: bytes, new: bytes, ttl_ms: int = 0, mode: int = 0
    ) -> bool:
        record = self._records.get(key)
        if record is None or record.value != old:
            return False
        self._put(commit, key, new, ttl_ms, mode)
        return True

    def _replace_version(self, commit: Commit, key: bytes, value: bytes, version: int, ttl_ms: int, mode: int) -> bool:
        record = self._records.get(key)
        if record is None or record.version != version:
            return False
        self._put(commit, key, value, ttl_ms, mode)
        return True

    def _clear(self, commit: Commit) -> None:
        self._lifetimes.clear()
        if self._audience.by_topic:
            for key, record in self._records.items():
                self._tell(key, record.value, None)
        self._records.clear()

    # -- queries -----------------------------------------------------------------------------------------------------

    def _get(self, commit: Commit, key: bytes) -> bytes | None:
        record = self._records.get(key)
        return None if record is None else record.value

    def _get_many(self, commit: Commit, operations: list[list[Any]], results: list[Any]) -> None:
        get = self._records.get
        for _, _, _, key in operations:
            record = get(key)
            results.append(None if record is None else record.value)

    def _entry(self, commit: Commit, key: bytes) -> list[bytes | int] | None:
        record = self._records.get(key)
        return None if record is None else [record.value, record.version]

    def _contains_key(self, commit: Commit, key: bytes) -> bool:
        return key in self._records

    def _contains_value(self, commit: Commit, value: bytes) -> bool:
        return any(record.value == value for record in self._records.values())

    def _size(self, commit: Commit) -> int:
        return len(self._records)

    def _page(self, commit: Commit, prefix: bytes, after: bytes, what: int) -> list[bytes | None]:
        records, keys = self._records, self._order.after(after, prefix)
        if what == KEYS:
            return make_page(keys, lambda key: (key,))
        if what == VALUES:
            return make_page(keys, lambda key: (records[key].value,))
        if what == ITEMS:
            return make_page(keys, lambda key: (key, records[key].value))
        raise ValueError(f"a page shows keys, values or items, not {what!r}")

    # -- entries that go by themselves, and who hears of it ------------------------------------------------------------

    def _expire(self, key: bytes, index: int) -> None:
        if self._lifetimes.expires(key, index):
            self._drop(key)

    def _drop(self, key: bytes) -> bytes | None:
        """The entry goes, whose lifetime has ended."""
        record = self._records.pop(key, None)
        if record is None:
            return None
        if self._audience.by_topic:
            self._tell(key, record.value, None)
        return record.value

    def _listen(self, commit: Commit, kind: int, key: bytes | None) -> None:
        if kind not in (ADDED, UPDATED, REMOVED) or key.__class__ not in (bytes, type(None)):
            raise TypeError("a map is listened to for what is added, updated or removed, of all keys or of one")
        self._audience.add(commit, (kind, key))

    def _unlisten(self, commit: Commit, kind: int, key: bytes | None) -> None:
        self._audience.remove(commit, (kind, key))

    def _tell(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        kind = ADDED if old is None else REMOVED if new is None else UPDATED
        self._audience.publish(self._executor, (kind, None), kind, key, old, new)
        self._audience.publish(self._executor, (kind, key), OF_KEY + kind, key, old, new)
