"""Members compare their states while they run, and one that differs halts. Protocol §8.10."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.client import CopycatClient
from copycat.errors import ConfigurationError, DivergenceError
from copycat.io.storage.snapshot_file import open_snapshot
from copycat.raft.machine.snapshot import restore
from copycat.raft.protocol.chunks import decode_chunks
from copycat.raft.protocol.configuration import Change
from copycat.raft.server.checks import KEPT
from copycat.raft.server.server import CHECK_SECONDS, RaftServer
from copycat.raft.server.status import Status
from copycat.replica import CopycatReplica
from copycat.resource import Command, Commit, Executor, Query, Resource, StateMachine
from copycat.testing.cluster import SimulatedCluster, simulate
from copycat.testing.loop import Host

SECONDS = 1.0
SEVERAL = 5 * SECONDS
OPTIONS = {"check_interval": SECONDS}


@dataclass
class Roll(Command[None], id=1):
    faces: dict[str, Any]  # what it shows on these members; on the others 0


@dataclass
class Count(Query[int], id=2):
    pass


class Dice(StateMachine, name="test.dice", version=1):
    """Asks the member it runs on, as no state machine may."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def configure(self, executor: Executor) -> None:
        executor.register(Roll, self.roll)
        executor.register(Count, lambda commit, query: len(self.shown))

    def roll(self, commit: Commit, command: Roll) -> None:
        host = Host.current()
        self.shown.append(command.faces.get(host.name if host is not None else "", 0))

    def snapshot(self) -> Iterable[Any]:
        return iter(list(self.shown))

    def restore(self, parts: Iterable[Any]) -> None:
        self.shown = list(parts)


class Box(Resource, machine=Dice):
    def roll(self, **faces: Any) -> "asyncio.Future[None]":
        return self.submit(Roll(faces))

    def count(self) -> "asyncio.Future[int]":
        return self.submit(Count())


def status(cluster: SimulatedCluster, name: str) -> Status:
    server = cluster.nodes[name].server
    assert server is not None
    return server.status()


def failure(cluster: SimulatedCluster, name: str) -> BaseException | None:
    return cluster.nodes[name].failure


async def opened(cluster: SimulatedCluster) -> tuple[CopycatClient, Box]:
    """A box, and a leader who has not been asked for a check yet."""
    client = await cluster.client()
    return client, await client.create("dice", Box)


async def halted(cluster: SimulatedCluster, *names: str, seconds: float = 30.0) -> list[DivergenceError]:
    """Wait until these members have halted, because their state differs, and nobody else has; the test meant it."""
    found: list[DivergenceError] = []
    end = cluster.loop.now + seconds
    while not all(failure(cluster, name) is not None for name in names):
        assert cluster.loop.now < end, cluster.describe()
        await asyncio.sleep(0.05)
    await asyncio.sleep(SEVERAL)
    assert sorted(name for name in cluster.nodes if failure(cluster, name) is not None) == sorted(names)
    for name in names:
        error = failure(cluster, name)
        assert isinstance(error, DivergenceError)
        found.append(error)
    cluster.problems.clear()
    return found


async def checked(cluster: SimulatedCluster, *names: str, seconds: float = 30.0) -> int:
    """Wait until these members, or all, know of an index at which they agree that comes after all there is now."""
    chosen = names or tuple(cluster.nodes)
    newest = max(status(cluster, name).last_index for name in chosen)
    await cluster.until(
        lambda: min(status(cluster, name).checked_index for name in chosen) > newest, seconds, "a check of all"
    )
    return newest


# -- nothing is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 3, 5])
def test_members_that_are_alike_know_it_and_an_idle_cluster_asks_no_more(members: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        client, box = await opened(cluster)
        for _ in range(20):
            await box.roll()
        await checked(cluster)
        await client.close()
        await asyncio.sleep(SEVERAL)
        index = await cluster.level()
        await asyncio.sleep(SEVERAL)
        assert await cluster.level() == index

    simulate(scenario, members, resources=[Dice], options=OPTIONS, seed=members)


def test_a_single_member_has_nobody_to_compare_with() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        await box.roll()
        await asyncio.sleep(SEVERAL)
        assert status(cluster, "a").checked_index == 0

    simulate(scenario, 1, resources=[Dice], options=OPTIONS)


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_alarmed_by_restarts_snapshots_other_leaders_and_members_that_lag(seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        chooser = cluster.streams["test"]
        for turn in range(24):
            for _ in range(5):
                await box.roll()
            name = chooser.choice(list(cluster.nodes))
            match turn % 4:
                case 0:
                    cluster.crash(name, power=chooser.random() < 0.5)
                    await asyncio.sleep(chooser.uniform(0, 3))
                    cluster.start(name)
                case 1:
                    node = cluster.nodes[name]
                    assert node.server is not None
                    assert node.host is not None
                    await node.host.start(node.server.take_snapshot())
                case 2:
                    mend = cluster.isolate(name)
                    await asyncio.sleep(chooser.uniform(0, 6))
                    mend()
                case 3:
                    cluster.pause(name)
                    await asyncio.sleep(chooser.uniform(0, 3))
                    cluster.resume(name)
            await cluster.elected()
        await checked(cluster)
        assert await box.count() == 120
        await cluster.level()

    simulate(
        scenario, resources=[Dice], options={"check_interval": 0.3}, storage={"snapshot_log_size": 4096}, seed=seed
    )


def test_a_member_that_goes_on_from_a_snapshot_is_compared_from_there_on() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        away = next(name for name in cluster.nodes if name != cluster.leader())
        cluster.crash(away)
        for _ in range(100):
            await cluster.run_on("client-1", _rolled(box))
            await asyncio.sleep(0.05)
        assert status(cluster, cluster.leader()).first_index > 1
        cluster.start(away)
        await cluster.level()
        assert status(cluster, away).first_index > 1
        await checked(cluster)

    large = {"snapshot_log_size": 1 << 16}
    simulate(scenario, resources=[Dice], options=OPTIONS, storage=large, seed=1)


async def _rolled(box: Box) -> None:
    await box.roll(**{"x" * 2000: 1})


# -- something is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [3, 5])
def test_a_follower_in_the_minority_halts_with_both_hashes_and_puts_its_state_aside(members: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        await checked(cluster)
        name = next(name for name in cluster.nodes if name != cluster.leader())
        await box.roll(**{name: 6})
        (error,) = await halted(cluster, name)
        ((where, (own, theirs)),) = error.differences.items()
        assert where == "resource 'dice' of type 'test.dice' version 1"
        assert len(own) == len(theirs) == 32
        assert own != theirs
        for part in (f"at index {error.index}", name, where, own, theirs, error.dump, "copycat member remove"):
            assert part in str(error)
        seen = status(cluster, name)
        assert seen.role == "halted"
        assert seen.checked_index < error.index
        assert await box.count() == 1  # the others go on
        await box.roll()
        others = [other for other in cluster.nodes if other != name]
        await checked(cluster, *others)
        assert shown(cluster, name, error.dump) == [6, *[0] * (len(shown(cluster, name, error.dump)) - 1)]

    simulate(scenario, members, resources=[Dice], options=OPTIONS, seed=members)


def shown(cluster: SimulatedCluster, name: str, path: str) -> list[Any]:
    """What the dice had shown, by the state that this member has put aside."""
    node = cluster.nodes[name]
    assert node.server is not None
    executor = node.server._make_executor()
    file = open_snapshot(node.disk, path)
    file.verify()
    restore(executor, decode_chunks(file.chunks()))
    dice = [host.machine for host in executor.machines.hosts.values() if isinstance(host.machine, Dice)]
    return list(dice[0].shown)


def test_a_leader_in_the_minority_halts_and_the_others_go_on() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        leader = cluster.leader()
        await box.roll(**{leader: 6})
        (error,) = await halted(cluster, leader)
        assert f"with {', '.join(name for name in cluster.nodes if name != leader)}" in str(error)
        assert cluster.leader() != leader
        await box.roll()
        assert await box.count() == 2
        await checked(cluster, *(name for name in cluster.nodes if name != leader))

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=7)


def test_two_of_five_that_differ_each_in_its_own_way_halt_both() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        await box.roll(a=1, d=2)
        errors = await halted(cluster, "a", "d")
        assert len({next(iter(error.differences.values())) for error in errors}) == 2
        await box.roll()

    simulate(scenario, 5, resources=[Dice], options=OPTIONS, seed=8)


def test_a_member_without_a_vote_is_compared_too_and_makes_no_majority() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        for name in ("p", "q"):
            cluster.join(name, vote=False)
            await cluster.until(lambda: not cluster.membership.is_changing, 20, "members that are certain")
        await checked(cluster)
        await box.roll(p=6, q=6)  # with one that votes they would be three of five
        await halted(cluster, "p", "q")
        await box.roll()

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=15)


def test_a_member_that_takes_the_place_of_one_that_halted_is_right() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        wrong = next(name for name in cluster.nodes if name != cluster.leader())
        await box.roll(**{wrong: 6})
        await halted(cluster, wrong)
        cluster.crash(wrong)
        cluster.membership.ask(Change.REMOVE, wrong)
        await cluster.until(lambda: not cluster.membership.is_changing, 20, "members that are certain")
        cluster.join("d")
        await cluster.until(lambda: not cluster.membership.is_changing, 20, "members that are certain")
        await box.roll()
        await checked(cluster, *(name for name in cluster.nodes if name != wrong))

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=16)


@pytest.mark.parametrize(
    ("members", "faces"), [(3, {"a": 1, "b": 2}), (2, {"a": 1}), (5, {"a": 1, "b": 1, "c": 2, "d": 2})]
)
def test_without_a_majority_all_halt_and_nothing_more_is_written(members: int, faces: dict[str, int]) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        await box.roll(**faces)
        errors = await halted(cluster, *cluster.nodes)
        assert all("no majority of the members holds one state" in str(error) for error in errors)
        assert all(not error.differences for error in errors)
        assert len({shown(cluster, name, error.dump)[0] for name, error in zip(cluster.nodes, errors, strict=True)}) > 1
        with pytest.raises(Exception, match="dice"):
            await box.with_timeout(2).roll()

    simulate(scenario, members, resources=[Dice], options=OPTIONS, seed=members)


def test_as_long_as_one_that_is_away_decides_who_is_right_nobody_halts() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        leader = cluster.leader()
        away, wrong = (name for name in cluster.nodes if name != leader)
        cluster.crash(away)
        await box.roll(**{wrong: 6})
        await asyncio.sleep(SEVERAL)
        problem = status(cluster, leader).check_problem
        assert problem is not None
        assert "more members must answer" in problem
        assert f"{leader}: " in problem
        assert f"{wrong}: " in problem
        assert not cluster.problems
        cluster.start(away)
        await halted(cluster, wrong)
        assert status(cluster, leader).check_problem is None

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=9)


def test_a_difference_is_found_by_the_next_leader_too() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        first = cluster.leader()
        wrong = next(name for name in cluster.nodes if name != first)
        await box.roll(**{wrong: 6})
        cluster.crash(first)
        await cluster.elected()
        cluster.start(first)
        await halted(cluster, wrong)

    simulate(scenario, resources=[Dice], options={"check_interval": 3.0}, seed=10)


# -- afterwards --------------------------------------------------------------------------------------------------------


def test_a_member_that_has_halted_does_not_start_from_the_same_state_unless_nobody_checks() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        wrong = next(name for name in cluster.nodes if name != cluster.leader())
        await box.roll(**{wrong: 6})
        (error,) = await halted(cluster, wrong)
        for power in (False, True):
            cluster.crash(wrong, power=power)
            cluster.start(wrong)
            (again,) = await halted(cluster, wrong)
            assert again.index == error.index
            assert f"copycat member remove {wrong}" in str(again)
        assert cluster.nodes[wrong].disk.exists(error.dump)
        cluster.crash(wrong)
        cluster._options["check_interval"] = 0
        cluster.start(wrong)
        await cluster.elected()
        assert status(cluster, wrong).role == "follower"

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=11)


def test_a_member_whose_checks_are_off_takes_part_in_none() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        wrong = next(name for name in cluster.nodes if name != cluster.leader())
        cluster.crash(wrong)
        cluster._options["check_interval"] = 0
        cluster.start(wrong)
        cluster._options["check_interval"] = SECONDS
        await cluster.elected()
        await box.roll(**{wrong: 6})
        await checked(cluster, *(name for name in cluster.nodes if name != wrong))
        assert status(cluster, wrong).checked_index == 0
        assert failure(cluster, wrong) is None

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=12)


def test_a_full_disk_keeps_no_member_from_halting() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        wrong = next(name for name in cluster.nodes if name != cluster.leader())
        for _ in range(50):
            await box.roll(**{wrong: "6" * 10_000})
        node = cluster.nodes[wrong]
        await cluster.until(lambda: status(cluster, wrong).durable_index == status(cluster, wrong).last_index, 5, "it")
        node.disk.free_bytes = 100_000
        (error,) = await halted(cluster, wrong)
        assert not node.disk.exists(error.dump)
        assert not [name for name in node.disk.list(wrong) if "diverged" in name]

    simulate(scenario, resources=[Dice], options=OPTIONS, seed=13)


def test_only_so_many_reports_are_kept() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, box = await opened(cluster)
        for _ in range(40):
            await box.roll()
            await asyncio.sleep(0.5)
        for node in cluster.nodes.values():
            assert node.server is not None
            assert node.server.desk is not None
            checks = node.server.desk.checks
            assert 0 < len(checks._own) <= KEPT
            assert len(checks._reports) <= KEPT
            assert len(checks._told) <= 2 * KEPT * len(cluster.nodes)

    simulate(scenario, resources=[Dice], options={"check_interval": 0.2}, seed=14)


def test_the_interval_has_a_range_and_a_default() -> None:
    server = RaftServer("a", "a=127.0.0.1:5001", Dice)
    assert server._check_ms == CHECK_SECONDS * 1000
    for wrong in (-1, 0.001, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="check_interval"):
            RaftServer("a", "a=127.0.0.1:5001", Dice, check_interval=wrong)
    replica = CopycatReplica("a", "a=127.0.0.1:5001", check_interval=0)
    assert replica.server._check_ms == 0
