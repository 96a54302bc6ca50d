"""What a cluster does while a majority lives, and what it does not do without one."""

from pathlib import Path

import pytest

from copycat.errors import CommandTimeoutError, NoLeaderError, Outcome, QueryTimeoutError
from tests.io.transport.support import wait_until
from tests.process.support import Numbers, client_at, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize(("size", "deaths"), [(3, 1), (5, 2)])
async def test_a_minority_may_die_and_one_death_more_stops_all_until_a_majority_is_back(
    size: int, deaths: int, tmp_path: Path
) -> None:
    async with running(tmp_path, size) as cluster:
        alive = dict.fromkeys(cluster.members)
        async with client_of(cluster) as client:
            numbers = await client.create("numbers", Numbers)
            for death in range(deaths):
                leader = await cluster.leader()
                cluster.kill([leader])
                del alive[leader]
                assert await numbers.put(f"after {death + 1} deaths", death) is None

        leader = await cluster.leader()
        async with client_at(cluster, leader, timeout=20) as client:
            numbers = await client.get("numbers", Numbers)
            assert await numbers.put("key", 1) is None
            victim = next(name for name in alive if name != leader)
            cluster.kill([victim])

            with pytest.raises(CommandTimeoutError) as sent:
                await numbers.put("key", 2, timeout=0.3)
            assert sent.value.outcome is Outcome.UNKNOWN
            await wait_until(lambda: client.leader is None)
            with pytest.raises(NoLeaderError) as unsent:
                await numbers.put("key", 3, timeout=0.1)
            assert unsent.value.outcome is Outcome.NOT_APPLIED
            with pytest.raises(QueryTimeoutError):
                await numbers.get("key", timeout=0.1)
            assert not sent.value.operation.done()

            cluster.start([victim])

            assert await sent.value.operation == 1
            assert await numbers.get("key") == 2
            for death in range(deaths):
                assert await numbers.get(f"after {death + 1} deaths") == death
