"""The demo's count of loss and duplication sees both."""

import asyncio
from typing import Any, cast

import pytest

from copycat.cli.workload import CHAIN, Pace, Tally, Writer, key_of, read_back
from copycat.client import CopycatClient
from copycat.errors import ApplicationError, CommandTimeoutError, NoLeaderError


class FakeMap:
    """A map whose puts may be dropped, doubled or failed, by key and value."""

    path = "demo"

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.doubled: set[str] = set()  # values whose put takes effect twice, and is answered the second time
        self.dropped: set[str] = set()  # values that are acknowledged and not kept
        self.failing: dict[str, BaseException] = {}

    def put(self, key: str, value: str) -> "asyncio.Future[str | None]":
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        if value in self.failing:
            future.set_exception(self.failing[value])
            return future
        previous = self.values.get(key)
        if value not in self.dropped:
            self.values[key] = value
        future.set_result(value if value in self.doubled else previous)
        return future

    def get(self, key: str) -> "asyncio.Future[str | None]":
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        future.set_result(self.values.get(key))
        return future


class FakeClient:
    def __init__(self, map: FakeMap) -> None:
        self.map = map

    async def create(self, _path: str, _resource: Any) -> FakeMap:
        return self.map


class Rounds:
    """A pace that is over after so many looks."""

    batch, rest = 3, 0.0

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    @property
    def is_over(self) -> bool:
        self.rounds -= 1
        return self.rounds < 0


def make_writer(map: FakeMap) -> Writer:
    return Writer("demo-1", cast(CopycatClient, FakeClient(map)), cast(Any, map))


async def play(map: FakeMap, rounds: int = 4) -> tuple[Writer, Tally]:
    writer, tally = make_writer(map), Tally()
    await writer.run(cast(Pace, Rounds(rounds)), tally)
    return writer, tally


async def rows(writer: Writer) -> list[tuple[int, int, int, int]]:
    found = await read_back(writer.client, writer)
    return [(row.acknowledged, row.found, row.lost, row.duplicated) for row in found]


async def test_what_is_there_is_found() -> None:
    writer, tally = await play(FakeMap())

    assert await rows(writer) == [(12, 12, 0, 0), (4, 4, 0, 0)]
    assert tally.acknowledged == 16
    assert writer.unacknowledged == 0


async def test_a_key_that_is_gone_is_lost() -> None:
    map = FakeMap()
    writer, _ = await play(map)
    del map.values[key_of(5)]

    assert (await rows(writer))[0] == (12, 11, 1, 0)


async def test_a_value_that_was_altered_is_lost() -> None:
    map = FakeMap()
    writer, _ = await play(map)
    map.values[key_of(5)] = "altered"

    assert (await rows(writer))[0] == (12, 11, 1, 0)


async def test_a_put_that_took_effect_twice_is_duplicated() -> None:
    map = FakeMap()
    map.doubled.add(make_writer(map).value_of(4))
    writer, _ = await play(map)

    assert (await rows(writer))[0] == (12, 12, 0, 1)


async def test_a_link_that_took_effect_twice_is_duplicated() -> None:
    map = FakeMap()
    map.doubled.add("2")
    writer, _ = await play(map)

    assert (await rows(writer))[1] == (4, 4, 0, 1)


async def test_a_link_that_was_acknowledged_and_is_gone_is_lost() -> None:
    map = FakeMap()
    map.dropped.add("2")
    writer, _ = await play(map)

    assert (await rows(writer))[1] == (4, 3, 1, 0)


async def test_the_end_of_the_chain_that_is_gone_is_lost() -> None:
    map = FakeMap()
    writer, _ = await play(map)
    map.values[CHAIN] = "1"

    assert (await rows(writer))[1] == (4, 1, 3, 0)


async def test_a_link_from_nowhere_is_duplicated() -> None:
    map = FakeMap()
    writer, _ = await play(map)
    map.values[CHAIN] = "9"

    assert (await rows(writer))[1][3] == 1


async def test_an_unknown_outcome_is_neither_acknowledged_nor_lost() -> None:
    map = FakeMap()
    map.failing = {"2": CommandTimeoutError("late"), make_writer(map).value_of(4): CommandTimeoutError("late")}
    writer, _ = await play(map)

    assert await rows(writer) == [(11, 11, 0, 0), (3, 3, 0, 0)]
    assert writer.unacknowledged == 2


async def test_a_link_that_certainly_failed_is_written_again() -> None:
    map = FakeMap()
    map.failing = {"2": NoLeaderError("none")}
    writer = make_writer(map)
    await writer.run(cast(Pace, Rounds(2)), Tally())
    map.failing.clear()
    await writer.run(cast(Pace, Rounds(2)), Tally())

    assert writer.chain_acknowledged == [1, 2, 3]
    assert (await rows(writer))[1] == (3, 3, 0, 0)


async def test_what_a_put_can_never_do_ends_the_writer() -> None:
    map = FakeMap()
    map.failing = {"2": ApplicationError("a bug")}

    with pytest.raises(ApplicationError):
        await play(map)


def test_the_longest_gap_is_between_acknowledgements() -> None:
    tally = Tally()
    for count, now in ((5, 10.0), (5, 10.25), (5, 12.0), (5, 12.5)):
        tally.add(count, now)

    assert tally.acknowledged == 20
    assert tally.longest_gap == pytest.approx(1.75)
