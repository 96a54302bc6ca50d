"""A cluster in virtual time: what can be done to it, and that it is one."""

import pytest

from copycat.collections import DistributedMap
from copycat.testing.cluster import SimulatedCluster, simulate


def test_a_put_goes_through_three_members_and_leaves_a_trace() -> None:
    async def scenario(cluster: SimulatedCluster) -> str:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        await users.put("ann", 41)
        assert await users.get("ann") == 41
        await cluster.level()
        return cluster.trace.digest

    assert simulate(scenario, seed=7) == simulate(scenario, seed=7)
    assert simulate(scenario, seed=7) != simulate(scenario, seed=8)


@pytest.mark.parametrize("power", [False, True], ids=["process killed", "power lost"])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives_the_death_of_all(seed: int, power: bool) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        for age in range(20):
            await users.put("ann", age)
        cluster.crash("a", "b", "c", power=power)
        for name in cluster.nodes:
            cluster.start(name)
        assert await users.get("ann") == 19
        await cluster.level()

    simulate(scenario, seed=seed)


def test_a_paused_leader_is_replaced_and_follows_when_it_wakes() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        paused = cluster.leader()
        cluster.pause(paused)
        await users.put("ann", 41)
        assert cluster.leader() != paused
        cluster.resume(paused)
        assert await cluster.elected() != paused
        await cluster.level()

    simulate(scenario, seed=3)
