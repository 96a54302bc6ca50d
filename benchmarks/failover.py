"""How long nothing can be written when the leader is killed, or stands still, at default settings."""

import os
import signal
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

TIMES = 20
BEST_MS = Column("best_ms", "best ms", 1)

CLIENTS = {"a client of any server": ServerSelection.ANY, "a client of the leader": ServerSelection.LEADER}


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with running(options) as servers:
        clients = options.pick(list(CLIENTS), list(CLIENTS)[:1])
        times = options.pick(TIMES, 1)
        yield Plan([case(blow, name, times, servers) for blow in BLOWS for name in clients])


def kill(servers: Servers, leader: str) -> None:
    """kill -9: its connections break."""
    servers.cluster.kill([leader])


def start_again(servers: Servers, leader: str) -> None:
    """What is done about `kill`."""
    servers.cluster.start([leader])


def stop(servers: Servers, leader: str) -> None:
    """Its connections stay, and nothing comes."""
    os.kill(servers.cluster.process_id(leader), signal.SIGSTOP)


def let_go_on(servers: Servers, leader: str) -> None:
    """What is done about `stop`."""
    os.kill(servers.cluster.process_id(leader), signal.SIGCONT)


BLOWS = {"killed": (kill, start_again), "stopped": (stop, let_go_on)}


def case(blow: str, name: str, count: int, servers: Servers) -> Case:
    """So many times, with everything well in between."""

    async def measure() -> Figures:
        async with CopycatClient(servers.cluster.addresses, selection=CLIENTS[name]) as client:
            values = await client.create("failover", DistributedMap[str, int])
            times = [await until_written(servers, values, blow, number) for number in range(count)]
        return {
            "median_ms": statistics.median(times) * 1000,
            "worst_ms": max(times) * 1000,
            "best_ms": min(times) * 1000,
        }

    return Case(f"leader {blow}, {name}", measure)


async def until_written(servers: Servers, values: DistributedMap[str, int], blow: str, number: int) -> float:
    """Seconds from the blow to the leader to the next acknowledged write."""
    strike, mend = BLOWS[blow]
    leader = await servers.leader()
    await values.put("before", number)
    began = time.perf_counter()
    strike(servers, leader)
    while True:
        try:
            await values.put("after", number)
            break
        except (RetryableError, IndeterminateError):
            pass  # the next write may be acknowledged
    took = time.perf_counter() - began
    mend(servers, leader)
    await servers.leader()  # all three follow it
    return took


BENCHMARK = Benchmark(
    name="failover",
    question=f"Milliseconds from SIGKILL or SIGSTOP of the leader to the next acknowledged write, {TIMES} a round.",
    columns=(MEDIAN_MS, WORST_MS, BEST_MS),
    picture=Picture(MEDIAN_MS),
    prepare=prepare,
)
