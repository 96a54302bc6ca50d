"""How many messages a topic carries to its listeners, each a session of its own, and how long one is on its way."""

import json
import time
from asyncio import Future
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, running, usage, used_since
from benchmarks.figures import CPU_FOLLOWER, CPU_LEADER, MEDIAN_MS, P99_MS, Column
from copycat.cli.measuring import READY, Figures, Load, answer, costs, end, expect, spawn
from copycat.client import CopycatClient
from copycat.coordination import DistributedTopic

ROOT = Path(__file__).parent.parent
LISTENERS = (1, 10, 100)
IN_FLIGHT = 64
TOPIC = "news"
LAST = 0
"""The message that ends it. All others are the times at which they were published, in nanoseconds."""

PUBLISHED = Column("published_per_second", "published per second")
HEARD = Column("per_second", "heard per second")


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    counts = options.pick(LISTENERS, (2,))
    async with running(options) as servers:
        in_flights = options.pick((1, IN_FLIGHT), (4,))
        yield Plan([case(options, servers, count, in_flight) for in_flight in in_flights for count in counts])


def case(options: Options, servers: Servers, listeners: int, in_flight: int) -> Case:
    """Messages published by this process, heard in another."""
    how = "one at a time" if in_flight == 1 else f"{in_flight} in flight"
    return Case(f"{how}, listeners {listeners}", lambda: measure(options, servers, listeners, in_flight))


async def measure(options: Options, servers: Servers, listeners: int, in_flight: int) -> Figures:
    """Publish for so long; figures are of what was heard."""
    addresses = await servers.addresses("all")
    leader = await servers.leader()
    process = await spawn("benchmarks.listeners", json.dumps([addresses, listeners]), cwd=ROOT)
    try:
        await expect(process, READY)
        async with CopycatClient(servers.cluster.members[leader].address) as client:
            topic = await client.create(TOPIC, DistributedTopic[int])

            def publish() -> "Future[Any]":
                return topic.publish(time.monotonic_ns())

            load, before = Load([publish], in_flight), usage(servers.process_ids)
            seconds = await load.run(options.seconds)
            await topic.publish(LAST)
            found = await answer(process)
            used = used_since(before, servers.process_ids)
    finally:
        await end([process])
    return {
        "published_per_second": len(load.latencies) / seconds,
        "per_second": found["count"] / found["seconds"],
        "median_ms": found["median_ms"],
        "p99_ms": found["p99_ms"],
        "cpu_us_client": found["cpu_seconds"] * 1e6 / found["count"],
        **costs(used, leader, found["count"]),
    }


CPU_LISTENERS = Column("cpu_us_client", "listener µs", 1)

BENCHMARK = Benchmark(
    name="topics",
    question=(
        "How many messages are published and heard, by listeners that are a session each; milliseconds from publishing "
        "to hearing; CPU per message heard."
    ),
    columns=(PUBLISHED, HEARD, MEDIAN_MS, P99_MS, CPU_LEADER, CPU_FOLLOWER, CPU_LISTENERS),
    picture=Picture(HEARD, "lines"),
    prepare=prepare,
)
