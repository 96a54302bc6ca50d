"""What listeners of a DistributedMap are told, of every way in which an entry comes, changes or goes."""

from dataclasses import dataclass
from typing import Any

import pytest

from copycat.collections import DistributedMap, MapChange
from copycat.collections.map_machine import LISTEN, UNLISTEN
from copycat.errors import ApplicationError
from copycat.handle import Copycat
from copycat.resource import PersistenceMode
from tests.coordination.support import PATH, client, handles, machine, turns
from tests.resource.harness import Replicas, connect

EPHEMERAL = PersistenceMode.EPHEMERAL


@dataclass
class User:
    age: int


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedMap, count=2)


@pytest.fixture
async def maps(replicas: Replicas) -> list[DistributedMap[Any, Any]]:
    """Two programs on one map: one listens, one writes."""
    return await handles(replicas, DistributedMap, 2)


class Log:
    """All that a handle is told, as (verb, key, old, new)."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.changes: list[MapChange[Any, Any]] = []

    async def listen(self, handle: DistributedMap[Any, Any], **options: Any) -> None:
        await handle.on_add(lambda change: self.take("add", change), **options)
        await handle.on_update(lambda change: self.take("update", change), **options)
        await handle.on_remove(lambda change: self.take("remove", change), **options)

    def take(self, verb: str, change: MapChange[Any, Any]) -> None:
        self.told.append((verb, change.key, change.old, change.new))
        self.changes.append(change)

    async def news(self) -> list[tuple[Any, ...]]:
        await turns()
        told, self.told = self.told, []
        return told


@pytest.fixture
async def log(maps: list[DistributedMap[Any, Any]]) -> Log:
    log = Log()
    await log.listen(maps[0])
    return log


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_every_write_is_told_with_the_old_value_and_the_new(
    maps: list[DistributedMap[Any, Any]], log: Log
) -> None:
    users = maps[1]
    await users.put("ann", 41)
    await users.put("ann", 42)
    await users.put_if_absent("bob", 1)
    await users.replace("ann", 43)
    await users.replace("ann", 43, 44)
    entry = await users.entry("ann")
    assert entry is not None
    await users.replace("ann", 45, version=entry.version)
    await users.update("ann", lambda age: (age or 0) + 1)
    await users.remove("ann")
    await users.remove("bob", 1)

    assert await log.news() == [
        ("add", "ann", None, 41),
        ("update", "ann", 41, 42),
        ("add", "bob", None, 1),
        ("update", "ann", 42, 43),
        ("update", "ann", 43, 44),
        ("update", "ann", 44, 45),
        ("update", "ann", 45, 46),
        ("remove", "ann", 46, None),
        ("remove", "bob", 1, None),
    ]


async def test_a_write_of_the_same_value_is_an_update(maps: list[DistributedMap[Any, Any]], log: Log) -> None:
    await maps[1].put("ann", 41)
    await maps[1].put("ann", 41)

    assert await log.news() == [("add", "ann", None, 41), ("update", "ann", 41, 41)]


async def test_what_writes_nothing_is_not_told(maps: list[DistributedMap[Any, Any]], log: Log) -> None:
    users = maps[1]
    await users.put("ann", 41)
    await log.news()
    await users.put_if_absent("ann", 1)
    await users.replace("nobody", 1)
    await users.replace("ann", 1, 2)
    await users.replace("ann", 1, version=1)
    await users.remove("nobody")
    await users.remove("ann", 1)
    await users.remove("ann", version=1)
    await users.get("ann")

    assert await log.news() == []


async def test_a_change_has_the_version_at_which_it_happened(
    maps: list[DistributedMap[Any, Any]], log: Log, replicas: Replicas
) -> None:
    await maps[1].put("ann", 41)
    entry = await maps[1].entry("ann")
    assert entry is not None
    await maps[1].remove("ann")
    removed_at = replicas.index
    await turns()

    assert log.changes == [MapChange("ann", None, 41, entry.version), MapChange("ann", 41, None, removed_at)]


async def test_clearing_removes_every_key_in_the_order_they_came(
    maps: list[DistributedMap[Any, Any]], log: Log, replicas: Replicas
) -> None:
    for key in ("b", "a", "c"):
        await maps[1].put(key, 1, ttl=60)
    await log.news()
    await maps[1].clear()
    await maps[1].clear()

    assert await log.news() == [("remove", key, 1, None) for key in ("b", "a", "c")]
    assert {change.version for change in log.changes[3:]} == {replicas.index - 1}
    replicas.advance(61)
    assert await log.news() == []


async def test_an_entry_that_goes_after_its_time_is_removed_at_that_index(
    maps: list[DistributedMap[Any, Any]], log: Log, replicas: Replicas
) -> None:
    await maps[1].put("ann", 41, ttl=5)
    await maps[1].put("bob", 1, ttl=5)
    await maps[1].put("bob", 2)
    await maps[1].put("cid", 1, ttl=5)
    await maps[1].remove("cid")
    await log.news()

    replicas.advance(4.999)
    assert await log.news() == []
    replicas.advance(0.001)
    assert await log.news() == [("remove", "ann", 41, None)]
    assert log.changes[-1].version == replicas.index
    replicas.advance(60)
    assert await log.news() == []


@pytest.mark.parametrize("expired", [True, False])
async def test_what_goes_with_its_session_is_removed_at_that_index(
    maps: list[DistributedMap[Any, Any]], log: Log, replicas: Replicas, expired: bool
) -> None:
    await maps[1].put("b", 1, mode=EPHEMERAL)
    await maps[1].put("a", 2, mode=EPHEMERAL, ttl=60)
    await maps[1].put("stays", 3)
    await log.news()
    replicas.end(client(maps[1]).session, expired=expired)

    assert await log.news() == [("remove", "b", 1, None), ("remove", "a", 2, None)]
    assert {change.version for change in log.changes[-2:]} == {replicas.index}
    replicas.advance(61)
    assert await log.news() == []


async def test_a_listener_s_own_end_tells_it_nothing_of_its_own_ephemeral_entries(
    maps: list[DistributedMap[Any, Any]], log: Log, replicas: Replicas
) -> None:
    other = Log()
    await other.listen(maps[1])
    await maps[0].put("mine", 1, mode=EPHEMERAL)
    await log.news()
    await other.news()
    await client(maps[0]).close()

    assert await log.news() == []
    assert await other.news() == [("remove", "mine", 1, None)]


# -- to whom -----------------------------------------------------------------------------------------------------------


async def test_whoever_listens_to_a_key_hears_of_no_other(maps: list[DistributedMap[Any, Any]]) -> None:
    log = Log()
    await log.listen(maps[0], key=1)
    for key in (1, True, "1", (1,)):
        await maps[1].put(key, "a")
        await maps[1].put(key, "b")
        await maps[1].remove(key)

    assert await log.news() == [("add", 1, None, "a"), ("update", 1, "a", "b"), ("remove", 1, "b", None)]


async def test_a_handle_that_listens_to_a_key_is_sent_nothing_of_others(
    maps: list[DistributedMap[Any, Any]], replicas: Replicas
) -> None:
    await maps[0].on_add(print, key="ann")
    for number in range(10):
        await maps[1].put(number, 0)

    session = replicas.replicas[0].session(client(maps[0]).session)
    assert session is not None
    assert session.events is None or session.events.count == 0


async def test_a_kind_nobody_listens_to_is_not_sent(maps: list[DistributedMap[Any, Any]], replicas: Replicas) -> None:
    await maps[0].on_remove(print)
    await maps[1].put("ann", 41)
    await maps[1].put("ann", 42)

    session = replicas.replicas[0].session(client(maps[0]).session)
    assert session is not None
    assert session.events is None or session.events.count == 0


async def test_listeners_to_all_keys_and_to_one_hear_it_once_each(
    maps: list[DistributedMap[Any, Any]], log: Log
) -> None:
    of_key = Log()
    await of_key.listen(maps[0], key="ann")
    await maps[1].put("ann", 41)
    await maps[1].put("bob", 1)
    await maps[1].remove("ann")

    assert await log.news() == [("add", "ann", None, 41), ("add", "bob", None, 1), ("remove", "ann", 41, None)]
    assert await of_key.news() == [("add", "ann", None, 41), ("remove", "ann", 41, None)]


async def test_listening_to_many_keys_in_turn_leaves_nothing_behind(
    maps: list[DistributedMap[Any, Any]], replicas: Replicas
) -> None:
    for number in range(100):
        (await maps[0].on_update(print, key=number)).close()

    assert (maps[0]._watched, maps[0]._subscriptions) == ({}, {})
    audience = machine(replicas)._audience
    assert (audience.by_topic, audience._topics) == ({}, {})


async def test_a_writer_hears_its_own_writing_before_the_answer(maps: list[DistributedMap[Any, Any]]) -> None:
    log = Log()
    await log.listen(maps[0])
    await maps[0].put("ann", 41)

    assert log.told == [("add", "ann", None, 41)]


# -- what it is shown as -----------------------------------------------------------------------------------------------


async def test_keys_and_values_come_as_what_the_handle_says_and_others_are_logged(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    cc: Copycat = await connect(replicas)
    typed = await cc.create(PATH, DistributedMap[str, User])
    anything = await cc.create(PATH, DistributedMap)
    log = Log()
    await log.listen(typed)
    await typed.put("ann", User(41))
    await anything.put(7, {"age": 1})
    await anything.put("bob", "no user")
    await anything.put("cid", {"age": 2})

    assert await log.news() == [("add", "ann", None, User(41)), ("add", "cid", None, User(2))]
    assert "a key is no str" in caplog.text
    assert "key 'bob' is no User" in caplog.text


@pytest.mark.parametrize("arguments", [(4, None), (0, None), ("1", None), (1, "k"), (1, 7), (1,), ()])
async def test_a_client_of_another_make_cannot_listen_to_what_there_is_not(
    maps: list[DistributedMap[Any, Any]], replicas: Replicas, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await maps[0].command(LISTEN, *arguments)
    assert caught.value.kind == "TypeError"
    assert machine(replicas)._audience.by_topic == {}


async def test_who_does_not_listen_may_say_so(maps: list[DistributedMap[Any, Any]], replicas: Replicas) -> None:
    await maps[0].on_add(print)
    await maps[0].command(UNLISTEN, 2, None)
    await maps[1].command(UNLISTEN, 1, None)

    assert list(machine(replicas)._audience.by_topic) == [(1, None)]
