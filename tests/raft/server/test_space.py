"""A disk that runs full: below the mark a leader takes no commands, and everything else goes on. Protocol §1.9."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock
from copycat.errors import Outcome, OverloadedError
from copycat.io.storage.memory_disk import MemoryDisk
from copycat.io.storage.storage import KIBIBYTE, MEBIBYTE, Storage, StorageLevel
from copycat.raft.protocol.operations import PersistenceMode
from copycat.raft.server.space import LOOK_SECONDS, SpaceWatch
from copycat.raft.server.status import Status
from copycat.testing.cluster import SimulatedCluster, simulate
from copycat.testing.disk import FaultyDisk
from copycat.testing.loop import VirtualLoop

MARK = MEBIBYTE
A_LOOK = 2 * LOOK_SECONDS
STORAGE = {"free_space_min": MARK}


def status(cluster: SimulatedCluster, name: str) -> Status:
    server = cluster.nodes[name].server
    assert server is not None
    return server.status()


def fill(cluster: SimulatedCluster, *names: str, left: int = MARK // 2) -> None:
    for name in names or cluster.nodes:
        cluster.nodes[name].disk.free_bytes = left


async def refused(cluster: SimulatedCluster, users: DistributedMap[str, int]) -> OverloadedError:
    """A put that finds no room within its time."""
    with pytest.raises(OverloadedError) as caught:
        await users.put("refused", 1, timeout=2)
    return caught.value


async def opened(cluster: SimulatedCluster, **options: Any) -> tuple[CopycatClient, DistributedMap[str, int]]:
    client = await cluster.client(**options)
    return client, await client.create("users", DistributedMap[str, int])


def test_a_leader_without_room_refuses_commands_with_certainty_and_says_what_to_do() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, users = await opened(cluster)
        await users.put("ann", 41)
        leader = cluster.leader()
        fill(cluster, leader)
        await asyncio.sleep(A_LOOK)
        error = await refused(cluster, users)
        assert error.outcome is Outcome.NOT_APPLIED
        assert f"member {leader} has 0.5 MiB left on its disk in {leader}, less than the 1.0 MiB" in str(error)
        assert "free some space there" in str(error)
        assert str(error).count("certainly not applied") == 1
        seen = status(cluster, leader)
        assert seen.space_problem is not None
        assert seen.space_problem in str(error)
        assert seen.free_bytes is not None
        assert seen.free_bytes < MARK
        assert await users.get("ann") == 41  # reads go on
        assert await users.get("refused") is None
        await cluster.level()

    simulate(scenario, storage=STORAGE, seed=3)


def test_a_command_waits_for_room_within_its_time_and_is_then_executed_once() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, users = await opened(cluster)
        fill(cluster)
        await asyncio.sleep(A_LOOK)
        waiting = [asyncio.ensure_future(users.put("ann", age, timeout=60)) for age in range(100)]
        read = asyncio.ensure_future(users.get("ann", timeout=60))  # after all of them
        await asyncio.sleep(20)
        assert not any(each.done() for each in [*waiting, read])
        fill(cluster, left=4 * MARK)
        assert [await each for each in waiting] == [None, *range(99)]
        assert await read == 99
        assert status(cluster, cluster.leader()).space_problem is None

    simulate(scenario, storage=STORAGE, seed=4)


def test_sessions_live_begin_and_end_without_room_and_timers_fire() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, users = await opened(cluster, session_timeout=2.0)
        await users.put("brief", 1, ttl=10)
        await cluster.client("doomed", session_timeout=2.0)
        theirs = await cluster.clients["doomed"].get("users", DistributedMap[str, int])
        lock = await cluster.clients["doomed"].create("door", DistributedLock)
        await lock.lock()
        await theirs.put("here", 1, mode=PersistenceMode.EPHEMERAL)
        fill(cluster)
        await asyncio.sleep(A_LOOK)
        sessions = status(cluster, cluster.leader()).sessions
        cluster.crash("doomed", power=True)
        await asyncio.sleep(30)
        assert await users.get("brief") is None
        assert await users.get("here") is None
        assert status(cluster, cluster.leader()).sessions == sessions - 1
        newcomer = await cluster.client()
        again = await newcomer.get("users", DistributedMap[str, int])
        assert await again.size() == 0
        await newcomer.close()
        assert status(cluster, cluster.leader()).sessions == sessions - 1

    simulate(scenario, storage=STORAGE, seed=5)


def test_members_change_and_leaders_too_without_room() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, users = await opened(cluster)
        await users.put("ann", 41)
        fill(cluster)
        await asyncio.sleep(A_LOOK)
        cluster.join("d")
        await cluster.until(lambda: not cluster.membership.is_changing, 20, "members that are certain")
        cluster.crash(cluster.leader())
        await cluster.elected()
        assert await users.get("ann") == 41
        await refused(cluster, users)

    simulate(scenario, storage=STORAGE, seed=7)


def test_a_follower_without_room_goes_on_and_a_leader_without_it_may_be_replaced() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        _, users = await opened(cluster)
        leader = cluster.leader()
        follower, other = (name for name in cluster.nodes if name != leader)
        fill(cluster, follower)
        await asyncio.sleep(A_LOOK)
        assert status(cluster, follower).space_problem is not None
        await users.put("ann", 1)
        await cluster.level()
        fill(cluster, leader)
        await asyncio.sleep(A_LOOK)
        await refused(cluster, users)
        node = cluster.nodes[leader]
        assert node.server is not None
        assert node.host is not None
        await node.host.start(node.server.transfer_leadership(other))
        assert await users.put("ann", 2) == 1
        await cluster.level()

    simulate(scenario, storage=STORAGE, seed=6)


@pytest.mark.parametrize("seed", range(2))
def test_a_cluster_that_is_written_full_stays_alive_and_recovers_by_itself(seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        client = await cluster.client()
        users = await client.create("users", DistributedMap[str, str])
        fill(cluster, left=4 * MARK)
        written = 0
        try:
            while True:
                await users.put("ann", f"{written}:" + "x" * 16000, timeout=3)
                await asyncio.sleep(0.02)
                written += 1
        except OverloadedError:
            pass
        assert 20 < written < 250
        await asyncio.sleep(60)  # of keep-alives, and nobody comes to the end of the disk
        assert not cluster.faults["process ended by itself"]
        assert (await users.get("ann") or "").startswith(f"{written - 1}:")
        for name in cluster.nodes:  # with what it has, each starts anew
            cluster.crash(name)
            fill(cluster, name, left=MARK // 2)
            cluster.start(name)
            await cluster.elected()
        await asyncio.sleep(A_LOOK)
        with pytest.raises(OverloadedError):
            await users.put("ann", "no", timeout=3)
        fill(cluster, left=8 * MARK)
        await users.put("ann", "yes")
        assert await users.get("ann") == "yes"
        await cluster.level()

    simulate(scenario, storage=STORAGE, seed=seed)


# -- the watch by itself -----------------------------------------------------------------------------------------------


class Worker:
    """Does every job at once, and tells of it at once."""

    def submit(self, job: Callable[[], object], done: Callable[[BaseException | None], None]) -> None:
        try:
            job()
        except OSError as error:
            done(error)
        else:
            done(None)

    def close(self) -> None: ...


def watch_for(seconds: float, storage: Storage, step: Callable[[SpaceWatch, int], object], snapshot: int = 0) -> None:
    """Watch in virtual time; `step` is called each second, half a second after the look."""

    async def run() -> None:
        watch = SpaceWatch(storage, "a", Worker(), lambda: snapshot)
        watch.look()
        await asyncio.sleep(0.5)
        for second in range(round(seconds)):
            step(watch, second)
            await asyncio.sleep(1)
        watch.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_each_way_is_told_once_and_a_little_more_room_must_come_back(caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk()
    room = [2.0, 1.0, 0.99, 0.5, 1.0, 1.1, 1.13, 1.0, 0.9]
    seen = []

    def step(watch: SpaceWatch, second: int) -> None:
        seen.append(watch.problem is not None)
        if second + 1 < len(room):
            disk.free_bytes = round(room[second + 1] * MARK)

    disk.free_bytes = round(room[0] * MARK)
    with caplog.at_level(logging.INFO):
        watch_for(len(room), Storage("a", disk=disk, free_space_min=MARK), step)
    assert seen == [False, False, True, True, True, True, False, False, True]
    told = [record.getMessage() for record in caplog.records]
    assert ["has room again" in each for each in told] == [False, True, False]
    assert all("member a" in each and " in a" in each for each in told)


def test_the_snapshot_that_is_next_must_find_room_too() -> None:
    disk = FaultyDisk()
    disk.free_bytes = 5 * MARK
    problems = []
    storage = Storage("a", disk=disk, free_space_min=MARK)
    watch_for(1, storage, lambda watch, _: problems.append(watch.problem), snapshot=4 * MARK)
    watch_for(1, storage, lambda watch, _: problems.append(watch.problem), snapshot=4 * MARK + 1)
    assert problems[0] is None
    assert problems[1] is not None


@pytest.mark.parametrize(
    "storage",
    [Storage("a", disk=FaultyDisk(), free_space_min=0), Storage(level=StorageLevel.MEMORY)],
    ids=["switched off", "in memory"],
)
def test_nobody_looks_where_it_is_switched_off_or_nothing_is_kept(storage: Storage) -> None:
    if isinstance(storage.disk, FaultyDisk):
        storage.disk.free_bytes = 0
    seen = []
    watch_for(2, storage, lambda watch, _: seen.append((watch.free_bytes, watch.problem)))
    assert seen == [(None, None)] * 2


def test_a_disk_that_cannot_tell_stops_nothing_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[int | None] = [None, None, KIBIBYTE, None, 2 * MARK]

    class Silent(FaultyDisk):
        def free_space(self, path: str) -> int:
            answer = answers.pop(0) if answers else 2 * MARK
            if answer is None:
                raise OSError(5, "Input/output error")
            return answer

    disk = Silent()
    seen: list[bool] = []
    watch_for(5, Storage("a", disk=disk, free_space_min=MARK), lambda watch, _: seen.append(watch.problem is not None))
    assert seen == [False, False, True, False, False]
    assert sum("cannot tell" in record.getMessage() for record in caplog.records) == 2


def test_memory_has_room() -> None:
    assert MemoryDisk().free_space(".") > 1024 * MARK
