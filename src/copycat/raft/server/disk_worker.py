"""Who does the disk's jobs beside the event loop, one after another: a thread, or what a simulation puts in its place.

A dedicated thread and `call_soon_threadsafe` cost less per job than an executor and a future.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Protocol

Job = Callable[[], object]
Done = Callable[[BaseException | None], None]


class DiskWorker(Protocol):
    """Runs jobs in order; `done(error)` is then called on the loop, with None for success."""

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` after all earlier ones."""

    def close(self) -> None:
        """Finish the jobs that wait; returns when they are done. No more are taken."""


MakeDiskWorker = Callable[[str, asyncio.AbstractEventLoop], DiskWorker]
"""Makes a worker by that name for a loop."""


class DiskThread:
    """A DiskWorker on a thread of its own, which ends with `close`."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.put((job, done))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, done = entry
            error: BaseException | None = None
            try:
                job()
            except BaseException as caught:  # handed to the loop, which decides
                error = caught
            try:
                self._loop.call_soon_threadsafe(done, error)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return
