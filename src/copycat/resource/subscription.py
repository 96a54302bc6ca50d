"""Listeners of whoever uses a resource, with one registration at the cluster behind all of them.

The first listener of a handle registers the handle with the state machine, the last one to be closed deregisters it;
those between are local. A session that was lost took the registration with it, so a new session registers again, and
the listeners are told that they may have missed something. A client that is closed closes them.

Source: protocol §5.5, §6.
"""

import logging
from asyncio import Future
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from copycat.errors import (
    ClosedError,
    CommandTimeoutError,
    CopycatError,
    IndeterminateError,
    RetryableError,
    SessionError,
)
from copycat.raft.client.states import Loss
from copycat.resource.handover import HandoverFuture
from copycat.util.listeners import Listener, Listeners
from copycat.util.tasks import TaskOwner

_log = logging.getLogger(__name__)

T = TypeVar("T")

OnGap = Callable[[], object]
"""Called when events may have been missed: a session was lost, and a new one listens from now on."""

OnEnd = Callable[[CopycatError], object]
"""Called with the reason when nothing will be heard any more: the handle, the client or the resource is gone."""


class Session(Protocol):
    """What is needed of it."""

    def on_loss(self, callback: Callable[[Loss], object]) -> Listener[Loss]: ...

    def on_recovery(self, callback: Callable[[int], object]) -> Listener[int]: ...


class Subscription(Generic[T]):
    """The listeners of one kind of event on one handle.

    what: names them in messages, such as "messages of 'news'".
    listen, unlisten: start the commands that register and deregister the handle.
    tasks: owns what coroutine callbacks do; None: the subscription does.
    active: the subscriptions of the handle that have listeners; this one adds and removes itself.
    """

    def __init__(
        self,
        what: str,
        listen: Callable[[], Future[Any]],
        unlisten: Callable[[], Future[Any]],
        session: Session,
        *,
        tasks: TaskOwner | None = None,
        active: "dict[Subscription[Any], None] | None" = None,
    ) -> None:
        self._what = what
        self._listen = listen
        self._unlisten = unlisten
        self._session = session
        self._active = active if active is not None else {}
        self._listeners: Listeners[T] = Listeners(what, tasks=tasks, on_close=self._closed)
        self._told: dict[Listener[T], tuple[OnGap | None, OnEnd | None]] = {}
        self._registration: Future[Any] | None = None  # of the session; None while there are no listeners
        self._watches: list[Listener[Any]] = []  # of the session, while there are listeners

    def __len__(self) -> int:
        return len(self._listeners)

    def add(
        self, callback: Callable[[T], object], on_gap: OnGap | None = None, on_end: OnEnd | None = None
    ) -> HandoverFuture[Listener[T]]:
        """Call `callback` with every event from now on. The result is the listener, once the cluster knows of it.

        A coroutine function is started as a task for each, in order. Whoever stops waiting for the result closes the
        listener. The future raises what the registration raises. Raises TypeError at once for what cannot be called.
        """
        for each in (callback, on_gap, on_end):
            if each is not None and not callable(each):
                raise TypeError(f"a listener must be callable, not {each!r}")
        registration = self._registration
        if registration is None or _has_failed(registration):
            registration = self._registration = self._listen()
        if not self._watches:
            self._watches = [self._session.on_recovery(self._recovered), self._session.on_loss(self._lost)]
        self._active[self] = None
        listener = self._listeners.add(callback)
        self._told[listener] = on_gap, on_end
        added: HandoverFuture[Listener[T]] = HandoverFuture(f"listening to {self._what}", listener.close)
        registration.add_done_callback(lambda registered: hand_over(registered, listener, added))
        return added

    def notify(self, value: T) -> None:
        """Tell every listener."""
        self._listeners.notify(value)

    def end(self, why: CopycatError) -> None:
        """Close every listener, at once: there will be nothing to hear."""
        for listener, (_, on_end) in list(self._told.items()):
            listener.close()
            if on_end is not None:
                self._call(on_end, why)
            elif not isinstance(why, ClosedError):
                _log.warning("listeners to %s hear nothing more: %s", self._what, why)

    async def close(self) -> None:
        """Close every listener, and end what coroutine callbacks still do if that is owned here."""
        await self._listeners.close()

    def _closed(self, listener: Listener[T]) -> None:
        self._told.pop(listener, None)
        if len(self._listeners):
            return
        for watch in self._watches:
            watch.close()
        self._watches, self._registration = [], None
        self._active.pop(self, None)
        try:
            self._unlisten().add_done_callback(_forget)
        except CopycatError as error:  # the handle or its session is closed, and the registration with it
            _log.debug("%s: nothing to deregister: %r", self._what, error)

    # -- sessions that come and go -------------------------------------------------------------------------------------

    def _lost(self, loss: Loss) -> None:
        if loss.is_last:
            self.end(ClosedError(f"listening to {self._what} has ended: {loss.why}"))

    def _recovered(self, _session: int) -> None:
        """Another session: register again, and say that something may have been missed meanwhile."""
        self._register_again()
        for listener, (on_gap, _) in list(self._told.items()):
            if on_gap is None:
                _log.warning("listeners to %s may have missed events: the session was lost, another began", self._what)
            elif not listener.is_closed:
                self._call(on_gap)

    def _register_again(self) -> None:
        self._registration = self._listen()
        self._registration.add_done_callback(self._registered_again)

    def _registered_again(self, registered: Future[Any]) -> None:
        error = None if registered.cancelled() else registered.exception()
        if registered is not self._registration:
            return  # another session began meanwhile, or the last listener was closed
        match error:
            case None:
                pass
            case CommandTimeoutError(operation=operation):  # which takes its course, however long it takes
                self._registration = operation
                operation.add_done_callback(self._registered_again)
            case RetryableError():
                self._register_again()
            case IndeterminateError() | SessionError():
                _log.debug("%s: left to the next session: %r", self._what, error)
            case _:
                _log.error("listeners to %s hear nothing more: %s", self._what, error)

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            _log.exception("a callback of listeners to %s failed: %r", self._what, error)


def _has_failed(registration: Future[Any]) -> bool:
    return registration.done() and (registration.cancelled() or registration.exception() is not None)


def hand_over(registered: Future[Any], listener: Listener[T], added: HandoverFuture[Listener[T]]) -> None:
    """What stands for a listener is known to the cluster, or certainly not: settle the future of whoever added it."""
    error = None if registered.cancelled() else registered.exception()
    if error is not None:
        listener.close()
    if added.done():
        return
    if error is not None:
        added.set_exception(error)
    elif listener.is_closed:
        added.set_exception(ClosedError(f"{added.what}: the handle was closed meanwhile"))
    else:
        added.set_result(listener)


def _forget(deregistered: Future[Any]) -> None:
    """A registration that could not be ended ends with its session; nobody waits to hear of it."""
    if not deregistered.cancelled() and deregistered.exception() is not None:
        _log.debug("deregistering failed: %s", deregistered.exception())
