"""Durations counted on the hot path, and snapshots of them that do not change under the reader."""

import dataclasses

BUCKETS = 65  # bucket n holds durations of n significant bits; 64 bits of nanoseconds are 584 years


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """A histogram at one moment. All zero if nothing was recorded; quantiles are upper bounds within a factor of 2."""

    count: int = 0
    mean_ns: int = 0
    maximum_ns: int = 0
    p50_ns: int = 0
    p99_ns: int = 0
    p999_ns: int = 0


class Histogram:
    """Durations in buckets of powers of two: a fixed 65 integers, whatever is recorded."""

    __slots__ = ("_buckets", "count", "maximum_ns", "total_ns")

    def __init__(self) -> None:
        self._buckets = [0] * BUCKETS
        self.count = 0
        self.total_ns = 0
        self.maximum_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count one duration in nanoseconds; a negative one counts as 0."""
        duration_ns = max(duration_ns, 0)
        self._buckets[min(duration_ns.bit_length(), BUCKETS - 1)] += 1
        self.count += 1
        self.total_ns += duration_ns
        self.maximum_ns = max(self.maximum_ns, duration_ns)

    def quantile(self, q: float) -> int:
        """Nanoseconds that a share `q` (0..1) of the durations did not exceed; less than twice too high; 0 when empty.

        Raises: ValueError if `q` is outside 0..1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies in 0..1, not at {q}")
        seen = 0
        for bits, count in enumerate(self._buckets):
            seen += count
            if count and seen >= q * self.count:
                return min((1 << bits) - 1, self.maximum_ns)
        return self.maximum_ns

    def snapshot(self) -> Latencies:
        """The histogram as it is now."""
        return Latencies(
            count=self.count,
            mean_ns=self.total_ns // self.count if self.count else 0,
            maximum_ns=self.maximum_ns,
            p50_ns=self.quantile(0.5),
            p99_ns=self.quantile(0.99),
            p999_ns=self.quantile(0.999),
        )
