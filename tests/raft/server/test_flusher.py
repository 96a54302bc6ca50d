"""Which flushes are run on the loop, and which beside it."""

from zlib import crc32

import pytest

from copycat.io.storage.log import Log
from copycat.io.storage.record import Block
from copycat.raft.core.events import Event, Flushed
from copycat.raft.server.disk_worker import Done, Job
from copycat.raft.server.flusher import (
    AVERAGED,
    INLINE_BYTES_MAX,
    INLINE_SECONDS_MAX,
    SLOW_FLUSHES,
    STALL_SECONDS,
    Flusher,
)
from copycat.testing.disk import FaultyDisk
from copycat.util.clock import ManualClock

QUICK = 0.0002


class Beside:
    """A DiskWorker that does its jobs at once and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, job: Job, done: Done) -> None:
        self.count += 1
        job()
        done(None)

    def close(self) -> None:
        pass


class Stage:
    """A flusher over a log whose disk takes `seconds` for a sync. What it posts is in `posted`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seconds = QUICK
        disk = FaultyDisk()
        disk.make_directory("data")
        self.log = Log.open(disk, "data")
        disk.delay = self._take_time
        self.beside, self.posted = Beside(), list[Event]()
        self.flusher = Flusher(self.log, self.beside, Beside(), self.clock, self.posted.append, _fail)

    def _take_time(self, operation: str) -> None:
        if operation == "sync":
            self.clock.advance(self.seconds)

    def flush(self, size: int = 100, *, alone: bool = True) -> bool:
        """Append a block and flush it; whether that was done beside the loop."""
        before, body = self.beside.count, bytes(size)
        chain = crc32(body, self.log.last_chain)
        self.log.append(Block(self.log.last_index + 1, 1, 1, 2, 0, 0, self.log.last_chain, chain, body))
        self.flusher.kick(beside=self.flusher.goes_beside(alone=alone))
        assert self.posted[-1] == Flushed(self.log.last_index, 1)
        return self.beside.count > before

    def warm_up(self) -> None:
        """Flush until it is done on the loop."""
        assert [self.flush() for _ in range(SLOW_FLUSHES)] == [True] * SLOW_FLUSHES
        assert not self.flush()


@pytest.fixture
async def stage() -> Stage:
    return Stage()


def _fail(error: BaseException) -> None:
    raise error


async def test_the_first_flushes_go_beside_the_loop_and_those_of_a_fast_disk_then_on_it(stage: Stage) -> None:
    stage.warm_up()

    assert not any(stage.flush() for _ in range(3 * SLOW_FLUSHES))


async def test_what_is_large_or_not_alone_goes_beside_the_loop(stage: Stage) -> None:
    stage.warm_up()

    assert stage.flush(INLINE_BYTES_MAX)
    assert stage.flush(alone=False)
    assert not stage.flush(INLINE_BYTES_MAX // 2)


async def test_a_single_flush_that_took_long_sends_no_others_beside_the_loop(stage: Stage) -> None:
    stage.warm_up()
    for _ in range(4 * AVERAGED):
        stage.flush()

    stage.seconds = 2 * INLINE_SECONDS_MAX
    stage.flush()
    stage.seconds = QUICK

    assert not stage.flush()


async def test_a_disk_that_is_slow_on_average_is_left_to_the_thread(stage: Stage) -> None:
    stage.warm_up()

    stage.seconds = 2 * INLINE_SECONDS_MAX
    on_loop = next(number for number in range(100) if stage.flush())

    assert on_loop <= AVERAGED
    assert [stage.flush() for _ in range(SLOW_FLUSHES - 1)] == [True] * (SLOW_FLUSHES - 1)
    assert not stage.flush(), "tried once more, to see whether it still is"
    assert stage.flush(), "it is"


async def test_one_flush_that_stalls_is_enough(stage: Stage) -> None:
    stage.warm_up()
    for _ in range(4 * AVERAGED):
        stage.flush()

    stage.seconds = 1.1 * STALL_SECONDS
    stage.flush()
    stage.seconds = QUICK

    assert stage.flush()
