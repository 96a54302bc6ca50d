"""Reading blocks back: limits, what is no longer cached, and what has rotted since."""

import random

import pytest

from copycat.errors import CorruptionError, InvariantError, LogError
from copycat.io.storage.base import BaseLog
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import HEADER_BYTES, record_bytes
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES
from tests.io.storage.helpers import (
    DIRECTORY,
    all_blocks,
    append,
    flush,
    make_disk,
    newest_segment,
    next_block,
    open_log,
)


@pytest.fixture(params=["disk", "memory"])
def log(request: pytest.FixtureRequest) -> BaseLog:
    """Five blocks of two indices, each record 1000 bytes; on disk only the newest is still cached."""
    log = open_log(make_disk(), cache=1) if request.param == "disk" else MemoryLog()
    for n in range(5):
        append(log, bytes([n]) * (1000 - HEADER_BYTES - 4), count=2)
        flush(log)
    return log


@pytest.mark.parametrize(
    ("first", "last", "limit", "expected"),
    [
        (1, 10, 999, [1]),
        (1, 10, 1000, [1]),
        (1, 10, 1001, [1]),
        (1, 10, 1999, [1]),
        (1, 10, 2000, [1, 3]),
        (1, 4, 9999, [1, 3]),
        (1, 5, 9999, [1, 3]),
        (1, 6, 9999, [1, 3, 5]),
        (2, 1, 9999, [1]),
        (2, 9, 9999, [1, 3, 5, 7]),
        (8, 10, 9999, [7, 9]),
        (9, 10, 9999, [9]),
        (10, 10, 1, [9]),
        (11, 20, 9999, []),
    ],
)
def test_reading_stops_before_what_goes_beyond_the_limits(
    log: BaseLog, first: int, last: int, limit: int, expected: list[int]
) -> None:
    assert [block.first_index for block in log.read(first, last, limit)] == expected
    records, reached = log.read_records(first, last, limit)
    assert len(records) == 1000 * len(expected)
    assert reached == (expected[-1] + 1 if expected else first - 1)


def test_reading_starts_within_the_log(log: BaseLog) -> None:
    with pytest.raises(InvariantError, match="reading starts within the log"):
        log.read(0, 5, 100)


def test_terms_and_chains_outside_the_log_are_refused(log: BaseLog) -> None:
    assert (log.term_at(0), log.term_at(10), log.chain_at(0), log.chain_at(10)) == (0, 1, 0, log.last_chain)
    for index in (-1, 11):
        with pytest.raises(LogError, match=f"index {index} is outside the log, which ends at 10"):
            log.term_at(index)
        with pytest.raises(LogError, match=f"index {index} does not end a block"):
            log.chain_at(index)
    with pytest.raises(LogError, match="index 3 does not end a block"):
        log.chain_at(3)


def test_every_block_is_told_without_its_body(log: BaseLog) -> None:
    blocks = all_blocks(log)
    assert list(log.blocks_info()) == [
        (b.first_index, b.count, b.term, b.kind, b.size, b.chain, b.time) for b in blocks
    ]
    assert list(MemoryLog().blocks_info()) == []


def test_a_long_segment_is_read_from_the_middle_without_reading_it_from_its_start() -> None:
    disk = make_disk()
    log = open_log(disk, segment=1 << 20, cache=1)
    blocks = [append(log, random.Random(n).randbytes(n * 37 % 9000)) for n in range(200)]
    flush(log)
    log.close()
    log = open_log(disk, segment=1 << 20, cache=1)
    path = f"{DIRECTORY}/{disk.list(DIRECTORY)[0]}"
    size = 0
    opened = disk.open(path)
    honest = type(opened).read

    def counting(file: object, offset: int, length: int) -> bytes:
        nonlocal size
        data = honest(file, offset, length)  # type: ignore[arg-type]  # a file of this disk
        size += len(data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(opened), "read", counting)
        for index in (150, 20, 199, 1):
            size = 0
            assert log.read(index, index, 1) == [blocks[index - 1]]
            assert size <= 4 * (64 << 10)
    assert all_blocks(log) == blocks


def test_a_block_that_rotted_after_opening_is_told_when_it_is_read() -> None:
    disk = make_disk()
    log = open_log(disk, cache=1)
    for n in range(3):
        append(log, bytes([n + 1]) * 100)
        flush(log)
    disk.flip_bit(newest_segment(disk), SEGMENT_HEADER_BYTES + record_bytes(100) + HEADER_BYTES + 5)
    assert len(log.read(1, 1, 1)) == 1
    with pytest.raises(CorruptionError, match="the checksum of block 2 differs"):
        log.read(2, 2, 1)


def test_a_sound_block_in_the_place_of_another_is_told_when_it_is_read() -> None:
    disk = make_disk()
    log = open_log(disk, cache=1, segment=5_000)
    for n in range(4):
        append(log, bytes([n + 1]) * 400)
        flush(log)
    first, second = (f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY)[:2])
    disk.overwrite(first, SEGMENT_HEADER_BYTES, disk.contents(second)[SEGMENT_HEADER_BYTES:])
    with pytest.raises(CorruptionError, match="is not where it was written"):
        log.read(1, 1, 1)


def test_a_block_may_follow_only_with_a_term_as_high() -> None:
    log = MemoryLog()
    append(log, term=4)
    append(log, term=4)
    append(log, term=9)
    with pytest.raises(LogError, match="block 4 has term 8, the log has reached 9"):
        log.append(next_block(log, term=8))
