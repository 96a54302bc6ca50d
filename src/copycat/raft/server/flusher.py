"""When and where the log is flushed: at once on the loop when that is quick, else beside it.

One flush runs at a time; what is appended meanwhile gathers for the next (group commit). On the loop a flush is
cheaper than a hand-over to a thread, but blocks heartbeats while the disk is slow: so only while it is fast.

Source: docs/decisions/0008-flushing-beside-the-loop.md; protocol §1.5.
"""

import asyncio
from collections.abc import Callable

from copycat.errors import check
from copycat.io.storage.base import Flush
from copycat.io.storage.log import Log
from copycat.io.storage.memory import MemoryLog
from copycat.raft.core.events import Event, FaultCleared, Flushed
from copycat.raft.server.disk_worker import DiskWorker
from copycat.util.clock import Clock
from copycat.util.statistics import Histogram

INLINE_BYTES_MAX = 256 << 10
INLINE_SECONDS_MAX = 0.005  # on average
STALL_SECONDS = 0.05  # half a heartbeat: one such flush is enough
SLOW_FLUSHES = 64  # how many flushes go beside the loop then
AVERAGED = 8  # a processor that is busy elsewhere makes one flush look slow, a slow disk makes all


class Flusher:
    """Flushes one log. Used on the loop's thread only; `post` takes the events, `fail` a disk's error."""

    def __init__(
        self,
        log: Log | MemoryLog,
        disk: DiskWorker,
        background: DiskWorker,
        clock: Clock,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.durations = Histogram()  # of flushes, the way to the disk's thread and back included
        self._began = 0.0
        self._log = log
        self._disk = disk
        self._background = background
        self._clock = clock
        self._post = post
        self._fail = fail
        self._beside = SLOW_FLUSHES if isinstance(log, Log) else 0
        self._average = INLINE_SECONDS_MAX  # of recent flushes on the loop; at first, the next one decides
        self._clearing = False
        self._cleared_by: Flush | None = None

    def goes_beside(self, *, alone: bool) -> bool:
        """Whether a flush now would go beside the loop. `alone`: nothing else waits for this loop."""
        return not alone or self._beside > 0 or self._log.pending_bytes > INLINE_BYTES_MAX

    def kick(self, *, beside: bool) -> None:
        """Begin a flush, `beside` the loop or on it, if one is needed and none runs."""
        flush = self._log.take_flush()
        if flush is None:
            return
        if self._clearing:
            self._clearing, self._cleared_by = False, flush
        self._began = self._clock.monotonic()
        if not beside:
            flush.run()
            now = self._clock.monotonic()
            self._judge(now - self._began)
            self._finished(flush, now)
        else:
            self._disk.submit(flush.run, lambda error: self._done(flush, error))
            self._beside = max(0, self._beside - 1)
        self._prewrite()

    def _judge(self, seconds: float) -> None:
        """Whether flushes go on like this, on the loop."""
        self._average += (seconds - self._average) / AVERAGED
        if seconds > STALL_SECONDS or self._average > INLINE_SECONDS_MAX:
            self._beside, self._average = SLOW_FLUSHES, INLINE_SECONDS_MAX

    def clear_fault(self) -> None:
        """Forget the log's hole with the next flush, and say when that is durable."""
        self._log.clear_fault()
        self._clearing = True
        if not self._log.needs_flush:  # nothing to forget
            self._clearing = False
            self._post(FaultCleared())

    def discard_to(self, index: int) -> None:
        """Let go of the log up to `index`; whole files go, beside the loop."""
        self._log.discard_before(index + 1)
        self._remove_discarded()

    def _remove_discarded(self) -> None:
        log = self._log
        if not isinstance(log, Log) or (job := log.take_discard()) is None:
            return

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._fail(error)
            else:
                log.discarded(job)
                self._remove_discarded()

        self._background.submit(job.run, done)

    async def close(self) -> None:
        """Let the disk finish, then close the log. What was appended and not flushed was promised to nobody."""
        self._disk.close()
        self._background.close()
        await asyncio.sleep(0)  # what they had done is told on the loop
        if not self._log.flushing:
            self._log.close()

    def _done(self, flush: Flush, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)
        else:
            self._finished(flush, self._clock.monotonic())

    def _finished(self, flush: Flush, now: float) -> None:
        self.durations.record(round((now - self._began) * 1e9))
        self._post(Flushed(*self._log.flushed(flush)))
        if flush is self._cleared_by:
            self._cleared_by = None
            self._post(FaultCleared())

    def _prewrite(self) -> None:
        job = self._log.take_prewrite()
        if job is None:
            return
        check(isinstance(self._log, Log), "only a log on disk is prewritten")
        log: Log = self._log  # type: ignore[assignment]  # checked

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._fail(error)
            else:
                log.prewritten(job)

        self._background.submit(job.run, done)
