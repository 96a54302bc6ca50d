"""A link that comes and goes: it may cost its member's time, and nobody the lead."""

import asyncio

import pytest

from copycat.collections import DistributedMap
from copycat.testing.cluster import SimulatedCluster, simulate

SECONDS, EVERY = 60.0, 0.2

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("seed", range(4))
def test_a_followers_link_that_is_reset_and_refused_every_200_ms_for_a_minute_deposes_nobody(seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        leader = await cluster.elected()
        await cluster.level()
        follower = next(name for name in cluster.nodes if name != leader)
        values = await (await cluster.client()).create("values", DistributedMap[str, int])
        terms = {name: cluster.term(name) for name in cluster.nodes}
        for number in range(round(SECONDS / EVERY)):
            mend = cluster.partition([leader], [follower], refusing=True)
            await asyncio.sleep(EVERY / 2)
            mend()
            await values.put("number", number)
            await asyncio.sleep(EVERY / 2)
        assert cluster.leader() == leader
        assert {name: cluster.term(name) for name in cluster.nodes} == terms
        assert cluster.faults["refusing partition"] >= SECONDS / EVERY

    simulate(scenario, seed=seed)
