"""Members that come and go in a simulated cluster, and what the product must do when luck is bad."""

import pytest

from copycat.collections import DistributedMap
from copycat.errors import ConfigurationError, ForeignDirectoryError
from copycat.raft.protocol.configuration import Change
from copycat.testing.cluster import SimulatedCluster, simulate

SNAPSHOTS = {"snapshot_log_size": 2048}


async def write(cluster: SimulatedCluster, count: int = 60) -> DistributedMap[int, bytes]:
    client = await cluster.client()
    values = await client.create("map", DistributedMap[int, bytes])
    for number in range(count):
        await values.put(number % 7, bytes(100))
    return values


async def is_certain(cluster: SimulatedCluster) -> None:
    await cluster.until(lambda: not cluster.membership.is_changing, 20, "members that are certain")


def test_a_member_joins_gets_its_vote_and_is_level() -> None:
    async def scenario(cluster: SimulatedCluster) -> list[str]:
        await cluster.elected()
        cluster.join("d")
        assert cluster.membership.is_changing
        await write(cluster)
        await is_certain(cluster)
        await cluster.level()
        assert "a member got a vote" in cluster.invariants.marks.reached
        return [member.id for member in cluster.membership.members]

    assert simulate(scenario, seed=1) == ["a", "b", "c", "d"]


def test_a_member_that_joins_late_goes_on_from_a_snapshot_which_is_the_same_everywhere() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await write(cluster, 200)
        cluster.join("d", vote=False)
        await is_certain(cluster)
        await cluster.level()
        assert "a member went on from its leader's snapshot" in cluster.invariants.marks.reached
        assert cluster.invariants.snapshots_compared > 0

    simulate(scenario, seed=1, storage=SNAPSHOTS)


@pytest.mark.parametrize("itself", [True, False], ids=["by itself", "from outside"])
def test_a_member_that_leaves_ends_and_is_of_no_more_use(itself: bool) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.elected()
        if itself:
            cluster.membership.let_leave("b")
        else:
            cluster.membership.ask(Change.REMOVE, "b")
        await is_certain(cluster)
        await cluster.until(lambda: cluster.nodes["b"].has_left, 20, "b to end")
        assert not cluster.nodes["b"].is_up
        assert not cluster.nodes["b"].may_start
        assert not cluster.membership.may_lose("a")  # of two
        await write(cluster)

    simulate(scenario, seed=3)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["goes on", "starts again"])
def test_a_member_that_did_not_hear_of_its_removal_hears_of_it_when_it_calls(is_restarted: bool) -> None:
    """It was cut off while it was removed, and until nobody called it any more; its own calls still stood."""

    async def scenario(cluster: SimulatedCluster) -> None:
        leader = await cluster.elected()
        gone = next(name for name in cluster.nodes if name != leader)
        mend = cluster.isolate(gone)
        cluster.membership.ask(Change.REMOVE, gone)
        await is_certain(cluster)
        if is_restarted:
            cluster.crash(gone)
        end = cluster.loop.now + 5
        await cluster.until(lambda: cluster.loop.now >= end, 10, "all others to have forgotten it")
        assert not cluster.nodes[gone].has_left
        mend()
        cluster.start(gone)
        await cluster.until(lambda: cluster.nodes[gone].has_left, 10, "it to hear that it was removed")
        error = cluster.nodes[gone].failure
        assert isinstance(error, ForeignDirectoryError)
        assert f"{gone} was removed from cluster" in str(error)

    simulate(scenario, seed=4)


def test_a_removal_that_is_not_certain_ends_nobody() -> None:
    """A leader alone with the member that it removes cannot commit that: the member goes on."""

    async def scenario(cluster: SimulatedCluster) -> None:
        leader = await cluster.elected()
        other, *rest = (name for name in cluster.nodes if name != leader)
        mend = cluster.partition([leader, other], rest)
        cluster.membership.ask(Change.REMOVE, other)
        end = cluster.loop.now + 0.2  # the leader is one still
        await cluster.until(lambda: cluster.loop.now >= end, 10, "the removal to be appended")
        assert cluster.membership.is_changing
        cluster.crash(other)
        cluster.start(other)  # and is greeted by who holds the removal
        end = cluster.loop.now + 2
        await cluster.until(lambda: cluster.loop.now >= end, 10, "the removal to be taken back")
        assert not cluster.nodes[other].has_left
        mend()
        await is_certain(cluster)

    simulate(scenario, 5, seed=5)


def test_a_member_none_of_whose_snapshots_is_sound_is_given_one_and_does_not_vote_before() -> None:
    async def scenario(cluster: SimulatedCluster) -> set[str]:
        leader = await cluster.elected()
        victim = next(name for name in cluster.nodes if name != leader)
        values = await write(cluster, 200)
        cluster.rot(victim, "snapshot", 0.5)
        disk = cluster.nodes[victim].disk
        older, _ = (f"{victim}/{name}" for name in disk.list(victim) if name.endswith(".snapshot"))
        disk.flip_bit(older, 300)
        cluster.start(victim)
        await cluster.until(lambda: cluster.nodes[victim].is_whole, 20, "the member to be whole again")
        await cluster.level()
        assert await values.size() == 7
        return set(cluster.invariants.marks.reached)

    reached = simulate(scenario, seed=2, storage=SNAPSHOTS)
    assert {"a member began with a hole in its log", "a member went on from its leader's snapshot"} <= reached


def test_what_cannot_be_survived_may_not_be() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.elected()
        may_change, may_lose = cluster.membership.may_change, cluster.membership.may_lose
        assert may_lose("c")
        assert may_change(Change.REMOVE, "c")
        assert may_change(Change.DEMOTE, "a")
        assert not may_change(Change.PROMOTE, "a")  # it has a vote
        assert not may_change(Change.REMOVE, "z")
        cluster.wipe("c")
        assert not may_lose("a")
        assert not may_change(Change.REMOVE, "a")
        assert may_change(Change.REMOVE, "c")
        with pytest.raises(ConfigurationError, match="there is a host c already"):
            cluster.join("c")
        cluster.join("d", vote=False)
        assert not may_change(Change.REMOVE, "c")  # one at a time
        await is_certain(cluster)
        assert may_lose("d")  # it has no vote
        assert may_change(Change.PROMOTE, "d")

    simulate(scenario, seed=6)


def test_a_member_that_was_away_is_brought_up_to_date_by_a_leader_it_does_not_know() -> None:
    """Those it knows, it cannot reach; the leader, which joined meanwhile, it does not dial, but is called by."""

    async def scenario(cluster: SimulatedCluster) -> None:
        def follows(name: str, leader: str) -> bool:
            server = cluster.nodes[name].server
            return server is not None and server.driver is not None and server.driver.raft.leader == leader

        await cluster.elected()
        cluster.crash("c")
        cluster.join("d")
        await is_certain(cluster)
        cluster.membership.ask(Change.TRANSFER, "d")
        await cluster.until(lambda: cluster.leader() == "d", 20, "d to lead")
        cluster.membership.ask(Change.REMOVE, "a")
        await is_certain(cluster)
        cluster.isolate("b")
        cluster.start("c")
        await cluster.until(lambda: follows("c", "d"), 20, "c to be brought up to date")
        cluster.heal()
        await cluster.level()

    simulate(scenario, seed=7)
