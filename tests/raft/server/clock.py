"""The clock of a cluster, that a test can stop: what is due stays due, and what is fresh stays fresh."""

from copycat.util.clock import SystemClock


class StoppableClock(SystemClock):
    """Stands still between `stop` and `go_on`, but for what it is advanced; it never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped_at: int | None = None
        self._ahead = 0

    def stop(self) -> None:
        self._stopped_at = super().boottime_ms()

    def advance(self, milliseconds: int) -> None:
        assert self._stopped_at is not None
        self._stopped_at += milliseconds

    def go_on(self) -> None:
        self._ahead = max(0, self.boottime_ms() - super().boottime_ms())
        self._stopped_at = None

    def boottime_ms(self) -> int:
        return super().boottime_ms() + self._ahead if self._stopped_at is None else self._stopped_at
