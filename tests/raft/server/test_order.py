"""A client's commands take effect in the order of its calls, once each, whatever happens meanwhile: protocol §5.

The probe: puts to one key, none of them awaited, each telling which value it replaced. Put number i must have replaced
value i - 1; one that was lost, repeated or overtaken breaks the chain.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from copycat.raft.client.client import RaftClient
from copycat.raft.protocol.entries import SESSION_WINDOW
from copycat.raft.protocol.wire import Tag
from copycat.raft.server.limits import ServerLimits
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, add, put

COUNT = 1000
SEEDS = pytest.mark.parametrize("seed", range(3))

Fault = Callable[[Cluster, str, random.Random], Awaitable[object]]


class Chain:
    """Un-awaited puts to one key."""

    def __init__(self, client: RaftClient) -> None:
        self._client = client
        self._futures: list[asyncio.Future[Any]] = []

    def put(self, count: int) -> None:
        for _ in range(count):
            self._futures.append(put(self._client, "k", len(self._futures), timeout=None))

    @property
    def answered(self) -> int:
        return sum(map(asyncio.Future.done, self._futures))

    async def check(self, cluster: Cluster) -> None:
        """Wait for every answer; then the members that are open must agree with them."""
        count = len(self._futures)
        assert await asyncio.gather(*self._futures) == [None, *range(count - 1)]
        await cluster.level()
        assert [cluster.machines[name].values for name in cluster.servers] == [{"k": count - 1}] * len(cluster.servers)


async def write_across(cluster: Cluster, client: RaftClient, seed: int, fault: Fault) -> None:
    """A thousand puts, and somewhere in the middle the fault, with some of them on their way."""
    chooser = random.Random(seed)
    leader = await cluster.elected()
    chain = Chain(client)
    chain.put(200)
    await wait_until(lambda: chain.answered)
    chain.put(400)
    for _ in range(chooser.randrange(12)):
        await asyncio.sleep(0)
    chain.put(300)
    await fault(cluster, leader, chooser)
    chain.put(COUNT - 900)
    await chain.check(cluster)


# -- the leader is lost ------------------------------------------------------------------------------------------------


async def stop(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    await cluster.stop(leader)


async def lose_power(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    await cluster.crash(leader, chooser=chooser)


async def lose_power_and_return(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    await cluster.crash(leader, chooser=chooser)
    await cluster.start(leader)


async def cut_off(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    others = cluster.others(leader)
    cluster.network.separate([leader], [*others, "client"])
    await cluster.elected(others)
    cluster.network.heal()


async def hang_its_disk(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    cluster.hold_syncs(leader)
    await cluster.elected(cluster.others(leader))
    cluster.disks[leader].release_syncs()


FAULTS = pytest.mark.parametrize("fault", [stop, lose_power, lose_power_and_return, cut_off, hang_its_disk])


@pytest.mark.slow
@SEEDS
@FAULTS
async def test_order_holds_when_the_leader_is_lost(fault: Fault, seed: int) -> None:
    async with Cluster(3, faulty=True) as cluster:
        await write_across(cluster, await cluster.client(session_timeout=30.0), seed, fault)


@pytest.mark.slow
@FAULTS
async def test_order_holds_through_a_follower_when_the_leader_is_lost(fault: Fault) -> None:
    async with Cluster(3, faulty=True) as cluster:
        follower = cluster.others(await cluster.elected())[0]
        client = await cluster.client(to=[follower], session_timeout=30.0)
        await write_across(cluster, client, 1, fault)
        assert client.connected_to == follower


async def test_order_holds_when_a_leader_is_cut_off_together_with_its_client() -> None:
    async with Cluster(3, faulty=True) as cluster:
        leader = await cluster.elected()
        client = await cluster.client(to=[leader], session_timeout=30.0)
        chain = Chain(client)
        chain.put(300)
        await wait_until(lambda: chain.answered == 300)
        cluster.network.separate([leader], cluster.others(leader))
        chain.put(300)
        await cluster.elected(cluster.others(leader))
        assert chain.answered == 300
        cluster.network.heal()
        chain.put(400)
        await chain.check(cluster)


@SEEDS
async def test_order_holds_when_the_server_a_client_talks_to_is_lost(seed: int) -> None:
    async with Cluster(3, faulty=True) as cluster:
        follower, other = cluster.others(await cluster.elected())
        client = await cluster.client(to=[follower, other], session_timeout=30.0)

        async def lose_it(cluster: Cluster, leader: str, chooser: random.Random) -> None:
            assert client.connected_to is not None
            await cluster.crash(client.connected_to, chooser=chooser)

        await write_across(cluster, client, seed, lose_it)


# -- links that break --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_order_holds_while_links_break_at_random(seed: int) -> None:
    chooser = random.Random(seed)
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=30.0)
        chain = Chain(client)
        for _ in range(50):
            chain.put(COUNT // 50)
            one, other = chooser.sample([*cluster.servers, "client"], 2)
            cluster.network.break_links(one, other)
            for _ in range(chooser.randrange(20)):
                await asyncio.sleep(0)
        await chain.check(cluster)


async def test_what_was_unanswered_is_sent_again_to_the_next_leader() -> None:
    async with Cluster(3, faulty=True) as cluster:
        old = await cluster.elected()
        one, other = cluster.others(old)
        client = await cluster.client(to=[one], session_timeout=30.0)
        chain = Chain(client)
        cluster.hold_syncs(one, other)
        chain.put(COUNT)
        await wait_until(lambda: cluster.status(one).last_index >= COUNT)
        sent = cluster.network.sent(Tag.BATCH, source="client")
        assert chain.answered == 0
        await cluster.stop(old)
        for name in (one, other):
            cluster.disks[name].release_syncs()
        await chain.check(cluster)
        assert cluster.network.sent(Tag.BATCH, source="client") >= 2 * sent


# -- servers that are full ---------------------------------------------------------------------------------------------


async def test_more_commands_than_a_window_holds_leave_as_results_come() -> None:
    async with Cluster(3) as cluster:
        chain = Chain(await cluster.client())
        chain.put(2 * SESSION_WINDOW + 100)
        await chain.check(cluster)


async def test_order_holds_while_the_leader_refuses_for_want_of_room() -> None:
    async with Cluster(3, faulty=True, limits=ServerLimits(max_pending_bytes=1000)) as cluster:
        client = await cluster.client()
        chain = Chain(client)
        for _ in range(50):
            chain.put(COUNT // 50)
            await asyncio.sleep(0)
        await chain.check(cluster)


async def test_order_holds_when_a_new_leader_can_hold_nothing_before_it_is_ready() -> None:
    async with Cluster(3, faulty=True, limits=ServerLimits(max_held_bytes=1)) as cluster:
        one, other = cluster.others(await cluster.elected())
        client = await cluster.client(to=[one])
        for name in (one, other):
            cluster.disks[name].sync_delay_s = 0.02  # between the first word of a new leader and its being ready
        await write_across(cluster, client, 1, stop)


# -- many clients ------------------------------------------------------------------------------------------------------


async def test_commands_of_many_clients_take_effect_once_each_across_a_change_of_leader() -> None:
    async with Cluster(3, faulty=True) as cluster:
        clients = [await cluster.client(name, session_timeout=30.0) for name in ("one", "two", "three")]
        totals = [add(client, 1, timeout=None) for _ in range(150) for client in clients]
        await asyncio.wait(totals, return_when=asyncio.FIRST_COMPLETED)
        totals += [add(client, 1, timeout=None) for _ in range(150) for client in clients]
        await asyncio.sleep(0)
        await cluster.stop(await cluster.elected())
        assert sorted(await asyncio.gather(*totals)) == list(range(1, 901))
