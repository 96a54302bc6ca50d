"""Callbacks that come and go. One that fails does not keep the others from hearing."""

import inspect
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from copycat.util.tasks import TaskOwner

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Listener(Generic[T]):
    """One callback, heard until it is closed. Calling it calls the callback; leaving its `with` block closes it."""

    __slots__ = ("_callback", "_on_close")

    def __init__(self, callback: Callable[[T], object], on_close: Callable[["Listener[T]"], object]) -> None:
        self._callback = callback
        self._on_close: Callable[[Listener[T]], object] | None = on_close

    @property
    def is_closed(self) -> bool:
        """True once `close()` was called: no more notifications."""
        return self._on_close is None

    def close(self) -> None:
        """Stop listening; idempotent, and allowed from within the callback."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    def __call__(self, value: T) -> object:
        """Call the callback with `value`; what it returns or raises passes through."""
        return self._callback(value)

    def __enter__(self) -> "Listener[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Listeners(Generic[T]):
    """The callbacks of one kind of event, in the order they were added. Not thread-safe.

    `tasks` owns what coroutine callbacks do; None gives the listeners an owner of their own, ended by `close()`.
    `on_close` is called with every listener that was closed, after it.
    """

    def __init__(
        self,
        name: str = "listeners",
        *,
        tasks: TaskOwner | None = None,
        on_close: Callable[[Listener[T]], object] | None = None,
    ) -> None:
        self.name = name
        self._on_close = on_close
        self._own_tasks = TaskOwner(name) if tasks is None else None
        self._tasks = tasks if tasks is not None else self._own_tasks
        self._listeners: dict[Listener[T], None] = {}  # a dict is an ordered set

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, callback: Callable[[T], object]) -> Listener[T]:
        """Call `callback` with every value notified from now on. A coroutine function is started as a task per value.

        The same callback added twice is called twice. Raises: TypeError if it cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"a listener must be callable, not {callback!r}")
        listener = Listener(callback, self._remove)
        self._listeners[listener] = None
        return listener

    def notify(self, value: T) -> None:
        """Call every listener with `value`, in order. Never raises for a listener's sake: failures are logged.

        Listeners closed meanwhile are skipped; those added meanwhile hear the next value.
        """
        for listener in tuple(self._listeners):
            self.tell(listener, value)

    def tell(self, listener: Listener[T], value: T) -> None:
        """Call one of the listeners, as `notify` does."""
        if listener.is_closed:
            return
        try:
            result: Any = listener(value)
            if inspect.iscoroutine(result) and self._tasks is not None:
                self._tasks.start(result)
        except Exception as error:
            _log.exception("a listener of %s failed: %r", self.name, error, extra={"listeners": self.name})

    async def close(self) -> None:
        """Close every listener; idempotent. Running tasks are cancelled if the listeners own them."""
        for listener in tuple(self._listeners):
            listener.close()
        if self._own_tasks is not None:
            await self._own_tasks.close()

    def _remove(self, listener: Listener[T]) -> None:
        self._listeners.pop(listener, None)
        if self._on_close is not None:
            self._on_close(listener)
