"""A thousand puts in flight while their leader dies, or stands still: none is lost, none happens twice."""

import asyncio
from pathlib import Path

import pytest

from tests.process.support import Numbers, client_at, running, turns

pytestmark = [pytest.mark.process, pytest.mark.slow]

PUTS, WAVE = 1000, 50


@pytest.mark.parametrize("through", ["leader", "follower"])
@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_puts_in_flight_keep_their_order_and_happen_once(how: str, through: str, tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        leader = await cluster.leader()
        follower = next(name for name in cluster.members if name != leader)
        first = leader if through == "leader" else follower
        async with client_at(cluster, first, discover=True, timeout=40) as client:
            numbers = await client.create("numbers", Numbers)
            puts: list[asyncio.Future[int | None]] = []
            for number in range(PUTS):
                puts.append(numbers.put("key", number))
                if number % WAVE == 0:
                    await turns()
                if number == PUTS // 2:
                    if how == "killed":
                        cluster.kill([leader])
                    else:
                        cluster.pause(leader)

            assert await asyncio.gather(*puts) == [None, *range(PUTS - 1)]

            if how == "killed":
                cluster.start([leader])
            else:
                cluster.resume(leader)
            await cluster.wait_for_leader()
            assert await numbers.put("key", PUTS) == PUTS - 1
            assert await numbers.get("key") == PUTS
