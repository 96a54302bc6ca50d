"""Snapshots of a log: written and received aside, two of them kept, the older one used when the newest has rotted."""

import errno
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from copycat.errors import CorruptionError, ForeignDirectoryError, InvariantError, LogError, ProtocolError
from copycat.io.storage import Storage, StorageLevel
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.memory_disk import MemoryDisk
from copycat.io.storage.snapshot_file import FILE_BYTES_MIN, SnapshotFile, snapshot_file_name
from copycat.io.storage.snapshots import SYNC_BYTES, Snapshots
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import (
    CHUNKS,
    DIRECTORY,
    WatchedDisk,
    make_disk,
    open_snapshots,
    put_file,
    snapshot_bytes,
    snapshot_header,
    take,
)


def path_of(index: int, term: int = 1) -> str:
    return f"{DIRECTORY}/{snapshot_file_name('copycat', index, term)}"


def names(disk: FaultyDisk) -> list[str]:
    """The files, shortened to the index and what follows."""
    return [name.removeprefix("copycat-").lstrip("0").removesuffix(".snapshot") for name in disk.list(DIRECTORY)]


def receive(snapshots: Snapshots, index: int, *, term: int = 1, data: bytes | None = None) -> SnapshotFile:
    """Take in a whole snapshot as a leader sends it."""
    data = snapshot_bytes(snapshot_header(index, term=term)) if data is None else data
    reception = snapshots.receive(index, term, len(data))
    while reception.offset < len(data):
        reception.write(reception.offset, data[reception.offset : reception.offset + 1000])
    return reception.finish()


def make(snapshots: Snapshots, how: str) -> SnapshotFile:
    """A snapshot at index 9, "written" or "received"."""
    return take(snapshots, snapshot_header(9)) if how == "written" else receive(snapshots, 9)


# -- taking ------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_found_again_after_losing_power() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    assert (snapshots.newest(), snapshots.bases, snapshots.indices, snapshots.discardable_index) == (None, (), (), 0)
    header = snapshot_header(7, term=2)
    file = take(snapshots, header)
    assert (file.path, file.header, list(file.chunks())) == (path_of(7, 2), header, CHUNKS)
    disk.crash(random.Random(0), kept=0.0)
    again = open_snapshots(disk)
    found = again.newest()
    assert found is not None
    assert (found.path, found.header, found.size, list(found.chunks())) == (file.path, header, file.size, CHUNKS)
    assert (again.bases, again.indices) == ((header.base,), (7,))
    assert [each.path for each in again.files] == [file.path]


def test_two_are_kept_and_the_older_says_how_far_the_log_may_go() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    seen = []
    for index in (5, 8, 9, 20):
        take(snapshots, snapshot_header(index))
        seen.append((snapshots.indices, snapshots.discardable_index, names(disk)))
    assert seen == [
        ((5,), 0, ["5-1"]),
        ((5, 8), 5, ["5-1", "8-1"]),
        ((8, 9), 8, ["8-1", "9-1"]),
        ((9, 20), 9, ["20-1", "9-1"][::-1]),
    ]
    disk.crash(random.Random(0), kept=0.0)
    assert open_snapshots(disk).indices == (9, 20)


def test_older_ones_are_removed_only_when_the_new_one_is_durable_and_oldest_first() -> None:
    disk = WatchedDisk()
    for index in (1, 2, 3, 4):
        put_file(disk, path_of(index), snapshot_bytes(snapshot_header(index)))
    snapshots = open_snapshots(disk)
    assert snapshots.indices == (1, 2, 3, 4)
    assert snapshots.discardable_index == 3
    done: list[str] = []
    disk.delay = done.append
    take(snapshots, snapshot_header(5))
    assert done == ["open", *["write"] * 4, "sync", "rename", "sync_directory", *["remove"] * 3, "sync_directory"]
    assert disk.removed == [path_of(index) for index in (1, 2, 3)]
    assert disk.all_closed()


def test_the_newest_found_lets_go_of_what_a_crash_has_left() -> None:
    disk = make_disk()
    for index in (1, 2, 3):
        put_file(disk, path_of(index), snapshot_bytes(snapshot_header(index)))
    snapshots = open_snapshots(disk)
    found = snapshots.newest()
    assert found is not None
    assert (found.header.index, snapshots.indices, names(disk)) == (3, (2, 3), ["2-1", "3-1"])


def test_what_was_left_unfinished_is_removed_and_nothing_else() -> None:
    disk = make_disk()
    names_left = [f"{snapshot_file_name('copycat', 5, 1)}{suffix}" for suffix in (".tmp", ".received")]
    others = ["metadata-a.tmp", snapshot_file_name("other", 5, 1) + ".tmp", "copycat-5.snapshot", "x.received"]
    others.append(snapshot_file_name("copycat", 5, 1) + ".bad")
    for name in names_left + others:
        put_file(disk, f"{DIRECTORY}/{name}", b"whatever")
    assert open_snapshots(disk).newest() is None
    assert disk.list(DIRECTORY) == sorted(others)


def test_a_writer_that_was_given_up_leaves_nothing() -> None:
    disk = WatchedDisk()
    snapshots = open_snapshots(disk)
    snapshots.begin(snapshot_header(5)).abort()  # before it had a file
    writer = snapshots.begin(snapshot_header(5))
    writer.write(b"one")
    assert names(disk) == ["5-1.snapshot.tmp"]
    with pytest.raises(InvariantError, match="one snapshot is written at a time"):
        snapshots.begin(snapshot_header(6))
    writer.abort()
    writer.abort()
    assert (names(disk), disk.all_closed()) == ([], True)
    for use in (lambda: writer.write(b"two"), writer.finish):
        with pytest.raises(LogError, match="was finished or given up"):
            use()
    take(snapshots, snapshot_header(6)).verify()


def test_what_lies_in_the_place_of_a_new_file_is_not_written_over_but_replaced() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    put_file(disk, path_of(5) + ".tmp", bytes(100_000))
    take(snapshots, snapshot_header(5)).verify()


def test_a_finished_writer_takes_no_more() -> None:
    disk = make_disk()
    writer = open_snapshots(disk).begin(snapshot_header(5))
    writer.finish()
    writer.abort()
    assert names(disk) == ["5-1"]
    with pytest.raises(LogError, match="was finished or given up"):
        writer.write(b"more")


def test_nothing_older_than_the_newest_is_begun() -> None:
    snapshots = open_snapshots(make_disk())
    take(snapshots, snapshot_header(9))
    for begin in (lambda: snapshots.begin(snapshot_header(8)), lambda: snapshots.receive(8, 1, 1000)):
        with pytest.raises(LogError, match="is newer than a snapshot at index 8"):
            begin()


def test_one_overtaken_by_two_newer_ones_is_given_up() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    writer = snapshots.begin(snapshot_header(5))
    writer.write(b"slow")
    receive(snapshots, 6)
    receive(snapshots, 7)
    with pytest.raises(LogError, match="2 newer snapshots were completed before this one"):
        writer.finish()
    assert names(disk) == ["6-1", "7-1"]


def test_one_overtaken_by_a_newer_one_is_kept_as_the_older() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    take(snapshots, snapshot_header(3))
    writer = snapshots.begin(snapshot_header(5))
    receive(snapshots, 7)
    assert writer.finish().header.index == 5
    assert (snapshots.indices, names(disk)) == ((5, 7), ["5-1", "7-1"])


def test_one_at_the_same_index_takes_the_place_of_the_other() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    take(snapshots, snapshot_header(3))
    take(snapshots, snapshot_header(5))
    disk.flip_bit(path_of(5), 100)
    receive(snapshots, 5)
    assert (snapshots.indices, names(disk)) == ((3, 5), ["3-1", "5-1"])
    found = snapshots.newest()
    assert found is not None
    assert list(found.chunks()) == CHUNKS
    with pytest.raises(InvariantError, match="has one term"):
        take(snapshots, snapshot_header(5, term=2))


def test_much_is_synced_bit_by_bit() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    done: list[str] = []
    disk.delay = done.append
    take(snapshots, snapshot_header(5), [bytes(1 << 20)] * 17)
    assert SYNC_BYTES == 8 << 20
    assert done.count("sync") == 3


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["written", "received"])
def test_a_crash_at_any_operation_leaves_the_old_snapshots_or_the_new_one_too(how: str) -> None:
    """Goal: never neither, never half. Method: stop at each operation, keep any of what was not synced."""
    finished = False
    stop = 0
    while not finished:
        for seed in range(4):
            disk = make_disk()
            snapshots = open_snapshots(disk)
            for index in (3, 5):
                take(snapshots, snapshot_header(index))
            disk.stop_after = stop
            finished = False
            try:
                make(snapshots, how)
                finished = True
            except PowerFailure:
                pass
            disk.crash(random.Random(seed))
            again = open_snapshots(disk)
            newest = again.newest()
            assert newest is not None
            assert list(newest.chunks()) == CHUNKS
            assert again.indices == ((5, 9) if newest.header.index == 9 else (3, 5))
            assert newest.header.index == 9 or not finished
            assert not [name for name in names(disk) if "." in name]
        stop += 1
    assert stop > 8


@pytest.mark.parametrize("how", ["written", "received"])
@pytest.mark.parametrize("fault", ["full", "sync"])
def test_a_disk_that_refuses_leaves_the_old_snapshots_untouched(how: str, fault: str) -> None:
    disk = WatchedDisk()
    snapshots = open_snapshots(disk)
    for index in (3, 5):
        take(snapshots, snapshot_header(index))
    before = {name: disk.contents(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY)}
    if fault == "full":
        disk.free_bytes = 3000
    else:
        disk.fail_syncs = True
    with pytest.raises(OSError) as caught:
        make(snapshots, how)
    assert caught.value.errno == (errno.ENOSPC if fault == "full" else errno.EIO)
    assert {name: disk.contents(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY)} == before
    assert (snapshots.indices, disk.all_closed()) == ((3, 5), True)
    disk.heal()
    make(snapshots, how)
    assert snapshots.indices == (5, 9)


def test_the_older_one_is_used_when_the_newest_has_rotted_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    size = len(snapshot_bytes(snapshot_header(5)))
    for place in range(0, size, 97):
        disk = make_disk()
        snapshots = open_snapshots(disk)
        for index in (3, 5):
            take(snapshots, snapshot_header(index))
        disk.flip_bit(path_of(5), place)
        caplog.clear()
        again = open_snapshots(disk)
        with caplog.at_level(logging.WARNING):
            found = again.newest()
        assert found is not None
        assert (found.header.index, list(found.chunks()), again.indices) == (3, CHUNKS, (3,))
        assert again.discardable_index == 0
        (record,) = caplog.records
        assert (record.__dict__["path"], record.__dict__["used"]) == (path_of(5), path_of(3))
        assert f"{path_of(5)}.bad" in record.getMessage()
        disk.crash(random.Random(0), kept=0.0)
        assert names(disk) == ["3-1", "5-1.snapshot.bad"]
        assert open_snapshots(disk).newest() is not None


def test_an_older_one_with_a_damaged_header_is_set_aside_too() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    for index in (3, 5):
        take(snapshots, snapshot_header(index))
    disk.flip_bit(path_of(3), 20)
    again = open_snapshots(disk)
    assert again.indices == (5,)
    found = again.newest()
    assert found is not None
    assert (found.header.index, names(disk)) == (5, ["3-1.snapshot.bad", "5-1"])


def test_a_damaged_one_that_is_written_anew_is_sound() -> None:
    disk = make_disk()
    take(open_snapshots(disk), snapshot_header(3))
    disk.flip_bit(path_of(3), 20)
    again = open_snapshots(disk)
    take(again, snapshot_header(3))
    assert (again.indices, names(disk)) == ((3,), ["3-1"])
    assert again.newest() is not None


def test_none_sound_though_some_exist_is_refused_every_time_and_nothing_is_renamed() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    for index in (3, 5):
        take(snapshots, snapshot_header(index))
    disk.flip_bit(path_of(3), 20)
    disk.flip_bit(path_of(5), 300)
    for _ in range(2):
        again = open_snapshots(disk)
        with pytest.raises(CorruptionError, match=r"no snapshot is sound: .*given one by its leader.*backup") as caught:
            again.newest()
        assert path_of(3) in str(caught.value)
        assert path_of(5) in str(caught.value)
        assert names(disk) == ["3-1", "5-1"]


def test_a_header_under_the_name_of_another_snapshot_is_damage() -> None:
    disk = make_disk()
    put_file(disk, path_of(6), snapshot_bytes(snapshot_header(5)))
    with pytest.raises(CorruptionError, match="the header is that of index 5"):
        open_snapshots(disk).newest()


def test_a_snapshot_of_another_cluster_is_foreign_and_one_of_no_cluster_yet_is_not() -> None:
    for ours, theirs, foreign in ((b"a" * 16, b"b" * 16, True), (b"a" * 16, b"", False), (b"", b"b" * 16, False)):
        disk = make_disk()
        put_file(disk, path_of(5), snapshot_bytes(snapshot_header(5, cluster_id=theirs)))
        if foreign:
            with pytest.raises(ForeignDirectoryError, match=f"belongs to cluster {theirs.hex()}"):
                open_snapshots(disk, cluster_id=ours)
        else:
            assert open_snapshots(disk, cluster_id=ours).indices == (5,)


def test_a_name_that_only_the_cache_knows_is_made_durable_before_it_is_believed() -> None:
    disk = make_disk()
    put_file(disk, path_of(5) + ".tmp", snapshot_bytes(snapshot_header(5)))
    disk.rename(path_of(5) + ".tmp", path_of(5))
    open_snapshots(disk)
    disk.crash(random.Random(0), kept=0.0)
    assert open_snapshots(disk).indices == (5,)


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_received_as_it_was_sent() -> None:
    theirs = take(open_snapshots(make_disk()), snapshot_header(9, term=4))
    disk = make_disk()
    snapshots = open_snapshots(disk)
    reception = snapshots.receive(9, 4, theirs.size)
    assert (reception.index, reception.term, reception.size, reception.offset) == (9, 4, theirs.size, 0)
    while reception.offset < theirs.size:
        before = reception.offset
        data = theirs.read(before, 1500)
        assert reception.write(before, data) == before + len(data) == reception.offset
    assert names(disk) == ["9-4.snapshot.received"]
    file = reception.finish()
    assert (file.path, file.header, file.size) == (path_of(9, 4), theirs.header, theirs.size)
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(path_of(9, 4)) == theirs.read(0, theirs.size)
    with pytest.raises(LogError, match="the reception has ended"):
        reception.write(theirs.size, b"more")


def test_bytes_from_another_place_are_refused_and_change_nothing() -> None:
    data = snapshot_bytes(snapshot_header(9))
    snapshots = open_snapshots(make_disk())
    reception = snapshots.receive(9, 1, len(data))
    reception.write(0, data[:500])
    for offset in (0, 499, 501):
        with pytest.raises(ProtocolError, match=f"from byte {offset} on, wanted was 500"):
            reception.write(offset, data[offset : offset + 10])
    reception.write(500, data[500:])
    reception.finish().verify()


def test_more_or_less_than_announced_is_refused() -> None:
    data = snapshot_bytes(snapshot_header(9))
    disk = make_disk()
    snapshots = open_snapshots(disk)
    reception = snapshots.receive(9, 1, len(data))
    with pytest.raises(ProtocolError, match="more of a snapshot than"):
        reception.write(0, data + b"x")
    with pytest.raises(LogError, match="the reception has ended"):
        reception.write(0, data)
    reception = snapshots.receive(9, 1, len(data))
    reception.write(0, data[:-1])
    with pytest.raises(ProtocolError, match=f"sent {len(data) - 1} of the {len(data)} bytes"):
        reception.finish()
    assert names(disk) == []
    for index, term, size in ((0, 1, 1000), (9, 0, 1000), (9, 1, FILE_BYTES_MIN - 1)):
        with pytest.raises(ProtocolError, match="announced a snapshot"):
            snapshots.receive(index, term, size)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:],
        lambda data: bytes(len(data)),
        lambda data: snapshot_bytes(snapshot_header(8)),
        lambda data: snapshot_bytes(snapshot_header(9, term=2)),
        lambda data: snapshot_bytes(snapshot_header(9, cluster_id=b"x" * 16)),
        lambda data: data[:8] + b"\2" + data[9:],
    ],
    ids=["damaged", "zeros", "another index", "another term", "another cluster", "another version"],
)
def test_what_is_not_sound_or_not_what_was_announced_is_refused(change: Callable[[bytes], bytes]) -> None:
    disk = WatchedDisk()
    snapshots = open_snapshots(disk)
    take(snapshots, snapshot_header(3))
    with pytest.raises(ProtocolError, match="is not what it announced"):
        receive(snapshots, 9, data=change(snapshot_bytes(snapshot_header(9))))
    assert (snapshots.indices, names(disk), disk.all_closed()) == ((3,), ["3-1"], True)


def test_another_reception_ends_the_earlier_one() -> None:
    disk = WatchedDisk()
    snapshots = open_snapshots(disk)
    first = snapshots.receive(9, 1, 1000)
    first.write(0, b"some")
    second = snapshots.receive(9, 1, len(snapshot_bytes(snapshot_header(9))))
    assert names(disk) == []
    with pytest.raises(LogError, match="the reception has ended"):
        first.write(4, b"more")
    second.write(0, snapshot_bytes(snapshot_header(9)))
    first.discard()
    second.finish().verify()
    second.discard()
    assert (names(disk), disk.all_closed()) == (["9-1"], True)


def test_one_is_written_while_another_at_the_same_index_is_received() -> None:
    disk = make_disk()
    snapshots = open_snapshots(disk)
    writer = snapshots.begin(snapshot_header(9))
    data = snapshot_bytes(snapshot_header(9))
    reception = snapshots.receive(9, 1, len(data))
    for chunk in CHUNKS:
        writer.write(chunk)
        reception.write(reception.offset, data[reception.offset : reception.offset + 50])
    writer.finish()
    reception.write(reception.offset, data[reception.offset :])
    reception.finish()
    assert names(disk) == ["9-1"]


# -- memory and the operating system -----------------------------------------------------------------------------------


def test_in_memory_snapshots_live_as_long_as_the_process() -> None:
    snapshots = Storage(level=StorageLevel.MEMORY).open_snapshots()
    for index in (3, 5):
        take(snapshots, snapshot_header(index))
    receive(snapshots, 9)
    found = snapshots.newest()
    assert found is not None
    assert (snapshots.indices, found.header.index, list(found.chunks())) == ((5, 9), 9, CHUNKS)


def test_a_disk_in_memory_behaves_as_others() -> None:
    disk = MemoryDisk()
    disk.make_directory("d")
    with pytest.raises(FileNotFoundError):
        disk.open("d/x")
    with pytest.raises(FileNotFoundError):
        disk.remove("d/x")
    with pytest.raises(FileNotFoundError):
        disk.rename("d/x", "d/y")
    file = disk.open("d/x", create=True)
    file.write_at(2, b"abc")
    file.sync()
    assert (file.size(), file.read(0, 9), disk.open("d/x", create=True).read(3, 1)) == (5, b"\0\0abc", b"b")
    file.close()
    disk.rename("d/x", "d/y")
    disk.sync_directory("d")
    assert (disk.list("d"), disk.exists("d/x"), disk.exists("d/y"), disk.list("e")) == (["y"], False, True, [])
    disk.remove("d/y")
    disk.lock("d/lock").close()
    assert disk.list("d") == []


def test_snapshots_are_opened_with_the_settings_of_their_storage() -> None:
    disk = FaultyDisk()
    storage = Storage(DIRECTORY, disk=disk)
    snapshots = storage.open_snapshots("other", cluster_id=b"c" * 16)
    assert (snapshots.directory, snapshots.name, snapshots.cluster_id) == (DIRECTORY, "other", b"c" * 16)
    file = take(snapshots, snapshot_header(5))
    assert file.path.startswith(f"{DIRECTORY}/other-")
    assert Storage(DIRECTORY, disk=disk).open_snapshots().indices == ()


def test_on_a_real_disk_one_is_written_on_a_thread_while_another_is_received(tmp_path: Path) -> None:
    snapshots = Snapshots.open(OsDisk(), str(tmp_path))
    writer = snapshots.begin(snapshot_header(8))
    chunks = [random.Random(number).randbytes(70_000) for number in range(150)]

    def write() -> None:
        for chunk in chunks:
            writer.write(chunk)
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    receive(snapshots, 9)
    thread.join()
    assert snapshots.indices == (8, 9)
    again = Snapshots.open(OsDisk(), str(tmp_path))
    found = again.newest()
    assert found is not None
    assert (again.indices, found.header.index) == ((8, 9), 9)
    older = next(path for path in tmp_path.iterdir() if "08-1" in path.name)
    assert older.stat().st_mode & 0o777 == 0o600
