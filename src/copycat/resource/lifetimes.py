"""Entries that go by themselves: after a time to live, or with the session that wrote them.

A state machine has one `Lifetimes`. It begins a lifetime with every write and ends it with every removal, and removes
the entry itself when its time has come:

    def _put(self, commit: Commit, key: bytes, value: bytes, ttl_ms: int, mode: int) -> None:
        if ttl_ms or mode or key in self._lifetimes.by_key:
            self._lifetimes.begin(self._executor, self._expire, commit, key, ttl_ms, mode)
        self._values[key] = value

    def _expire(self, key: bytes, index: int) -> None:
        if self._lifetimes.expires(key, index):
            del self._values[key]

    def close(self, session: Session) -> None:
        for key in self._lifetimes.leave(session):
            del self._values[key]

In a snapshot, `Lifetimes.snapshot` and `restore` are a section of it, see `copycat.resource.parts`.

In programs, `encode_lifetime` makes `ttl_ms` and `mode` of what is asked for. Entries that stay have no record here.

Source: protocol §4.3.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any, Final

from copycat.errors import ConfigurationError
from copycat.raft.protocol.operations import PersistenceMode
from copycat.raft.protocol.state_machine import Commit, Derived, Executor, Scheduled, Session
from copycat.resource.parts import iter_parts, rows

TTL_SECONDS_MAX: Final = 100 * 366 * 86_400  # a century: longer is a mistake of units


class Lifetime:
    """Why and when an entry goes by itself. `index` tells it from later ones of the same key. It never changes."""

    __slots__ = ("index", "session_id", "timer")

    def __init__(self, index: int, session_id: int, timer: Scheduled | None) -> None:
        self.index = index
        self.session_id = session_id  # 0: of no session
        self.timer = timer


class _Owned(dict[int, dict[bytes, None]], Derived):
    """session -> its ephemeral keys, in the order they were written, which is that of `by_key`."""


class Lifetimes:
    """The entries of one state machine that go by themselves. `by_key` is for looking, as in the example above."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, Lifetime] = {}
        self._owned = _Owned()

    def begin(
        self,
        executor: Executor,
        expire: Callable[[bytes, int], None],
        commit: Commit,
        key: bytes,
        ttl_ms: int,
        mode: int,
    ) -> None:
        """Replace what bound the key before, now that it is written anew.

        expire: a method of the state machine, called with the key and an index for `expires` when the time is over.
        ttl_ms: 0: for ever. mode: a PersistenceMode.

        Raises, with everything as it was: TypeError for what is neither, ConfigurationError for a negative time.
        """
        if ttl_ms.__class__ is not int or mode not in (PersistenceMode.PERSISTENT, PersistenceMode.EPHEMERAL):
            raise TypeError("a time to live is in milliseconds, a persistence mode is 0 or 1")
        # The timer comes first: a delay it refuses leaves the entry as it was.
        timer = executor.schedule(ttl_ms, expire, key, commit.index) if ttl_ms else None
        self.end(key)
        session_id = 0
        if mode:
            session_id = commit.session.id
            self._owned.setdefault(session_id, {})[key] = None
        if timer is not None or session_id:
            self.by_key[key] = Lifetime(commit.index, session_id, timer)

    def end(self, key: bytes) -> None:
        """The entry is gone, or stays from now on."""
        lifetime = self.by_key.pop(key, None)
        if lifetime is None:
            return
        if lifetime.timer is not None:
            lifetime.timer.cancel()
        keys = self._owned.get(lifetime.session_id)
        if keys is not None:  # None for those of no session, and while a session's end takes its keys
            del keys[key]
            if not keys:
                del self._owned[lifetime.session_id]

    def expires(self, key: bytes, index: int) -> bool:
        """Whether it is this lifetime that is over, rather than one before the key was written anew. Ends it."""
        lifetime = self.by_key.get(key)
        if lifetime is None or lifetime.index != index:
            return False
        self.end(key)
        return True

    def leave(self, session: Session) -> list[bytes]:
        """The keys that go with the session, in the order they were written. Ends their lifetimes."""
        keys = list(self._owned.pop(session.id, ()))
        for key in keys:
            self.end(key)
        return keys

    def clear(self) -> None:
        """Every entry is gone."""
        for lifetime in self.by_key.values():
            if lifetime.timer is not None:
                lifetime.timer.cancel()
        self.by_key.clear()
        self._owned.clear()

    def snapshot(self) -> Iterator[list[Any]]:
        """Parts of a snapshot, as of now. Timers are in it by themselves; here are their ids, 0 for none."""
        lifetimes = self.by_key.copy()
        return iter_parts(
            (key, lifetime.index, lifetime.session_id, 0 if lifetime.timer is None else lifetime.timer.id)
            for key, lifetime in lifetimes.items()
        )

    def restore(self, executor: Executor, part: list[Any]) -> None:
        """Take one part, in its order, of those that `snapshot` made."""
        for key, index, session_id, timer_id in rows(part, 4):
            self.by_key[key] = Lifetime(index, session_id, executor.timer(timer_id))
            if session_id:
                self._owned.setdefault(session_id, {})[key] = None


def encode_lifetime(ttl: float | None, mode: PersistenceMode) -> tuple[int, int]:
    """How long an entry lives, as it travels: milliseconds or 0 for ever, and the mode.

    ttl: in seconds; None: for ever. Raises ConfigurationError for a time or a mode that makes no sense.
    """
    if mode.__class__ is not PersistenceMode:
        raise ConfigurationError(f"mode must be PersistenceMode.PERSISTENT or EPHEMERAL, not {mode!r}")
    if ttl is None:
        return 0, mode.value
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise ConfigurationError(f"ttl is a number of seconds, not {ttl!r}")
    if not 0 < ttl <= TTL_SECONDS_MAX:  # which NaN is not either
        raise ConfigurationError(f"ttl must be more than 0 and at most {TTL_SECONDS_MAX} seconds, not {ttl!r}")
    return ceil(ttl * 1000), mode.value  # up, for an entry must not go early
