"""Directories put back from copies while members come and go, in virtual time: protocol §2.8."""

import asyncio
import random
from functools import partial

import pytest

from copycat.collections import DistributedMap
from copycat.testing.cluster import SimulatedCluster, simulate
from copycat.testing.disk import FaultyDisk
from copycat.testing.node import Node


def copied(node: Node) -> dict[str, bytes]:
    """The directory as a copying program reads it while its member runs."""
    return {name: node.disk.contents(f"{node.name}/{name}") for name in node.disk.list(node.name) if name != "lock"}


def put_back(cluster: SimulatedCluster, name: str, files: dict[str, bytes]) -> None:
    cluster.invariants._words.pop(name)  # it may come back with less than it vouched for; that is what is tried here
    node = cluster.nodes[name]
    node.disk = disk = FaultyDisk()
    disk.make_directory(node.name)
    for name, data in files.items():
        file = disk.open(f"{node.name}/{name}", create=True)
        file.write_at(0, data)
        file.sync()
        file.close()
    disk.sync_directory(node.name)


def follows(node: Node) -> bool:
    return node.server is not None and node.server.status().role == "follower"


@pytest.mark.simulation
@pytest.mark.parametrize("members", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_put_back_at_any_moment_costs_no_write_and_no_vote_is_given_twice(members: int, seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        chooser = random.Random(seed)
        client = await cluster.client()
        numbers = await client.create("numbers", DistributedMap[str, int])
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await numbers.put("n", written + 1)
                written += 1
                await asyncio.sleep(0.02)

        writing = cluster.run_on(next(iter(cluster.hosts)), write())
        for _ in range(3):
            await asyncio.sleep(chooser.uniform(0.2, 2))
            old = chooser.choice(list(cluster.nodes))
            files = copied(cluster.nodes[old])
            await asyncio.sleep(chooser.uniform(0, 2))
            if chooser.random() < 0.5:  # another start, or another leader, between the copy and its return
                hurt = chooser.choice(list(cluster.nodes))
                cluster.crash(hurt)
                await asyncio.sleep(chooser.uniform(0, 2))
                cluster.start(hurt)
                await cluster.elected()
            cluster.crash(old, power=chooser.random() < 0.5)
            put_back(cluster, old, files)
            await asyncio.sleep(chooser.uniform(0, 1))
            cluster.start(old)
            await asyncio.sleep(chooser.uniform(0, 0.5))
            leader = await cluster.elected()
            await cluster.level()
            if leader != old:
                await cluster.until(partial(follows, cluster.nodes[old]), 10, f"{old} to count again")
        writing.cancel()
        await asyncio.wait([writing])
        assert (await numbers.get("n") or 0) in (written, written + 1)

    simulate(scenario, members=members, seed=seed)
