"""A member that finds durable blocks of its log damaged: protocol §1.2."""

import random

import pytest

from copycat.errors import CorruptionError, NoLeaderError
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES
from copycat.testing.disk import FaultyDisk
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, put

MOMENT = 0.3  # how long to wait for a leader that cannot come


def damage(cluster: Cluster, name: str) -> None:
    """Let a bit rot in the first block of the newest segment, behind which others were written."""
    disk = cluster.disks[name].inner
    assert isinstance(disk, FaultyDisk)
    newest = [each for each in disk.list(name) if each.endswith(".log")][-1]
    disk.flip_bit(f"{name}/{newest}", SEGMENT_HEADER_BYTES + 3)


async def damaged(cluster: Cluster) -> str:
    """Give the cluster some history, and stop a follower of which a durable block is then damaged; returns its id."""
    client = await cluster.client()
    for number in range(20):
        await put(client, "k", number)
    await cluster.level()
    hurt = cluster.others(await cluster.elected())[0]
    await cluster.stop(hurt)
    damage(cluster, hurt)
    for number in range(20, 30):
        await put(client, "k", number)
    return hurt


async def start_alone(cluster: Cluster, name: str) -> None:
    cluster.network.separate([name], [*cluster.servers, "client"])
    with pytest.raises(NoLeaderError):
        await cluster.new_server(name).open(MOMENT)


async def test_it_has_no_vote_until_a_leader_has_refilled_it_and_then_it_has_one() -> None:
    async with Cluster(3, faulty=True) as cluster:
        hurt = await damaged(cluster)
        await start_alone(cluster, hurt)
        assert cluster.status(hurt).role == "passive"
        assert cluster.status(hurt).last_index < 20

        cluster.network.heal()
        await wait_until(lambda: cluster.status(hurt).role == "follower")
        await cluster.level()
        assert cluster.machines[hurt].values == {"k": 29}
        await cluster.stop(await cluster.elected())
        await cluster.elected()  # two are left, and both are needed
        assert await put(cluster.clients[0], "k", 30) == 29


async def test_power_lost_while_it_is_refilled_makes_it_no_voter() -> None:
    chooser = random.Random(1)
    async with Cluster(3, faulty=True) as cluster:
        hurt = await damaged(cluster)
        await start_alone(cluster, hurt)
        cluster.hold_syncs(hurt)
        cluster.network.heal()
        await wait_until(lambda: cluster.disks[hurt].held)
        assert cluster.status(hurt).role == "passive"
        await cluster.crash(hurt, chooser=chooser)
        await start_alone(cluster, hurt)
        assert cluster.status(hurt).role == "passive"

        cluster.network.heal()
        await wait_until(lambda: cluster.status(hurt).role == "follower")
        await cluster.level()
        assert cluster.machines[hurt].values == {"k": 29}


async def test_a_refilled_member_starts_again_as_a_voter() -> None:
    async with Cluster(3, faulty=True) as cluster:
        hurt = await damaged(cluster)
        await cluster.start(hurt)
        await wait_until(lambda: cluster.status(hurt).role == "follower")
        await cluster.crash(hurt, chooser=random.Random(2), kept=0.0)
        await start_alone(cluster, hurt)
        assert cluster.status(hurt).role in ("follower", "candidate")


async def test_a_cluster_of_one_refuses_to_start_for_it_has_no_other_copy() -> None:
    async with Cluster(1, faulty=True) as cluster:
        client = await cluster.client()
        for number in range(5):
            await put(client, "k", number)
        await client.close()
        await cluster.stop("a")
        damage(cluster, "a")
        with pytest.raises(CorruptionError, match=r"block \d+ was durable and is damaged, and a cluster of one has no"):
            await cluster.new_server("a").open()
