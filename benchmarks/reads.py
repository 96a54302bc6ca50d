"""What a get costs at each consistency level, at the leader and at followers, alone and beside writes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, job, running
from benchmarks.figures import LOAD_COLUMNS, PER_SECOND, Column
from copycat.cli.measuring import Figures, together

LEVELS = {"linearizable": "LINEARIZABLE", "lease": "LINEARIZABLE_LEASE", "serializable": "SERIALIZABLE"}
IN_FLIGHT = 1024
WRITES_IN_FLIGHT = 64
WRITES = Column("writes_per_second", "writes")


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with running(options) as servers:
        alone = [
            get(options, servers, level, via, in_flight)
            for level in LEVELS
            for via in ("leader", "followers")
            for in_flight in (1, IN_FLIGHT)
        ]
        beside = [
            get(options, servers, level, "leader", in_flight, writing=True)
            for in_flight in (1, IN_FLIGHT)
            for level in LEVELS
        ]
        few = [
            get(options, servers, "serializable", "followers", 16),
            get(options, servers, "lease", "leader", 4, writing=True),
        ]
        yield Plan(options.pick([*alone, *beside], few))


def get(options: Options, servers: Servers, level: str, via: str, in_flight: int, *, writing: bool = False) -> Case:
    """Gets through the leader or a follower; with `writing`, beside another process's puts there."""
    place = "leader" if via == "leader" else "follower"

    async def measure() -> Figures:
        address = (await servers.addresses(via))[0]
        one = job(options, address, "get", in_flight=in_flight, consistency=LEVELS[level])
        if not writing:
            return await servers.load(one)
        writes = job(options, address, in_flight=options.pick(WRITES_IN_FLIGHT, 4))
        (read, written), _ = await servers.load_each(one, writes)
        # What the servers used was for both: neither's share is known.
        unknown = dict.fromkeys(("cpu_us_leader", "cpu_us_follower", "cpu_us_servers"))
        return {**together([read]), **unknown, "writes_per_second": written["count"] / written["seconds"]}

    return Case(f"{level}, {place}, {in_flight:,}{', while writing' * writing}", measure)


BENCHMARK = Benchmark(
    name="reads",
    question=(
        "How many gets at each consistency level, one at a time and pipelined; while writing: beside a process that "
        f"keeps {WRITES_IN_FLIGHT} puts in flight."
    ),
    columns=(*LOAD_COLUMNS, WRITES),
    picture=Picture(PER_SECOND),
    prepare=prepare,
)
