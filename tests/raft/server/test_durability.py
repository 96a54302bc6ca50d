"""What an acknowledgement waits for; what a disk that stalls, fails, fills up or loses power may do: protocol §1.5."""

import asyncio
import errno
import random
import time
from collections.abc import Callable

import pytest

from copycat.raft.core.config import RaftConfig
from copycat.raft.protocol.wire import Tag
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, get, put
from tests.raft.server.disks import SpoiltDisk

PATIENT = RaftConfig(election_timeout_ms=1500, heartbeat_ms=100, lease_ms=250)  # with disks of 300 ms a sync
SYNC_SECONDS = 0.3


async def followers_of(cluster: Cluster) -> tuple[str, str, str]:
    """The leader and the two others."""
    leader = await cluster.elected()
    one, other = cluster.others(leader)
    return leader, one, other


# -- slow and held syncs -----------------------------------------------------------------------------------------------


async def test_a_put_is_answered_when_a_majority_has_it_on_disk_and_not_before() -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        leader, one, other = await followers_of(cluster)
        await cluster.level()
        cluster.hold_syncs(one, other)
        future = put(client, "k", 2)
        await wait_until(lambda: cluster.disks[one].held and cluster.disks[other].held)
        await cluster.rounds(leader)
        assert not future.done()
        assert cluster.status(leader).commit_index < cluster.status(leader).last_index
        cluster.disks[one].release_syncs()
        assert await future == 1
        assert cluster.disks[other].held


@pytest.mark.slow
@pytest.mark.parametrize("is_leader_slow", [False, True], ids=["both followers", "leader and one follower"])
async def test_with_two_of_three_disks_slow_every_put_takes_a_sync(is_leader_slow: bool) -> None:
    async with Cluster(3, faulty=True, config=PATIENT) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader, one, other = await followers_of(cluster)
        for name in (one, leader if is_leader_slow else other):
            cluster.disks[name].sync_delay_s = SYNC_SECONDS
        for number in range(3):
            started = time.monotonic()
            assert await put(client, "k", number + 1) == number
            assert time.monotonic() - started >= SYNC_SECONDS


async def test_a_put_does_not_wait_for_the_slowest_of_three_disks() -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader, slow, _ = await followers_of(cluster)
        await cluster.level()
        cluster.hold_syncs(slow)
        for number in range(5):
            assert await put(client, "k", number + 1) == number
        await wait_until(lambda: cluster.disks[slow].held)
        assert cluster.status(slow).durable_index < cluster.status(leader).commit_index
        cluster.disks[slow].release_syncs()
        await cluster.level()


async def test_a_put_may_be_committed_by_two_followers_before_its_own_leader_has_it_on_disk() -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader, *_ = await followers_of(cluster)
        await cluster.level()
        cluster.hold_syncs(leader)
        assert await put(client, "k", 1) == 0
        await wait_until(lambda: cluster.disks[leader].held)
        assert cluster.status(leader).durable_index < cluster.status(leader).last_index


@pytest.mark.slow
async def test_a_leader_whose_flush_hangs_for_an_election_timeout_lets_another_lead() -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        old, one, other = await followers_of(cluster)
        cluster.hold_syncs(old)
        first = put(client, "k", 1)
        await cluster.elected([one, other])
        assert await first == 0
        assert await put(client, "k", 2) == 1
        assert cluster.disks[old].held
        assert cluster.status(old).role == "follower"
        cluster.disks[old].release_syncs()
        await cluster.level()
        assert cluster.machines[old].values == {"k": 2}


# -- disks that fail ---------------------------------------------------------------------------------------------------


def fail_syncs(disk: SpoiltDisk) -> None:
    disk.sync_error = errno.EIO


def fill(disk: SpoiltDisk) -> None:
    disk.is_full = True


SPOIL = pytest.mark.parametrize(
    ("spoil", "number"), [(fail_syncs, errno.EIO), (fill, errno.ENOSPC)], ids=["EIO", "ENOSPC"]
)


@SPOIL
@pytest.mark.parametrize("hurt", ["leader", "follower"])
async def test_a_member_whose_disk_fails_halts_the_others_go_on_and_a_restart_brings_it_back(
    spoil: Callable[[SpoiltDisk], None], number: int, hurt: str
) -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader, follower, _ = await followers_of(cluster)
        name = leader if hurt == "leader" else follower
        spoil(cluster.disks[name])
        assert await put(client, "k", 1) == 0
        await wait_until(lambda: cluster.fatal[name])
        (error,) = cluster.fatal[name]
        assert isinstance(error, OSError)
        assert error.errno == number
        assert cluster.status(name).role == "halted"
        assert cluster.status(name).leader is None
        assert str(error) in str(cluster.status(name).why_no_leader)

        await wait_until(lambda: not cluster.network.links_of(name))  # so clients and members turn to others at once
        said = cluster.network.sent_by(name)
        for value in range(2, 5):
            assert await put(client, "k", value) == value - 1
        assert cluster.network.sent_by(name) == said  # not a word more

        await cluster.stop(name)
        cluster.disks[name].heal()
        await cluster.start(name)
        await cluster.level()
        assert cluster.machines[name].values == {"k": 4}


@SPOIL
async def test_when_every_disk_fails_nothing_is_acknowledged_until_they_are_sound(
    spoil: Callable[[SpoiltDisk], None], number: int
) -> None:
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client(session_timeout=60.0)
        await put(client, "k", 0)
        await cluster.level()
        for disk in cluster.disks.values():
            spoil(disk)
        future = put(client, "k", 1)
        # The third may have nothing more to write, once it is alone.
        await wait_until(lambda: sum(map(bool, cluster.fatal.values())) >= 2)
        assert not future.done()
        await cluster.stop()
        for disk in cluster.disks.values():
            disk.heal()
        assert not future.done()
        await cluster.start()
        assert await future == 0
        assert await put(client, "k", 2) == 1


@pytest.mark.slow
async def test_a_member_that_cannot_write_down_its_vote_gives_none() -> None:
    async with Cluster(3, faulty=True) as cluster:
        leader, hurt, whole = await followers_of(cluster)
        before = cluster.network.sent(Tag.VOTE_RESPONSE, source=hurt, target=whole)  # of the election that was
        fail_syncs(cluster.disks[hurt])
        await cluster.stop(leader)
        await wait_until(lambda: cluster.fatal[hurt])
        await wait_until(lambda: cluster.status(whole).role == "candidate")
        assert cluster.network.sent(Tag.VOTE_RESPONSE, source=hurt, target=whole) == before
        await cluster.stop(hurt)
        cluster.disks[hurt].heal()
        await cluster.start(hurt)
        assert await cluster.elected() in (hurt, whole)


# -- power failures ----------------------------------------------------------------------------------------------------

PUTS = 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_when_every_member_loses_power_nothing_acknowledged_is_lost_and_nothing_happens_twice(seed: int) -> None:
    """One key, each put saying which value it replaced: a lost or a repeated one breaks the chain."""
    chooser = random.Random(seed)
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client(session_timeout=60.0)
        futures: list[asyncio.Future[int | None]] = []

        async def write() -> None:
            for number in range(PUTS):
                futures.append(put(client, "k", number, timeout=None))
                if chooser.random() < 0.3:
                    await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        for crash in (1, 2):
            enough = chooser.randrange(PUTS * crash // 3)
            await wait_until(lambda enough=enough: sum(map(asyncio.Future.done, futures)) > enough)  # type: ignore[misc]  # binds
            await cluster.crash(chooser=chooser)
            acknowledged = sum(map(asyncio.Future.done, futures))
            await cluster.start()
            seen = await get(await cluster.client(f"witness {crash}"), "k")
            assert seen >= acknowledged - 1
        await writing
        assert [await future for future in futures] == [None, *range(PUTS - 1)]
        await cluster.level()
        assert {repr(machine.values) for machine in cluster.machines.values()} == {repr({"k": PUTS - 1})}


async def test_a_minority_that_loses_power_and_what_it_had_not_synced_catches_up() -> None:
    chooser = random.Random(1)
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader, hurt, _ = await followers_of(cluster)
        cluster.hold_syncs(hurt)
        assert await put(client, "k", 1) == 0
        await wait_until(lambda: cluster.status(hurt).last_index == cluster.status(leader).last_index)
        await cluster.crash(hurt, chooser=chooser, kept=0.0)
        assert await put(client, "k", 2) == 1
        await cluster.start(hurt)
        await cluster.level()
        assert cluster.machines[hurt].values == {"k": 2}
