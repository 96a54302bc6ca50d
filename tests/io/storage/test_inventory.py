"""What an opening finds in a directory, what it makes of it, and what it leaves."""

import logging
import random

import msgspec
import pytest

from copycat.errors import ForeignDirectoryError
from copycat.io.storage import Log
from copycat.io.storage.record import HEADER_BYTES, encode_record, record_bytes
from copycat.io.storage.recovery import take_inventory
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header, segment_file_name
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    DIRECTORY,
    WatchedDisk,
    all_blocks,
    append,
    flush,
    make_disk,
    newest_segment,
    next_block,
    open_log,
)

CLUSTER = b"c" * 16


def put_segment(disk: FaultyDisk, generation: int, first_index: int, *, cluster_id: bytes = b"") -> str:
    """An empty segment under its name, durable; returns the path."""
    header = SegmentHeader(
        generation=generation,
        first_index=first_index,
        previous_term=0,
        chain=0,
        synced_index=first_index - 1,
        cluster_id=cluster_id,
    )
    return put(disk, segment_file_name("copycat", generation, first_index), header.encode())


def put(disk: FaultyDisk, name: str, data: bytes) -> str:
    path = f"{DIRECTORY}/{name}"
    file = disk.open(path, create=True)
    file.write_at(0, data)
    file.sync()
    file.close()
    disk.sync_directory(DIRECTORY)
    return path


def segments(disk: FaultyDisk) -> list[str]:
    """The paths of the segments, oldest first."""
    return [f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY) if name.endswith(".log")]


def rolled(disk: FaultyDisk, count: int = 4) -> Log:
    """A log with a segment for each of its blocks, all durable."""
    log = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    for n in range(count):
        append(log, bytes([n + 1]) * 6000)
    flush(log)
    return log


# -- which segments are in force -------------------------------------------------------------------------------------


def test_a_segment_hides_all_older_ones_from_its_first_index_on() -> None:
    disk = make_disk()
    paths = [put_segment(disk, *place) for place in ((1, 1), (1, 5), (1, 9), (2, 6), (2, 8), (3, 8))]
    found = take_inventory(disk, DIRECTORY, "copycat", b"")
    assert [(each.generation, each.first_index) for each in found.view] == [(1, 1), (1, 5), (2, 6), (3, 8)]
    assert [each.path for each in found.view] == [paths[0], paths[1], paths[3], paths[5]]
    assert found.hidden == [paths[2], paths[4]]
    assert found.generation == 3


def test_an_empty_directory_has_no_segments() -> None:
    found = take_inventory(make_disk(), DIRECTORY, "copycat", b"")
    assert (found.view, found.hidden, found.generation) == ([], [], 0)


def test_only_what_was_born_halfway_of_this_log_is_removed() -> None:
    disk = make_disk()
    half = put(disk, segment_file_name("copycat", 1, 1) + ".tmp", b"half")
    others = [
        put(disk, name, b"mine")
        for name in ("notes.tmp", segment_file_name("other", 1, 1) + ".tmp", "metadata-a.tmp", "copycat.log")
    ]
    take_inventory(disk, DIRECTORY, "copycat", b"")
    assert not disk.exists(half)
    assert all(disk.exists(path) for path in others)


def test_whatever_the_cache_shows_is_made_durable_before_it_is_believed() -> None:
    disk = make_disk()
    path = f"{DIRECTORY}/{segment_file_name('copycat', 1, 1)}"
    header = SegmentHeader(generation=1, first_index=1, previous_term=0, chain=0, synced_index=0)
    disk.open(path, create=True).write_at(0, header.encode())
    take_inventory(disk, DIRECTORY, "copycat", b"")
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(path) == header.encode()


def test_a_header_under_the_name_of_another_segment_is_not_believed() -> None:
    for wrong in ((2, 1), (1, 2)):
        disk = make_disk()
        header = SegmentHeader(generation=wrong[0], first_index=wrong[1], previous_term=0, chain=0, synced_index=0)
        put(disk, segment_file_name("copycat", 1, 1), header.encode())
        (found,) = take_inventory(disk, DIRECTORY, "copycat", b"").view
        assert (found.header, found.generation, found.first_index) == (None, 1, 1)


def test_the_log_of_another_cluster_is_foreign_and_one_of_no_cluster_yet_is_not() -> None:
    for ours, theirs, foreign in ((b"a" * 16, b"b" * 16, True), (b"a" * 16, b"", False), (b"", b"b" * 16, False)):
        disk = make_disk()
        path = put_segment(disk, 1, 1, cluster_id=theirs)
        if foreign:
            with pytest.raises(ForeignDirectoryError, match=rf"{path} belongs to cluster {theirs.hex()}"):
                take_inventory(disk, DIRECTORY, "copycat", ours)
        else:
            assert take_inventory(disk, DIRECTORY, "copycat", ours).view[0].header is not None


def test_an_opening_leaves_only_the_newest_handles_open() -> None:
    disk = WatchedDisk()
    rolled(disk).close()
    disk.opened.clear()
    log = open_log(disk)
    assert sum(not file._closed for file in disk.opened) == 1
    log.close()
    assert disk.all_closed()


# -- a sound log -----------------------------------------------------------------------------------------------------


def test_a_sound_log_moves_on_to_a_new_generation_that_vouches_for_all_of_it() -> None:
    disk = make_disk()
    log = open_log(disk, cluster_id=CLUSTER)
    blocks = [append(log, b"one", count=2, term=3), append(log, b"two")]
    flush(log)
    log.close()
    again = open_log(disk, cluster_id=CLUSTER)
    assert (again.last_index, again.last_term, again.durable_index) == (3, 3, 3)
    assert (again.last_time, again.last_chain, again.torn_path) == (blocks[1].time, blocks[1].chain, None)
    newest = disk.contents(newest_segment(disk))
    assert decode_segment_header(newest, "") == SegmentHeader(
        generation=2,
        first_index=1,
        previous_term=0,
        chain=0,
        synced_index=3,
        cluster_id=CLUSTER,
    )
    assert disk.list(DIRECTORY) == [segment_file_name("copycat", 2, 1)]


def test_blocks_proven_durable_stay_in_their_segment_and_only_the_rest_is_copied() -> None:
    disk = make_disk()
    log = open_log(disk)
    for body in (b"one", b"two", b"three"):
        append(log, body)
        flush(log)
    log.close()
    again = open_log(disk)
    names = disk.list(DIRECTORY)
    assert names == [segment_file_name("copycat", 1, 1), segment_file_name("copycat", 2, 3)]
    assert len(disk.contents(f"{DIRECTORY}/{names[1]}")) == SEGMENT_HEADER_BYTES + record_bytes(5)
    assert [block.body for block in all_blocks(again)] == [b"one", b"two", b"three"]
    header = decode_segment_header(disk.contents(f"{DIRECTORY}/{names[1]}"), "")
    assert (header.previous_term, header.synced_index) == (1, 3)


def test_torn_bytes_are_saved_beside_the_log_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log, b"kept")
    flush(log)
    append(log, b"y" * 60)
    flush(log)
    path = newest_segment(disk)
    place = SEGMENT_HEADER_BYTES + record_bytes(4)
    disk.flip_bit(path, place + HEADER_BYTES + 3)
    torn = disk.contents(path)[place:].rstrip(b"\0")
    left = put(disk, path.rpartition("/")[2].replace(".log", ".torn"), b"left by an opening that crashed" * 50)
    with caplog.at_level(logging.WARNING):
        again = open_log(disk)
    assert again.torn_path == path.replace(".log", ".torn") == left
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(left) == torn
    (record,) = caplog.records
    assert record.__dict__["path"] == left
    assert (record.__dict__["size_bytes"], record.__dict__["last_index"]) == (len(torn), 1)


def test_zeros_written_ahead_are_not_torn() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log)
    flush(log)
    path = newest_segment(disk)
    put(disk, path.rpartition("/")[2], disk.contents(path) + bytes(5000))
    assert open_log(disk).torn_path is None


def test_only_as_much_as_the_cache_may_hold_is_kept_in_memory_by_an_opening() -> None:
    disk = make_disk()
    log = open_log(disk, segment=1 << 20)
    for n in range(50):
        append(log, bytes([n]) * 1000)
        flush(log)
    log.close()
    again = open_log(disk, segment=1 << 20, cache=5_000)
    assert again._cache.size_bytes <= 5_000
    assert len(all_blocks(again)) == 50


# -- a log that has lost what was durable ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(4))
def test_a_segment_that_is_gone_ends_the_log_before_it_and_the_fault_says_where(lost: int) -> None:
    disk = make_disk()
    log = rolled(disk, 5)
    blocks = all_blocks(log)
    log.close()
    disk.remove(segments(disk)[lost])
    again = open_log(disk, segment=9_000)
    assert (again.last_index, again.faulty_from, again.durable_index) == (lost, lost + 1, lost)
    assert all_blocks(again) == blocks[:lost]


def test_a_fault_is_reported_with_where_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    disk = make_disk()
    rolled(disk).close()
    disk.flip_bit(segments(disk)[1], SEGMENT_HEADER_BYTES + 5)
    open_log(disk)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert (record.__dict__["directory"], record.__dict__["faulty_from"]) == (DIRECTORY, 2)


@pytest.mark.parametrize("position", [1, 3])  # sealed, and the last
@pytest.mark.parametrize(("field", "value"), [("chain", 1), ("previous_term", 9), ("previous_term", 0)])
def test_a_segment_that_does_not_continue_the_one_before_is_a_fault(field: str, value: int, position: int) -> None:
    disk = make_disk()
    rolled(disk).close()
    path = segments(disk)[position]
    header = decode_segment_header(disk.contents(path), path)
    disk.overwrite(path, 0, msgspec.structs.replace(header, **{field: value}).encode())
    again = open_log(disk)
    assert (again.last_index, again.faulty_from) == (position, position + 1)


def test_the_last_segment_damaged_in_its_header_is_a_fault() -> None:
    disk = make_disk()
    rolled(disk).close()
    disk.flip_bit(newest_segment(disk), 20)
    again = open_log(disk)
    assert (again.last_index, again.faulty_from) == (3, 4)


def test_a_block_that_reaches_into_the_next_segment_is_a_fault() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log, b"long", count=5)
    flush(log)
    log.close()
    header = SegmentHeader(generation=2, first_index=4, previous_term=1, chain=log.last_chain, synced_index=3)
    put(disk, segment_file_name("copycat", 2, 4), header.encode())
    again = open_log(disk)
    assert (again.last_index, again.faulty_from) == (0, 1)


def test_an_earlier_fault_outlives_a_later_one_and_a_later_one_does_not_hide_an_earlier() -> None:
    disk = make_disk()
    log = rolled(disk)
    blocks = all_blocks(log)
    log.close()
    disk.flip_bit(segments(disk)[1], SEGMENT_HEADER_BYTES + 5)
    log = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert log.faulty_from == 2
    for block in blocks[1:]:
        log.append(block)
        flush(log)
    log.close()
    header = decode_segment_header(disk.contents(newest_segment(disk)), "")
    assert header.faulty_from == 2
    disk.flip_bit(segments(disk)[2], SEGMENT_HEADER_BYTES + 5)
    again = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert (again.last_index, again.faulty_from) == (2, 2)


def test_a_new_fault_before_the_one_being_repaired_counts() -> None:
    disk = make_disk()
    log = rolled(disk)
    blocks = all_blocks(log)
    log.close()
    disk.flip_bit(segments(disk)[2], SEGMENT_HEADER_BYTES + 5)
    log = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert log.faulty_from == 3
    log.append(blocks[2])
    flush(log)
    log.close()
    disk.flip_bit(segments(disk)[0], SEGMENT_HEADER_BYTES + 5)
    again = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert (again.last_index, again.faulty_from) == (0, 1)


def test_what_a_repair_supersedes_is_set_aside_and_not_removed() -> None:
    disk = WatchedDisk()
    log = rolled(disk)
    blocks = all_blocks(log)
    log.close()
    names = disk.list(DIRECTORY)
    disk.flip_bit(f"{DIRECTORY}/{names[1]}", SEGMENT_HEADER_BYTES + 5)
    log = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert disk.list(DIRECTORY) == names
    disk.remove(f"{DIRECTORY}/{names[3]}")
    disk.removed.clear()
    log.append(blocks[1])
    flush(log)
    assert disk.removed == []
    assert disk.list(DIRECTORY) == [
        names[0],
        f"{names[1]}.faulty",
        f"{names[2]}.faulty",
        segment_file_name("copycat", 2, 2),
    ]


def test_clearing_a_fault_is_durable_with_the_next_flush_and_nothing_to_a_sound_log() -> None:
    disk = make_disk()
    log = rolled(disk)
    blocks = all_blocks(log)
    log.clear_fault()
    assert not log.needs_flush
    log.close()
    disk.flip_bit(segments(disk)[3], 20)
    log = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert not log.needs_flush
    log.append(blocks[3])
    flush(log)
    log.clear_fault()
    assert (log.is_faulty, log.needs_flush) == (False, True)
    flush(log)
    log.close()
    disk.crash(random.Random(0), kept=0.0)
    again = open_log(disk, segment=9_000, cluster_id=CLUSTER)
    assert (again.faulty_from, all_blocks(again)) == (None, blocks)


# -- what proves that something was durable --------------------------------------------------------------------------


def torn_log(*synced: int) -> FaultyDisk:
    """Blocks of 60 bytes, written in one go but claiming that so much was durable; the first is rotten."""
    disk = make_disk()
    log = open_log(disk)
    records = []
    for watermark in synced:
        block = next_block(log, b"z" * 60)
        log.append(block)
        records.append(encode_record(block, watermark))
    path = newest_segment(disk)
    put(disk, path.rpartition("/")[2], disk.contents(path)[:SEGMENT_HEADER_BYTES] + b"".join(records))
    disk.flip_bit(path, SEGMENT_HEADER_BYTES + HEADER_BYTES + 7)
    return disk


def test_a_record_beyond_a_hole_proves_what_it_says_was_durable() -> None:
    assert not open_log(torn_log(0, 0, 0)).is_faulty
    assert open_log(torn_log(0, 0, 2)).faulty_from == 1
    assert open_log(torn_log(0, 1, 0)).faulty_from == 1


def test_a_record_behind_bytes_that_look_like_the_beginning_of_one_is_still_seen() -> None:
    disk = torn_log(0, 0, 2)
    path = newest_segment(disk)
    second = SEGMENT_HEADER_BYTES + record_bytes(60)
    disk.overwrite(path, second + 1, b"\xca\xc7")
    disk.overwrite(path, second + 8, b"\xca\xc7")
    assert open_log(disk).faulty_from == 1


def test_a_record_left_of_an_index_already_read_proves_nothing() -> None:
    disk = make_disk()
    log = open_log(disk)
    for body in (b"one", b"two", b"three"):
        append(log, body)
        flush(log)
    path = newest_segment(disk)
    data = disk.contents(path)
    first, second = record_bytes(3), record_bytes(3)
    third = data[SEGMENT_HEADER_BYTES + first : SEGMENT_HEADER_BYTES + first + second]
    disk.overwrite(path, SEGMENT_HEADER_BYTES + first + second, third)
    again = open_log(disk)
    assert (again.last_index, again.is_faulty) == (2, False)


def test_a_segment_whose_header_vouches_for_more_than_it_holds_is_a_fault() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log, b"one")
    append(log, b"two")
    flush(log)
    log.close()
    open_log(disk).close()
    path = newest_segment(disk)
    disk.overwrite(path, SEGMENT_HEADER_BYTES + record_bytes(3), bytes(record_bytes(3)))
    again = open_log(disk)
    assert (again.last_index, again.faulty_from) == (1, 2)
