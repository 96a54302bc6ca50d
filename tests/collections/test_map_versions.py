"""Entries of a DistributedMap, their versions, and updates that rest on them."""

import asyncio
from typing import Any

import pytest

from copycat.collections import DistributedMap
from copycat.errors import ConfigurationError, SerializationError
from copycat.handle import Copycat
from copycat.resource import ConsistencyLevel, Entry, PersistenceMode
from tests.resource.harness import Replicas, connect

EPHEMERAL = PersistenceMode.EPHEMERAL


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedMap, count=2)


@pytest.fixture
async def cc(replicas: Replicas) -> Copycat:
    return await connect(replicas)


@pytest.fixture
async def users(cc: Copycat) -> DistributedMap[Any, Any]:
    return await cc.create("users", DistributedMap)


# -- versions ----------------------------------------------------------------------------------------------------------


async def entry_of(users: DistributedMap[Any, Any], key: Any) -> Entry[Any]:
    entry = await users.entry(key)
    assert entry is not None
    return entry


async def test_an_entry_is_a_value_with_the_index_of_its_writing(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    assert await users.entry("ann") is None
    await users.put("ann", 41)
    assert await users.entry("ann") == Entry(41, replicas.index)
    await users.put("ann", 41)
    assert await users.entry("ann") == Entry(41, replicas.index)


async def test_what_writes_nothing_leaves_the_version(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)
    before = await users.entry("ann")
    await users.put_if_absent("ann", 42)
    await users.replace("ann", 40, 42)
    await users.remove("ann", 40)
    await users.put("bob", 1)

    assert await users.entry("ann") == before


async def test_replace_of_a_version_wants_that_very_one(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)
    old = await entry_of(users, "ann")
    await users.put("ann", 42)
    await users.put("ann", 41)  # the same value, but another writing

    assert await users.replace("ann", 43, version=old.version) is False
    assert await users.get("ann") == 41
    assert await users.replace("ann", 43, version=(await entry_of(users, "ann")).version) is True
    assert await users.get("ann") == 43
    assert await users.replace("nobody", 43, version=old.version) is False
    assert await users.size() == 1


async def test_replace_of_a_version_replaces_time_to_live_and_mode_too(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41, ttl=1)
    assert await users.replace("ann", 42, version=(await entry_of(users, "ann")).version, ttl=10)
    replicas.advance(9)
    assert await users.get("ann") == 42
    replicas.advance(1)
    assert await users.get("ann") is None


async def test_remove_of_a_version_wants_that_very_one(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)
    old = await entry_of(users, "ann")
    await users.put("ann", 41)

    assert await users.remove("ann", version=old.version) is False
    assert await users.remove("ann", version=(await entry_of(users, "ann")).version) is True
    assert await users.remove("ann", version=old.version) is False
    assert await users.is_empty()


async def test_a_key_removed_and_put_again_has_another_version(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)
    old = await entry_of(users, "ann")
    await users.remove("ann")
    await users.put("ann", 41)

    assert await users.replace("ann", 42, version=old.version) is False


# -- update ------------------------------------------------------------------------------------------------------------


async def test_update_makes_the_value_of_what_it_is(users: DistributedMap[Any, Any]) -> None:
    assert await users.update("ann", lambda age: 41 if age is None else age + 1) == 41
    assert await users.update("ann", lambda age: 41 if age is None else age + 1) == 42
    assert await users.get("ann") == 42


async def test_an_update_to_none_removes(users: DistributedMap[Any, Any]) -> None:
    assert await users.update("ann", lambda age: None) is None
    await users.put("ann", 41)
    assert await users.update("ann", lambda age: None) is None
    assert await users.is_empty()


async def test_updates_that_meet_all_count(replicas: Replicas, users: DistributedMap[Any, Any]) -> None:
    others = [await (await connect(replicas)).create("users", DistributedMap) for _ in range(3)]

    async def count(handle: DistributedMap[Any, Any]) -> None:
        for _ in range(10):
            await handle.update("n", lambda n: (n or 0) + 1)

    await asyncio.gather(*map(count, [users, *others]))
    assert await users.get("n") == 40


@pytest.mark.parametrize(
    ("before", "meanwhile", "after", "seen", "at_last"),
    [
        (None, 5, 7, [None, 5], 7),
        (1, 5, 7, [1, 5], 7),
        (1, None, 7, [1, None], 7),
        (1, 5, None, [1, 5], None),
        (1, None, None, [1, None], None),
        (None, 5, None, [None], 5),  # there was nothing to write when it was read
    ],
)
async def test_an_update_begins_anew_when_the_key_was_written_meanwhile(
    users: DistributedMap[Any, Any],
    before: int | None,
    meanwhile: int | None,
    after: int | None,
    seen: list[Any],
    at_last: int | None,
) -> None:
    if before is not None:
        await users.put("n", before)
    values: list[Any] = []

    def function(value: Any) -> Any:
        if not values:  # calls take effect in their order: this one before the writing of the update
            _ = users.remove("n") if meanwhile is None else users.put("n", meanwhile)
        values.append(value)
        return after

    assert await users.update("n", function) == after
    assert values == seen
    assert await users.get("n") == at_last


async def test_an_update_takes_a_time_to_live_and_a_mode(
    users: DistributedMap[Any, Any], cc: Copycat, replicas: Replicas
) -> None:
    await users.update("timed", lambda _: 1, ttl=5)
    await users.update("timed", lambda _: 2, ttl=5)
    await users.update("mine", lambda _: 1, mode=EPHEMERAL)
    other = await (await connect(replicas)).create("users", DistributedMap)
    replicas.advance(5)
    assert [item async for item in other.items()] == [("mine", 1)]
    await cc.close()
    assert await other.is_empty()


async def test_what_an_update_s_function_raises_is_raised_and_nothing_is_written(
    users: DistributedMap[Any, Any],
) -> None:
    await users.put("ann", 41)
    with pytest.raises(ZeroDivisionError):
        await users.update("ann", lambda age: (age or 0) // 0)
    assert await users.get("ann") == 41


async def test_an_update_reads_linearizably_whatever_the_handle_says(cc: Copycat) -> None:
    client: Any = cc._client
    lax = await cc.create("m", DistributedMap, consistency=ConsistencyLevel.SERIALIZABLE)
    await lax.update("k", lambda _: 1, timeout=7)

    reading, writing = client.calls[-2:]
    assert (reading["consistency"], reading["timeout"]) == (ConsistencyLevel.LINEARIZABLE, 7)
    assert (writing["consistency"], writing["timeout"]) == (None, 7)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("k", 1), {}, TypeError, "update takes a plain function of the value, not 1"),
        (("k", asyncio.sleep), {}, TypeError, "update takes a plain function"),
        ((1.5, lambda _: 1), {}, SerializationError, "1.5 of type float cannot be a key"),
        (("k", lambda _: 1), {"ttl": 0}, ConfigurationError, "ttl must be more than 0"),
        (("k", lambda _: 1), {"mode": 1}, ConfigurationError, "mode must be"),
    ],
)
async def test_a_mistake_in_an_update_is_found_before_anything_is_asked(
    users: DistributedMap[Any, Any],
    cc: Copycat,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    client: Any = cc._client
    before = len(client.calls)

    with pytest.raises(error, match=message):
        await users.update(*arguments, **options)
    assert len(client.calls) == before
