"""Events through fail-over and from server to server: each once, in order, and before the answers that follow them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap
from copycat.coordination import DistributedTopic
from copycat.handle import Copycat
from tests.process.support import ProcessCluster, client_at, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

MESSAGES, CHANGES, WAVE = 100_000, 20_000, 500


async def in_waves(cluster: ProcessCluster, count: int, start: Callable[[int], list[asyncio.Future[Any]]]) -> list[Any]:
    """Start operations 0, 1, 2, … in waves; a third and two thirds on, the leader dies, and comes back."""
    results: list[Any] = []
    deaths = {count // 3 // WAVE * WAVE, 2 * count // 3 // WAVE * WAVE}
    for first in range(0, count, WAVE):
        leader = await cluster.leader() if first in deaths else None
        wave = [operation for number in range(first, first + WAVE) for operation in start(number)]
        if leader is not None:
            await asyncio.sleep(0)
            cluster.kill([leader])
            cluster.start([leader])
        results += await asyncio.gather(*wave)
    return results


async def until_heard(heard: list[list[int]], count: int) -> None:
    """Wait until every list is that long."""
    async with asyncio.timeout(30):
        while min(map(len, heard)) < count:  # noqa: ASYNC110  # events ring no bell here
            await asyncio.sleep(0.01)


async def wander(clients: list[Copycat], done: asyncio.Event) -> None:
    """Make the listeners change servers, one after another, while messages are on their way."""
    turn = 0
    while not done.is_set():
        engine = clients[turn % len(clients)]._client._engine  # type: ignore[attr-defined]  # what a lost connection does
        engine.connector.leave("the test")
        turn += 1
        try:
            async with asyncio.timeout(0.2):
                await done.wait()
        except TimeoutError:
            pass


async def test_a_hundred_thousand_messages_arrive_once_and_in_order_whoever_leads_and_whoever_delivers(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as cluster, client_of(cluster, timeout=60) as publisher:
        listeners = [client_at(cluster, name, discover=True) for name in cluster.members]
        heard: list[list[int]] = []
        for client in listeners:
            await client.open()
            topic = await client.create("numbers", DistributedTopic[int])
            heard.append([])
            await topic.on_message(heard[-1].append)
        topic = await publisher.create("numbers", DistributedTopic[int])
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wander(listeners, done))
            told = await in_waves(cluster, MESSAGES, lambda number: [topic.publish(number)])
            await until_heard(heard, MESSAGES)
            done.set()
        for client in listeners:
            await client.close()
        assert told == [len(listeners)] * MESSAGES
        assert all(mine == list(range(MESSAGES)) for mine in heard)


async def test_changes_of_a_map_and_of_a_value_arrive_once_and_in_order_too(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, client_of(cluster, timeout=60) as writer:
        listeners = [client_at(cluster, name, discover=True) for name in cluster.members]
        heard: list[list[int]] = []
        for client in listeners:
            await client.open()
            numbers = await client.create("map", DistributedMap[str, int])
            value = await client.create("value", DistributedAtomicValue[int])
            of_map: list[int] = []
            of_value: list[int] = []
            heard += [of_map, of_value]
            await numbers.on_add(lambda change, mine=of_map: mine.append(change.new))  # type: ignore[misc]  # binds it
            await numbers.on_update(lambda change, mine=of_map: mine.append(change.new))  # type: ignore[misc]  # binds it
            await value.on_change(lambda change, mine=of_value: mine.append(change.new))  # type: ignore[misc]  # binds it
        numbers = await writer.create("map", DistributedMap[str, int])
        value = await writer.create("value", DistributedAtomicValue[int])
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wander(listeners, done))
            await in_waves(cluster, CHANGES, lambda number: [numbers.put("key", number), value.set(number)])
            await until_heard(heard, CHANGES)
            done.set()
        for client in listeners:
            await client.close()
        assert all(mine == list(range(CHANGES)) for mine in heard)
