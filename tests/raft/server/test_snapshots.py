"""Snapshots of a server's state: taken, gone on from, and sent to a member left behind. Protocol §1.8, §8.5."""

import asyncio
import random
from typing import Any

import pytest

from copycat.errors import ClosedError, NoLeaderError, SnapshotError, StorageError
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES
from copycat.io.storage.storage import KIBIBYTE, MEBIBYTE
from copycat.raft.client.client import RaftClient
from copycat.raft.core.config import RaftConfig
from copycat.raft.protocol.wire import Tag
from copycat.testing.disk import FaultyDisk
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import QUICK, Cluster, add, get, put, set_timer

SMALL_PIECES = RaftConfig(election_timeout_ms=300, heartbeat_ms=40, lease_ms=120, install_bytes_max=2 * KIBIBYTE)
MOMENT = 0.3
LARGE = "x" * (16 * KIBIBYTE)


def make_cluster(
    size: int = 3, *, log_size: int = 64 * KIBIBYTE, config: RaftConfig = QUICK, **options: Any
) -> Cluster:
    """On faulty disks; a snapshot after every `log_size` bytes of log, and small segments that can be let go of."""
    cluster = Cluster(size, faulty=True, config=config, **options)
    cluster.storage_options = {"snapshot_log_size": log_size, "max_segment_size": MEBIBYTE}
    return cluster


async def write(client: RaftClient, count: int, *, size: int = 16 * KIBIBYTE, key: str = "k") -> None:
    """So many puts of so many bytes to a few keys, so that log and state differ in size."""
    for number in range(count):
        await put(client, f"{key}{number % 4}", f"{number}:" + "x" * size)


def disk_of(cluster: Cluster, name: str) -> FaultyDisk:
    disk = cluster.disks[name].inner
    assert isinstance(disk, FaultyDisk)
    return disk


def files(cluster: Cluster, name: str, suffix: str) -> list[str]:
    return [each for each in disk_of(cluster, name).list(name) if each.endswith(suffix)]


def log_bytes(cluster: Cluster, name: str) -> int:
    """What segments take, but for the zeros written ahead of the last."""
    return MEBIBYTE * len(files(cluster, name, ".log"))


async def quiet(cluster: Cluster) -> None:
    """Wait until nobody is taking a snapshot."""

    def is_quiet() -> bool:
        drivers = [server.driver for server in cluster.servers.values()]
        return not any(driver.snapshots.taker.is_taking for driver in drivers if driver is not None)

    await cluster.level()
    await wait_until(is_quiet)


# -- taken -------------------------------------------------------------------------------------------------------------


async def test_a_log_that_grows_is_let_go_of_behind_the_older_of_two_snapshots() -> None:
    async with make_cluster(log_size=MEBIBYTE) as cluster:
        client = await cluster.client()
        await write(client, 400)
        await quiet(cluster)
        for name in cluster.servers:
            status = cluster.status(name)
            assert len(files(cluster, name, ".snapshot")) == 2
            assert 1 < status.first_index <= status.snapshot_index <= status.applied_index
            assert log_bytes(cluster, name) <= 4 * MEBIBYTE  # of more than six that were written


async def test_members_that_apply_the_same_take_their_snapshots_at_different_times_and_none_too_late() -> None:
    async with make_cluster(log_size=MEBIBYTE) as cluster:
        client = await cluster.client()
        for _ in range(65):  # a little more than the log may grow
            await put(client, "k", LARGE)
        await quiet(cluster)
        places = [cluster.status(name).snapshot_index for name in cluster.servers]
        last = max(cluster.status(name).applied_index for name in cluster.servers)
        assert len(set(places)) > 1
        assert all(last * 3 // 4 - 5 <= place <= last for place in places)


async def test_a_member_goes_on_from_its_snapshot_with_its_state_its_sessions_and_its_timers() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await set_timer(client, 600_000, "later")
        await write(client, 40)
        await add(client, 5)
        await quiet(cluster)
        before = cluster.machines["a"]
        covered = cluster.status("a").snapshot_index
        assert covered > 10
        await cluster.stop("a")

        await cluster.start("a")
        after = cluster.machines["a"]
        assert after is not before
        assert (after.values, after.total, after.set) == (before.values, before.total, before.set)
        assert await add(client, 1) == 6
        driver = cluster.servers["a"].driver
        assert driver is not None
        assert len(driver.executor.clockwork.timers.view()[0]) == 1
        assert driver.executor.clockwork.time >= after.set[0][1]


async def test_what_was_executed_before_a_snapshot_is_not_executed_again_behind_it() -> None:
    async with make_cluster(3) as cluster:
        client = await cluster.client()
        for number in range(1, 60):
            assert await add(client, 1) == number
            if number % 20 == 0:
                leader = await cluster.elected()
                await cluster.servers[leader].take_snapshot()
                cluster.network.separate([leader], ["client"])
                unanswered = add(client, 0)
                await cluster.stop(leader)
                cluster.network.heal()
                await cluster.start(leader)
                assert await unanswered == number


async def test_a_snapshot_can_be_asked_for() -> None:
    async with make_cluster(3) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.level()
        server = cluster.servers["b"]
        index = await server.take_snapshot()
        assert index == cluster.status("b").snapshot_index == cluster.status("b").applied_index
        assert await server.take_snapshot() == index  # which covers everything
        assert len(files(cluster, "b", ".snapshot")) == 1
        assert cluster.status("b").first_index == 1  # one alone may rot


async def test_who_asks_while_one_is_taken_gets_one_that_begins_afterwards() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        first = asyncio.ensure_future(cluster.servers["a"].take_snapshot())
        await asyncio.sleep(0)
        await put(client, "k", 2)
        second = asyncio.ensure_future(cluster.servers["a"].take_snapshot())
        assert await first <= await second == cluster.status("a").applied_index


async def test_a_snapshot_is_taken_by_time_too() -> None:
    cluster = make_cluster(1)
    cluster.storage_options["snapshot_interval"] = 1
    async with cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await wait_until(lambda: cluster.status("a").snapshot_index > 0)


async def test_a_server_that_is_not_open_takes_none() -> None:
    cluster = make_cluster(2)
    server = cluster.new_server("a")
    with pytest.raises(ClosedError):
        await server.take_snapshot()
    with pytest.raises(NoLeaderError):
        await server.open(0.05)
    with pytest.raises(NoLeaderError, match="has not formed"):
        await server.take_snapshot()
    await cluster.close()


async def test_whoever_waits_for_a_snapshot_is_told_when_the_server_closes() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        asked = asyncio.ensure_future(cluster.servers["a"].take_snapshot())
        await asyncio.sleep(0)
        await cluster.stop("a")
        with pytest.raises(ClosedError, match="has closed"):
            await asked


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_a_state_that_cannot_be_encoded_is_named_and_the_member_goes_on() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        cluster.machines["a"].values["bad"] = object()
        with pytest.raises(SnapshotError, match=r"test\.notebook.*a object cannot be a value"):
            await cluster.servers["a"].take_snapshot()
        assert "test.notebook" in (cluster.status("a").snapshot_problem or "")
        del cluster.machines["a"].values["bad"]
        assert await put(client, "k", 2) == 1
        await cluster.servers["a"].take_snapshot()
        assert cluster.status("a").snapshot_problem is None


async def test_a_full_disk_costs_the_snapshot_and_nothing_else() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", LARGE)
        disk = disk_of(cluster, "a")
        disk.free_bytes = 100
        with pytest.raises(StorageError, match="the disk is full"):
            await cluster.servers["a"].take_snapshot()
        assert cluster.status("a").snapshot_problem
        assert not [each for each in disk.list("a") if "snapshot" in each]
        disk.free_bytes = None
        assert await cluster.servers["a"].take_snapshot() > 0
        assert not cluster.fatal["a"]


async def test_a_disk_that_fails_while_a_snapshot_is_written_ends_the_member() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.level()
        disk_of(cluster, "a").fail_syncs = True
        with pytest.raises((StorageError, ClosedError)):
            await cluster.servers["a"].take_snapshot()
        await wait_until(lambda: cluster.fatal["a"])


@pytest.mark.parametrize("rotten", [1, 2], ids=["the newest", "both"])
async def test_a_snapshot_that_has_rotted_is_passed_over_for_the_one_before_it(rotten: int) -> None:
    async with make_cluster(1, log_size=MEBIBYTE) as cluster:
        client = await cluster.client()
        await write(client, 200)
        await quiet(cluster)
        values = cluster.machines["a"].values
        await cluster.stop("a")
        for each in files(cluster, "a", ".snapshot")[-rotten:]:
            disk_of(cluster, "a").flip_bit(f"a/{each}", 300)
        if rotten == 2:
            with pytest.raises(StorageError, match="no snapshot is sound"):
                await cluster.new_server("a").open(MOMENT)
            return
        await cluster.start("a")
        assert cluster.machines["a"].values == values
        assert len(files(cluster, "a", ".bad")) == 1


async def test_a_log_that_is_whole_does_without_a_snapshot_that_has_rotted() -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.servers["a"].take_snapshot()
        await cluster.stop("a")
        (only,) = files(cluster, "a", ".snapshot")
        disk_of(cluster, "a").flip_bit(f"a/{only}", 300)
        await cluster.start("a")
        assert await get(client, "k") == 1


# -- sent --------------------------------------------------------------------------------------------------------------


def first_index_on_disk(cluster: Cluster, name: str) -> int:
    """Where a start would find that the log begins: whole files go, so that is behind what the member goes by."""
    driver = cluster.servers[name].driver
    assert driver is not None
    return driver.log.first_index


async def left_behind(cluster: Cluster) -> tuple[str, RaftClient]:
    """A follower that is closed while the others let go of what it lacks."""
    client = await cluster.client()
    await put(client, "k0", "early")
    await cluster.level()
    behind = cluster.others(await cluster.elected())[0]
    lacks = cluster.applied(behind) + 1
    await cluster.stop(behind)
    while min(first_index_on_disk(cluster, name) for name in cluster.servers) <= lacks:
        await write(client, 16)
        await quiet(cluster)
    return behind, client


async def test_a_member_left_behind_goes_on_from_the_leaders_snapshot() -> None:
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, client = await left_behind(cluster)
        leader = await cluster.elected()
        await cluster.start(behind)
        await cluster.level()
        assert cluster.machines[behind].values == cluster.machines[leader].values
        assert cluster.status(behind).first_index > 1
        assert cluster.network.sent(Tag.INSTALL, target=behind) > 3
        assert await put(client, "k0", "late")
        await cluster.stop(leader)  # the two that are left are both needed
        await cluster.elected()
        assert await get(client, "k0") == "late"
        again = await cluster.elected()
        await cluster.stop(behind)
        assert not cluster.fatal[behind]
        await cluster.start(behind)
        assert cluster.machines[behind].values == cluster.machines[again].values


async def test_a_client_of_a_member_that_went_on_from_a_snapshot_reads_there() -> None:
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, client = await left_behind(cluster)
        await cluster.start(behind)
        await cluster.level()
        there = await cluster.client("reader", to=[behind])
        assert await get(there, "k1") == cluster.machines[behind].values["k1"]
        await put(there, "k1", "through it")
        assert await get(client, "k1") == "through it"


async def test_a_rotten_snapshot_is_not_sent_and_a_new_one_is() -> None:
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, client = await left_behind(cluster)
        leader = await cluster.elected()
        disk = disk_of(cluster, leader)
        for each in files(cluster, leader, ".snapshot"):
            disk.flip_bit(f"{leader}/{each}", 3_000)
        opening = asyncio.ensure_future(cluster.new_server(behind).open())
        server = cluster.servers[leader].driver
        assert server is not None
        await wait_until(lambda: cluster.network.sent(Tag.APPEND_RESPONSE, source=behind) > 3)
        assert cluster.network.sent(Tag.INSTALL, target=behind) == 0
        await put(client, "k", "one more entry")
        await cluster.servers[leader].take_snapshot()
        await opening
        await cluster.level()
        assert cluster.machines[behind].values == cluster.machines[leader].values


async def test_a_receiver_whose_disk_is_full_receives_it_when_there_is_room() -> None:
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, _ = await left_behind(cluster)
        disk = disk_of(cluster, behind)
        opening = asyncio.ensure_future(cluster.new_server(behind).open())
        await wait_until(lambda: cluster.network.sent(Tag.INSTALL, target=behind) > 0)
        disk.free_bytes = 10 * KIBIBYTE
        sent = cluster.network.sent(Tag.INSTALL, target=behind)
        await wait_until(lambda: cluster.network.sent(Tag.INSTALL, target=behind) > sent + 6)
        assert cluster.status(behind).first_index == 1
        assert not cluster.fatal[behind]
        disk.free_bytes = None
        await opening
        await cluster.level()
        assert cluster.status(behind).first_index > 1


async def test_one_whose_log_has_a_hole_is_refilled_by_a_snapshot() -> None:
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, client = await left_behind(cluster)
        disk = disk_of(cluster, behind)
        newest = files(cluster, behind, ".log")[-1]
        disk.flip_bit(f"{behind}/{newest}", SEGMENT_HEADER_BYTES + 3)
        await cluster.start(behind)
        await wait_until(lambda: cluster.status(behind).role == "follower")
        await cluster.level()
        await cluster.stop(await cluster.elected())
        await cluster.elected()  # two are left, and both are needed
        assert await put(client, "k0", "again") is not None


def is_installed(cluster: Cluster, name: str) -> bool:
    driver = cluster.servers[name].driver
    return driver is not None and driver.raft.log.base_index > 0


def is_leader(cluster: Cluster, name: str) -> bool:
    driver = cluster.servers[name].driver
    return driver is not None and driver.raft.is_leader


async def pieces(cluster: Cluster, behind: str, count: int) -> bool:
    """Wait until so many more pieces have come, or all; returns whether it was all."""
    wanted = cluster.network.sent(Tag.INSTALL, target=behind) + count
    await wait_until(
        lambda: is_installed(cluster, behind) or cluster.network.sent(Tag.INSTALL, target=behind) >= wanted
    )
    return is_installed(cluster, behind)


@pytest.mark.slow
@pytest.mark.parametrize("power", [True, False], ids=["power", "order"])
async def test_a_receiver_that_ends_at_any_piece_receives_it_in_the_end(power: bool) -> None:
    chooser = random.Random(4)
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, _ = await left_behind(cluster)
        number, done = 0, False
        while not done:
            number += 1
            opening = asyncio.ensure_future(cluster.new_server(behind).open(None))
            done = await pieces(cluster, behind, number)
            if power:
                await cluster.crash(behind, chooser=chooser)
            else:
                await cluster.stop(behind)
            await asyncio.gather(opening, return_exceptions=True)
        assert number > 3
        await cluster.start(behind)
        await cluster.level()
        assert cluster.machines[behind].values == cluster.machines[await cluster.elected()].values


@pytest.mark.slow
async def test_a_leader_that_is_killed_at_any_piece_leaves_the_rest_to_the_next() -> None:
    chooser = random.Random(5)
    async with make_cluster(config=SMALL_PIECES) as cluster:
        behind, client = await left_behind(cluster)
        openings = [asyncio.ensure_future(cluster.new_server(behind).open(None))]
        number = 0
        while not await pieces(cluster, behind, number + 1):
            number += 1
            leader = next(name for name in cluster.servers if is_leader(cluster, name))
            await cluster.crash(leader, chooser=chooser)
            # Not awaited, for the next leader must not get far before it is killed as well.
            openings.append(asyncio.ensure_future(cluster.new_server(leader).open(None)))
        assert number > 3
        await asyncio.gather(*openings, return_exceptions=True)  # those of servers that were killed meanwhile fail
        await put(client, "k0", "end")
        await cluster.level()
        assert len({str(machine.values) for machine in cluster.machines.values()}) == 1
