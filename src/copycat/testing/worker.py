"""Who does the disk's jobs in a simulation: callbacks of the loop, after as long as a disk may take."""

import random
from collections import deque
from collections.abc import Callable

from copycat.raft.server.disk_worker import Done, Job
from copycat.testing.disk import FaultyDisk, PowerFailure
from copycat.testing.loop import Host, VirtualLoop

OPERATIONS_MAX = 12  # of a job that a crash stops half-way


class SimulatedWorker:
    """A DiskWorker on a host: it runs one job after another, each at the end of the time it takes, all at once.

    A host that dies runs none of what waits. `tear` then does a part of the job that was under way.
    """

    def __init__(
        self, host: Host, disk: FaultyDisk, seconds: Callable[[], float], on_done: Callable[[], object]
    ) -> None:
        self._host = host
        self._loop: VirtualLoop = host.loop
        self._disk = disk
        self._seconds = seconds
        self._on_done = on_done
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._is_closed = False
        self.is_at_work = False  # a job runs this very moment

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` after all earlier ones, once the disk has taken its time."""
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._begin()

    def close(self) -> None:
        """Do what waits, at once."""
        while self._jobs:
            self._finish()
        self._is_closed = True

    def tear(self, chooser: random.Random) -> None:
        """Power is lost: the job that was under way got so far, and nobody hears of it."""
        if self._jobs:
            self._disk.stop_after = chooser.randrange(OPERATIONS_MAX)
            try:
                self._jobs[0][0]()
            except (PowerFailure, Exception):  # what it raises, nobody is left to hear
                pass
            self._jobs.clear()

    def _begin(self) -> None:
        self._host.call(self._loop.call_later, self._seconds(), self._run)

    def _run(self) -> None:
        if self._jobs and not self._is_closed:
            self._finish()
            if self._jobs:
                self._begin()

    def _finish(self) -> None:
        job, done = self._jobs.popleft()
        error: BaseException | None = None
        self.is_at_work = True
        try:
            job()
        except PowerFailure:
            raise
        except BaseException as caught:  # as the thread does: the loop decides
            error = caught
        finally:
            self.is_at_work = False
        self._on_done()
        self._host.call(self._loop.call_soon, done, error)
