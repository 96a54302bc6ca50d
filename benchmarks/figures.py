"""The figures that benchmarks report: how their columns are headed, and ratios of them within each round."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from copycat.cli.measuring import Figures


@dataclass(frozen=True, slots=True)
class Column:
    """A figure under `key`, how its column is headed, and how many digits behind the point are shown."""

    key: str
    head: str
    digits: int = 0


PER_SECOND = Column("per_second", "per second")
MEDIAN_MS = Column("median_ms", "median ms", 2)
P99_MS = Column("p99_ms", "p99 ms", 2)
P999_MS = Column("p999_ms", "p99.9 ms", 2)
WORST_MS = Column("worst_ms", "worst ms", 1)
CPU_LEADER = Column("cpu_us_leader", "leader µs", 1)
CPU_FOLLOWER = Column("cpu_us_follower", "follower µs", 1)
CPU_SERVERS = Column("cpu_us_servers", "servers µs", 1)
CPU_CLIENT = Column("cpu_us_client", "client µs", 1)
MICROSECONDS = Column("us", "µs", 3)

LOAD_COLUMNS = (PER_SECOND, MEDIAN_MS, P99_MS, P999_MS, CPU_LEADER, CPU_FOLLOWER, CPU_SERVERS, CPU_CLIENT)
"""What `copycat.cli.measuring.measure` finds; the microseconds are of CPU, for each operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How the figure `key` of one case compares with that of another, or with another figure of it."""

    name: str
    key: str
    case: str
    to: str
    to_key: str | None = None


def ratio_of(ratio: Ratio, rounds: Sequence[Mapping[str, Figures]]) -> dict[str, Any] | None:
    """The ratio in each round that has both cases, and their median; None if no round has, or a figure is unknown."""
    found: list[float] = []
    for measured in rounds:
        if ratio.case not in measured or ratio.to not in measured:
            continue
        above = measured[ratio.case].get(ratio.key)
        below = measured[ratio.to].get(ratio.to_key or ratio.key)
        if above is None or not below:
            return None
        found.append(above / below)
    if not found:
        return None
    return {
        "ratio": ratio.name,
        "median": round(statistics.median(found), 3),
        "least": round(min(found), 3),
        "most": round(max(found), 3),
    }
