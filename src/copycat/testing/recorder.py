"""Recorder: writes down what clients do while they do it.

    with Recorder("run.jsonl", seed=7) as recorder:
        caller = recorder.caller("users")
        await caller.record("put", lambda: users.put("ann", 41), key="ann", value=41)

An invocation is written before the call is made, and its end after the answer is here, so that an operation takes
effect between its two lines. What is known of a failure decides how it ends: see `Caller.record`.
"""

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from copycat.errors import Outcome
from copycat.testing.history import (
    FAIL,
    INFO,
    INVOKE,
    NEMESIS,
    OK,
    UNSTATED,
    Event,
    History,
    HistoryError,
    Turns,
    frozen,
    header,
)
from copycat.util.clock import Clock, SystemClock

R = TypeVar("R")


class Recorder:
    """Records what its callers do: in memory, or in the file at `path`, which it replaces. May be used from threads.

    path: None keeps events in memory, for `history`. Each line is handed to the operating system at once, so that it
        outlives the process.
    clock: what the times are taken from. Times of several processes of one machine can be compared: see `join`.
    first, step: the numbers of the callers are `first`, `first + step` and so on; for several recorders at a time.
    facts: for the first line, such as `seed=7`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        clock: Clock | None = None,
        first: int = 0,
        step: int = 1,
        **facts: Any,
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._next, self._step = first, step
        self._facts = facts
        self._turns = Turns()
        self._events: list[Event] = []
        self._lock = threading.Lock()  # the order of times is the order of lines
        first_line = header(facts)
        self._file: TextIO | None = None
        if path is not None:
            self._file = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 – this is its context manager
            self._file.write(first_line + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if there is one. Idempotent. Nothing can be recorded in it after that."""
        if self._file is not None:
            self._file.close()

    @property
    def history(self) -> History:
        """What was recorded so far, in memory; what is in a file, `read` finds. Raises HistoryError with a file."""
        if self._file is not None:
            raise HistoryError(f"this history is in the file {self._file.name}; read that")
        return History(tuple(self._events), self._facts)

    def caller(self, resource: str = "") -> "Caller":
        """Somebody who does one thing at a time, to the resource at this path unless a call names another."""
        return Caller(self, resource)

    def fault(self, f: str, value: Any = None) -> None:
        """Write down a fault, or its end: `fault("stop", "a")`."""
        self.take(process=NEMESIS, type=INFO, f=f, value=value)

    def take(self, *, value: Any = None, key: Any = None, **facts: Any) -> None:
        """Write down an event that happens now. Raises HistoryError when it cannot follow on those before."""
        with self._lock:
            time = round(self._clock.monotonic() * 1e9)
            event = Event(time=time, key=frozen(key), value=frozen(value), **facts)
            self._turns.take(event)
            if self._file is None:
                self._events.append(event)
            else:
                self._file.write(event.to_json() + "\n")

    def new_process(self) -> int:
        """A number nobody has had."""
        with self._lock:
            process = self._next
            self._next += self._step
            return process


class Caller:
    """One process of a history. Made by `Recorder.caller`. It goes on with another number after an unknown outcome."""

    def __init__(self, recorder: Recorder, resource: str) -> None:
        self._recorder = recorder
        self._resource = resource
        self._process: int | None = None
        self._open: dict[str, Any] | None = None

    async def record(
        self,
        f: str,
        start: Callable[[], Awaitable[R]],
        *,
        key: Any = None,
        value: Any = None,
        resource: str | None = None,
        result: Callable[[R], Any] | None = None,
    ) -> R:
        """Call `start()` and await what it gives, between the two lines of the operation; returns or raises the same.

        value: what was asked: the argument, or a list of several. result: what to write of the answer; None: all.

        An error ends the operation by its `outcome`: in `fail` when it was not applied, in `ok` without an answer when
        it was, in `info` when that is unknown, as it is after a cancellation and after errors that have no `outcome`.
        Raises HistoryError when this caller has an operation open.
        """
        self.invoke(f, key=key, value=value, resource=resource)
        try:
            answer = await start()
            shown = answer if result is None else result(answer)
        except BaseException as error:
            self.failed(error)
            raise
        self.ok(shown)
        return answer

    def invoke(self, f: str, *, key: Any = None, value: Any = None, resource: str | None = None) -> None:
        """Write down that an operation begins. Raises HistoryError when another is open."""
        if self._process is None:
            self._process = self._recorder.new_process()
        path = self._resource if resource is None else resource
        about = {"process": self._process, "f": f, "resource": path, "key": key}
        self._recorder.take(type=INVOKE, value=value, **about)
        self._open = about

    def ok(self, value: Any = UNSTATED, *, index: int | None = None, error: str | None = None) -> None:
        """Write down that the open operation took effect. `value` is the answer, UNSTATED when it is not known."""
        self._end(OK, value=value, index=index, error=error)

    def fail(self, error: str | None = None) -> None:
        """Write down that it did not take effect, and never will."""
        self._end(FAIL, error=error)

    def info(self, error: str | None = None) -> None:
        """Write down that nobody knows whether it took effect, or will."""
        self._end(INFO, error=error)
        self._process = None

    def failed(self, error: BaseException) -> None:
        """Write down how the open operation ended, by the `outcome` of its error."""
        outcome = getattr(error, "outcome", Outcome.UNKNOWN)
        words = f"{type(error).__name__}: {error}".removesuffix(": ")
        if outcome is Outcome.NOT_APPLIED:
            self.fail(words)
        elif outcome is Outcome.APPLIED:
            self.ok(error=words)
        else:
            self.info(words)

    def _end(self, kind: str, **facts: Any) -> None:
        about, self._open = self._open, None
        if about is None:
            raise HistoryError(f"{kind} ends an operation, and this caller has none open")
        self._recorder.take(type=kind, **about, **facts)
