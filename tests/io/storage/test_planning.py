"""Where records go: segments rolled over, generations, flushes, and zeros ahead."""

import pytest

from copycat.errors import InvariantError, LogError
from copycat.io.storage import Log
from copycat.io.storage.base import Flush
from copycat.io.storage.log import CACHE_BYTES, SEGMENT_BYTES
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import record_bytes
from copycat.io.storage.segment import (
    PREWRITE_HIGH_BYTES,
    PREWRITE_LOW_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
)
from copycat.io.storage.writing import Prewrite
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    DIRECTORY,
    WatchedDisk,
    all_blocks,
    append,
    flush,
    make_disk,
    newest_segment,
    open_log,
)


def names(disk: FaultyDisk) -> list[tuple[int, int]]:
    """Generation and first index of every segment file."""
    found = [name.removesuffix(".log").split("-") for name in disk.list(DIRECTORY) if name.endswith(".log")]
    return [(int(generation), int(first)) for _, generation, first in found]


def header_of(disk: FaultyDisk, path: str) -> SegmentHeader:
    return decode_segment_header(disk.contents(path)[:SEGMENT_HEADER_BYTES], path)


def test_the_defaults_are_those_of_the_reference() -> None:
    log = Log.open(make_disk(), DIRECTORY)
    assert (log.name, log.cluster_id, log.max_segment_size) == ("copycat", b"", 32 << 20)
    assert log._cache.limit_bytes == 16 << 20
    assert (SEGMENT_BYTES, CACHE_BYTES) == (32 << 20, 16 << 20)
    assert (log.first_index, log.last_index, log.last_term, log.last_time, log.last_chain) == (1, 0, 0, 0, 0)
    assert (log.durable_index, log.faulty_from, log.torn_path, log.pending_bytes) == (0, None, None, 0)
    assert (log.is_faulty, log.flushing, log.needs_flush) == (False, False, False)


# -- rolling over ----------------------------------------------------------------------------------------------------


def test_a_record_that_just_fits_stays_and_one_byte_more_begins_a_segment() -> None:
    size = record_bytes(1000)
    for room, expected in ((3 * size, [(1, 1)]), (3 * size - 1, [(1, 1), (1, 3)])):
        disk = make_disk()
        log = open_log(disk, segment=SEGMENT_HEADER_BYTES + room)
        for _ in range(3):
            append(log, bytes(1000))
        flush(log)
        assert names(disk) == expected


def test_a_new_segment_knows_what_lies_before_it_and_that_it_is_durable() -> None:
    disk = make_disk()
    log = open_log(disk, segment=9_000, cluster_id=b"c" * 16)
    append(log, bytes(4000), term=2, count=3)
    before = append(log, bytes(4000), term=5)
    append(log, bytes(4000))
    flush(log)
    assert names(disk) == [(1, 1), (1, 4), (1, 5)]
    assert header_of(disk, newest_segment(disk)) == SegmentHeader(
        generation=1,
        first_index=5,
        previous_term=5,
        chain=before.chain,
        synced_index=4,
        faulty_from=0,
        cluster_id=b"c" * 16,
        previous_time=before.time,
    )


def test_a_segment_is_synced_before_the_next_is_born() -> None:
    disk = make_disk()
    log = open_log(disk, segment=9_000)
    blocks = [append(log, bytes([n]) * 4000) for n in range(4)]
    job = log.take_flush()
    assert job is not None
    done: list[str] = []
    disk.delay = done.append
    job.run()
    segment = ["open", "write", "sync", "rename", "sync_directory"]
    assert done == ["write", "sync", *segment, "write", "sync", *segment, "write", "sync", *segment, "write", "sync"]
    log.flushed(job)
    assert all_blocks(log) == blocks


def test_a_truncation_begins_the_next_generation_and_removes_what_it_hides_newest_first() -> None:
    disk = WatchedDisk()
    log = open_log(disk, segment=9_000)
    for n in range(4):
        append(log, bytes([n]) * 4000)
    flush(log)
    assert names(disk) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    log.truncate_after(1)
    assert flush(log) == (1, 1)
    assert log.take_flush() is None
    assert names(disk) == [(1, 1), (2, 2)]
    assert [path[-6:-4] for path in disk.removed] == ["04", "03", "02"]
    append(log, b"new", term=2)
    flush(log)
    log.close()
    assert [block.body for block in all_blocks(open_log(disk))] == [bytes(4000), b"new"]


def test_a_truncation_to_the_end_or_beyond_changes_nothing() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log)
    flush(log)
    log.truncate_after(1)
    log.truncate_after(5)
    assert (log.needs_flush, log.last_index, names(disk)) == (False, 1, [(1, 1)])


def test_blocks_truncated_before_they_were_flushed_never_reach_the_disk() -> None:
    disk = make_disk()
    log = open_log(disk)
    kept = append(log, b"kept")
    flush(log)
    append(log, b"gone")
    log.truncate_after(1)
    flush(log)
    log.close()
    assert all_blocks(open_log(disk)) == [kept]


def test_a_truncated_log_goes_on_with_term_time_and_chain_of_what_is_left() -> None:
    for log in (open_log(make_disk()), MemoryLog()):
        first = append(log, b"one", term=3, count=2)
        append(log, b"two", term=4)
        flush(log)
        log.truncate_after(2)
        assert (log.last_index, log.last_term, log.last_time, log.last_chain) == (2, 3, first.time, first.chain)
        assert log.durable_index == 2
        with pytest.raises(LogError):
            log.term_at(3)
        block = append(log, b"new", term=7)
        assert (log.term_at(3), all_blocks(log)) == (7, [first, block])
        log.truncate_after(0)
        assert (log.last_index, log.last_term, log.last_time, log.last_chain, log.durable_index) == (0, 0, 0, 0, 0)
        assert log.take_flush() is not None or isinstance(log, MemoryLog)


def test_a_tail_may_be_replaced_by_blocks_of_an_earlier_term_than_its_own() -> None:
    for log in (open_log(make_disk()), MemoryLog()):
        append(log, b"one", term=3)
        append(log, b"of a leader nobody followed", term=9)
        log.truncate_after(1)
        append(log, b"two", term=5)
        assert [log.term_at(index) for index in (1, 2)] == [3, 5]


# -- flushing --------------------------------------------------------------------------------------------------------


def test_a_flush_knows_how_much_it_carries_and_up_to_where() -> None:
    for log in (open_log(make_disk()), MemoryLog()):
        append(log, b"12345")
        append(log, b"123456789", count=2)
        assert log.pending_bytes == record_bytes(5) + record_bytes(9)
        assert log.needs_flush
        job = log.take_flush()
        assert job is not None
        assert (job.last_index, job.size_bytes) == (3, record_bytes(5) + record_bytes(9))
        assert (log.pending_bytes, log.flushing, log.needs_flush) == (0, True, False)
        job.run()
        log.flushed(job)
        assert not log.flushing


def test_only_the_outstanding_flush_may_end() -> None:
    log = MemoryLog()
    append(log)
    job = log.take_flush()
    assert job is not None
    with pytest.raises(InvariantError, match="the one outstanding"):
        log.flushed(Flush(1, 1))
    log.flushed(job)
    with pytest.raises(InvariantError, match="the one outstanding"):
        log.flushed(job)


def test_what_was_protected_stays_protected() -> None:
    log = MemoryLog()
    for _ in range(4):
        append(log)
    log.protect(3)
    log.protect(1)
    log.truncate_after(3)
    with pytest.raises(InvariantError, match="never truncated"):
        log.truncate_after(2)


def test_each_record_says_what_was_durable_when_it_was_appended() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log, b"one")
    flush(log)
    append(log, b"two")
    flush(log)
    data = disk.contents(newest_segment(disk))
    second = SEGMENT_HEADER_BYTES + record_bytes(3)
    assert int.from_bytes(data[second + 44 : second + 52], "little") == 1


def test_a_log_is_not_closed_under_a_flush() -> None:
    log = open_log(make_disk())
    append(log)
    job = log.take_flush()
    assert job is not None
    with pytest.raises(InvariantError, match="no flush is outstanding"):
        log.close()


def test_a_closed_log_leaves_no_file_open() -> None:
    disk = WatchedDisk()
    log = open_log(disk, segment=9_000, cache=1)
    for n in range(5):
        append(log, bytes([n]) * 4000)
        flush(log)
    log.truncate_after(3)
    flush(log)
    all_blocks(log)
    assert not disk.all_closed()
    log.close()
    log.close()
    assert disk.all_closed()
    open_log(disk).close()
    assert disk.all_closed()


def test_the_file_of_a_segment_truncated_away_is_closed_with_the_log_though_nothing_was_flushed_since() -> None:
    disk = WatchedDisk()
    log = open_log(disk)
    append(log)
    flush(log)
    log.truncate_after(0)
    log.close()
    assert disk.all_closed()


# -- zeros ahead -----------------------------------------------------------------------------------------------------


def test_zeros_are_wanted_when_little_room_is_left_and_up_to_the_segments_end() -> None:
    disk = make_disk()
    log = open_log(disk, segment=16 << 20)
    first = log.take_prewrite()
    assert first is not None
    first.run()
    log.prewritten(first)
    start = SEGMENT_HEADER_BYTES
    assert len(disk.contents(newest_segment(disk))) == start + PREWRITE_HIGH_BYTES
    body = PREWRITE_HIGH_BYTES - PREWRITE_LOW_BYTES - record_bytes(0)
    append(log, bytes(body))
    assert log.take_prewrite() is None
    append(log, b"")
    second = log.take_prewrite()
    assert second is not None
    assert log.take_prewrite() is None
    second.run()
    log.prewritten(second)
    end = start + record_bytes(body) + record_bytes(0)
    assert len(disk.contents(newest_segment(disk))) == end + PREWRITE_HIGH_BYTES


def test_zeros_are_wanted_beyond_a_large_block_too() -> None:
    disk = make_disk()
    log = open_log(disk, segment=16 << 20)
    append(log, bytes(5 << 20))
    flush(log)
    job = log.take_prewrite()
    assert job is not None
    job.run()
    end = SEGMENT_HEADER_BYTES + record_bytes(5 << 20)
    assert len(disk.contents(newest_segment(disk))) == end + PREWRITE_HIGH_BYTES


def test_no_zeros_are_written_beyond_a_segment() -> None:
    disk = make_disk()
    log = open_log(disk, segment=2 << 20)
    job = log.take_prewrite()
    assert job is not None
    job.run()
    log.prewritten(job)
    assert len(disk.contents(newest_segment(disk))) == 2 << 20
    append(log, bytes((1 << 20) + 5000))
    assert log.take_prewrite() is None


def test_a_segment_not_yet_born_gets_no_zeros() -> None:
    log = open_log(make_disk())
    append(log)
    flush(log)
    log.truncate_after(0)
    assert log.take_prewrite() is None


def test_only_the_outstanding_prewrite_may_end() -> None:
    log = open_log(make_disk(), segment=8 << 20)
    with pytest.raises(InvariantError, match="the one outstanding"):
        log.prewritten(Prewrite(log._segments[-1], 0))
