"""Lifetimes: what goes by itself, for state machines of everybody."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest

from copycat.errors import ApplicationError, ConfigurationError
from copycat.resource import (
    Commit,
    Executor,
    Lifetimes,
    PersistenceMode,
    Session,
    StateMachine,
    encode_lifetime,
    iter_parts,
    rows,
    section,
)
from copycat.testing import StateMachineHarness

WRITE, REMOVE, CLEAR = 1, 2, 3
EPHEMERAL = int(PersistenceMode.EPHEMERAL)


class Shelf(StateMachine, name="test.shelf", version=1):
    """As the examples in `copycat.resource.lifetimes` and `copycat.resource.parts`."""

    def __init__(self) -> None:
        self.keys: dict[bytes, None] = {}
        self.lifetimes = Lifetimes()

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(WRITE, self._write)
        executor.register_command(REMOVE, self._remove)
        executor.register_command(CLEAR, self._clear)

    def close(self, session: Session) -> None:
        for key in self.lifetimes.leave(session):
            del self.keys[key]

    def _write(self, commit: Commit, key: bytes, ttl_ms: int, mode: int) -> None:
        if ttl_ms or mode or key in self.lifetimes.by_key:
            self.lifetimes.begin(self._executor, self._expire, commit, key, ttl_ms, mode)
        self.keys[key] = None

    def _remove(self, commit: Commit, key: bytes) -> None:
        del self.keys[key]
        self.lifetimes.end(key)

    def _clear(self, commit: Commit) -> None:
        self.keys.clear()
        self.lifetimes.clear()

    def snapshot(self) -> Iterator[Any]:
        return chain(
            section("keys", iter_parts((key,) for key in self.keys.copy())),
            section("lifetimes", self.lifetimes.snapshot()),
        )

    def restore(self, parts: Iterable[Any]) -> None:
        for name, part in parts:
            if name == "keys":
                self.keys.update((key, None) for (key,) in rows(part, 1))
            else:
                self.lifetimes.restore(self._executor, part)

    def _expire(self, key: bytes, index: int) -> None:
        if self.lifetimes.expires(key, index):
            del self.keys[key]


@pytest.fixture
def shelf() -> StateMachineHarness:
    return StateMachineHarness(Shelf)


def timers(shelf: StateMachineHarness) -> int:
    return len(shelf._replica.clockwork.timers)


def assert_nothing_is_bound(shelf: StateMachineHarness) -> None:
    lifetimes = shelf.machine.lifetimes
    assert (lifetimes.by_key, lifetimes._owned, timers(shelf)) == ({}, {}, 0)


def test_a_key_goes_after_its_time_and_with_its_session(shelf: StateMachineHarness) -> None:
    session = shelf.session()
    shelf.apply(WRITE, b"timed", 1_000, 0, session=session)
    shelf.apply(WRITE, b"mine", 0, EPHEMERAL, session=session)
    shelf.apply(WRITE, b"both", 5_000, EPHEMERAL, session=session)
    shelf.apply(WRITE, b"stays", 0, 0, session=session)

    shelf.advance(1)
    assert list(shelf.machine.keys) == [b"mine", b"both", b"stays"]
    shelf.close(session)
    assert list(shelf.machine.keys) == [b"stays"]
    assert_nothing_is_bound(shelf)
    shelf.check_replay()


@pytest.mark.parametrize("again", [(0, 0), (9_000, 0), (0, EPHEMERAL), (9_000, EPHEMERAL)])
def test_writing_a_key_again_replaces_whatever_bound_it(shelf: StateMachineHarness, again: tuple[int, int]) -> None:
    first, second = shelf.session(), shelf.session()
    shelf.apply(WRITE, b"k", 1_000, EPHEMERAL, session=first)
    shelf.apply(WRITE, b"k", *again, session=second)
    shelf.advance(1)
    shelf.close(first)
    assert list(shelf.machine.keys) == [b"k"]
    assert timers(shelf) == bool(again[0])

    shelf.apply(REMOVE, b"k")
    assert_nothing_is_bound(shelf)
    shelf.check_replay()


def test_a_session_takes_its_keys_in_the_order_they_were_written(shelf: StateMachineHarness) -> None:
    session = shelf.session()
    for key in (b"b", b"a", b"c", b"b"):
        shelf.apply(WRITE, key, 0, EPHEMERAL, session=session)

    assert list(shelf.machine.lifetimes._owned[session.id]) == [b"a", b"c", b"b"]


def test_clearing_cancels_everything(shelf: StateMachineHarness) -> None:
    shelf.apply(WRITE, b"a", 1_000, EPHEMERAL)
    shelf.apply(WRITE, b"b", 1_000, 0)
    shelf.apply(CLEAR)
    assert_nothing_is_bound(shelf)


@pytest.mark.parametrize("wrong", [("1", 0), (1.5, 0), (True, 0), (None, 1), (-1, 0), (1, 2), (1, None), (1, "1")])
def test_what_makes_no_lifetime_leaves_the_one_there_is(shelf: StateMachineHarness, wrong: tuple[Any, Any]) -> None:
    shelf.apply(WRITE, b"k", 1_000, EPHEMERAL)
    with pytest.raises((ApplicationError, ConfigurationError)):
        shelf.apply(WRITE, b"k", *wrong)

    assert (list(shelf.machine.lifetimes.by_key), timers(shelf)) == ([b"k"], 1)
    shelf.advance(1)
    assert shelf.machine.keys == {}
    assert_nothing_is_bound(shelf)


@pytest.mark.parametrize(("ttl", "milliseconds"), [(None, 0), (1, 1_000), (2.5, 2_500), (0.0001, 1), (1.0001, 1_001)])
def test_a_time_to_live_is_rounded_up(ttl: float | None, milliseconds: int) -> None:
    assert encode_lifetime(ttl, PersistenceMode.PERSISTENT) == (milliseconds, 0)
    assert encode_lifetime(ttl, PersistenceMode.EPHEMERAL) == (milliseconds, 1)
