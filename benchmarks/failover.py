"""How long nothing can be written when the leader is killed, at default settings."""

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, running
from benchmarks.figures import MEDIAN_MS, WORST_MS, Column
from copycat.cli.measuring import Figures
from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.errors import IndeterminateError, RetryableError
from copycat.raft.client.selection import ServerSelection

KILLS = 20
BEST_MS = Column("best_ms", "best ms", 1)

CLIENTS = {"a client of any server": ServerSelection.ANY, "a client of the leader": ServerSelection.LEADER}


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with running(options) as servers:
        clients = options.pick(list(CLIENTS), list(CLIENTS)[:1])
        yield Plan([case(name, options.pick(KILLS, 1), servers) for name in clients])


def case(name: str, kills: int, servers: Servers) -> Case:
    """So many times kill -9 of the leader, which is started again in between."""

    async def measure() -> Figures:
        async with CopycatClient(servers.cluster.addresses, selection=CLIENTS[name]) as client:
            values = await client.create("failover", DistributedMap[str, int])
            times = [await until_written(servers, values, number) for number in range(kills)]
        return {
            "median_ms": statistics.median(times) * 1000,
            "worst_ms": max(times) * 1000,
            "best_ms": min(times) * 1000,
        }

    return Case(name, measure)


async def until_written(servers: Servers, values: DistributedMap[str, int], number: int) -> float:
    """Seconds from SIGKILL of the leader to the next acknowledged write."""
    leader = await servers.leader()
    await values.put("before", number)
    began = time.perf_counter()
    servers.cluster.kill([leader])
    while True:
        try:
            await values.put("after", number)
            break
        except (RetryableError, IndeterminateError):
            pass  # the next write may be acknowledged
    took = time.perf_counter() - began
    servers.cluster.start([leader])
    await servers.leader()  # all three follow it
    return took


BENCHMARK = Benchmark(
    name="failover",
    question=f"Milliseconds from SIGKILL of the leader to the next acknowledged write, {KILLS} times in each round.",
    columns=(MEDIAN_MS, WORST_MS, BEST_MS),
    picture=Picture(MEDIAN_MS),
    prepare=prepare,
)
