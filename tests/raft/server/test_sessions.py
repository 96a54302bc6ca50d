"""How long a session lives, how it ends, and time in the log: protocol §4, §5.4."""

import asyncio

import pytest

from copycat.errors import ConfigurationError
from copycat.raft.client.states import ClientState
from copycat.raft.protocol.entries import End
from copycat.raft.protocol.wire import HEADER_ENDED, HEADER_RESULTS, HEADER_UNREGISTER, Tag
from copycat.raft.server.limits import ServerLimits
from tests.io.transport.support import wait_until
from tests.raft.server.caller import batch, call, keep_alive
from tests.raft.server.cluster import Cluster, add, get, put, set_timer

SHORT = 1.0  # seconds: more than two election timeouts, so that an election alone ends no session


def now() -> float:
    return asyncio.get_running_loop().time()


def ended(cluster: Cluster) -> list[list[tuple[int, int, bool]]]:
    """(session, index, whether it expired) of every end, as each open member saw it."""
    return [cluster.machines[name].ended for name in cluster.servers]


# -- sessions that go silent -------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_idle_client_keeps_its_session_alive() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=SHORT)
        session = client.session_id
        vanishing = await cluster.client("vanishing", session_timeout=SHORT)
        cluster.network.separate(["vanishing"], cluster.servers)
        await wait_until(lambda: all(ended(cluster)))  # time enough for the other to end as well
        assert await put(client, "k", 1) is None
        assert client.session_id == session
        assert {each[0] for each in cluster.machines["a"].ended} == {vanishing.session_id}


@pytest.mark.slow
async def test_a_client_that_vanishes_expires_once_at_one_index_and_not_before_its_time() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=SHORT)
        session, began = client.session_id, now()
        await put(client, "k", 1)
        cluster.network.separate(["client"], cluster.servers)
        await wait_until(lambda: any(ended(cluster)))
        assert now() - began >= SHORT
        await cluster.level()
        first = cluster.machines["a"].ended
        (index,) = {index for _, index, _ in first}
        assert first == [(session, index, True), (session, index, False)]  # the hook `expire`, then `close`
        assert ended(cluster) == [first] * 3
        assert {cluster.status(name).sessions for name in cluster.servers} == {0}


@pytest.mark.slow
async def test_a_change_of_leader_brings_no_expiry_forward() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=SHORT)
        session = client.session_id
        await cluster.level()
        cluster.network.separate(["client"], cluster.servers)
        await cluster.stop(await cluster.elected())
        assert not any(ended(cluster))
        began = now()  # the next leader has heard nothing of the session, and gives it the whole of its time
        await wait_until(lambda: any(ended(cluster)))
        assert now() - began >= SHORT
        await cluster.level()
        assert [{each[0] for each in members} for members in ended(cluster)] == [{session}] * 2


@pytest.mark.slow
async def test_a_client_that_comes_back_in_time_goes_on_with_its_session_and_too_late_with_another() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=SHORT)
        first = client.session_id
        states: list[ClientState] = []
        client.on_state_change(states.append)
        cluster.network.separate(["client"], cluster.servers)
        lost = add(client, 1)
        for name in cluster.servers:
            cluster.network.break_links("client", name)
        cluster.network.heal()
        assert await lost == 1
        assert client.session_id == first
        assert states == [ClientState.SUSPENDED, ClientState.CONNECTED]

        cluster.network.separate(["client"], cluster.servers)
        for name in cluster.servers:
            cluster.network.break_links("client", name)
        await wait_until(lambda: all(ended(cluster)))
        cluster.network.heal()
        await wait_until(lambda: client.session_id not in (0, first))
        assert ClientState.EXPIRED in states
        assert await add(client, 1) == 2


# -- orderly ends and beginnings ---------------------------------------------------------------------------------------


async def test_closing_a_client_ends_its_session_and_expires_nothing() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client()
        session = client.session_id
        await client.close()
        await wait_until(lambda: all(ended(cluster)))
        assert [[(each[0], each[2]) for each in member] for member in ended(cluster)] == [[(session, False)]] * 3
        assert len({member[0][1] for member in ended(cluster)}) == 1


@pytest.mark.parametrize("seconds", [0.001, 4000.0])
async def test_a_session_timeout_outside_the_limits_is_refused_with_the_limits(seconds: float) -> None:
    async with Cluster(1) as cluster:
        with pytest.raises(ConfigurationError, match=r"outside this server's limits, 100 to 3600000 ms"):
            await cluster.client(session_timeout=seconds)


async def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"max_block_bytes must be positive, not 0"):
        ServerLimits(max_block_bytes=0)
    with pytest.raises(ConfigurationError, match=r"session_timeout_ms_min \(5\) exceeds session_timeout_ms_max \(4\)"):
        ServerLimits(session_timeout_ms_min=5, session_timeout_ms_max=4)


async def test_a_registration_that_is_repeated_gives_the_same_session_also_at_another_member() -> None:
    async with Cluster(3) as cluster:
        leader = await cluster.elected()
        caller = await call(cluster, leader)
        session = await caller.register()
        assert await caller.register() == session
        assert await (await call(cluster, cluster.others(leader)[0])).register() == session
        assert (await caller.register(nonce=b"m" * 16))[0] != session[0]
        assert cluster.status(leader).sessions == 2


async def test_a_session_is_whose_secret_it_is() -> None:
    async with Cluster(3) as cluster:
        member = cluster.others(await cluster.elected())[0]
        owner, thief = await call(cluster, member), await call(cluster, member)
        session, secret = await owner.register()
        for frame in (keep_alive(session, b"?" * 16), HEADER_UNREGISTER.pack(Tag.UNREGISTER, session, b"?" * 16)):
            thief.send(frame)
            assert HEADER_ENDED.unpack(await thief.answer(Tag.ENDED)) == (Tag.ENDED, session, End.UNKNOWN)
        thief.send(batch(session, 1, amount=1000))
        owner.send(batch(session, 1))
        assert HEADER_RESULTS.unpack_from(await owner.answer(Tag.RESULTS))[1:4] == (session, 1, 1)
        assert cluster.machines[await cluster.elected()].total == 1

        thief.send(keep_alive(session, secret), batch(session, 2))  # with the secret it is the owner, elsewhere
        await thief.answer(Tag.RESULTS)
        owner.send(batch(session, 3))
        owner.send(HEADER_UNREGISTER.pack(Tag.UNREGISTER, session, secret))
        why = HEADER_ENDED.unpack(await owner.answer(Tag.ENDED))
        assert why == (Tag.ENDED, session, End.UNREGISTERED)
        assert cluster.machines[await cluster.elected()].total == 2


# -- time in the log ---------------------------------------------------------------------------------------------------


async def test_a_timer_fires_in_an_idle_cluster_at_one_index_and_not_before_its_time() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=30.0)
        began = now()
        await asyncio.gather(set_timer(client, 100, "later"), set_timer(client, 50, "sooner"))
        await wait_until(lambda: all(len(machine.fired) == 2 for machine in cluster.machines.values()))
        assert now() - began >= 0.1
        machine = cluster.machines["a"]
        assert [word for word, _, _ in machine.fired] == ["sooner", "later"]
        asked = dict(machine.set)
        assert all(time >= asked[word] + {"sooner": 50, "later": 100}[word] for word, _, time in machine.fired)
        assert all(each.fired == machine.fired for each in cluster.machines.values())


async def test_an_idle_cluster_without_timers_writes_nothing() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(session_timeout=30.0)
        await put(client, "k", 1)
        await cluster.level()
        before = cluster.status("a").last_index
        await cluster.rounds(await cluster.elected(), 5)
        assert cluster.status("a").last_index == before
        assert await get(client, "k") == 1


async def test_a_timer_outlives_a_restart_of_all_and_fires_alike() -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client(session_timeout=30.0)
        await set_timer(client, 300, "later")
        await cluster.level()
        await cluster.stop()
        await cluster.start()
        await wait_until(lambda: all(machine.fired for machine in cluster.machines.values()))
        machine = cluster.machines["a"]
        ((word, _, time),) = machine.fired
        assert time - dict(machine.set)[word] >= 300
        assert all(each.fired == machine.fired for each in cluster.machines.values())
