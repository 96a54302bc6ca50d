"""Background tasks with an owner: held, named, heard when they fail, and gone when the owner closes.

asyncio keeps only weak references to tasks and tells of a failure only when the task is collected. So whoever starts
work in the background does it through a TaskOwner that outlives the work.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from copycat.errors import ClosedError

_log = logging.getLogger(__name__)

T = TypeVar("T")


class TaskOwner:
    """Owns asyncio tasks of one event loop. Not thread-safe: use it on that loop only.

    A task that fails is logged at once, and `on_failure`, when given, is called with its exception.
    """

    def __init__(self, name: str, *, on_failure: Callable[[BaseException], object] | None = None) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in order, so that all runs alike each time
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """True from the call of `close()` on."""
        return self._is_closed

    def __len__(self) -> int:
        """The number of tasks still running."""
        return len(self._tasks)

    def __bool__(self) -> bool:
        return True  # an owner without tasks is still an owner; `owner or default` must not drop it

    def start(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> "asyncio.Task[T]":
        """Start `work` on the running loop, as task `<owner>-<name>`.

        Raises: ClosedError after `close()`; the coroutine is then closed unstarted. RuntimeError without a loop.
        """
        try:
            if self._is_closed:
                raise ClosedError(f"{self.name} is closed and starts no more tasks")
            loop = asyncio.get_running_loop()
        except RuntimeError:  # ClosedError is one, too
            work.close()  # or Python warns that it was never awaited, which hides the real error
            raise
        label = name or getattr(work, "__qualname__", "task")
        task = loop.create_task(work, name=f"{self.name}-{label}")
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    async def close(self) -> None:
        """Cancel every task and wait until all have ended; idempotent. A calling task that is owned ends itself.

        Failures during the cancellation are logged, not raised.
        """
        self._is_closed = True
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel(f"{self.name} is closing")
        if others:
            await asyncio.wait(others)

    def _on_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        _log.error("task %s failed: %r", task.get_name(), error, exc_info=error, extra={"task": task.get_name()})
        if self._on_failure is not None:
            self._on_failure(error)
