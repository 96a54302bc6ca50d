"""Backups: consistent at one index, of everything acknowledged before, or none at all. Protocol §8.7."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from copycat.errors import ConfigurationError, ConnectError, CorruptionError, NoLeaderError, StorageError
from copycat.io.serializer import Serializer
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.snapshot_file import open_snapshot
from copycat.io.storage.storage import KIBIBYTE
from copycat.io.transport import LocalTransport
from copycat.io.transport.transport import Connection
from copycat.raft.client.backup import BEGINNINGS_MAX, PIECE_BYTES, Backup, fetch_backup
from copycat.raft.machine.single import SingleMachine
from copycat.raft.machine.snapshot import restore
from copycat.raft.protocol.chunks import decode_chunks
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.wire import (
    HEADER_BACKUP,
    HEADER_BACKUP_PIECE,
    HEADER_BACKUP_READ,
    HEADER_BACKUP_READY,
    HEADER_BACKUP_REFUSED,
    Reason,
    Tag,
    encode_msgpack,
)
from copycat.raft.server.backups import BACKUPS_MAX, PIECE_BYTES_MAX
from copycat.raft.server.executors import new_executor
from copycat.testing.disk import FaultyDisk
from copycat.util.address import Address
from tests.io.storage.helpers import snapshot_bytes, snapshot_header
from tests.io.transport.support import wait_until
from tests.raft.server.caller import Caller, call
from tests.raft.server.cluster import Cluster, Notebook, add, put

HUNDRED = 100 * KIBIBYTE


def make_cluster(size: int = 3) -> Cluster:
    return Cluster(size, faulty=True)


def notebook_in(path: Path) -> Notebook:
    """The state that a backup holds."""
    notebook = Notebook()
    executor = new_executor(lambda clockwork, codec: SingleMachine(notebook, clockwork, codec), Serializer())
    restore(executor, decode_chunks(open_snapshot(OsDisk(), str(path)).chunks()))
    return notebook


async def fetch(cluster: Cluster, path: Path, *names: str, **options: Any) -> Backup:
    """A backup, asked for at these members."""
    addresses = [cluster.members[name].address for name in names or cluster.members]
    return await fetch_backup(cluster.network.transport("saver"), addresses, path, **options)


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- what is in it -----------------------------------------------------------------------------------------------------


async def test_a_backup_holds_all_that_was_acknowledged_before_it_was_asked_for(tmp_path: Path) -> None:
    async with make_cluster() as cluster:
        client = await cluster.client()
        for number in range(20):
            await put(client, f"k{number}", number)
        assert await add(client, 5) == 5
        status = cluster.status(await cluster.elected())

        path = tmp_path / "backup"
        backup = await client.backup(path)

        assert (backup.path, backup.cluster_id.hex()) == (str(path), status.cluster_id)
        assert backup.index >= status.commit_index
        assert backup.size == path.stat().st_size
        notebook = notebook_in(path)
        assert (notebook.values, notebook.total) == ({f"k{number}": number for number in range(20)}, 5)
        assert left_in(tmp_path) == ["backup"]


async def test_whichever_member_is_asked_the_leader_gives_it(tmp_path: Path) -> None:
    async with make_cluster() as cluster:
        client = await cluster.client()
        for name in cluster.members:
            await put(client, name, HUNDRED * "x")
            backup = await fetch(cluster, tmp_path / name, name)
            assert set(notebook_in(tmp_path / name).values) >= {name}
            assert backup.size > HUNDRED


async def test_commands_go_on_while_a_large_one_is_fetched_and_it_is_of_one_index(tmp_path: Path) -> None:
    async with make_cluster() as cluster:
        client = await cluster.client()
        for number in range(30):
            await put(client, f"k{number}", HUNDRED * "x")
        done = asyncio.Event()

        async def write() -> int:
            total = 0
            while not done.is_set():
                total = await add(client, 1)
            return total

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(write())
            await wait_until(lambda: cluster.network.sent(Tag.BATCH) > 40)
            before = await add(client, 0)
            backup = await client.backup(tmp_path / "backup")
            done.set()
        assert backup.size > 30 * HUNDRED
        assert before <= notebook_in(tmp_path / "backup").total <= writing.result()


async def test_a_transfer_outlives_the_snapshot_s_name(tmp_path: Path) -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", HUNDRED * "x")
        caller, index, size = await offered(cluster, "a")
        for number in range(3):
            await put(client, "other", number)
            await cluster.servers["a"].take_snapshot()
        disk = cluster.disks["a"].inner
        assert isinstance(disk, FaultyDisk)
        assert not [name for name in disk.list("a") if f"{index:020}" in name]
        data = b""
        while len(data) < size:
            caller.send(HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, len(data), min(PIECE_BYTES_MAX, size - len(data))))
            data += (await caller.answer(Tag.BACKUP_PIECE))[HEADER_BACKUP_PIECE.size :]
        (tmp_path / "backup").write_bytes(data)
        assert notebook_in(tmp_path / "backup").values == {"k": HUNDRED * "x"}


# -- the file ----------------------------------------------------------------------------------------------------------


async def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    async with make_cluster(1) as cluster:
        path = tmp_path / "backup"
        path.write_bytes(b"mine")
        with pytest.raises(ConfigurationError, match="is there already"):
            await fetch(cluster, path)
        assert path.read_bytes() == b"mine"
        await fetch(cluster, path, force=True)
        assert notebook_in(path).total == 0
        with pytest.raises(ConfigurationError, match="there is no directory"):
            await fetch(cluster, tmp_path / "none" / "backup")
        with pytest.raises(ConfigurationError, match="is a directory"):
            await fetch(cluster, tmp_path, force=True)


async def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", HUNDRED * "x")
        disk = FaultyDisk()
        disk.make_directory("there")
        disk.free_bytes = 1000
        with pytest.raises(StorageError, match="cannot be written: No space left"):
            await fetch(cluster, Path("there/backup"), disk=disk)
        assert disk.list("there") == []


# -- leaders -----------------------------------------------------------------------------------------------------------


async def test_when_the_leader_is_lost_another_gives_it_from_the_beginning(tmp_path: Path) -> None:
    async with make_cluster() as cluster:
        client = await cluster.client()
        for number in range(40):
            await put(client, f"k{number}", HUNDRED * "x")
        leader = await cluster.elected()
        fetching = asyncio.ensure_future(fetch(cluster, tmp_path / "backup"))
        await wait_until(lambda: cluster.network.sent(Tag.BACKUP_PIECE) >= 3)
        await cluster.stop(leader)

        await fetching

        assert len(notebook_in(tmp_path / "backup").values) == 40
        assert left_in(tmp_path) == ["backup"]


async def test_a_leader_that_was_cut_off_gives_none(tmp_path: Path) -> None:
    async with make_cluster() as cluster:
        await cluster.client()
        leader = await cluster.elected()
        cluster.network.separate([leader], cluster.others(leader))
        with pytest.raises((NoLeaderError, ConnectError)) as failed:
            await fetch(cluster, tmp_path / "backup", leader, timeout=1.0)
        assert "copycat status" in str(failed.value)
        assert left_in(tmp_path) == []


async def test_without_any_server_it_says_what_was_tried(tmp_path: Path) -> None:
    async with make_cluster(2) as cluster:
        cluster.network.separate(["saver"], ["a", "b"])
        with pytest.raises(ConnectError, match=r"127\.0\.0\.1:5001: no answer") as failed:
            await fetch(cluster, tmp_path / "backup", timeout=0.3)
        assert set(failed.value.tried) == {"127.0.0.1:5001", "127.0.0.1:5002"}


# -- what cannot be backed up ------------------------------------------------------------------------------------------


async def test_a_state_that_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        cluster.machines["a"].values["bad"] = object()
        with pytest.raises(StorageError, match=r"cannot take a backup: .*test\.notebook"):
            await client.backup(tmp_path / "backup")
        assert left_in(tmp_path) == []
        assert await put(client, "k", 2) == 1


async def test_a_snapshot_that_has_rotted_is_not_handed_out(tmp_path: Path) -> None:
    async with make_cluster(1) as cluster:
        client = await cluster.client()
        await put(client, "k", HUNDRED * "x")
        await cluster.servers["a"].take_snapshot()
        disk = cluster.disks["a"].inner
        assert isinstance(disk, FaultyDisk)
        (name,) = [name for name in disk.list("a") if name.endswith(".snapshot")]
        disk.flip_bit(f"a/{name}", 5000)
        with pytest.raises(StorageError, match="at byte"):
            await fetch(cluster, tmp_path / "backup")
        assert left_in(tmp_path) == []


# -- bad callers -------------------------------------------------------------------------------------------------------


async def offered(cluster: Cluster, name: str) -> tuple[Caller, int, int]:
    """A caller that was offered a backup: its index and size."""
    caller = await call(cluster, name)
    caller.send(HEADER_BACKUP.pack(Tag.BACKUP, 1))
    _, _, index, size = HEADER_BACKUP_READY.unpack(await caller.answer(Tag.BACKUP_READY))
    return caller, index, size


@pytest.mark.parametrize(
    "frame",
    [
        HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 2, 0, 1),
        HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 0, 0),
        HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 0, PIECE_BYTES_MAX + 1),
        HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 1 << 40, 1),
        HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 0, 1)[:-1],
    ],
)
async def test_what_was_not_offered_costs_the_connection(frame: bytes) -> None:
    async with make_cluster(1) as cluster:
        caller, _, _ = await offered(cluster, "a")
        caller.send(frame)
        await caller.closed()
        stranger = await call(cluster, "a")
        stranger.send(HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 0, 1))
        await stranger.closed()


async def test_pieces_are_read_one_at_a_time() -> None:
    async with make_cluster(1) as cluster:
        caller, _, _ = await offered(cluster, "a")
        read = HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, 1, 0, 1)
        caller.send(read, read)
        await caller.closed()


async def test_few_backups_are_under_way_at_a_time_and_those_of_who_left_make_room() -> None:
    async with make_cluster(1) as cluster:
        callers = [(await offered(cluster, "a"))[0] for _ in range(BACKUPS_MAX)]
        late = await call(cluster, "a")
        late.send(HEADER_BACKUP.pack(Tag.BACKUP, 1))
        _, _, reason = HEADER_BACKUP_REFUSED.unpack_from(await late.answer(Tag.BACKUP_REFUSED))
        assert reason == Reason.OVERLOADED
        callers[0].send(HEADER_BACKUP.pack(Tag.BACKUP, 2))  # its second takes the place of its first
        await callers[0].answer(Tag.BACKUP_READY)
        callers[1].connection.close()
        desk = cluster.servers["a"].desk
        assert desk is not None
        await wait_until(lambda: len(desk.backups._transfers) < BACKUPS_MAX)
        late.send(HEADER_BACKUP.pack(Tag.BACKUP, 2))
        await late.answer(Tag.BACKUP_READY)


async def test_a_follower_names_the_leader() -> None:
    async with make_cluster() as cluster:
        leader = await cluster.elected()
        caller = await call(cluster, cluster.others(leader)[0])
        caller.send(HEADER_BACKUP.pack(Tag.BACKUP, 7))
        refused = await caller.answer(Tag.BACKUP_REFUSED)
        _, request, reason = HEADER_BACKUP_REFUSED.unpack_from(refused)
        assert (request, reason) == (7, Reason.NO_LEADER)
        assert f"{leader} leads, at 127.0.0.1:" in refused[HEADER_BACKUP_REFUSED.size :].decode()


# -- a server that is not what it should be ----------------------------------------------------------------------------

SOUND = snapshot_bytes(snapshot_header(9), [random.Random(1).randbytes(1000)] * 5)


class Server:
    """Says that it leads, and hands out `content` as the backup at index 9.

    cut: it closes the connection there. mute_from: it hands out nothing from there on.
    """

    def __init__(
        self, content: bytes = SOUND, *, shift: int = 0, cut: int | None = None, mute_from: int | None = None
    ) -> None:
        self.content = content
        self.shift = shift
        self.cut = cut
        self.mute_from = mute_from
        self.begun = 0

    def accept(self, _greeting: bytes, connection: Connection) -> bytes:
        notice = {"term": 1, "leader": "a", "members": {"a": "server:1"}}
        connection.send(bytes([Tag.LEADER]) + encode_msgpack(notice))
        return encode_hello(Hello(role="member", member_id="a"))

    def take(self, connection: Connection, frames: list[bytes]) -> None:
        for frame in frames:
            if frame[0] == Tag.BACKUP:
                self.begun += 1
                _, request = HEADER_BACKUP.unpack(frame)
                connection.send(HEADER_BACKUP_READY.pack(Tag.BACKUP_READY, request, 9, len(self.content)))
                continue
            _, request, offset, length = HEADER_BACKUP_READ.unpack(frame)
            if self.mute_from is not None and offset >= self.mute_from:
                return
            if self.cut is not None and offset + length > self.cut:
                connection.close()
                return
            piece = self.content[offset : offset + length]
            connection.send(HEADER_BACKUP_PIECE.pack(Tag.BACKUP_PIECE, request, offset + self.shift) + piece)

    async def fetch(self, path: Path, **options: Any) -> Backup:
        transport = LocalTransport()
        await transport.listen(Address("server", 1), self.accept, self.take)
        try:
            return await fetch_backup(transport, ["server:1"], path, **{"timeout": 1.0, **options})
        finally:
            await transport.close()


async def test_what_came_whole_is_a_backup(tmp_path: Path) -> None:
    assert (await Server().fetch(tmp_path / "backup")).index == 9
    assert (tmp_path / "backup").read_bytes() == SOUND


@pytest.mark.parametrize("place", [0, 60, 3000, len(SOUND) - 1])
async def test_what_came_altered_is_none(tmp_path: Path, place: int) -> None:
    altered = bytearray(SOUND)
    altered[place] ^= 1
    with pytest.raises(CorruptionError):
        await Server(bytes(altered)).fetch(tmp_path / "backup")
    with pytest.raises(CorruptionError):
        await Server(SOUND[:-1]).fetch(tmp_path / "backup")
    with pytest.raises(CorruptionError, match="index 8 came"):
        await Server(snapshot_bytes(snapshot_header(8))).fetch(tmp_path / "backup")
    assert left_in(tmp_path) == []


async def test_one_that_is_cut_off_again_and_again_is_given_up(tmp_path: Path) -> None:
    server = Server(cut=0)
    with pytest.raises(ConnectError, match=f"began {BEGINNINGS_MAX} times"):
        await server.fetch(tmp_path / "backup")
    assert server.begun == BEGINNINGS_MAX
    assert left_in(tmp_path) == []


async def test_a_piece_from_elsewhere_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="were due"):
        await Server(shift=1).fetch(tmp_path / "backup")
    assert left_in(tmp_path) == []


async def test_whoever_stops_waiting_leaves_nothing(tmp_path: Path) -> None:
    server = Server(bytes(2 * PIECE_BYTES), mute_from=PIECE_BYTES)
    fetching = asyncio.ensure_future(server.fetch(tmp_path / "backup", timeout=60.0))
    await wait_until(lambda: left_in(tmp_path) != [])
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert left_in(tmp_path) == []
