"""Which server answers a query, and what it may answer, in a whole cluster: protocol §3.4 to §3.7."""

import asyncio
import random

import pytest

from copycat.raft.client.client import RaftClient
from copycat.raft.core.follower import Follower
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import Tag
from copycat.raft.server.limits import ServerLimits
from tests.io.transport.support import wait_until
from tests.raft.server.clock import StoppableClock
from tests.raft.server.cluster import Cluster, get, put

SERIALIZABLE = ConsistencyLevel.SERIALIZABLE
LEVELS = pytest.mark.parametrize("level", list(ConsistencyLevel))


async def stop_while_fresh(cluster: Cluster, clock: StoppableClock, name: str) -> None:
    """Stop the clock at a moment at which the follower knows enough to answer by itself."""
    driver = cluster.servers[name].driver
    assert driver is not None

    def stopped() -> bool:
        clock.stop()
        role = driver.raft.role
        if (
            isinstance(role, Follower)
            and role.fresh_commit == cluster.applied(name)
            and clock.boottime_ms() <= role.fresh_until
        ):
            return True
        clock.go_on()
        return False

    await cluster.level()
    await wait_until(stopped)


@pytest.mark.parametrize("level", [ConsistencyLevel.LINEARIZABLE, ConsistencyLevel.LINEARIZABLE_LEASE])
async def test_a_read_sees_what_another_client_was_told_is_done_through_whichever_member(
    level: ConsistencyLevel,
) -> None:
    async with Cluster(3) as cluster:
        writer = await cluster.client("writer")
        readers = [await cluster.client(f"reader of {name}", to=[name]) for name in cluster.servers]
        for number in range(20):
            await put(writer, "k", number)
            assert await asyncio.gather(*(get(reader, "k", level) for reader in readers)) == [number] * 3


# -- followers ---------------------------------------------------------------------------------------------------------


async def test_a_follower_that_knows_enough_answers_a_serializable_read_by_itself() -> None:
    clock = StoppableClock()
    async with Cluster(3, clock=clock) as cluster:
        leader = await cluster.elected()
        follower = cluster.others(leader)[0]
        client = await cluster.client(to=[follower], session_timeout=30.0)
        await put(client, "k", 1)
        await stop_while_fresh(cluster, clock, follower)
        asked = cluster.network.sent(Tag.FORWARD, source=follower)
        for _ in range(10):
            assert await get(client, "k", SERIALIZABLE) == 1
        assert cluster.network.sent(Tag.FORWARD, source=follower) == asked
        assert cluster.machines[follower].queries == 10
        assert await get(client, "other", SERIALIZABLE) is None


async def test_a_follower_whose_knowledge_has_grown_old_passes_the_query_on() -> None:
    clock = StoppableClock()
    async with Cluster(3, clock=clock) as cluster:
        leader = await cluster.elected()
        follower = cluster.others(leader)[0]
        client = await cluster.client(to=[follower], session_timeout=30.0)
        await put(client, "k", 1)
        await stop_while_fresh(cluster, clock, follower)
        clock.advance(cluster.config.freshness_ms + 1)
        asked = cluster.network.sent(Tag.FORWARD, source=follower, target=leader)
        assert await get(client, "k", SERIALIZABLE) == 1
        assert cluster.network.sent(Tag.FORWARD, source=follower, target=leader) == asked + 1
        assert (cluster.machines[follower].queries, cluster.machines[leader].queries) == (0, 1)
        clock.go_on()


async def test_a_follower_passes_a_linearizable_read_on_however_much_it_knows() -> None:
    clock = StoppableClock()
    async with Cluster(3, clock=clock) as cluster:
        leader = await cluster.elected()
        follower = cluster.others(leader)[0]
        client = await cluster.client(to=[follower], session_timeout=30.0)
        await put(client, "k", 1)
        await stop_while_fresh(cluster, clock, follower)
        assert await get(client, "k") == 1
        assert (cluster.machines[follower].queries, cluster.machines[leader].queries) == (0, 1)
        clock.go_on()


# -- one client, several servers ---------------------------------------------------------------------------------------


def move_on(cluster: Cluster, client: RaftClient, name: str) -> None:
    """Make a client turn to another server."""
    if client.connected_to is not None:
        cluster.network.break_links(name, client.connected_to)


@LEVELS
async def test_a_client_sees_its_own_writes_at_whichever_server_it_turns_to(level: ConsistencyLevel) -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client()
        for number in range(30):
            await put(client, "k", number)
            move_on(cluster, client, "client")
            assert await get(client, "k", level) == number


@LEVELS
async def test_what_a_client_sees_never_goes_back_at_whichever_server_it_turns_to(level: ConsistencyLevel) -> None:
    async with Cluster(3) as cluster:
        writer, reader = await cluster.client("writer"), await cluster.client("reader")
        seen: list[int] = []

        async def write() -> None:
            number = 0
            while len(seen) < 40:
                await put(writer, "k", number)
                number += 1

        writing = asyncio.create_task(write())
        while len(seen) < 40:
            seen.append(await get(reader, "k", level) or 0)
            move_on(cluster, reader, "reader")
        await writing
        assert seen == sorted(seen)
        assert len(set(seen)) > 10


@LEVELS
async def test_a_query_sees_the_commands_called_before_it_also_when_the_leader_is_lost(level: ConsistencyLevel) -> None:
    chooser = random.Random(int(level))
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client(session_timeout=30.0)
        reads = []
        for number in range(200):
            put(client, "k", number)
            reads.append(get(client, "k", level, timeout=None))
            if chooser.random() < 0.2:
                await asyncio.sleep(0)
            if number == 100:
                await cluster.crash(await cluster.elected(), chooser=chooser)
        seen = await asyncio.gather(*reads)
        assert seen == sorted(seen)
        assert all(value >= number for number, value in enumerate(seen))


# -- servers that are full ---------------------------------------------------------------------------------------------


@LEVELS
async def test_queries_beyond_what_may_wait_are_asked_again(level: ConsistencyLevel) -> None:
    async with Cluster(1, limits=ServerLimits(max_waiting_queries=1)) as cluster:
        clients = [await cluster.client(f"client {number}") for number in range(5)]
        await put(clients[0], "k", 1)
        assert await asyncio.gather(*(get(client, "k", level) for client in clients)) == [1] * 5


async def test_a_client_that_reads_too_slowly_is_told_to_ask_again_for_what_it_missed() -> None:
    async with Cluster(1) as cluster:
        client = await cluster.client()
        value = "x" * 1_000_000
        await put(client, "k", value)
        (link,) = cluster.network.links_of("client")
        notices = cluster.network.sent(Tag.LEADER, target="client")
        link.pause_reading()
        reads = []
        for number in range(30):
            reads.append(get(client, "k"))
            await wait_until(lambda number=number: cluster.machines["a"].queries > number)  # type: ignore[misc]  # bound
        link.resume_reading()
        assert await asyncio.gather(*reads) == [value] * 30
        assert cluster.network.sent(Tag.LEADER, target="client") > notices
