"""An event loop in virtual time, and the hosts that share it.

Nothing waits: when no callback is ready, time jumps to the next timer. So an hour takes as long as what happens in it,
and what happens depends on nothing outside: no socket, no thread, no clock. The same program does the same again.

A `Host` is a computer within the loop. Whatever begins on a host stays there, for every callback, timer and task
inherits the context of the one that made it; so a host can be paused, put to sleep or killed as a whole, and tells time
by a clock of its own.
"""

import asyncio
import enum
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from copycat.errors import UsageError
from copycat.testing.clock import SimulatedClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STILL_MAX = 200_000
"""How many callbacks may run without time going on: more, and they never stop."""

_HOST: "ContextVar[Host | None]" = ContextVar("copycat_simulated_host", default=None)


class VirtualLoopError(UsageError, RuntimeError):
    """A program asked for what virtual time has not: a socket, a thread, or an end to waiting for nothing."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose seconds cost nothing: `asyncio.Runner(loop_factory=VirtualLoop)`.

    Raises VirtualLoopError when nothing will ever happen, naming the tasks that wait; when callbacks follow one another
    without end and no time passes; and for whatever would reach outside.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._queue: deque[tuple[asyncio.Handle, Host | None]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Host | None]] = []
        self._numbers = itertools.count()
        self._still = 0
        self._is_stopping = False
        self._thread = threading.get_ident()
        self.has_failed = False  # by an endless wait or an endless loop: there is no use in waiting for anything

    @property
    def now(self) -> float:
        """True time, in seconds since the loop was made; `time` is the running host's idea of it."""
        return self._now

    def time(self) -> float:
        """Seconds, by the clock of the host this is called on."""
        host = _HOST.get()
        return self._now if host is None else host.clock.monotonic()

    def block(self, seconds: float) -> None:
        """The callback that runs now takes that long, and everybody waits. Of one host alone: `Host.block`."""
        self._now += seconds

    # -- what is to come ---------------------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._check_closed()  # type: ignore[attr-defined]  # of BaseEventLoop
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append((handle, _HOST.get() if context is None else context.get(_HOST)))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            _refuse("a thread")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]  # of BaseEventLoop
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        host = _HOST.get() if context is None else context.get(_HOST)
        self._push(when if host is None else host.clock.when(when), handle, host)
        return handle

    def call_at_true(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, on: "Host | None" = None
    ) -> asyncio.TimerHandle:
        """Call it when `now` is `when`, by nobody's clock: on that host, once it runs, or on none."""
        if on is None:
            handle = asyncio.TimerHandle(when, callback, args, self, Context())
        else:
            handle = asyncio.TimerHandle(when, self._enter, (on, callback, args), self, Context())
        self._push(when, handle, None)
        return handle

    def _enter(self, host: "Host", callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call_soon(callback, *args, context=host.context.copy())

    def _push(self, when: float, handle: asyncio.TimerHandle, host: "Host | None") -> None:
        heapq.heappush(self._timers, (when, next(self._numbers), handle, host))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        task: asyncio.Task[T] = super().create_task(coro, name=name, context=context)
        host = _HOST.get() if context is None else context.get(_HOST)
        if host is not None:
            host.adopt(task)
        return task

    # -- what happens ------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        self._thread = threading.get_ident()
        try:
            super().run_forever()
        finally:
            self._is_stopping = False

    def stop(self) -> None:
        self._is_stopping = True
        super().stop()

    def close(self) -> None:
        super().close()
        self._queue.clear()
        self._timers.clear()

    def _run_once(self) -> None:
        queue, timers = self._queue, self._timers
        if not queue:
            if self._is_stopping:
                return
            self._let_time_pass()
        while timers and timers[0][0] <= self._now:
            _, _, timer, owner = heapq.heappop(timers)
            queue.append((timer, owner))
        self._still += len(queue)
        if self._still > STILL_MAX:
            self._fail(f"{STILL_MAX} callbacks ran and no time passed: {queue[0][0]!r} is next")
        for _ in range(len(queue)):
            handle, host = queue.popleft()
            # In its own words what `cancelled` and `lets` say: this runs for everything that happens.
            if not handle._cancelled and (host is None or host._state is _RUNNING or host.lets(handle)):
                handle._run()

    def _let_time_pass(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            self._fail(f"nothing will ever happen: {self._who_waits()}")
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._still = 0

    def _fail(self, why: str) -> NoReturn:
        """Stop here. What is cancelled after this has as much time as before to come to an end."""
        self.has_failed, self._still = True, 0
        raise VirtualLoopError(why)

    def _who_waits(self) -> str:
        waiting = sorted(
            f"{task.get_name()} in {getattr(task.get_coro(), '__qualname__', '?')}" for task in asyncio.all_tasks(self)
        )
        return f"no callback or timer is left, and these tasks wait: {'; '.join(waiting) or 'none'}"

    def take_timers(self, host: "Host") -> list[tuple[float, asyncio.TimerHandle]]:
        """The timers of one host, each with its time, in order; they are this loop's no longer."""
        taken = sorted(entry[:3] for entry in self._timers if entry[3] is host and not entry[2].cancelled())
        self._timers[:] = [entry for entry in self._timers if entry[3] is not host]
        heapq.heapify(self._timers)
        return [(when, handle) for when, _, handle in taken]

    # -- what there is not -------------------------------------------------------------------------------------------

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]  # takes anything
        _refuse("a thread")

    def getaddrinfo(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a name server")

    def create_connection(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a socket")

    def create_server(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a socket")

    def create_datagram_endpoint(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a socket")

    def add_reader(self, *_: Any) -> NoReturn:  # type: ignore[override]  # takes anything
        _refuse("a file descriptor")

    def add_writer(self, *_: Any) -> NoReturn:  # type: ignore[override]  # takes anything
        _refuse("a file descriptor")

    def sock_connect(self, *_: Any) -> NoReturn:
        _refuse("a socket")

    def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a process")

    def subprocess_shell(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("a process")


def _refuse(what: str) -> NoReturn:
    raise VirtualLoopError(
        f"{what} does not live in virtual time: give the program a SimulatedCluster's transport and disk, or keep this "
        "part out of the simulation"
    )


class _State(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"
    BURIED = "buried"


_RUNNING = _State.RUNNING


class Host:
    """A computer in a virtual loop, or a process on one. `clock` may outlive it.

    What is begun here with `call` and `start`, and all that follows from it, belongs to this host.
    """

    def __init__(self, loop: VirtualLoop, name: str, clock: SimulatedClock | None = None) -> None:
        self.loop = loop
        self.name = name
        self.clock = clock if clock is not None else SimulatedClock(lambda: loop.now)
        self.context = copy_context()
        self.context.run(_HOST.set, self)
        self.free_at = 0.0  # by true time: when the call that blocks it will have returned
        self._state = _State.RUNNING
        self._pauses = 0  # by `pause`
        self._stops = 0  # for any reason, those included
        self._held: list[asyncio.Handle] = []
        self._asleep: list[tuple[float, asyncio.TimerHandle]] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __repr__(self) -> str:
        return f"<Host {self.name} {self._state.value}>"

    @staticmethod
    def current() -> "Host | None":
        """The host this is called on."""
        return _HOST.get()

    @property
    def is_running(self) -> bool:
        return self._state is _State.RUNNING

    @property
    def is_paused(self) -> bool:
        """Whether `resume` is to be called."""
        return self._pauses > 0

    @property
    def is_dead(self) -> bool:
        return self._state in (_State.DEAD, _State.BURIED)

    def call(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Call it here, now."""
        return self.context.copy().run(function, *args)

    def start(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> "asyncio.Task[T]":
        """Begin a task here. It never ends if the host dies."""
        return self.loop.create_task(work, name=name or self.name, context=self.context.copy())

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """A task began here."""
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)

    def lets(self, handle: asyncio.Handle) -> bool:
        """Whether a callback of this host may run now; else the host keeps it."""
        if self._state in (_State.RUNNING, _State.BURIED):
            return True
        self._held.append(handle)
        return False

    # -- what may happen to it ---------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Run nothing until `resume`, which is to be called as often. Time goes on: what falls due, waits."""
        self._pauses += 1
        self._stand()

    def resume(self) -> None:
        """Undo one `pause`, if there was one: go on where it was."""
        if self._pauses:
            self._pauses -= 1
            self._go_on()

    def _stand(self) -> None:
        self._stops += 1
        if self._state is _State.RUNNING:
            self._state = _State.PAUSED

    def _go_on(self) -> None:
        self._stops -= 1
        if self._stops == 0 and self._state is _State.PAUSED:
            self._state = _State.RUNNING
            self._release()

    def block(self, seconds: float) -> None:
        """The call that runs here now takes that long, and nothing else runs here meanwhile."""
        if not self.is_running and self.free_at <= self.loop.now:
            return
        self.clock.be_busy(seconds)
        if self.free_at <= self.loop.now:
            self._stand()
            self.free_at = self.loop.now
            self.loop.call_at_true(self.free_at + seconds, self._unblock)
        self.free_at += seconds

    def _unblock(self) -> None:
        if self.is_dead:
            return
        if self.loop.now < self.free_at:
            self.loop.call_at_true(self.free_at, self._unblock)
            return
        self.clock.caught_up()
        self._go_on()

    def suspend(self, seconds: float) -> None:
        """Fall asleep for so long, as a laptop does: its monotonic clock and its timers stand still meanwhile."""
        if self.is_dead:
            return
        self._stand()
        self._asleep += self.loop.take_timers(self)
        self.loop.call_at_true(self.loop.now + seconds, self._wake, seconds)

    def _wake(self, seconds: float) -> None:
        if self.is_dead:
            return
        self.clock.slept(seconds)
        asleep, self._asleep = self._asleep, []
        for when, handle in asleep:
            self.loop._push(when + seconds, handle, self)
        self._go_on()

    def kill(self) -> None:
        """End it as `kill -9` does: nothing that is under way here goes on, and no `finally` runs."""
        if not self.is_dead:
            self._state = _State.DEAD
            self.clock.restart()
            # Held on to, for what is collected runs its `finally` blocks whenever the collector likes.
            self._held += [handle for _, handle in (*self._asleep, *self.loop.take_timers(self))]

    async def bury(self) -> None:
        """When all is over: let what was under way come to an end, where it can do no harm."""
        self.kill()
        self._state = _State.BURIED
        self._release()
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0)

    def _release(self) -> None:
        held, self._held = self._held, []
        for handle in reversed(held):
            self.loop._queue.appendleft((handle, self))
