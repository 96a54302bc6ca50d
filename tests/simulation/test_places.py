"""A member whose machine is gone without a word, and that comes back at another address: protocol §2.4."""

from dataclasses import replace

import pytest

from copycat.collections import DistributedMap
from copycat.testing.cluster import SimulatedCluster, simulate


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(3))
def test_the_others_find_a_member_that_has_moved_and_count_on_it(seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        client = await cluster.client()
        numbers = await client.create("numbers", DistributedMap[str, int])
        await numbers.put("n", 1)
        leader = await cluster.elected()
        moved, other = [name for name in cluster.nodes if name != leader]
        if seed == 0:
            moved, leader = leader, moved
        cluster.crash(moved, power=True)
        node = cluster.nodes[moved]
        node.member = replace(node.member, port=6001)
        cluster.members = [node.member if member.id == moved else member for member in cluster.members]
        cluster.start(moved)
        await cluster.level()

        def is_known() -> bool:
            servers = [node.server for node in cluster.nodes.values()]
            return all(each and each.status().members[moved] == f"host-{moved}:6001" for each in servers)

        await cluster.until(is_known, 5, "all to know where it is")
        cluster.crash(other)
        await cluster.elected()
        assert await numbers.put("n", 2) == 1

    simulate(scenario, seed=seed)
