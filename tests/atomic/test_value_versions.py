"""Versions of a DistributedAtomicValue, and updates that rest on them."""

import asyncio
from typing import Any

import pytest

from copycat.atomic import DistributedAtomicValue
from copycat.errors import ConfigurationError, SerializationError
from copycat.resource import ConsistencyLevel, Entry, PersistenceMode
from tests.coordination.support import client, handles
from tests.resource.harness import Replicas


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedAtomicValue, count=2)


@pytest.fixture
async def value(replicas: Replicas) -> DistributedAtomicValue[Any]:
    return (await handles(replicas, DistributedAtomicValue, 1))[0]


async def test_an_entry_is_the_value_with_the_index_of_its_writing(
    value: DistributedAtomicValue[Any], replicas: Replicas
) -> None:
    await value.set("a")
    assert await value.entry() == Entry("a", replicas.index)
    await value.get_and_set("a")
    assert await value.entry() == Entry("a", replicas.index)
    await value.compare_and_set("a", "b")
    assert await value.entry() == Entry("b", replicas.index)


async def test_replace_wants_that_very_version(value: DistributedAtomicValue[Any]) -> None:
    await value.set("a")
    old = await value.entry()
    await value.set("a")
    new = await value.entry()
    assert old is not None
    assert new is not None

    assert await value.replace("b", version=old.version) is False
    assert await value.replace("b", version=0) is False
    assert await value.replace("b", version=new.version) is True
    assert await value.get() == "b"
    assert await value.replace(None, version=new.version) is False
    await value.set(None)
    assert await value.replace("c", version=new.version) is False
    assert await value.replace("c", version=0) is True
    assert await value.get() == "c"


async def test_update_makes_the_value_of_what_it_is(value: DistributedAtomicValue[Any]) -> None:
    assert await value.update(lambda n: (n or 0) + 1) == 1
    assert await value.update(lambda n: (n or 0) + 1) == 2
    assert await value.get() == 2
    assert await value.update(lambda n: None, ttl=5, mode=PersistenceMode.EPHEMERAL) is None
    assert await value.get() is None

    before = len(client(value).calls)
    assert await value.update(lambda n: None) is None
    assert len(client(value).calls) == before + 1  # it was read, and there was nothing to write


async def test_updates_that_meet_all_count(replicas: Replicas) -> None:
    async def count(handle: DistributedAtomicValue[Any]) -> None:
        for _ in range(10):
            await handle.update(lambda n: (n or 0) + 1)

    programs = await handles(replicas, DistributedAtomicValue, 4)
    await asyncio.gather(*map(count, programs))
    assert await programs[0].get() == 40


@pytest.mark.parametrize(
    ("before", "meanwhile", "after", "seen"),
    [(None, 5, 7, [None, 5]), (1, 5, 7, [1, 5]), (1, None, 7, [1, None]), (1, 5, None, [1, 5]), (1, 1, 7, [1, 1])],
)
async def test_an_update_begins_anew_when_the_value_was_written_meanwhile(
    value: DistributedAtomicValue[Any], before: Any, meanwhile: Any, after: Any, seen: list[Any]
) -> None:
    await value.set(before)
    shown: list[Any] = []

    def function(found: Any) -> Any:
        if not shown:
            _ = value.set(meanwhile)  # calls take effect in their order: this one before the writing of the update
        shown.append(found)
        return after

    assert await value.update(function) == after
    assert shown == seen
    assert await value.get() == after


async def test_what_an_update_s_function_raises_is_raised_and_nothing_is_written(
    value: DistributedAtomicValue[Any],
) -> None:
    await value.set(1)
    with pytest.raises(ZeroDivisionError):
        await value.update(lambda n: (n or 0) // 0)
    assert await value.get() == 1


async def test_an_update_reads_linearizably_whatever_the_handle_says(value: DistributedAtomicValue[Any]) -> None:
    await value.with_consistency(ConsistencyLevel.SERIALIZABLE).update(lambda _: 1, timeout=7)

    reading, writing = client(value).calls[-2:]
    assert (reading["consistency"], reading["timeout"]) == (ConsistencyLevel.LINEARIZABLE, 7)
    assert (writing["consistency"], writing["timeout"]) == (None, 7)


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (1, {}, TypeError, "update takes a plain function of the value, not 1"),
        (asyncio.sleep, {}, TypeError, "update takes a plain function"),
        (lambda _: 1, {"ttl": 0}, ConfigurationError, "ttl must be more than 0"),
        (lambda _: object(), {}, SerializationError, "object"),
    ],
)
async def test_a_mistake_in_an_update_writes_nothing(
    value: DistributedAtomicValue[Any], function: Any, options: Any, error: type[Exception], message: str
) -> None:
    before = len(client(value).calls)

    with pytest.raises(error, match=message):
        await value.update(function, **options)
    assert len(client(value).calls) == before + (error is SerializationError)  # which the function made
    assert await value.get() is None
