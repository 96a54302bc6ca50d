"""What a simulation marks, it has brought about; what it has not, it does not mark."""

import asyncio

import pytest

from copycat.collections import DistributedMap
from copycat.errors import InvariantError
from copycat.testing.cluster import SimulatedCluster, SimulationError, simulate
from copycat.testing.invariants import Word
from copycat.testing.marks import MARKS
from copycat.testing.simulator import run_seed


def test_every_mark_that_a_seed_reaches_is_one_of_those_listed() -> None:
    report = run_seed(3, seconds=10)

    assert report.marks
    assert set(report.marks) <= set(MARKS)
    assert len(set(MARKS)) == len(MARKS) >= 20
    assert report.messages["Append"] > 0


def test_a_calm_cluster_reaches_none_that_speaks_of_trouble() -> None:
    async def scenario(cluster: SimulatedCluster) -> set[str]:
        await cluster.elected()
        async with await cluster.client() as client:
            await (await client.create("map", DistributedMap[str, int])).put("x", 1)
        return set(cluster.invariants.marks.reached)

    assert simulate(scenario, seed=1) <= {"a session ended in order", "a client was suspended"}


@pytest.mark.parametrize(
    ("kind", "marks"),
    [
        ("bit", {"a member began with a hole in its log", "a hole was refilled"}),
        ("sector", {"a member began with a hole in its log", "a hole was refilled"}),
        ("misdirected", {"a member began with a hole in its log", "a hole was refilled"}),
        ("metadata", set()),
    ],
)
def test_what_has_rotted_on_one_disk_is_repaired_by_the_others(kind: str, marks: set[str]) -> None:
    async def scenario(cluster: SimulatedCluster) -> set[str]:
        leader = await cluster.elected()
        victim = next(name for name in cluster.nodes if name != leader)
        client = await cluster.client()
        values = await client.create("map", DistributedMap[int, bytes])
        for number in range(40):
            await values.put(number, bytes(200))
        cluster.rot(victim, kind, 0.9)
        assert not cluster.nodes[victim].is_whole or not marks
        cluster.start(victim)
        await cluster.until(lambda: cluster.nodes[victim].is_whole, 20, "the member to be whole again")
        await cluster.level()
        assert await values.size() == 40
        return set(cluster.invariants.marks.reached)

    reached = simulate(scenario, seed=2)

    assert marks <= reached
    assert marks or "a member began with a hole in its log" not in reached


def test_a_member_that_is_stopped_in_order_comes_back() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        leader = await cluster.elected()
        cluster.stop(leader)
        await asyncio.sleep(2)
        cluster.start(leader)
        await cluster.elected()
        await cluster.level()

    simulate(scenario, seed=3)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        (Word(term=99), "2: a term was forgotten"),
        (Word(match_index=99), "7: durable entries were lost"),
    ],
)
def test_a_member_that_forgets_what_it_vouched_for_is_found(word: Word, problem: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        leader = await cluster.elected()
        cluster.invariants._words[leader] = word
        cluster.crash(leader)
        cluster.start(leader)
        await asyncio.sleep(5)

    with pytest.raises((SimulationError, InvariantError), match=problem):
        simulate(scenario, seed=4)
