"""How many puts there are in a second, how long one takes, and what it costs leader, follower and client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, job, running
from benchmarks.figures import LOAD_COLUMNS, PER_SECOND
from benchmarks.yardstick import ceiling
from copycat.cli.measuring import Figures

SIZES = (
    *((1, in_flight, 100) for in_flight in (1, 4, 16, 64, 256, 1024)),
    *((4, in_flight, 100) for in_flight in (1, 16, 64, 256, 1024)),
    *((16, in_flight, 100) for in_flight in (1, 64, 1024)),
    *((1, in_flight, 1024) for in_flight in (1, 64, 256, 1024)),
)
"""Client processes, operations each has in flight, bytes of a value."""

TINY_SIZES = ((2, 8, 1024),)
COMPARED = ((1, 1, 100), (1, 64, 100), (1, 1024, 100), (4, 256, 100))


def name(clients: int, in_flight: int, value_bytes: int) -> str:
    """Of a case."""
    size = "1 KiB" if value_bytes == 1024 else f"{value_bytes} B"
    return f"put {size}, {clients} × {in_flight:,}"


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with running(options) as servers:
        cases = []
        for clients, in_flight, value_bytes in options.pick(SIZES, TINY_SIZES):
            cases.append(put(options, servers, clients, in_flight, value_bytes))
            if (clients, in_flight, value_bytes) in options.pick(COMPARED, TINY_SIZES):
                label = f"ceiling: {name(clients, in_flight, value_bytes)}"
                cases += ceiling(options, label, in_flight, clients=clients, value_bytes=value_bytes)
        yield Plan(cases)


def put(options: Options, servers: Servers, clients: int, in_flight: int, value_bytes: int) -> Case:
    """Puts through the leader, by so many processes."""

    async def measure() -> Figures:
        (leader,) = await servers.addresses("leader")
        one = job(options, leader, in_flight=in_flight, value_bytes=value_bytes)
        return await servers.load(*[one] * clients)

    return Case(name(clients, in_flight, value_bytes), measure)


BENCHMARK = Benchmark(
    name="commands",
    question="How many puts, by client processes × puts in flight of each; how long one takes, and what it costs.",
    columns=LOAD_COLUMNS,
    picture=Picture(PER_SECOND),
    prepare=prepare,
)
