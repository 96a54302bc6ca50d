"""One event loop, and the thread and process it belongs to.

Handles belong to the loop that opened them. Used from another thread they would corrupt state quietly, and used after
a fork two processes would speak as one session; so both are refused by name.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from copycat.errors import ForkedError, ThreadError

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Scheduled:
    """A call to come, once or again and again, until `cancel()`."""

    __slots__ = ("_handle", "_is_cancelled")

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """True once `cancel()` was called."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Make no further call; idempotent. Call it on the context's thread."""
        self._is_cancelled = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Context:
    """A facade over `loop`, made on the loop's own thread. Two contexts of one loop are equal."""

    __slots__ = ("_process_id", "_thread", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._thread = threading.current_thread()
        self._process_id = os.getpid()

    @classmethod
    def current(cls) -> "Context":
        """The context of the running loop. Raises: RuntimeError when none is running in this thread."""
        return cls(asyncio.get_running_loop())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and other.loop is self.loop

    def __hash__(self) -> int:
        return hash(self.loop)

    def check_thread(self) -> None:
        """Raises: ThreadError, naming both threads, unless called on the context's thread."""
        if threading.get_ident() != self._thread.ident:
            raise ThreadError(
                f"used from thread {threading.current_thread().name!r}, but it belongs to the event loop of thread "
                f"{self._thread.name!r}; use asyncio.run_coroutine_threadsafe(..., loop)"
            )

    @property
    def is_inherited(self) -> bool:
        """True in a child of the process that made the context."""
        return os.getpid() != self._process_id

    def check_process(self) -> None:
        """Raises: ForkedError when called in a child of the process that made the context."""
        if self.is_inherited:
            raise ForkedError(
                f"opened in process {self._process_id} and used in its child {os.getpid()}: open another after the fork"
            )

    def execute(self, function: Callable[[], T]) -> "Future[T]":
        """Run `function` on the loop soon, from any thread; calls of one thread run in their order.

        Returns a `concurrent.futures.Future`: `.result()` in another thread, `asyncio.wrap_future` on a loop.
        Raises: RuntimeError if the loop is closed.
        """
        future: Future[T] = Future()
        self.loop.call_soon_threadsafe(_run_into, future, function)
        return future

    def schedule(self, delay: float, function: Callable[[], object], interval: float | None = None) -> Scheduled:
        """Call `function` after `delay` seconds, then every `interval` seconds; None means once.

        Calls missed while the loop was busy are not made up for. A failure is logged and does not end the repetition.
        Raises: ThreadError off the thread; ValueError for a negative delay or an interval that is not positive.
        """
        self.check_thread()
        if delay < 0 or (interval is not None and interval <= 0):
            raise ValueError(f"cannot schedule after {delay} s every {interval} s")
        scheduled = Scheduled()
        self._arm(scheduled, self.loop.time() + delay, function, interval)
        return scheduled

    def _arm(self, scheduled: Scheduled, due: float, function: Callable[[], object], interval: float | None) -> None:
        def run() -> None:
            scheduled._handle = None
            try:
                function()
            except Exception as error:
                _log.exception("a scheduled call failed: %r", error, extra={"call": repr(function)})
            if interval is not None and not scheduled.is_cancelled:
                late = max(0.0, self.loop.time() - due)
                self._arm(scheduled, due + interval * (1 + late // interval), function, interval)

        scheduled._handle = self.loop.call_at(due, run)


def _run_into(future: "Future[Any]", function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, Exception):
            raise  # KeyboardInterrupt and SystemExit are the loop's to know as well
    else:
        future.set_result(result)
