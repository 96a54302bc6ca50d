"""The log: order, reading, flushing, truncation, rolling over."""

import errno
import random
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from copycat.errors import InvariantError, LogError
from copycat.io.storage import Log
from copycat.io.storage.base import BaseLog
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import decode_records
from copycat.io.storage.writing import Prewrite
from tests.io.storage.helpers import DIRECTORY, all_blocks, append, flush, make_disk, next_block, open_log


def make_logs() -> list[BaseLog]:
    return [open_log(make_disk()), MemoryLog()]


@pytest.mark.parametrize("log", make_logs())
def test_blocks_are_readable_at_once_and_durable_later(log: BaseLog) -> None:
    block = append(log, b"x" * 100, count=3)
    assert all_blocks(log) == [block]
    assert (log.last_index, log.durable_index) == (3, 0)
    assert flush(log) == (3, 1)
    assert log.durable_index == 3
    assert log.take_flush() is None


@pytest.mark.parametrize("log", make_logs())
def test_only_one_flush_is_outstanding_and_appends_gather_behind_it(log: BaseLog) -> None:
    append(log)
    job = log.take_flush()
    assert job is not None
    assert log.flushing
    append(log)
    append(log)
    assert log.take_flush() is None
    job.run()
    assert log.flushed(job) == (1, 1)
    assert flush(log) == (3, 1)


@pytest.mark.parametrize("log", make_logs())
def test_a_block_that_does_not_follow_is_refused(log: BaseLog) -> None:
    append(log, term=2)
    for change in ({"first_index": 3}, {"chain_before": 99}, {"term": 1}, {"chain": 5}):
        block = next_block(log)
        for name, value in change.items():
            setattr(block, name, value)
        with pytest.raises(LogError):
            log.append(block)
    assert log.last_index == 1


@pytest.mark.parametrize("log", make_logs())
def test_terms_and_chains_are_known_where_blocks_end(log: BaseLog) -> None:
    first = append(log, b"one", count=2, term=3)
    second = append(log, b"two", count=2, term=5)
    assert [log.term_at(index) for index in range(5)] == [0, 3, 3, 5, 5]
    assert (log.chain_at(0), log.chain_at(2), log.chain_at(4)) == (0, first.chain, second.chain)
    with pytest.raises(LogError):
        log.chain_at(1)
    with pytest.raises(LogError):
        log.term_at(5)


@pytest.mark.parametrize("log", make_logs())
def test_reading_returns_whole_blocks_within_the_limits_and_at_least_one(log: BaseLog) -> None:
    blocks = [append(log, bytes([n]) * 1000, count=2) for n in range(5)]
    assert log.read(1, 10, 1) == blocks[:1]
    assert log.read(4, 6, 1 << 20) == blocks[1:3]
    assert log.read(3, 10, 2200) == blocks[1:3]
    assert log.read(11, 20, 1 << 20) == []
    run, last = log.read_records(3, 8, 1 << 20)
    assert decode_records(run, 1 << 20) == blocks[1:4]
    assert last == 8
    assert log.read_records(11, 12, 100) == (b"", 10)


@pytest.mark.parametrize("log", make_logs())
def test_truncation_refuses_committed_blocks_and_the_inside_of_a_block(log: BaseLog) -> None:
    for _ in range(3):
        append(log, count=2)
    log.protect(2)
    with pytest.raises(InvariantError):
        log.truncate_after(0)
    with pytest.raises(LogError):
        log.truncate_after(3)
    log.truncate_after(4)
    log.truncate_after(9)
    assert (log.last_index, len(all_blocks(log))) == (4, 2)


@pytest.mark.parametrize("log", make_logs())
def test_a_flush_proves_nothing_of_what_was_truncated_and_rewritten_meanwhile(log: BaseLog) -> None:
    for _ in range(6):
        append(log)
    job = log.take_flush()
    assert job is not None
    log.truncate_after(2)
    for _ in range(6):
        append(log, b"new", term=7)
    job.run()
    assert log.flushed(job) == (2, 1)
    assert flush(log) == (8, 7)


def test_old_blocks_are_read_from_disk_across_segments_and_generations() -> None:
    log = open_log(make_disk(), segment=20_000, cache=5_000)
    blocks = []
    for n in range(300):
        blocks.append(append(log, random.Random(n).randbytes(n * 7 % 900), count=1 + n % 3))
        if n % 10 == 9:
            flush(log)
        if n == 150:
            log.truncate_after(blocks[99].last_index)
            del blocks[100:]
    assert log.durable_index == log.last_index
    assert log._cache.size_bytes <= 5_000
    assert all_blocks(log) == blocks
    assert [info[0] for info in log.blocks_info()] == [block.first_index for block in blocks]
    for block in blocks:
        assert log.read(block.last_index, block.last_index, 1) == [block]
        assert log.chain_at(block.last_index) == block.chain
        assert log.term_at(block.first_index) == block.term
    log.truncate_after(blocks[3].last_index)
    assert (log.last_time, log.last_chain) == (blocks[3].time, blocks[3].chain)
    assert all_blocks(log) == blocks[:4]


def test_a_large_block_gets_a_segment_of_its_own() -> None:
    disk = make_disk()
    log = open_log(disk, segment=20_000, cache=1000)
    blocks = [append(log, bytes([n]) * size) for n, size in enumerate((10, 90_000, 10))]
    flush(log)
    assert all_blocks(log) == blocks
    log.close()
    assert all_blocks(open_log(disk)) == blocks


def test_prewriting_never_touches_records_and_is_not_mistaken_for_them() -> None:
    disk = make_disk()
    log = open_log(disk, segment=8 << 20)
    blocks = [append(log, b"a" * 5000)]
    prewrite = log.take_prewrite()
    assert prewrite is not None
    assert log.take_prewrite() is None
    prewrite.run()
    log.prewritten(prewrite)
    assert log.take_prewrite() is None
    flush(log)
    blocks.append(append(log, b"b" * 5000))
    flush(log)
    disk.crash(random.Random(0), kept=0.0)
    log = open_log(disk)
    assert all_blocks(log) == blocks
    assert log.torn_path is None


@pytest.mark.parametrize("fault", ["eio", "enospc"])
def test_a_failed_flush_raises_and_is_never_retried(fault: str) -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log)
    flush(log)
    append(log, b"x" * 9000)
    job = log.take_flush()
    assert job is not None
    if fault == "eio":
        disk.fail_syncs = True
    else:
        disk.free_bytes = 5000
    with pytest.raises(OSError) as caught:
        job.run()
    assert caught.value.errno == (errno.EIO if fault == "eio" else errno.ENOSPC)
    disk.fail_syncs, disk.free_bytes = False, None
    with pytest.raises(LogError):
        job.run()
    disk.crash(random.Random(1), kept=0.5)
    assert open_log(disk).last_index in (1, 2)


def test_reopening_again_and_again_leaves_no_files_behind() -> None:
    disk = make_disk()
    log = open_log(disk)
    append(log)
    flush(log)
    for _ in range(5):
        log.close()
        log = open_log(disk)
        assert log.last_index == 1
    assert len(disk.list(DIRECTORY)) <= 2


def test_prewriting_beside_flushes_on_two_threads_loses_nothing(tmp_path: Path) -> None:
    log = Log.open(OsDisk(), str(tmp_path), max_segment_size=3 << 20, cache_size=1 << 20)
    blocks = []
    workers = ThreadPoolExecutor(2)
    prewriting: tuple[Prewrite, Future[None]] | None = None
    for n in range(150):
        blocks.append(append(log, random.Random(n).randbytes(70_000)))
        if prewriting is not None and prewriting[1].done():
            prewriting[1].result()
            log.prewritten(prewriting[0])
            prewriting = None
        if prewriting is None:
            prewrite = log.take_prewrite()
            prewriting = None if prewrite is None else (prewrite, workers.submit(prewrite.run))
        job = log.take_flush()
        assert job is not None
        workers.submit(job.run).result()
        log.flushed(job)
    workers.shutdown()
    assert all_blocks(log) == blocks
    log.close()
    recovered = Log.open(OsDisk(), str(tmp_path))
    assert all_blocks(recovered) == blocks
    recovered.close()
