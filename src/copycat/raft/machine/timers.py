"""Timers in log time: method names and arguments, never closures, so that they can be part of a snapshot.

They fire in order of (due, sequence), which every replica computes alike. Cancelled timers stay in the heap until
they are more than half of it: cancelling costs nothing and memory stays bounded.

Source: protocol §4.3.
"""

from heapq import heapify, heappop, heappush
from typing import Any


class Timer:
    """One scheduled call of `method` on the machine of `target`. `interval_ms` 0: once."""

    __slots__ = ("arguments", "due", "interval_ms", "method", "sequence", "target", "timers")

    def __init__(
        self,
        timers: "Timers",
        target: int,
        method: str,
        arguments: tuple[Any, ...],
        due: int,
        interval_ms: int,
        sequence: int,
    ) -> None:
        self.timers: Timers | None = timers
        self.target = target
        self.method = method
        self.arguments = arguments
        self.due = due
        self.interval_ms = interval_ms
        self.sequence = sequence

    def __lt__(self, other: "Timer") -> bool:
        return (self.due, self.sequence) < (other.due, other.sequence)

    def cancel(self) -> None:
        """Never fire (again). Does nothing when it has fired for the last time or was cancelled."""
        if self.timers is not None:
            self.timers.cancelled += 1
            self.timers = None


class Timers:
    """All timers of one replica."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._sequence = 0
        self.cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self.cancelled

    def add(self, target: int, method: str, arguments: tuple[Any, ...], due: int, interval_ms: int) -> Timer:
        """Schedule a call at `due`, then every `interval_ms` if not zero."""
        self._sequence += 1
        timer = Timer(self, target, method, arguments, due, interval_ms, self._sequence)
        if self.cancelled > 64 and self.cancelled > len(self._heap) // 2:
            self._heap = [kept for kept in self._heap if kept.timers is not None]
            heapify(self._heap)
            self.cancelled = 0
        heappush(self._heap, timer)
        return timer

    def next_due(self) -> int | None:
        """When the next timer is due; None without one."""
        heap = self._heap
        while heap and heap[0].timers is None:
            heappop(heap)
            self.cancelled -= 1
        return heap[0].due if heap else None

    def pop_due(self, time: int) -> Timer | None:
        """The next timer due at or before `time`, taken out, or put back at its next turn when it has an interval."""
        due = self.next_due()
        if due is None or due > time:
            return None
        timer = heappop(self._heap)
        timer.timers = None
        if timer.interval_ms:
            timer.due += timer.interval_ms
            timer.timers = self
            heappush(self._heap, timer)
        return timer

    def drop(self, target: int) -> None:
        """Cancel every timer of a machine that is gone."""
        for timer in self._heap:
            if timer.target == target:
                timer.cancel()
