"""A log that stands on a snapshot: where it begins, what is discarded, and resets."""

import random
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from copycat.errors import InvariantError, LogError
from copycat.io.storage import Block, Log
from copycat.io.storage.base import ORIGIN, BaseLog, LogBase
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES, decode_segment_header
from copycat.io.storage.writing import Discard
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import (
    DIRECTORY,
    WatchedDisk,
    all_blocks,
    append,
    base_after,
    flush,
    make_disk,
    newest_segment,
    next_block,
    open_log,
)

FAR = LogBase(100, 7, 4711, 9_000)


def rolled(disk: FaultyDisk, count: int = 8, *, cache: int = 1 << 20) -> tuple[Log, list[Block]]:
    """A log with a segment of its own for each block of two indices, all durable; terms rise by one each."""
    log = open_log(disk, segment=9_000, cache=cache)
    blocks = [append(log, bytes([n + 1]) * 6000, count=2, term=n + 1) for n in range(count)]
    flush(log)
    return log, blocks


def reopened(disk: FaultyDisk, base: LogBase | None = None) -> Log:
    disk.end_process()
    return open_log(disk, segment=9_000, base=base)


def segments(disk: FaultyDisk) -> list[str]:
    return [f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY) if name.endswith(".log")]


def firsts(disk: FaultyDisk) -> list[int]:
    """The first index of every segment file."""
    return [int(path.removesuffix(".log").rpartition("-")[2]) for path in segments(disk)]


def remove_files(log: Log) -> None:
    job = log.take_discard()
    assert job is not None
    job.run()
    log.discarded(job)


def rolled_logs() -> list[BaseLog]:
    """On disk and in memory, with the same eight blocks of two indices."""
    memory = MemoryLog()
    log, blocks = rolled(make_disk(), cache=1)
    for block in blocks:
        memory.append(block)
    flush(memory)
    return [log, memory]


# -- discarding --------------------------------------------------------------------------------------------------------


def test_at_birth_a_log_stands_on_nothing() -> None:
    for log in (open_log(make_disk()), MemoryLog()):
        assert (log.base, log.first_index, log.last_index) == (ORIGIN, 1, 0)
        assert LogBase(0, 0, 0, 0) == ORIGIN


@pytest.mark.parametrize("log", rolled_logs())
def test_whole_blocks_below_an_index_are_forgotten_and_the_rest_is_as_it_was(log: BaseLog) -> None:
    blocks = all_blocks(log)
    for index, kept in ((1, 0), (2, 0), (3, 1), (4, 1), (9, 4), (2, 4)):
        log.discard_before(index)
        assert log.first_index == blocks[kept].first_index
        assert log.base == (base_after(blocks[kept - 1]) if kept else ORIGIN)
        assert all_blocks(log) == blocks[kept:]
        assert [info[0] for info in log.blocks_info()] == [block.first_index for block in blocks[kept:]]
    assert (log.term_at(8), log.chain_at(8), log.term_at(9)) == (4, blocks[3].chain, 5)
    assert (log.last_index, log.durable_index, log.last_chain) == (16, 16, blocks[-1].chain)


@pytest.mark.parametrize("log", rolled_logs())
def test_what_was_discarded_is_said_to_be_compacted(log: BaseLog) -> None:
    log.discard_before(9)
    for use in (
        lambda: log.read(8, 16, 1),
        lambda: log.read_records(1, 16, 1),
        lambda: log.term_at(7),
        lambda: log.term_at(0),
        lambda: log.chain_at(6),
        lambda: log.chain_at(0),
    ):
        with pytest.raises(LogError, match="was compacted: the log begins at 9, after a snapshot"):
            use()
    with pytest.raises(InvariantError, match="never truncated"):
        log.truncate_after(6)
    for index in (-1, 17):
        with pytest.raises(LogError, match=f"index {index} is outside the log"):
            log.term_at(index)


@pytest.mark.parametrize("log", rolled_logs())
def test_the_end_of_a_log_always_stays(log: BaseLog) -> None:
    blocks = all_blocks(log)
    log.discard_before(10_000)
    assert (log.first_index, all_blocks(log)) == (15, blocks[-1:])
    block = append(log, b"more", term=9)
    assert all_blocks(log) == [blocks[-1], block]


@pytest.mark.parametrize("log", rolled_logs())
def test_a_discarded_log_can_be_cut_down_to_its_base(log: BaseLog) -> None:
    blocks = all_blocks(log)
    log.discard_before(11)
    log.truncate_after(10)
    assert (log.last_index, log.last_term, log.last_time, log.last_chain) == (
        *(10, 5, blocks[4].time, blocks[4].chain),
    )
    assert (log.durable_index, all_blocks(log)) == (10, [])
    block = append(log, b"new", term=9)
    assert flush(log) == (11, 9)
    assert all_blocks(log) == [block]


def test_what_is_not_durable_is_never_discarded() -> None:
    disk = make_disk()
    log, blocks = rolled(disk, 3)
    blocks += [append(log, bytes(6000), count=2) for _ in range(3)]
    log.discard_before(12)
    assert log.first_index == 5, "the segment of 7 is not there yet"
    job = log.take_flush()
    assert job is not None
    job.run()
    log.discard_before(12)
    assert log.first_index == 7, "nobody has said that 7 is durable"
    log.flushed(job)
    log.discard_before(12)
    assert (log.first_index, all_blocks(log)) == (11, blocks[5:])
    memory = MemoryLog()
    for _ in range(4):
        append(memory)
    job = memory.take_flush()
    memory.discard_before(4)
    assert memory.first_index == 1


def test_files_are_removed_by_a_job_oldest_first_each_for_certain() -> None:
    disk = WatchedDisk()
    log, blocks = rolled(disk)
    before = firsts(disk)
    assert log.take_discard() is None
    log.discard_before(7)
    assert firsts(disk) == before
    job = log.take_discard()
    assert job is not None
    log.discard_before(9)
    assert log.take_discard() is None, "one job is out"
    done: list[str] = []
    disk.delay = done.append
    job.run()
    assert done == ["remove", "sync_directory"] * 3
    log.discarded(job)
    remove_files(log)
    assert [int(path[-6:-4]) for path in disk.removed] == [1, 3, 5, 7]
    assert firsts(disk) == [9, 11, 13, 15]
    with pytest.raises(InvariantError, match="the one outstanding"):
        log.discarded(Discard(disk, DIRECTORY, []))
    log.close()
    assert disk.all_closed()
    again = reopened(disk, base_after(blocks[3]))
    assert (all_blocks(again), again.base, again.is_faulty) == (blocks[4:], base_after(blocks[3]), False)


def test_memory_shrinks_with_what_is_discarded() -> None:
    log = open_log(make_disk(), segment=100_000)
    for n in range(200):
        append(log, bytes(5000), term=n + 1)
        flush(log)
    size = log._cache.size_bytes
    log.discard_before(150)
    kept = 200 - log.base.index
    assert 50 <= kept < 80
    assert log._cache.size_bytes <= size * kept // 200
    assert len(log._terms._firsts) == len(log._cache) == kept
    assert len(log._index._firsts) < 10
    assert len(log._segments) == 4
    assert [block.first_index for block in all_blocks(log)] == list(range(log.first_index, 201))


def test_a_crash_at_any_operation_of_a_discard_leaves_a_log_without_a_gap() -> None:
    for stop in range(12):
        for seed in range(6):
            disk = make_disk()
            log, blocks = rolled(disk)
            log.discard_before(11)
            job = log.take_discard()
            assert job is not None
            disk.stop_after = stop
            crashed = False
            try:
                job.run()
            except PowerFailure:
                crashed = True
            disk.crash(random.Random(seed))
            again = reopened(disk, base_after(blocks[4]))
            assert not again.is_faulty
            assert all_blocks(again) == blocks[again.base.index // 2 :]
            assert again.base.index <= 10
            assert crashed == (stop < 10)


def test_a_faulty_log_discards_nothing() -> None:
    disk = make_disk()
    _, blocks = rolled(disk)
    disk.flip_bit(segments(disk)[4], SEGMENT_HEADER_BYTES + 100)
    log = reopened(disk)
    assert log.faulty_from == 9
    log.discard_before(7)
    assert (log.first_index, log.take_discard(), all_blocks(log)) == (1, None, blocks[:4])


# -- resets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", rolled_logs())
def test_a_reset_voids_everything_and_the_base_is_durable_at_once(log: BaseLog) -> None:
    log.reset(FAR)
    assert (log.base, log.first_index, log.last_index, log.durable_index) == (FAR, 101, 100, 100)
    assert (log.last_term, log.last_chain, log.last_time, log.pending_bytes) == (7, 4711, 9_000, 0)
    assert (log.term_at(100), log.chain_at(100), all_blocks(log)) == (7, 4711, [])
    assert list(log.blocks_info()) == []
    with pytest.raises(LogError, match="term 6, the log has reached 7"):
        log.append(next_block(log, term=6))
    blocks = [append(log, b"one", count=3), append(log, b"two", term=9)]
    assert flush(log) == (104, 9)
    assert (all_blocks(log), log.read(102, 102, 1)) == (blocks, blocks[:1])
    log.truncate_after(103)
    log.truncate_after(100)
    assert (log.last_index, log.durable_index, log.last_term, log.last_time) == (100, 100, 7, 9_000)


def test_a_reset_needs_no_block_to_be_flushed() -> None:
    disk = make_disk()
    log, _ = rolled(disk)
    log.reset(FAR)
    assert log.needs_flush
    assert flush(log) == (100, 7)
    assert (log.needs_flush, log.take_prewrite() is not None) == (False, True)
    header = decode_segment_header(disk.contents(newest_segment(disk))[:SEGMENT_HEADER_BYTES], "")
    assert (header.base, header.voids_older, header.synced_index) == (FAR, True, 100)
    assert firsts(disk) == [101]


def test_what_is_committed_is_never_reset() -> None:
    for log in rolled_logs():
        log.protect(12)
        with pytest.raises(InvariantError, match="never reset to below what is committed"):
            log.reset(LogBase(11, 7, 1, 1))
        log.reset(LogBase(12, 7, 1, 1))
        with pytest.raises(InvariantError, match="never reset to below what is committed"):
            log.reset(LogBase(11, 7, 1, 1))
    with pytest.raises(InvariantError, match="to the end of a snapshot"):
        MemoryLog().reset(ORIGIN)


def test_a_flush_proves_nothing_of_what_was_reset_meanwhile() -> None:
    for log in (open_log(make_disk()), MemoryLog()):
        for _ in range(200):
            append(log)
        job = log.take_flush()
        assert job is not None
        log.reset(FAR)
        blocks = [append(log, b"new", term=8) for _ in range(150)]
        assert log.take_flush() is None
        job.run()
        assert log.flushed(job) == (100, 7)
        assert flush(log) == (250, 8)
        assert all_blocks(log) == blocks


def test_a_reset_while_segments_are_about_to_be_born_leaves_one_file() -> None:
    disk = WatchedDisk()
    log, _ = rolled(disk, 2)
    for n in range(3):
        append(log, bytes([n]) * 6000)
    job = log.take_flush()
    assert job is not None
    for n in range(3):
        append(log, bytes([n]) * 6000)
    log.truncate_after(6)
    log.reset(FAR)
    job.run()
    log.flushed(job)
    block = append(log, b"new")
    flush(log)
    assert firsts(disk) == [101]
    log.close()
    assert disk.all_closed()
    assert all_blocks(reopened(disk, FAR)) == [block]


def test_discards_that_wait_are_not_forgotten_by_a_reset() -> None:
    for opened_again in (False, True):
        disk = make_disk()
        log, _ = rolled(disk)
        log.discard_before(9)
        log.reset(FAR)
        flush(log)
        assert sorted(firsts(disk)) == [1, 3, 5, 7, 101]
        if opened_again:
            assert reopened(disk, FAR).base == FAR
        else:
            remove_files(log)
        assert firsts(disk) == [101]


def test_a_crash_at_any_operation_of_a_reset_leaves_the_old_log_or_the_new() -> None:
    """Opening it with the snapshot comes to the same either way; with no snapshot the old one is as it was."""
    stop, done = 0, False
    while not done:
        for seed in range(8):
            disk = make_disk()
            log, _ = rolled(disk, 3)
            log.reset(FAR)
            new = append(log, b"new", term=9)
            disk.stop_after = stop
            done = True
            try:
                flush(log)
            except PowerFailure:
                done = False
            disk.crash(random.Random(seed))
            again = reopened(disk, FAR)
            assert not again.is_faulty
            assert (again.base, all_blocks(again)) in ((FAR, []), (FAR, [new]))
            assert not done or all_blocks(again) == [new]
            assert again.durable_index == again.last_index
            disk.crash(random.Random(seed), kept=0.0)
            once_more = reopened(disk, FAR)
            assert (once_more.base, all_blocks(once_more)) == (FAR, all_blocks(again))
        stop += 1
    assert stop > 8


@pytest.mark.parametrize("base", [FAR, LogBase(10, 3, 99, 1)], ids=["beyond the old log", "within the old log"])
def test_old_segments_that_a_crash_left_behind_a_reset_never_come_back(base: LogBase) -> None:
    """Not even when the segment that voids them has itself been replaced. Method: any of the removals is lost."""
    for seed in range(40):
        disk = make_disk()
        log, _ = rolled(disk)
        log.reset(base)
        flush(log)
        for _ in range(2):
            disk.crash(random.Random(seed), kept=0.5)
            log = reopened(disk, base)
            assert (log.base, log.is_faulty, all_blocks(log), log.needs_flush) == (base, False, [], False)
        block = append(log, b"new", term=9)
        flush(log)
        disk.crash(random.Random(seed), kept=0.5)
        log = reopened(disk, base)
        assert (log.base, log.is_faulty, all_blocks(log)) == (base, False, [block])
        assert not [name for name in disk.list(DIRECTORY) if not name.endswith(".log")]
        assert reopened(disk).faulty_from == 1, "without the snapshot it is a log whose beginning is missing"


def test_blocks_behind_a_reset_are_found_where_they_are_and_not_where_old_ones_were() -> None:
    log = open_log(make_disk(), cache=1)
    for n in range(100):
        append(log, bytes([n]) * 9000)
    flush(log)
    log.reset(LogBase(10, 3, 99, 1))
    blocks = [append(log, bytes([n]) * n * 200, term=3) for n in range(60)]
    flush(log)
    assert all_blocks(log) == blocks
    for block in blocks:
        assert log.read(block.first_index, block.last_index, 1) == [block]


def test_a_reset_does_not_end_a_fault_but_raises_it_to_the_base() -> None:
    """The member may have vouched for more than the snapshot holds."""
    disk = make_disk()
    rolled(disk)
    disk.flip_bit(segments(disk)[4], SEGMENT_HEADER_BYTES + 100)
    log = reopened(disk)
    assert log.faulty_from == 9
    log.reset(FAR)
    assert log.faulty_from == 101
    flush(log)
    aside = [name for name in disk.list(DIRECTORY) if name.endswith(".faulty")]
    assert len(aside) == 4, "the damaged segment and what lay behind it are kept for a repair"
    again = reopened(disk, FAR)
    assert (again.faulty_from, again.base) == (101, FAR)
    append(again, b"refilled")
    again.clear_fault()
    flush(again)
    disk.crash(random.Random(0), kept=0.0)
    assert not reopened(disk, FAR).is_faulty


def test_discarding_beside_flushes_on_two_threads_loses_nothing(tmp_path: Path) -> None:
    log = Log.open(OsDisk(), str(tmp_path), max_segment_size=1 << 20, cache_size=1 << 20)
    blocks = []
    discarding: tuple[Discard, Future[None]] | None = None
    with ThreadPoolExecutor(2) as workers:
        for n in range(120):
            blocks.append(append(log, random.Random(n).randbytes(70_000)))
            flushing = log.take_flush()
            assert flushing is not None
            flushed = workers.submit(flushing.run)
            log.discard_before(n - 30)
            if discarding is not None and discarding[1].done():
                discarding[1].result()
                log.discarded(discarding[0])
                discarding = None
            if discarding is None and (discard := log.take_discard()) is not None:
                discarding = discard, workers.submit(discard.run)
            flushed.result()
            log.flushed(flushing)
    assert log.base.index > 60
    assert all_blocks(log) == blocks[log.base.index :]
    base = log.base
    log.close()
    again = Log.open(OsDisk(), str(tmp_path), base=base_after(blocks[85]))
    assert again.base.index <= base.index
    assert not again.is_faulty
    assert all_blocks(again) == blocks[again.base.index :]
    again.close()
