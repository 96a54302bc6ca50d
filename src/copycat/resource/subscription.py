"""Listeners of whoever uses a resource, with one registration at the cluster behind all of them.

The first listener of a handle registers the handle with the state machine, the last one to be closed deregisters it;
those between are local. A session that was lost took the registration with it, so a new session registers again, and
the listeners are told that they may have missed something.

Source: protocol §5.5, §6.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from copycat.raft.client.future import CopycatFuture, begin
from copycat.util.listeners import Listener, Listeners

_log = logging.getLogger(__name__)

T = TypeVar("T")

OnGap = Callable[[], object]
"""Called when events may have been missed: a session was lost, and a new one listens from now on."""


class Subscription(Generic[T]):
    """The listeners of one kind of event on one handle.

    what: names them in messages, such as "messages of 'news'".
    listen, unlisten: start the commands that register and deregister the handle.
    on_recovery: the session's.
    """

    def __init__(
        self,
        what: str,
        listen: Callable[[], Future[Any]],
        unlisten: Callable[[], Future[Any]],
        on_recovery: Callable[[Callable[[int], object]], Listener[int]],
    ) -> None:
        self._what = what
        self._listen = listen
        self._unlisten = unlisten
        self._on_recovery = on_recovery
        self._listeners: Listeners[T] = Listeners(what, on_close=self._closed)
        self._gaps: dict[Listener[T], OnGap | None] = {}
        self._registration: Future[Any] | None = None  # of the session; None while there are no listeners
        self._recovery: Listener[int] | None = None

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, callback: Callable[[T], object], on_gap: OnGap | None = None) -> "CopycatFuture[Listener[T]]":
        """Call `callback` with every event from now on. The result is the listener, once the cluster knows of it.

        A coroutine function is started as a task for each, in order. Cancelling the future closes the listener. The
        future raises what the registration raises. Raises TypeError at once for what cannot be called.
        """
        for each in (callback, on_gap):
            if each is not None and not callable(each):
                raise TypeError(f"a listener must be callable, not {each!r}")
        registration = self._registration
        if registration is None:
            registration = self._registration = self._listen()
            self._recovery = self._on_recovery(self._recovered)
        listener = self._listeners.add(callback)
        self._gaps[listener] = on_gap
        added: CopycatFuture[Listener[T]] = begin(asyncio.get_running_loop(), f"listening to {self._what}")
        added.add_done_callback(lambda _: listener.close() if added.cancelled() else None)
        registration.add_done_callback(lambda registered: self._registered(registered, listener, added))
        return added

    def notify(self, value: T) -> None:
        """Tell every listener."""
        self._listeners.notify(value)

    async def close(self) -> None:
        """Close every listener, and end what coroutine callbacks still do."""
        await self._listeners.close()

    def _registered(self, registered: Future[Any], listener: Listener[T], added: "CopycatFuture[Listener[T]]") -> None:
        error = None if registered.cancelled() else registered.exception()
        if error is not None:
            listener.close()
        if added.done():
            return
        if registered.cancelled():
            added.cancel()
        elif error is not None:
            added.set_exception(error)
        else:
            added.set_result(listener)

    def _closed(self, listener: Listener[T]) -> None:
        self._gaps.pop(listener, None)
        if not len(self._listeners):
            self._deregister()

    def _deregister(self) -> None:
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.close()
        self._registration = None
        try:
            self._unlisten().add_done_callback(_forget)
        except Exception as error:  # the handle or its session is closed, and the registration with it
            _log.debug("%s: nothing to deregister: %r", self._what, error)

    def _recovered(self, _session: int) -> None:
        """Another session: register again, and say that something may have been missed meanwhile."""
        self._registration = self._listen()
        self._registration.add_done_callback(self._registered_again)
        for listener, on_gap in list(self._gaps.items()):
            if on_gap is None:
                _log.warning("listeners to %s may have missed events: the session was lost, another began", self._what)
            elif not listener.is_closed:
                self._call(on_gap)

    def _registered_again(self, registered: Future[Any]) -> None:
        if not registered.cancelled() and registered.exception() is not None:
            _log.error("listeners to %s hear nothing more: %s", self._what, registered.exception())

    def _call(self, on_gap: OnGap) -> None:
        try:
            on_gap()
        except Exception as error:
            _log.exception("on_gap of %s failed: %r", self._what, error)


def _forget(deregistered: Future[Any]) -> None:
    """A registration that could not be ended ends with its session; nobody waits to hear of it."""
    if not deregistered.cancelled() and deregistered.exception() is not None:
        _log.debug("deregistering failed: %s", deregistered.exception())
