"""Events through fail-over and from server to server: each once, in order, and before the answers that follow them."""

import asyncio
from pathlib import Path

import pytest

from copycat.coordination import DistributedTopic
from copycat.handle import Copycat
from tests.process.support import ProcessCluster, client_at, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

MESSAGES, WAVE = 100_000, 500
LISTENERS = 3


async def publish(cluster: ProcessCluster, topic: "DistributedTopic[int]", count: int) -> None:
    """Publish 0, 1, 2, …; a third and two thirds on, the leader dies, and comes back."""
    for start in range(0, count, WAVE):
        leader = await cluster.leader() if start in (count // 3 // WAVE * WAVE, 2 * count // 3 // WAVE * WAVE) else None
        published = [topic.publish(number) for number in range(start, start + WAVE)]
        if leader is not None:
            await asyncio.sleep(0)
            cluster.kill([leader])
            cluster.start([leader])
        assert await asyncio.gather(*published) == [LISTENERS] * WAVE


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
            mine: list[int] = []
            heard.append(mine)
            await topic.on_message(mine.append)
        topic = await publisher.create("numbers", DistributedTopic[int])
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wander(listeners, done))
            await publish(cluster, topic, MESSAGES)
            async with asyncio.timeout(30):
                while min(map(len, heard)) < MESSAGES:  # noqa: ASYNC110  # messages ring no bell here
                    await asyncio.sleep(0.01)
            done.set()
        for client in listeners:
            await client.close()
        assert all(mine == list(range(MESSAGES)) for mine in heard)
