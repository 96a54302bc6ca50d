"""A thread that does one disk job after another, beside the event loop.

A dedicated thread and `call_soon_threadsafe` cost less per job than an executor and a future.
"""

import asyncio
import queue
import threading
from collections.abc import Callable

Done = Callable[[BaseException | None], None]


class DiskWorker:
    """Runs jobs in order; `done(error)` is then called on the loop, with None for success."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object], done: Done) -> None:
        """Run `job` after all earlier ones."""
        self._jobs.put((job, done))

    def close(self) -> None:
        """Finish the jobs that wait, then end the thread; returns when it has ended."""
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
