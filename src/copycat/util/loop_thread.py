"""An event loop in a thread of its own, so that a busy application does not starve what must answer in time."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from copycat.errors import ClosedError

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's where that is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """A daemon thread that runs a loop from `start` to `close`."""

    def __init__(self, name: str, make_loop: Callable[[], asyncio.AbstractEventLoop] = new_event_loop) -> None:
        self._name = name
        self._make_loop = make_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; its loop takes work when this returns."""
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._work, args=(started,), name=self._name, daemon=True)
        self._thread.start()
        self._loop = started.result()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and wait for it here; cancelling the wait cancels the work.

        Raises: what `work` raises; ClosedError when the thread does not run.
        """
        if self._loop is None:
            work.close()
            raise ClosedError(f"thread {self._name} does not run")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def close(self) -> None:
        """Stop the loop and wait for the thread to end. Harmless when repeated."""
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)

    def _work(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        loop = self._make_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set_result, loop)
        try:
            loop.run_forever()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
