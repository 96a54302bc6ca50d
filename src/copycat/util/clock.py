"""The three clocks, as one object that can be passed in and replaced in tests.

Which clock for what: `monotonic` for delays and timers; `boottime_ms` where time asleep must count, such as session
timeouts; `wall_ms` only for people to read. No decision may hang on the wall clock, because it jumps.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Implementations never go backwards except for `wall_ms`."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; stands still while the machine sleeps on some systems."""
        ...

    def boottime_ms(self) -> int:
        """Milliseconds since an arbitrary start, counting the time the machine was suspended where it can be known."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, as the machine believes."""
        ...


class SystemClock:
    """The machine's clocks. Where there is no CLOCK_BOOTTIME, `boottime_ms` is the monotonic clock."""

    def __init__(self) -> None:
        # macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC counts sleep already, so the fallback says the same thing.
        self._boottime_id: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", -1))

    monotonic = staticmethod(time.monotonic)

    def boottime_ms(self) -> int:
        """Milliseconds, from CLOCK_BOOTTIME or the monotonic clock."""
        if self._boottime_id < 0:
            return time.monotonic_ns() // 1_000_000
        return time.clock_gettime_ns(self._boottime_id) // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told. `wall_ms` is the wall time it starts at."""

    def __init__(self, *, wall_ms: int = 0) -> None:
        self._awake_ns = 0
        self._asleep_ns = 0
        self._wall_start_ms = wall_ms

    def advance(self, seconds: float) -> None:
        """Let `seconds` >= 0 pass on every clock. Raises: ValueError if negative."""
        self._awake_ns += _to_ns(seconds)

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep for `seconds` >= 0: boot and wall time pass, monotonic time does not."""
        self._asleep_ns += _to_ns(seconds)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._awake_ns / 1e9

    def boottime_ms(self) -> int:
        """Milliseconds advanced and slept so far."""
        return (self._awake_ns + self._asleep_ns) // 1_000_000

    def wall_ms(self) -> int:
        """The starting wall time plus `boottime_ms`."""
        return self._wall_start_ms + self.boottime_ms()


def _to_ns(seconds: float) -> int:
    if seconds < 0:
        raise ValueError(f"a clock cannot go back by {-seconds} s")
    return round(seconds * 1e9)
