"""Timers in log time: method names and arguments, never closures, so that they can be part of a snapshot.

They fire in order of (due, sequence), which every replica computes alike. Cancelled timers stay in the heap until
they are more than half of it: cancelling costs little and memory stays bounded.

Source: protocol §4.3.
"""

from heapq import heapify, heappop, heappush
from typing import Any


class Timer:
    """One scheduled call of `method` on the machine of `target`. `interval_ms` 0: once."""

    __slots__ = ("arguments", "due", "interval_ms", "method", "sequence", "target", "timers")

    def __init__(
        self,
        timers: "Timers | None",
        target: int,
        method: str,
        arguments: tuple[Any, ...],
        due: int,
        interval_ms: int,
        sequence: int,
    ) -> None:
        self.timers = timers  # None when it will not fire (again)
        self.target = target
        self.method = method
        self.arguments = arguments
        self.due = due
        self.interval_ms = interval_ms
        self.sequence = sequence

    @property
    def id(self) -> int:
        """Its name: no other timer of the replica had or will have it."""
        return self.sequence

    def __lt__(self, other: "Timer") -> bool:
        return (self.due, self.sequence) < (other.due, other.sequence)

    def cancel(self) -> None:
        """Never fire (again). Does nothing when it has fired for the last time or was cancelled."""
        if self.timers is not None:
            self.timers.forget(self)


class Timers:
    """All timers of one replica. `sequence` is the newest one's."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._waiting: dict[int, Timer] = {}  # by sequence, in that order: those that will fire
        self.sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, target: int, method: str, arguments: tuple[Any, ...], due: int, interval_ms: int) -> Timer:
        """Schedule a call at `due`, then every `interval_ms` if not zero."""
        self.sequence += 1
        if len(self._heap) > 64 + 2 * len(self._waiting):
            self._heap = list(self._waiting.values())
            heapify(self._heap)
        return self.put(self.sequence, target, method, arguments, due, interval_ms)

    def get(self, sequence: int) -> Timer | None:
        """The timer of this sequence, if it will fire."""
        return self._waiting.get(sequence)

    def forget(self, timer: Timer) -> None:
        """This one will not fire (again)."""
        del self._waiting[timer.sequence]
        timer.timers = None

    def next_due(self) -> int | None:
        """When the next timer is due; None without one."""
        heap = self._heap
        while heap and heap[0].timers is None:
            heappop(heap)
        return heap[0].due if heap else None

    def pop_due(self, time: int) -> Timer | None:
        """The next timer due at or before `time`, taken out, or put back at its next turn when it has an interval."""
        due = self.next_due() if self._heap else None
        if due is None or due > time:
            return None
        timer = heappop(self._heap)
        if timer.interval_ms:
            timer.due += timer.interval_ms
            heappush(self._heap, timer)
        else:
            self.forget(timer)
        return timer

    def drop(self, target: int) -> None:
        """Cancel every timer of a machine that is gone."""
        for timer in [timer for timer in self._waiting.values() if timer.target == target]:
            self.forget(timer)

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def view(self) -> tuple[list[Timer], dict[int, int]]:
        """The timers that will fire, in order of sequence, and when the repeating ones are due next, which is all that
        changes in a timer."""
        waiting = list(self._waiting.values())
        return waiting, {timer.sequence: timer.due for timer in waiting if timer.interval_ms}

    def put(
        self, sequence: int, target: int, method: str, arguments: tuple[Any, ...], due: int, interval_ms: int
    ) -> Timer:
        """A timer as it was or is to be; in order of sequence."""
        timer = self._waiting[sequence] = Timer(self, target, method, arguments, due, interval_ms, sequence)
        heappush(self._heap, timer)
        return timer
