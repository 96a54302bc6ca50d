"""What a cluster takes over a long life: disk, memory, a start, and what snapshots and members left behind cost others.

The bound on the disk is that of docs/how-to/bound-disk-and-start.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, job, resident, running
from benchmarks.figures import PER_SECOND, Column, Ratio
from copycat.cli.measuring import Figures, medians, nothing
from copycat.io.storage.log import SEGMENT_BYTES
from copycat.io.storage.storage import MEBIBYTE

COMMANDS = 10_000_000
KEYS = 100_000
BEHIND = 1_000_000
IN_FLIGHT = 256
SAMPLE_SECONDS = 0.25
SNAPSHOTS = "*.snapshot"

P99_WITH = Column("p99_with_ms", "p99 ms, a snapshot is taken", 2)
P99_WITHOUT = Column("p99_without_ms", "p99 ms, none is", 2)
DISK = Column("disk_mib", "disk MiB, most of one", 1)
BOUND = Column("bound_mib", "its bound MiB", 1)
MEMORY = Column("mib", "memory MiB, most of one", 1)
START = Column("start_s", "start s", 2)
CATCH_UP = Column("catch_up_s", "level after s", 1)

ALONE = f"{BEHIND:,} puts while a follower is away"
BESIDE = "puts while it is brought up to date"
LONG = f"{COMMANDS:,} puts to {KEYS:,} keys"


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with running(options) as servers:
        life = Life(options, servers)
        yield Plan(
            [Case(LONG, life.live_long), Case(ALONE, life.leave_behind), Case(BESIDE, life.bring_up)],
        )


class Life:
    """One cluster, that is written to all the time."""

    def __init__(self, options: Options, servers: Servers) -> None:
        self._options = options
        self._servers = servers
        self._disk_bytes = 0
        self._memory = 0
        self._away = ""

    async def live_long(self) -> Figures:
        """Windows of puts, with and without a snapshot in them, until there were enough; then a server starts again."""
        sampling = asyncio.ensure_future(self._sample())
        windows: dict[bool, list[Figures]] = {True: [], False: []}
        try:
            await self._load(fill=True)
            count = 0
            while count < self._options.pick(COMMANDS, 100):
                before = await self._snapshots()
                figures = await self._load()
                windows[await self._snapshots() != before].append(figures)
                count += round(figures["per_second"] * self._options.seconds)
        finally:
            sampling.cancel()
        both = medians(windows[True] + windows[False])
        return {
            "per_second": both["per_second"],
            "p99_with_ms": medians(windows[True])["p99_ms"] if windows[True] else None,
            "p99_without_ms": medians(windows[False])["p99_ms"] if windows[False] else None,
            "disk_mib": self._disk_bytes / MEBIBYTE,
            "bound_mib": self._bound() / MEBIBYTE,
            "mib": self._memory / MEBIBYTE,
            "start_s": await self._start_again(),
        }

    async def leave_behind(self) -> Figures:
        """A follower is killed, and misses so many."""
        leader = await self._servers.leader()
        self._away = next(name for name in self._servers.cluster.members if name != leader)
        self._servers.cluster.kill([self._away])
        rates, count = [], 0
        while count < self._options.pick(BEHIND, 100):
            rates.append(await self._load())
            count += round(rates[-1]["per_second"] * self._options.seconds)
        return {"per_second": medians(rates)["per_second"]}

    async def bring_up(self) -> Figures:
        """It comes back, and the leader serves on."""
        level: list[asyncio.Future[float]] = []

        def come_back() -> None:
            self._servers.cluster.start([self._away])
            level.append(asyncio.ensure_future(self._level(time.perf_counter())))

        figures = await self._load(begin=come_back)
        return {"per_second": figures["per_second"], "catch_up_s": await level[0]}

    async def _load(self, *, fill: bool = False, begin: Callable[[], object] = nothing) -> Figures:
        (leader,) = await self._servers.addresses("leader")
        keys, in_flight = self._options.pick(KEYS, 50), self._options.pick(IN_FLIGHT, 8)
        wanted = job(self._options, leader, in_flight=in_flight, keys=keys, fill=fill)
        return await self._servers.load(wanted, begin=begin)

    async def _snapshots(self) -> dict[str, object]:
        """The newest of each member."""
        answers = await self._servers.cluster.answers()
        return {name: answer.get("snapshot_index") for name, answer in answers.items()}

    async def _sample(self) -> None:
        """Look at disk and memory now and then."""
        while True:
            self._disk_bytes = max(self._disk_bytes, *map(size_of, self._servers.data))
            self._memory = max(self._memory, resident(self._servers.process_ids) or 0)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _bound(self) -> int:
        """3 × live + 2 × log + 2 segments, with the newest snapshot for what lives."""
        live = max(
            max((path.stat().st_size for path in each.glob(SNAPSHOTS)), default=0) for each in self._servers.data
        )
        return 3 * live + 2 * SEGMENT_BYTES + 2 * SEGMENT_BYTES

    async def _start_again(self) -> float:
        """Seconds from starting a follower to its following the leader, with all that is committed applied."""
        leader = await self._servers.leader()
        name = next(name for name in self._servers.cluster.members if name != leader)
        self._servers.cluster.kill([name])
        began = time.perf_counter()
        self._servers.cluster.start([name])
        self._away = name
        return await self._level(began)

    async def _level(self, began: float) -> float:
        """Seconds since `began`, when the member that was away has applied what the leader had committed then."""
        wanted = 0

        async def is_level() -> dict[str, float] | None:
            nonlocal wanted
            answers = await self._servers.cluster.answers()
            wanted = wanted or max(int(answer.get("commit_index", 0)) for answer in answers.values())
            own = answers[self._away]
            there = wanted and own.get("leader") and int(own["applied_index"]) >= wanted
            return {"seconds": time.perf_counter() - began} if there else None

        found = await self._servers.cluster.wait_until(is_level, f"{self._away} to be level")
        return float(found["seconds"])


def size_of(directory: Path) -> int:
    """Of its files, in bytes; one may go meanwhile."""
    total = 0
    for path in directory.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


BENCHMARK = Benchmark(
    name="life",
    question=f"What many puts leave behind, {IN_FLIGHT} in flight, and what snapshots and laggards cost the others.",
    columns=(PER_SECOND, P99_WITH, P99_WITHOUT, DISK, BOUND, MEMORY, START, CATCH_UP),
    picture=Picture(PER_SECOND),
    prepare=prepare,
    ratios=(
        Ratio(name="p99 with a snapshot / without", key="p99_with_ms", case=LONG, to=LONG, to_key="p99_without_ms"),
        Ratio(name="disk / its bound", key="disk_mib", case=LONG, to=LONG, to_key="bound_mib"),
        Ratio(name="puts beside a laggard / usually", key="per_second", case=BESIDE, to=LONG),
        Ratio(name="puts beside a laggard / while it is away", key="per_second", case=BESIDE, to=ALONE),
    ),
)
