"""DistributedSet: a set that every process sees alike.

Members are canonical bytes on their way and on the servers, which keep them as they are, so no two values are one
member and none is two.

Source: protocol §4.3, §6, §7.1.
"""

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from operator import not_
from typing import Any, Final, Generic, TypeVar

from copycat.collections.pages import KeyOrder, encode_prefix, make_page, walk
from copycat.errors import Outcome, UnknownResourceError
from copycat.resource import (
    Audience,
    Commit,
    ConsistencyLevel,
    Executor,
    HandoverFuture,
    Lifetimes,
    OnGap,
    PersistenceMode,
    Resource,
    ResourceContext,
    Session,
    StateMachine,
    Subscription,
    Timeout,
    encode_lifetime,
    iter_parts,
    section,
)
from copycat.util.listeners import Listener

M = TypeVar("M")

ADD: Final = 1  # member, milliseconds to live or 0, mode -> whether it was added
REMOVE: Final = 2  # member -> whether it was removed
CLEAR: Final = 3
LISTEN: Final = 4  # kind of event
UNLISTEN: Final = 5  # kind of event

CONTAINS: Final = 32  # member
SIZE: Final = 33
PAGE: Final = 34  # prefix, member to go on behind -> member to go on behind or None, then the page

ADDED: Final = 1  # event: member
REMOVED: Final = 2  # event: member
DELETED: Final = 3  # event: to every handle that listens, when the set is gone


class SetMachine(StateMachine, name="copycat.set", version=1):
    """The set on a server."""

    def __init__(self) -> None:
        self._members: dict[bytes, None] = {}
        self._lifetimes = Lifetimes()
        self._audience = Audience()
        self._order = KeyOrder(self._members)

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(ADD, self._add)
        executor.register_command(REMOVE, self._remove)
        executor.register_command(CLEAR, self._clear)
        executor.register_command(LISTEN, self._listen)
        executor.register_command(UNLISTEN, self._unlisten)
        executor.register_query(CONTAINS, self._contains)
        executor.register_query(SIZE, self._size)
        executor.register_query(PAGE, self._page)

    def close(self, session: Session) -> None:
        """The session listens no more, and what it added as ephemeral goes."""
        self._audience.leave(session)
        for member in self._lifetimes.leave(session):
            self._drop(member)

    def delete(self) -> None:
        self._audience.end(self._executor, DELETED)
        self._lifetimes.clear()
        self._members.clear()

    def snapshot(self) -> Iterator[Any]:
        return chain(
            section("members", iter_parts(zip(self._members.copy(), strict=True))),
            section("lifetimes", self._lifetimes.snapshot()),
            section("audience", self._audience.snapshot()),
        )

    def restore(self, parts: Iterable[Any]) -> None:
        for name, part in parts:
            if name == "members":
                self._members.update(dict.fromkeys(part))
                self._order.added += len(part)
            elif name == "lifetimes":
                self._lifetimes.restore(self._executor, part)
            elif name == "audience":
                self._audience.restore(self._executor, part)
            else:
                raise ValueError(f"a set has no {name!r}")

    def _add(self, commit: Commit, member: bytes, ttl_ms: int, mode: int) -> bool:
        if member.__class__ is not bytes:
            raise TypeError("a set takes members as canonical bytes")
        if member in self._members:
            return False
        if ttl_ms or mode:
            self._lifetimes.begin(self._executor, self._expire, commit, member, ttl_ms, mode)
        self._members[member] = None
        self._order.added += 1
        self._audience.publish(self._executor, ADDED, ADDED, member)
        return True

    def _remove(self, commit: Commit, member: bytes) -> bool:
        if member not in self._members:
            return False
        self._lifetimes.end(member)
        self._drop(member)
        return True

    def _clear(self, commit: Commit) -> None:
        self._lifetimes.clear()
        for member in list(self._members):
            self._drop(member)

    def _expire(self, member: bytes, index: int) -> None:
        if self._lifetimes.expires(member, index):
            self._drop(member)

    def _drop(self, member: bytes) -> None:
        """The member goes, whose lifetime has ended."""
        del self._members[member]
        self._audience.publish(self._executor, REMOVED, REMOVED, member)

    def _listen(self, commit: Commit, kind: int) -> None:
        if kind not in (ADDED, REMOVED):
            raise TypeError("a set is listened to for members that are added or removed")
        self._audience.add(commit, kind)

    def _unlisten(self, commit: Commit, kind: int) -> None:
        self._audience.remove(commit, kind)

    def _contains(self, commit: Commit, member: bytes) -> bool:
        return member in self._members

    def _size(self, commit: Commit) -> int:
        return len(self._members)

    def _page(self, commit: Commit, prefix: bytes, after: bytes) -> list[bytes | None]:
        return make_page(self._order.after(after, prefix), lambda member: (member,))


class DistributedSet(Resource, Generic[M], machine=SetMachine):
    """A set shared by path. `await cc.create("users", DistributedSet[str])`.

    Members are str, bytes, int, bool, UUID, registered Enums, or tuples of these, at most 4 KiB, not None, and strict
    about their type: True, 1 and "1" are three members. With `DistributedSet[str]` they come back as str, or raise
    DecodeError.

    ttl: seconds of log time after which the member goes, never earlier and about a heartbeat later; None: never.
    mode: EPHEMERAL: the member goes when the session that added it ends.
    consistency: how fresh a query's answer must be; None means the handle's level, or LINEARIZABLE if it has none.
    timeout: seconds until a call gives up; None waits for ever; `...` means the handle's.

    Calls raise at once: SerializationError for a value of a type that cannot be a member, TooLargeError,
    ConfigurationError for a `ttl` or a `mode` that makes no sense, ClosedError after `close()`. Futures raise what
    `Resource` says.
    """

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._member = context.serializer.encode_key
        self._type: Any = context.type_arguments[0] if context.type_arguments else Any
        self._changes = {kind: self._subscription(kind, what) for kind, what in ((ADDED, "new"), (REMOVED, "removed"))}
        for kind in self._changes:
            self.on_event(kind, partial(self._on_change, kind))
        self.on_event(DELETED, self._on_deleted)

    def add(
        self,
        value: M,
        *,
        ttl: float | None = None,
        mode: PersistenceMode = PersistenceMode.PERSISTENT,
        timeout: Timeout = ...,
    ) -> Future[bool]:
        """Add a member. False if it is one already: then nothing changes, its time to live and its mode neither."""
        return self.command(ADD, self._member(value), *encode_lifetime(ttl, mode), timeout=timeout, what="add")

    def remove(self, value: M, *, timeout: Timeout = ...) -> Future[bool]:
        """Remove a member. The result is whether it was one."""
        return self.command(REMOVE, self._member(value), timeout=timeout, what="remove")

    def clear(self, *, timeout: Timeout = ...) -> Future[None]:
        """Remove every member."""
        return self.command(CLEAR, timeout=timeout, what="clear")

    def contains(
        self, value: M, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> Future[bool]:
        """Whether the value is a member."""
        member = self._member(value)
        return self.query(CONTAINS, member, consistency=consistency, timeout=timeout, what="contains")

    def size(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[int]:
        """How many members there are."""
        return self.query(SIZE, consistency=consistency, timeout=timeout, what="size")

    def is_empty(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[bool]:
        """Whether there is no member."""
        return self.query(SIZE, consistency=consistency, timeout=timeout, decode=not_, what="is_empty")

    def members(
        self, prefix: str | bytes | None = None, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> AsyncIterator[M]:
        """The members: `async for user in users.members(prefix="a"):`, in the order of their canonical bytes.

        prefix: only those that begin with it, of its type, str or bytes. None: all.

        Asks for a page at a time, each with `consistency` and `timeout`. A member that is one all the time comes once;
        one that comes or goes meanwhile may come, once at most.
        """
        self.check_open()
        begin = encode_prefix(self._member, prefix)
        return walk(
            lambda after: self.query(PAGE, begin, after, consistency=consistency, timeout=timeout, what="members"),
            lambda page: (self.decode_key(member, self._type) for member in page),
        )

    def on_add(self, callback: Callable[[M], object], *, on_gap: OnGap | None = None) -> HandoverFuture[Listener[M]]:
        """Call `callback(member)` with every member that is added from now on. The result is the Listener, once it is
        certain that it hears of them. Whoever stops waiting for it closes it.

        on_gap: called when some may have been missed, because the session was lost and another began; None: logged.
        """
        self.check_open()
        return self._changes[ADDED].add(callback, on_gap)

    def on_remove(self, callback: Callable[[M], object], *, on_gap: OnGap | None = None) -> HandoverFuture[Listener[M]]:
        """As `on_add`, with every member that goes: removed, cleared, after its time, or with its session."""
        self.check_open()
        return self._changes[REMOVED].add(callback, on_gap)

    def _subscription(self, kind: int, what: str) -> Subscription[M]:
        return self.subscription(
            f"{what} members",
            lambda: self.command(LISTEN, kind, what="listen"),
            lambda: self.command(UNLISTEN, kind, timeout=None, what="close a listener"),
        )

    def _on_change(self, kind: int, _index: int, member: bytes) -> None:
        self._changes[kind].notify(self.decode_key(member, self._type, Outcome.APPLIED))

    def _on_deleted(self, _index: int) -> None:
        for subscription in self._changes.values():
            subscription.end(UnknownResourceError(f"set {self.path!r} was deleted"))
