"""The clock of one simulated host: wrong by as much as it is told to be."""

from collections.abc import Callable

EPOCH_MS = 1_767_225_600_000  # 2026-01-01: when every simulation begins, by a clock that is right


class SimulatedClock:
    """A `copycat.util.clock.Clock` over the time of a virtual loop. `time` tells that time, in seconds.

    offset: how far ahead the wall clock is, in seconds. rate: how many seconds it counts in one; 1.0 is right.
    What is changed later holds from then on; only the wall clock ever goes back.
    """

    def __init__(self, time: Callable[[], float], *, offset: float = 0.0, rate: float = 1.0) -> None:
        self.offset = offset
        self._time = time
        self._rate = rate
        self._since = self._counted = time()  # when the rate was set, and what had been counted by then
        self._asleep = 0.0
        self._shown_ms = 0  # or rounding would let it fall
        self._busy = 0.0  # what the call that runs now has taken, or will have taken when it returns

    @property
    def rate(self) -> float:
        """How many seconds it counts in one."""
        return self._rate

    def set_rate(self, rate: float) -> None:
        """Run faster or slower from now on. Raises ValueError unless `rate` is positive."""
        if rate <= 0:
            raise ValueError(f"a clock runs forward: its rate cannot be {rate}")
        now = self._time()
        self._counted += (now - self._since) * self._rate
        self._since, self._rate = now, rate

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.offset += seconds

    def slept(self, seconds: float) -> None:
        """The host was asleep for the last `seconds`: its monotonic clock stood still meanwhile."""
        asleep = seconds * self._rate
        self._counted -= asleep
        self._asleep += asleep

    def be_busy(self, seconds: float) -> None:
        """The call that runs now takes that long. The loop's time goes on only when it has returned."""
        self._busy += seconds * self._rate

    def caught_up(self) -> None:
        """The loop's time has gone on by what the call took."""
        self._busy = 0.0

    def restart(self) -> None:
        """Whoever was busy is gone: the next who reads this clock sees it for the first time."""
        self._busy, self._shown_ms = 0.0, 0

    def monotonic(self) -> float:
        """Seconds since the start of the simulation, as this host counts them; stands still while it sleeps."""
        return self._counted + (self._time() - self._since) * self._rate + self._busy

    def boottime_ms(self) -> int:
        """Milliseconds, the time asleep included."""
        self._shown_ms = max(self._shown_ms, int((self.monotonic() + self._asleep) * 1000))
        return self._shown_ms

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this host believes."""
        return EPOCH_MS + self.boottime_ms() + round(self.offset * 1000)

    def when(self, monotonic: float) -> float:
        """The loop's time at which this clock will show `monotonic`, if it goes on as it does now."""
        # A nanosecond more than rounding takes away, or a timer would come too early to find that its time has come.
        return self._time() + (monotonic - self.monotonic() + self._busy) / self._rate + 1e-9
