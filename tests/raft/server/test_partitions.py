"""How many members may be missing, and what a cut network may do and not do: protocol §3."""

import pytest

from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import Tag
from tests.io.transport.support import wait_until
from tests.raft.server.clock import StoppableClock
from tests.raft.server.cluster import Cluster, get, put


def role_changes(cluster: Cluster, name: str) -> object:
    """Something that differs whenever the member has taken a role anew, as with each poll."""
    driver = cluster.servers[name].driver
    assert driver is not None
    return driver.raft.role


async def polls(cluster: Cluster, name: str, count: int = 2) -> None:
    """Wait until a member has asked in vain for so many elections."""
    for _ in range(count):
        before = role_changes(cluster, name)
        await wait_until(
            lambda before=before: (
                role_changes(cluster, name) is not before  # type: ignore[misc]  # bound at once
                and cluster.status(name).role == "candidate"
            )
        )


# -- members that are missing ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("size", "deaths"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
async def test_a_cluster_goes_on_while_a_majority_lives_and_with_one_less_acknowledges_nothing(
    size: int, deaths: int
) -> None:
    async with Cluster(size, faulty=True) as cluster:
        client = await cluster.client(session_timeout=60.0)
        await put(client, "k", 0)
        for number in range(deaths):  # always the leader: the harder loss
            await cluster.stop(await cluster.elected())
            assert await put(client, "k", number + 1) == number

        last = await cluster.elected()
        await cluster.stop(last)
        future = put(client, "k", "one too many")
        for name in cluster.servers:
            await polls(cluster, name)
        assert not future.done()
        assert cluster.leader() is None
        majority = size // 2 + 1
        for name in cluster.servers:
            assert f"{majority} of {size} members are needed" in str(cluster.status(name).why_no_leader)

        await cluster.start(last)
        assert await future == deaths
        assert await get(client, "k") == "one too many"


# -- a leader that is cut off ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("level", [ConsistencyLevel.LINEARIZABLE, ConsistencyLevel.LINEARIZABLE_LEASE])
async def test_a_leader_cut_off_from_its_majority_answers_no_read_with_what_is_no_longer_so(
    level: ConsistencyLevel,
) -> None:
    async with Cluster(3) as cluster:
        old = await cluster.elected()
        near = await cluster.client("near", to=[old])
        far = await cluster.client("far", to=cluster.others(old))
        await put(near, "k", "old")
        assert await get(near, "k", level) == "old"

        cluster.network.separate([old], cluster.others(old))
        assert await put(far, "k", "new") == "old"
        read = get(near, "k", level)
        await wait_until(lambda: cluster.status(old).role != "leader")
        await polls(cluster, old)
        assert not read.done()

        cluster.network.heal()
        assert await read == "new"


async def test_a_cut_off_leader_answers_lease_reads_while_its_lease_lasts_and_linearizable_ones_never() -> None:
    clock = StoppableClock()
    async with Cluster(3, clock=clock) as cluster:
        leader = await cluster.elected()
        clients = [await cluster.client(name, to=[leader]) for name in ("one", "two", "three")]
        await put(clients[0], "k", 1)
        clock.stop()
        cluster.network.separate([leader], cluster.others(leader))
        assert await get(clients[0], "k", ConsistencyLevel.LINEARIZABLE_LEASE) == 1
        linearizable = get(clients[0], "k")
        assert await get(clients[2], "k", ConsistencyLevel.SERIALIZABLE) == 1  # arrived last, and is answered
        clock.advance(cluster.config.lease_ms)
        leased = get(clients[1], "k", ConsistencyLevel.LINEARIZABLE_LEASE)
        assert await get(clients[2], "k", ConsistencyLevel.SERIALIZABLE) == 1  # again
        assert cluster.status(leader).role == "leader"
        assert not linearizable.done()
        assert not leased.done()
        clock.go_on()
        cluster.network.heal()
        assert await linearizable == await leased == 1


async def test_what_only_a_cut_off_leader_had_is_discarded_and_done_once_by_its_successor() -> None:
    async with Cluster(3, faulty=True) as cluster:
        old = await cluster.elected()
        near = await cluster.client("near", to=[old], session_timeout=60.0)
        far = await cluster.client("far", to=cluster.others(old))
        await put(near, "base", 0)
        await cluster.level()
        cluster.network.separate([old], cluster.others(old))
        lost = [put(near, "near", number) for number in range(10)]
        before = cluster.status(old).commit_index
        await wait_until(lambda: cluster.status(old).durable_index > before)
        for number in range(20):
            await put(far, "far", number)
        assert not any(future.done() for future in lost)
        assert "near" not in cluster.machines[old].values

        cluster.network.heal()
        assert [await future for future in lost] == [None, *range(9)]
        await cluster.level()
        expected = {"base": 0, "near": 9, "far": 19}
        assert [machine.values for machine in cluster.machines.values()] == [expected] * 3


# -- members that are cut off ------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_member_that_was_cut_off_returns_without_a_new_term() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        lone = cluster.others(leader)[0]
        term = cluster.status(leader).term
        cluster.network.separate([lone], [*cluster.others(lone), "client"])
        await polls(cluster, lone, 3)
        await put(client, "k", 1)
        assert cluster.status(lone).term == term

        cluster.network.heal()
        await cluster.level()
        assert await cluster.elected() == leader
        assert {cluster.status(name).term for name in cluster.servers} == {term}


@pytest.mark.slow
async def test_a_leader_on_the_side_of_the_majority_stays_in_its_term() -> None:
    async with Cluster(5) as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        term = cluster.status(leader).term
        one, other, *rest = cluster.others(leader)
        cluster.network.separate([one, other], [leader, *rest, "client"])
        await polls(cluster, one)
        await polls(cluster, other)
        await put(client, "k", 1)
        cluster.network.heal()
        await cluster.level()
        assert cluster.leader() == leader
        assert {cluster.status(name).term for name in cluster.servers} == {term}


@pytest.mark.slow
async def test_a_member_that_hears_all_but_the_leader_deposes_nobody() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client(to=[await cluster.elected()])
        leader = await cluster.elected()
        deaf, bridge = cluster.others(leader)
        term = cluster.status(leader).term
        cluster.network.separate([leader], [deaf])
        await polls(cluster, deaf, 3)
        await put(client, "k", 1)
        assert {cluster.status(name).term for name in (leader, bridge)} == {term}
        assert cluster.leader([leader, bridge]) == leader
        assert cluster.network.sent(Tag.POLL_REQUEST, source=deaf, target=bridge) >= 3


# -- cuts in one direction ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_leader_that_hears_nobody_steps_down_although_all_hear_it() -> None:
    async with Cluster(3) as cluster:
        old = await cluster.elected()
        others = cluster.others(old)
        far = await cluster.client("far", to=others)
        cluster.network.cut |= {(name, old) for name in others}
        await cluster.elected(others)
        await put(far, "k", 1)
        term = cluster.status(others[0]).term
        await polls(cluster, old)
        assert cluster.status(others[0]).term == term

        cluster.network.heal()
        await cluster.level()
        assert {cluster.status(name).term for name in cluster.servers} == {term}


async def test_a_leader_that_nobody_hears_is_succeeded_and_follows() -> None:
    async with Cluster(3) as cluster:
        old = await cluster.elected()
        others = cluster.others(old)
        far = await cluster.client("far", to=others)
        await put(far, "k", 0)
        cluster.network.cut |= {(old, name) for name in others}
        new = await cluster.elected(others)
        assert await put(far, "k", 1) == 0
        await wait_until(lambda: cluster.status(old).leader == new or cluster.status(old).role == "follower")

        cluster.network.heal()
        await cluster.level()
        assert cluster.machines[old].values == {"k": 1}
        assert cluster.leader() == new


async def test_a_link_that_is_reset_is_dialled_again_and_deposes_nobody() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        term = cluster.status(leader).term
        for number in range(20):
            for name in cluster.others(leader):
                cluster.network.break_links(leader, name)
            assert await put(client, "k", number) == (number - 1 if number else None)
        await cluster.level()
        assert {cluster.status(name).term for name in cluster.servers} == {term}
