"""A cluster in virtual time: what can be done to it, and that it is one."""

import asyncio

import pytest

from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock
from copycat.errors import ConfigurationError, LockLostError
from copycat.raft.core.config import RaftConfig
from copycat.testing.cluster import SimulatedCluster, SimulationError, simulate
from copycat.testing.faults import FAULTS
from copycat.testing.nemesis import Nemesis


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


def test_a_log_has_many_segments_within_a_minute() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, str])
        for _ in range(20):
            await users.put("ann", "a" * 10_000)
        cluster.crash("a", "b", "c", power=True)
        cluster.start("a", "b", "c")
        assert await users.get("ann") == "a" * 10_000
        await cluster.level()
        for node in cluster.nodes.values():
            assert sum(name.endswith(".log") for name in node.disk.list(node.name)) > 3

    simulate(scenario)


def test_a_member_that_is_started_only_now_is_waited_for_until_it_is_level() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        cluster.crash("c")
        await users.put("ann", 41)
        cluster.start("c")
        index = await cluster.level()
        server = cluster.nodes["c"].server
        assert server is not None
        assert server.status().applied_index == index

    simulate(scenario, seed=2)


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


def test_a_leader_whose_peers_refuse_it_is_replaced_before_it_knows_and_answers_no_read_meanwhile() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        old = await cluster.elected()
        users = await (await cluster.client("near")).create("users", DistributedMap[str, int])
        others = await (await cluster.client("far")).create("users", DistributedMap[str, int])
        await users.put("ann", 1)
        raft = cluster.nodes[old].server.driver.raft  # type: ignore[union-attr]  # it runs
        mend = cluster.partition(
            [old, "near"], [name for name in (*cluster.nodes, "far") if name not in (old, "near")], refusing=True
        )
        await cluster.until(lambda: cluster.leader() != old, 10, "another leader")
        assert raft.is_leader  # as far as it knows
        await others.put("ann", 2)
        read = asyncio.ensure_future(users.get("ann"))
        await asyncio.sleep(5)
        assert not read.done()
        mend()
        assert await read == 2

    simulate(scenario, config=RaftConfig(election_timeout_ms=2000, heartbeat_ms=200, lease_ms=500))


def test_a_partition_that_refuses_does_so_both_ways() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        cluster.partition(["a"], ["b"], one_way=True, refusing=True)

    with pytest.raises(ConfigurationError, match="both ways"):
        simulate(scenario)


def test_a_holder_whose_machine_slept_does_not_take_the_lock_for_its_own_when_it_wakes() -> None:
    """The loop's time stands still while a machine sleeps; the session's must not (protocol §5.6)."""

    async def scenario(cluster: SimulatedCluster) -> None:
        first = await (await cluster.client("first", session_timeout=2.0)).create("lock", DistributedLock)
        second = await (await cluster.client("second", session_timeout=2.0)).create("lock", DistributedLock)
        told: list[str] = []

        async def hold() -> None:
            try:
                async with first.hold() as held:
                    cluster.isolate("first")  # or it would be told
                    cluster.suspend("first", 10)
                    await asyncio.sleep(0.001)  # and it sleeps
                    told.append("lost" if held.lost else "held")
                    await asyncio.sleep(60)
            except LockLostError:
                told.append("interrupted")

        holding = cluster.run_on("first", hold())
        await asyncio.sleep(0.1)
        async with second.hold(timeout=8):
            await asyncio.sleep(7)
        await holding
        assert told == ["lost", "interrupted"]
        assert cluster.loop.now < 15

    simulate(scenario, seed=9)


def test_a_member_whose_disk_was_wiped_is_not_let_in_again_and_the_others_go_on() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        await users.put("ann", 41)
        wiped = cluster.leader()
        cluster.wipe(wiped)
        assert await users.get("ann") == 41
        cluster.start(wiped)
        await asyncio.sleep(10)
        assert not cluster.nodes[wiped].is_up
        assert "incarnation" in str(cluster.nodes[wiped].failure) or "another" in str(cluster.nodes[wiped].failure)
        assert await users.put("ann", 42) == 41

    simulate(scenario, seed=5)


def test_a_member_that_waits_for_a_leader_when_all_is_over_is_no_problem() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        cluster.crash("a", "b", "c")
        cluster.start("c")
        await asyncio.sleep(5)
        assert cluster.nodes["c"].is_up

    simulate(scenario, seed=5)


def test_a_problem_that_nobody_waited_for_fails_the_simulation_with_its_seed() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        cluster.loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match=r"seed 11: .*ZeroDivisionError"):
        simulate(scenario, seed=11)


def test_a_cluster_wants_a_virtual_loop_and_a_size_it_can_have() -> None:
    async def elsewhere() -> None:
        SimulatedCluster()

    with pytest.raises(ConfigurationError, match=r"run it with copycat\.testing\.simulate"):
        asyncio.run(elsewhere())

    async def scenario(cluster: SimulatedCluster) -> None: ...

    with pytest.raises(ConfigurationError, match="1 to 7 members, not 8"):
        simulate(scenario, 8)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_fault_by_itself_is_survived(kind: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        users = await (await cluster.client()).create("users", DistributedMap[str, int])
        await cluster.client("another")
        await cluster.client("and-another")
        await users.put("ann", 41)
        nemesis = Nemesis(cluster)
        nemesis.draw(cluster.streams["faults"], [kind], pause=1, length=3)
        await asyncio.sleep(15)
        nemesis.stop()
        cluster.heal()
        cluster.start(*(name for name, node in cluster.nodes.items() if not node.is_lost))
        await cluster.elected()
        reader = await (await cluster.client("reader")).get("users", DistributedMap[str, int])
        assert await reader.get("ann") == 41
        await cluster.level()
        assert cluster.faults

    simulate(scenario, seed=2)
