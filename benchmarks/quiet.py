"""Is the machine busy with something else? Waits for a quiet moment, and tells how busy it was."""

import asyncio
from collections.abc import Callable
from pathlib import Path

Reading = tuple[int, int]
"""Of all CPUs since the start of the system: ticks spent working, and all ticks."""

QUIET_SHARE = 0.25
"""What may be in use before a measurement: servers that do nothing need a hundredth each."""

SAMPLE_S = 0.5


def read_cpus(path: Path = Path("/proc/stat")) -> Reading | None:
    """The CPUs now; None where the system does not tell."""
    try:
        first = path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    # user nice system idle iowait irq softirq steal; the rest is counted in user and nice already.
    ticks = [int(word) for word in first.split()[1:9]]
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)


def share(before: Reading | None, after: Reading | None) -> float | None:
    """How much of all CPUs was in use between two readings, from 0 to 1."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


class Quiet:
    """Waits, but no longer than `patience` seconds in all; remembers how busy the machine was found in the end."""

    def __init__(
        self, patience: float, *, sample: float = SAMPLE_S, read: Callable[[], Reading | None] = read_cpus
    ) -> None:
        self._patience = patience
        self._sample = sample
        self._read = read
        self.shares: list[float] = []

    async def wait(self) -> None:
        """Until little is in use, or patience has run out."""
        while True:
            before = self._read()
            await asyncio.sleep(self._sample)
            busy = share(before, self._read())
            if busy is None or busy <= QUIET_SHARE or self._patience <= 0:
                break
            self._patience -= self._sample
        if busy is not None:
            self.shares.append(busy)
