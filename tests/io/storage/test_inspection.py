"""What an inspection finds is what an opening finds, and it changes nothing. Protocol §1.2, §1.7, §1.8."""

import random
from pathlib import Path

import pytest

from copycat.errors import CorruptionError, InvariantError
from copycat.io.storage.base import ORIGIN
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.findings import Inspection
from copycat.io.storage.inspection import blocks_of, inspect_directory, inspect_file
from copycat.io.storage.log import Log
from copycat.io.storage.metadata import Metadata, MetadataStore
from copycat.io.storage.read_only import ReadOnlyDisk, holder_of
from copycat.io.storage.snapshots import Snapshots
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    CHUNKS,
    CLUSTER,
    DIRECTORY,
    append,
    base_after,
    flush,
    header_at,
    make_disk,
    open_log,
    open_snapshots,
    put_file,
    take,
)

SEEDS = 150
SMALL = 9_000


def filled(disk: FaultyDisk, chooser: random.Random) -> None:
    """A log of some segments, with no, one or two snapshots, perhaps without its beginning."""
    log = open_log(disk, segment=SMALL, cluster_id=CLUSTER)
    snapshots = open_snapshots(disk)
    store_metadata(disk, members=chooser.choice([1, 3]))
    for _ in range(chooser.randrange(1, 12)):
        last = append(log, chooser.randbytes(chooser.choice([10, 700, 4000])), count=chooser.choice([1, 3]))
        if chooser.random() < 0.7:
            flush(log)
            if chooser.random() < 0.4:
                take(snapshots, header_at(base_after(last)))
            if chooser.random() < 0.5:
                log.discard_before(snapshots.discardable_index + 1)
                discard = log.take_discard()
                if discard is not None:
                    discard.run()
                    log.discarded(discard)
    if log.needs_flush:
        flush(log)


def store_metadata(disk: FaultyDisk, *, members: int) -> None:
    store = MetadataStore(disk, DIRECTORY)
    store.load()
    incarnations = {name: name.encode() * 16 for name in "abc"[:members]}
    store.save(Metadata(3, "b", "a", b"a" * 16, CLUSTER, [f"{each}=h:1" for each in incarnations], incarnations))


def spoil(disk: FaultyDisk, chooser: random.Random) -> str:
    """Rot one byte of one file that is no metadata."""
    names = [name for name in disk.list(DIRECTORY) if name.endswith((".log", ".snapshot"))]
    path = f"{DIRECTORY}/{chooser.choice(names)}"
    used = disk.contents(path).rstrip(b"\0")
    disk.flip_bit(path, chooser.randrange(len(used)), chooser.randrange(8))
    return path


def opened(disk: FaultyDisk) -> tuple[int, int, int | None]:
    """Base, last index and fault of a log that is opened as a member opens it. Raises CorruptionError."""
    newest = open_snapshots(disk).newest()
    base = newest.header.base if newest is not None else ORIGIN
    log = open_log(disk, segment=SMALL, cluster_id=CLUSTER, base=base)
    return log.base.index, log.last_index, log.faulty_from


@pytest.mark.parametrize("is_spoilt", [False, True])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_verdict_is_that_of_an_opening(seed: int, is_spoilt: bool) -> None:
    chooser = random.Random(seed)
    disk = make_disk()
    filled(disk, chooser)
    disk.end_process()
    if is_spoilt:
        spoil(disk, chooser)
    before = {name: disk.contents(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY)}

    found = inspect_directory(disk, DIRECTORY)

    blocks = list(blocks_of(disk, found, found.first_index))
    indices = [index for block in blocks for index in range(block.first_index, block.last_index + 1)]
    assert before == {name: disk.contents(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY)}
    try:
        verdict = opened(disk)
    except CorruptionError:
        assert found.damages, f"seed {seed}"
        return
    assert (found.base.index, found.last_index, found.faulty_from) == verdict, f"seed {seed}"
    if not is_spoilt:
        assert not found.damages
    assert indices == list(range(found.first_index, found.last_index + 1)), f"seed {seed}"


@pytest.mark.parametrize("seed", range(40))
def test_a_damage_names_the_record_that_was_hit(seed: int) -> None:
    chooser = random.Random(seed)
    disk = make_disk()
    store_metadata(disk, members=1)
    log = open_log(disk, cluster_id=CLUSTER)
    starts = []
    for _ in range(6):
        starts.append(log._segments[-1].end)
        append(log, chooser.randbytes(500))
        flush(log)
    path = log._segments[-1].path
    disk.end_process()
    hit = chooser.randrange(4)
    disk.flip_bit(path, starts[hit] + chooser.randrange(500))

    found = inspect_directory(disk, DIRECTORY)

    (damage,) = found.damages
    assert (damage.path, damage.offset) == (path, starts[hit])
    assert (found.last_index, found.faulty_from, found.lost_to) == (hit, hit + 1, 5)
    assert "repair" in damage.advice


def test_torn_bytes_are_a_note_and_no_damage() -> None:
    disk = make_disk()
    log = open_log(disk, cluster_id=CLUSTER)
    append(log, b"one")
    flush(log)
    end, path = log._segments[-1].end, log._segments[-1].path
    disk.end_process()
    disk.overwrite(path, end, b"half a record")

    found = inspect_directory(disk, DIRECTORY)

    assert not found.damages
    assert found.last_index == 1
    assert f"{path} at byte {end}: 13 bytes" in found.notes[0]


def test_each_copy_of_the_metadata_is_looked_at() -> None:
    disk = make_disk()
    store_metadata(disk, members=3)
    disk.flip_bit(f"{DIRECTORY}/metadata-b", 30)

    found = inspect_directory(disk, DIRECTORY)

    assert found.metadata is not None
    assert found.metadata.vote == "b"
    assert [damage.path for damage in found.damages] == [f"{DIRECTORY}/metadata-b"]
    assert found.damages[0].advice.startswith("nothing to do")
    disk.flip_bit(f"{DIRECTORY}/metadata-a", 30)
    both = inspect_directory(disk, DIRECTORY)
    assert both.metadata is None
    assert all("vote is forgotten" in damage.advice for damage in both.damages)


def snapshots_on(disk: FaultyDisk) -> Snapshots:
    log = open_log(disk, cluster_id=CLUSTER)
    snapshots = open_snapshots(disk)
    for number in range(3):
        last = append(log, bytes([number]) * 100)
        flush(log)
        if number:
            take(snapshots, header_at(base_after(last)))
    disk.end_process()
    return snapshots


def test_a_snapshot_that_has_rotted_costs_nothing_while_another_is_sound() -> None:
    disk = make_disk()
    newest = snapshots_on(disk).files[-1]
    disk.flip_bit(newest.path, newest.size - 40)

    found = inspect_directory(disk, DIRECTORY)

    assert [(report.index, report.is_sound) for report in found.snapshots] == [(2, True), (3, False)]
    assert found.damages[0].path == newest.path
    assert "the snapshot at index 2 serves" in found.damages[0].advice
    assert (found.last_index, found.faulty_from) == (3, None)


def test_a_file_of_its_own_is_verified_to_its_end() -> None:
    disk = make_disk()
    newest = snapshots_on(disk).files[-1]

    found = inspect_file(disk, newest.path)
    assert [(report.index, report.chunks) for report in found.snapshots] == [(3, len(CHUNKS))]
    assert not found.damages

    disk.flip_bit(newest.path, newest.size - 1)
    spoilt = inspect_file(disk, newest.path)
    assert "digest" in spoilt.damages[0].what
    assert "cannot be restored" in spoilt.damages[0].advice


def test_segments_that_newer_ones_hide_are_shown_as_such() -> None:
    disk = make_disk()
    log = open_log(disk, cluster_id=CLUSTER)
    for number in range(4):
        append(log, bytes([number]))
    flush(log)
    old = log._segments[0].path
    content = disk.contents(old)
    log.truncate_after(0)
    append(log, b"other", term=2)
    flush(log)
    put_file(disk, old, content)  # as if its removal had not reached the disk
    disk.end_process()

    found = inspect_directory(disk, DIRECTORY)

    assert (found.first_index, found.last_index, found.damages) == (1, 1, [])
    assert {report.path: report.state for report in found.segments}[old] == "hidden"


class Changing(FaultyDisk):
    """Looks damaged for the first looks, as a file does that is being written."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.make_directory(DIRECTORY)
        self.looks = looks
        self.is_used = False

    def list(self, path: str) -> list[str]:
        names = super().list(path)
        if self.is_used:
            self.is_used = False
            self.looks -= 1
            if self.looks >= 0:
                raise FileNotFoundError(path)
        return names

    def exists(self, path: str) -> bool:
        self.is_used = True
        return super().exists(path)


def look(disk: FaultyDisk, *, in_use_by: str | None) -> Inspection:
    return inspect_directory(disk, DIRECTORY, in_use_by=in_use_by)


def test_a_directory_in_use_is_looked_at_again() -> None:
    disk = Changing(2)
    log = open_log(disk, cluster_id=CLUSTER)
    append(log)
    flush(log)

    found = look(disk, in_use_by="pid 1")

    assert not found.damages
    assert found.last_index == 1
    assert "in use by pid 1" in found.notes[0]
    with pytest.raises(FileNotFoundError):
        look(Changing(100), in_use_by="pid 1")
    with pytest.raises(FileNotFoundError):
        look(Changing(1), in_use_by=None)


# -- the disk of a reader ----------------------------------------------------------------------------------------------


def test_a_disk_that_is_only_read_refuses_to_write(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    Path(path).write_bytes(b"abc")
    disk = ReadOnlyDisk()
    file = disk.open(path)
    assert file.read(0, 9) == b"abc"
    file.sync()
    disk.remove(path)
    disk.sync_directory(str(tmp_path))
    disk.make_directory(str(tmp_path))

    for change in (
        lambda: file.write_at(0, b"x"),
        lambda: disk.open(path, create=True),
        lambda: disk.rename(path, path + "2"),
        lambda: disk.lock(path),
    ):
        with pytest.raises(InvariantError):
            change()
    file.close()
    with pytest.raises(FileNotFoundError):
        disk.make_directory(str(tmp_path / "missing"))
    assert Path(path).read_bytes() == b"abc"


def test_the_holder_of_a_lock_is_told_while_it_holds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert holder_of(path) is None
    lock = OsDisk().lock(path)
    assert (holder_of(path) or "").startswith("pid ")
    lock.close()
    assert holder_of(path) is None


def test_a_log_of_the_system_s_files_is_not_changed(tmp_path: Path) -> None:
    directory = str(tmp_path)
    log = Log.open(OsDisk(), directory, max_segment_size=1 << 20)
    append(log)
    flush(log)
    log.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    found = inspect_directory(ReadOnlyDisk(), directory)

    assert found.last_index == 1
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
