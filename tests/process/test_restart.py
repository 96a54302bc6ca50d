"""Servers that are killed, stopped and started again while clients write: every acknowledged write stays, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from copycat.cli.workload import Pace, Row, Tally, Writer, open_writers, read_back
from tests.process.support import ProcessCluster, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow]

WRITERS = 4
ROUNDS = 3


class Load:
    """Clients that write all the time. Each put returns the value before it: see `copycat.cli.workload`."""

    def __init__(self, cluster: ProcessCluster, writers: list[Writer]) -> None:
        self.writers = writers
        self.pace = Pace(batch=20, rest=0.005)
        self._cluster = cluster
        self._tally = Tally()

    async def run(self, writer: Writer) -> None:
        await writer.run(self.pace, self._tally)

    async def wait_for_writes(self, count: int = 300) -> None:
        """Until so many more puts are acknowledged."""
        wanted = self._tally.acknowledged + count

        async def came() -> dict[str, Any] | None:
            return {} if self._tally.acknowledged >= wanted else None

        await self._cluster.wait_until(came, "writes to be acknowledged")

    async def check(self) -> None:
        """Whatever was acknowledged is there, and took effect once. Nothing is in doubt: the sessions lived on."""
        async with client_of(self._cluster) as client:
            for writer in self.writers:
                assert writer.unacknowledged == 0
                for row in await read_back(client, writer):
                    assert row == Row(acknowledged=row.acknowledged, found=row.acknowledged)
                    assert row.acknowledged > 0


@asynccontextmanager
async def writing(cluster: ProcessCluster) -> AsyncIterator[Load]:
    """Clients that write until the block ends, and have then been answered."""
    writers = await open_writers(cluster.addresses, WRITERS)
    load = Load(cluster, writers)
    try:
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(load.run(writer))
            yield load
            load.pace.is_over = True
        await load.check()
    finally:
        await asyncio.gather(*(writer.client.close() for writer in writers))


async def test_nothing_acknowledged_is_lost_or_doubled_when_all_servers_are_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, writing(cluster) as load:
        for _ in range(ROUNDS):
            await load.wait_for_writes()
            cluster.kill()
            cluster.start()
            await cluster.wait_for_leader()
        await load.wait_for_writes()


async def test_a_rolling_restart_loses_nothing_and_every_server_closes_cleanly(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, writing(cluster) as load:
        for name in cluster.members:
            await load.wait_for_writes()
            assert await cluster.stop(name) == 0
            await load.wait_for_writes()
            cluster.start([name])
            await cluster.wait_for_leader()
        await load.wait_for_writes()


async def test_a_leader_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, writing(cluster) as load:
        for _ in range(ROUNDS):
            leader = await cluster.leader()
            cluster.kill([leader])
            await load.wait_for_writes()
            cluster.start([leader])
            await cluster.wait_for_leader()
