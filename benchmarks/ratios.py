"""How Copycat's own paths compare: with the least a write can cost, with one another, and full with empty."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, job, running
from benchmarks.figures import LOAD_COLUMNS, PER_SECOND, Ratio
from benchmarks.yardstick import ceiling
from copycat.cli.bench_client import Job
from copycat.cli.measuring import Figures, together

MANY, SOME, CROWD = 1024, 64, 256
LIVE_KEYS = 600_000

ONE, FAR = "put, leader, 1", "put, follower, 1"
SOME_PUTS, MANY_PUTS = f"put, leader, {SOME}", f"put, leader, {MANY:,}"
SESSIONS = f"put, leader, {CROWD} sessions × 1"
APART = f"{SESSIONS}, a connection each"
GETS, TWO_GETS = f"get, linearizable, {MANY:,}", f"get, linearizable, 2 × {MANY:,}"
STALE_GETS = f"get, serializable, both followers, 2 × {MANY:,}"
DROWNED = f"put, leader, {SOME}, a follower drowned in gets"
FULL, EMPTY = f"put, {LIVE_KEYS:,} live keys, {MANY:,}", f"put, no live keys, {MANY:,}"
CEILING_ONE, CEILING_SOME, CEILING_MANY = "ceiling, 1", f"ceiling, {SOME}", f"ceiling, {MANY:,}"

RATIOS = (
    Ratio(name=f"puts per second, {MANY:,} in flight / ceiling", key="per_second", case=MANY_PUTS, to=CEILING_MANY),
    *(
        Ratio(name=f"{what} µs per put, {size} in flight / ceiling", key=key, case=case, to=to)
        for size, case, to in (("1,024", MANY_PUTS, CEILING_MANY), ("64", SOME_PUTS, CEILING_SOME))
        for what, key in (("server", "cpu_us_servers"), ("client", "cpu_us_client"))
    ),
    Ratio(name="median, one put at a time, leader / ceiling", key="median_ms", case=ONE, to=CEILING_ONE),
    Ratio(name="median, one put at a time, follower / ceiling", key="median_ms", case=FAR, to=CEILING_ONE),
    Ratio(name=f"linearizable gets / puts per second, {MANY:,} in flight", key="per_second", case=GETS, to=MANY_PUTS),
    Ratio(name="serializable on followers / linearizable, two clients", key="per_second", case=STALE_GETS, to=TWO_GETS),
    Ratio(name=f"p99, {LIVE_KEYS:,} live keys / none", key="p99_ms", case=FULL, to=EMPTY),
    Ratio(name="p99, a follower drowned / undisturbed", key="p99_ms", case=DROWNED, to=SOME_PUTS),
)


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running(options))
        full: list[Servers] = []

        def load(name: str, via: str, *jobs: Job) -> Case:
            async def measure() -> Figures:
                addresses = await servers.addresses(via)
                return await servers.load(
                    *(on(each, addresses[number % len(addresses)]) for number, each in enumerate(jobs))
                )

            return Case(name, measure)

        async def measure_full() -> Figures:
            if not full:  # only now, so that it takes no memory unless it is asked for
                full.append(await stack.enter_async_context(running(options)))
            (leader,) = await full[0].addresses("leader")
            keys = options.pick(LIVE_KEYS, 1_000)
            return await full[0].load(job(options, leader, in_flight=many, keys=keys, fill=True))

        async def measure_drowned() -> Figures:
            (leader,) = await servers.addresses("leader")
            follower, *_ = await servers.addresses("followers")
            found, _used = await servers.load_each(on(some_puts, leader), on(stale, follower))
            return together(found[:1])

        many, some, crowd = options.pick((MANY, SOME, CROWD), (16, 4, 3))
        put = job(options, "")
        some_puts = job(options, "", in_flight=some)
        puts = job(options, "", in_flight=many)
        gets = job(options, "", "get", in_flight=many)
        stale = job(options, "", "get", in_flight=many, consistency="SERIALIZABLE")
        yield Plan(
            [
                load(ONE, "leader", put),
                load(FAR, "followers", put),
                *ceiling(options, CEILING_ONE, 1),
                load(SOME_PUTS, "leader", some_puts),
                Case(DROWNED, measure_drowned),
                *ceiling(options, CEILING_SOME, some),
                load(MANY_PUTS, "leader", puts),
                *ceiling(options, CEILING_MANY, many),
                load(SESSIONS, "leader", job(options, "", in_flight=crowd, sessions=crowd)),
                load(APART, "leader", job(options, "", in_flight=crowd, sessions=crowd, sharing=False)),
                load(GETS, "leader", gets),
                load(TWO_GETS, "leader", gets, gets),
                load(STALE_GETS, "followers", stale, stale),
                load(EMPTY, "leader", puts),
                Case(FULL, measure_full),
            ]
        )


def on(job: Job, address: str) -> Job:
    """The job at that member."""
    return Job(**{**job.as_dict(), "members": address})


BENCHMARK = Benchmark(
    name="ratios",
    question="How paths compare, in ratios taken within each round; with --ceiling, with the least a write can cost.",
    columns=LOAD_COLUMNS,
    picture=Picture(PER_SECOND),
    prepare=prepare,
    ratios=RATIOS,
)
