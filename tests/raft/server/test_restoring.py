"""A backup as the beginning of a new cluster: what it has, what it has not, and what it refuses. Protocol §8.8."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from copycat.errors import (
    ConfigurationError,
    CorruptionError,
    DirectoryInUseError,
    NoLeaderError,
    SnapshotError,
    StorageError,
)
from copycat.io.serializer import Serializer
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.metadata import read_copies
from copycat.io.storage.storage import Storage
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.state_machine import Executor, StateMachine
from copycat.raft.server.executors import MakeMachines
from copycat.raft.server.restoring import INDEX_DISTANCE, Restored, read_backup, write_directory
from copycat.testing.disk import FaultyDisk, PowerFailure
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, Notebook, add, get, put, set_timer

MEMBERS = [Member(name, "127.0.0.1", port) for name, port in zip("abc", (5001, 5002, 5003), strict=True)]
CHANCE = random.Random(7)


def machines(kind: type[StateMachine] = Notebook) -> MakeMachines:
    return lambda clockwork, codec: SingleMachine(kind(), clockwork, codec)


def read(path: Path, kind: type[StateMachine] = Notebook) -> Restored:
    return read_backup(OsDisk(), str(path), machines(kind), Serializer())


async def backed_up(path: Path, *, total: int = 3) -> int:
    """A backup of a cluster with some state, a session, and a timer; gives the last index that cluster came to."""
    async with Cluster(3, faulty=True) as cluster:
        client = await cluster.client()
        await put(client, "k", "v")
        await set_timer(client, 3_600_000, "later")
        assert await add(client, total) == total
        await client.backup(path)
        for number in range(10):
            await put(client, "k", number)
        return cluster.status(await cluster.elected()).last_index


def restored_cluster(restored: Restored, size: int = 3, *, names: str = "abc") -> Cluster:
    cluster = Cluster(size, faulty=True)
    for name in names:
        write_directory(cluster.storage(name), restored, cluster.members[name], list(cluster.members.values()), CHANCE)
    return cluster


# -- what it has -------------------------------------------------------------------------------------------------------


async def test_a_restored_cluster_has_the_state_and_another_id(tmp_path: Path) -> None:
    last = await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")

    async with restored_cluster(restored) as cluster:
        client = await cluster.client()
        assert await get(client, "k") == "v"
        assert await add(client, 1) == 4
        status = cluster.status(await cluster.elected())
        assert status.cluster_id != restored.backup.cluster_id.hex()
        assert status.applied_index > restored.backup.index + INDEX_DISTANCE > last
        assert client.session_id > restored.backup.index + INDEX_DISTANCE
        await cluster.level()
        notebooks = list(cluster.machines.values())
        assert all(each.values == notebooks[0].values and each.ended == notebooks[0].ended for each in notebooks)


async def test_sessions_of_the_old_cluster_ended_and_timers_wait(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")

    notebook = restored.executor.machines.hosts[0].machine
    assert isinstance(notebook, Notebook)
    (session, index, expired), (_, again, _) = notebook.ended
    assert (session > 0, expired) == (True, True)
    assert index == again == restored.base.index == restored.backup.index + INDEX_DISTANCE
    assert not len(restored.executor.sessions)
    assert len(restored.executor.clockwork.timers) == 1
    assert restored.executor.clockwork.time == restored.base.time


async def test_the_same_backup_makes_the_same_beginning_and_another_another(tmp_path: Path) -> None:
    await backed_up(tmp_path / "one")
    await backed_up(tmp_path / "other", total=4)

    assert read(tmp_path / "one").digest == read(tmp_path / "one").digest
    assert read(tmp_path / "one").digest != read(tmp_path / "other").digest


async def test_a_restored_cluster_restarts_and_takes_snapshots_like_any_other(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    async with restored_cluster(read(tmp_path / "backup")) as cluster:
        client = await cluster.client()
        for number in range(3):
            await put(client, "k", "x" * 1000)
            for server in list(cluster.servers.values()):
                await server.take_snapshot()
            assert await add(client, 1) == 4 + number
            await cluster.stop()
            await cluster.start()
        assert await add(client, 0) == 6
        cluster_ids = {server.identity.cluster_id for server in cluster.servers.values()}
        assert len(cluster_ids) == 1


async def test_a_restored_cluster_loses_power_and_nothing_else(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    async with restored_cluster(read(tmp_path / "backup")) as cluster:
        client = await cluster.client()
        assert await add(client, 1) == 4
        await cluster.crash(chooser=random.Random(3))
        await cluster.start()
        assert await add(client, 1) == 5


async def test_a_backup_of_a_restored_cluster_is_restored_again(tmp_path: Path) -> None:
    await backed_up(tmp_path / "first")
    first = read(tmp_path / "first")
    async with restored_cluster(first) as cluster:
        client = await cluster.client()
        await put(client, "again", 1)
        await client.backup(tmp_path / "second")

    second = read(tmp_path / "second")
    assert second.base.index > first.base.index + INDEX_DISTANCE
    async with restored_cluster(second) as cluster:
        client = await cluster.client()
        assert (await get(client, "k"), await get(client, "again")) == ("v", 1)


async def test_a_cluster_of_one_is_restored_from_one_of_three(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    async with restored_cluster(read(tmp_path / "backup"), 1, names="a") as cluster:
        assert await add(await cluster.client(), 1) == 4


async def joined(cluster: Cluster, name: str, restored: Restored) -> None:
    """It has the state, and began with the snapshot that the cluster was restored with: there is no other."""
    await wait_until(lambda: name in cluster.status("a").members)
    await cluster.level()
    assert cluster.machines[name].values == cluster.machines["a"].values
    assert cluster.status(name).snapshot_index == restored.base.index
    assert cluster.status(name).cluster_id == cluster.status("a").cluster_id


@pytest.mark.parametrize("size", [1, 3])
async def test_a_member_joins_right_after_a_restore_and_begins_with_the_restored_snapshot(
    size: int, tmp_path: Path
) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    async with restored_cluster(restored, size, names="abc"[:size]) as cluster:
        newcomer = cluster.members["d"] = Member("d", "127.0.0.1", 5004)
        cluster.network.names[Address(newcomer.host, newcomer.port)] = "d"
        cluster.fatal["d"] = []
        await cluster.start("d", join=True)
        await wait_until(lambda: cluster.status("d").role in ("follower", "leader"))
        await joined(cluster, "d", restored)
        assert await add(await cluster.client(), 1) == 4

        for power in (False, True):
            await (cluster.crash("d", chooser=random.Random(5)) if power else cluster.stop("d"))
            await cluster.start("d")
            await joined(cluster, "d", restored)
        await cluster.stop()
        await cluster.start()
        assert await add(await cluster.client(), 1) == 5


async def test_a_member_that_loses_power_as_soon_as_it_has_the_restored_snapshot_joins_after_all(
    tmp_path: Path,
) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    async with restored_cluster(restored) as cluster:
        newcomer = cluster.members["d"] = Member("d", "127.0.0.1", 5004)
        cluster.network.names[Address(newcomer.host, newcomer.port)] = "d"
        cluster.fatal["d"] = []
        server = cluster.new_server("d", join=True)
        opening = asyncio.ensure_future(server.open())
        await wait_until(lambda: server.driver is not None and server.driver.raft.snapshot is not None)
        await cluster.crash("d", chooser=random.Random(6), kept=0.0)
        await asyncio.wait([opening])
        await cluster.start("d")
        await wait_until(lambda: cluster.status("d").role in ("follower", "leader"))
        await joined(cluster, "d", restored)


# -- what it refuses ---------------------------------------------------------------------------------------------------


async def refused(cluster: Cluster) -> str:
    """Why these members do not form."""
    servers = [cluster.new_server(name) for name in cluster.members]
    opening = [asyncio.ensure_future(server.open(1.0)) for server in servers]
    outcomes = await asyncio.gather(*opening, return_exceptions=True)
    await cluster.close()
    assert all(isinstance(outcome, NoLeaderError) for outcome in outcomes)
    return " | ".join(map(str, outcomes))


async def test_members_that_begin_otherwise_do_not_form(tmp_path: Path) -> None:
    await backed_up(tmp_path / "one")
    await backed_up(tmp_path / "other", total=4)
    one, other = read(tmp_path / "one"), read(tmp_path / "other")

    empty = restored_cluster(one, names="ab")
    reasons = await refused(empty)
    assert f"c begins with nothing, but a with the restored state {one.digest.hex()[:8]}" in reasons
    assert "restore every member from the same backup" in reasons

    mixed = restored_cluster(one, names="ab")
    write_directory(mixed.storage("c"), other, mixed.members["c"], list(mixed.members.values()), CHANCE)
    reasons = await refused(mixed)
    assert f"c begins with the restored state {other.digest.hex()[:8]}, but a with" in reasons


async def test_members_are_started_with_the_list_they_were_restored_for(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    cluster = restored_cluster(read(tmp_path / "backup"))
    server = cluster.new_server("a", members=[cluster.members["a"], cluster.members["b"]])
    with pytest.raises(ConfigurationError, match="was restored for members a, b, c"):
        await server.open(1.0)
    await cluster.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
async def test_a_backup_that_is_cut_short_or_altered_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "backup"
    await backed_up(path)
    content = path.read_bytes()
    place = min(len(content) - 1, round(len(content) * share))
    path.write_bytes(content[:place])
    with pytest.raises(CorruptionError, match="nothing was written"):
        read(path)
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    with pytest.raises(CorruptionError, match="nothing was written"):
        read(path)
    with pytest.raises(StorageError, match="cannot be read"):
        read(tmp_path / "none")


class Other(StateMachine, name="test.other"):
    """Not what the backup was of."""

    def configure(self, executor: Executor) -> None:
        """It does nothing."""


async def test_another_state_machine_is_refused(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    with pytest.raises(SnapshotError, match=r"holds a state machine 'test\.notebook'"):
        read(tmp_path / "backup", Other)


async def test_only_an_empty_directory_is_written_to(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    directory = tmp_path / "a"
    directory.mkdir()
    (directory / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty, it holds mine"):
        write_directory(Storage(directory), restored, MEMBERS[0], MEMBERS, CHANCE)
    (directory / "mine").unlink()
    holder = Storage(directory)
    holder.lock()
    with pytest.raises(DirectoryInUseError):
        write_directory(Storage(directory), restored, MEMBERS[0], MEMBERS, CHANCE)
    holder.close()
    write_directory(Storage(directory), restored, MEMBERS[0], MEMBERS, CHANCE)
    with pytest.raises(ConfigurationError, match="is not empty"):
        write_directory(Storage(directory), restored, MEMBERS[0], MEMBERS, CHANCE)


async def test_a_disk_that_is_full_leaves_an_empty_directory(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    disk = FaultyDisk()
    disk.free_bytes = 4700
    with pytest.raises(StorageError, match="the disk is full"):
        write_directory(Storage("a", disk=disk), restored, MEMBERS[0], MEMBERS, CHANCE)
    assert [name for name in disk.list("a") if name != "lock"] == []
    disk.free_bytes = None
    write_directory(Storage("a", disk=disk), restored, MEMBERS[0], MEMBERS, CHANCE)


async def test_one_that_was_cut_off_is_never_taken_for_a_member(tmp_path: Path) -> None:
    """At whatever operation the power fails: it is empty, or refused, or whole."""
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    whole = 0
    for operation in range(1, 100):
        cluster = Cluster(1, faulty=True)
        storage = cluster.storage("a")
        disk = cluster.disks["a"].inner
        assert isinstance(disk, FaultyDisk)
        disk.stop_after = operation
        try:
            write_directory(storage, restored, cluster.members["a"], list(cluster.members.values()), CHANCE)
            whole += 1
        except PowerFailure:
            pass
        disk.stop_after = None
        disk.crash(random.Random(operation))
        known = [copy for copy in read_copies(disk, "a").values() if copy is not None]
        try:
            await cluster.new_server("a").open()
        except CorruptionError:
            assert not whole, f"operation {operation}"
        else:
            total = await add(await cluster.client(), 0)
            assert total == (3 if known else 0), f"operation {operation}"
        await cluster.close()
        if whole:
            return
    pytest.fail("it never came to its end")


async def test_a_state_that_has_rotted_before_the_first_start_is_found(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    restored = read(tmp_path / "backup")
    for spoil in (_rot, _exchange):
        cluster = restored_cluster(restored, 1, names="a")
        disk = cluster.disks["a"].inner
        assert isinstance(disk, FaultyDisk)
        spoil(disk, restored, cluster)
        with pytest.raises(CorruptionError, match="restore the backup again"):
            await cluster.new_server("a").open()
        await cluster.close()


def _rot(disk: FaultyDisk, restored: Restored, cluster: Cluster) -> None:
    (name,) = [name for name in disk.list("a") if name.endswith(".snapshot")]
    disk.flip_bit(f"a/{name}", 300)


def _exchange(disk: FaultyDisk, restored: Restored, cluster: Cluster) -> None:
    """Metadata of another backup's member."""
    for name in disk.list("a"):
        disk.remove(f"a/{name}")
    other = replace(restored, digest=bytes(16))
    write_directory(cluster.storage("a"), other, cluster.members["a"], list(cluster.members.values()), CHANCE)
