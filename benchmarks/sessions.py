"""What sessions cost that do nothing: CPU, log and memory of the servers."""

import asyncio
import asyncio.subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.benchmark import Benchmark, BenchmarkError, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, log_bytes, resident, running, usage, used_since
from benchmarks.figures import Column
from copycat.cli.measuring import READY, Figures, difference, end, expect, mean, spawn
from copycat.raft.client.survey import ask

ROOT = Path(__file__).parent.parent
COUNTS = (100, 1_000, 10_000)
TINY_COUNTS = (3,)
OF_A_PROCESS = 2_500
SECONDS_LEAST = 10.0  # several keep-alives of every session

CPU_LEADER = Column("percent_leader", "leader, % of a CPU", 1)
CPU_FOLLOWER = Column("percent_follower", "follower, % of a CPU", 1)
CPU_CLIENTS = Column("percent_clients", "clients, % of a CPU", 1)
LOG = Column("log_bytes_per_second", "log, bytes/s")
MEMORY = Column("kib_per_session", "KiB per session, largest server", 1)


class Crowd:
    """Sessions that do nothing, in processes of their own, and the memory of the servers before they came.

    They share the connections of their process, or have one each, `is_apart`.
    """

    def __init__(self, servers: Servers, *, is_apart: bool) -> None:
        self.servers = servers
        self.is_apart = is_apart
        self.count = 0
        self.memory_before = resident(servers.process_ids)
        self.processes: list[asyncio.subprocess.Process] = []

    async def grow(self, count: int) -> None:
        """Let there be so many, at least."""
        addresses = ",".join(await self.servers.addresses("all"))
        while self.count < count:
            more = min(count - self.count, OF_A_PROCESS)
            apart = ["apart"] if self.is_apart else []
            process = await spawn("benchmarks.idle", addresses, str(more), *apart, cwd=ROOT)
            self.processes.append(process)
            await expect(process, READY)
            self.count += more

    async def close(self) -> None:
        """End them."""
        await end(self.processes)


@asynccontextmanager
async def crowd_of(options: Options, *, is_apart: bool = False) -> AsyncIterator[Crowd]:
    """A cluster of its own, without sessions yet."""
    async with running(options) as servers:
        crowd = Crowd(servers, is_apart=is_apart)
        try:
            yield crowd
        finally:
            await crowd.close()


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    seconds = options.pick(max(options.seconds, SECONDS_LEAST), 0.2)
    stack = AsyncExitStack()
    crowds: list[Crowd] = []

    async def start_anew() -> None:
        await stack.aclose()
        crowds[:] = [await stack.enter_async_context(crowd_of(options))]

    def case(count: int) -> Case:
        return Case(f"idle sessions {count:,}", lambda: measure(crowds[0], count, seconds))

    async def measure_apart() -> Figures:
        await stack.aclose()  # the others would take turns on a CPU
        async with crowd_of(options, is_apart=True) as crowd:
            return await measure(crowd, counts[-1], seconds)

    counts = options.pick(COUNTS, TINY_COUNTS)
    async with stack:
        apart = Case(f"idle sessions with a connection each {counts[-1]:,}", measure_apart)
        yield Plan([*map(case, counts), apart], start_anew)


async def measure(crowd: Crowd, count: int, seconds: float) -> Figures:
    """Watch the servers for so long."""
    await crowd.grow(count)
    servers = crowd.servers
    leader = await servers.leader()
    clients = {str(process.pid): process.pid for process in crowd.processes}
    written = log_bytes(servers.data[0])
    before, clients_before, began = usage(servers.process_ids), usage(clients), time.perf_counter()
    await asyncio.sleep(seconds)
    used, clients_used = used_since(before, servers.process_ids), used_since(clients_before, clients)
    took = time.perf_counter() - began
    status = await ask(servers.cluster.members[leader], 5.0)
    if status.get("sessions", 0) < count:
        raise BenchmarkError(f"only {status.get('sessions')} of {count} sessions are open: the others have expired")
    grown = log_bytes(servers.data[0]) - written  # below 0 when a snapshot has taken the place of what was there
    memory = difference(crowd.memory_before, resident(servers.process_ids))
    return {
        "percent_leader": percent(used[leader], took),
        "percent_follower": percent(mean([each for name, each in used.items() if name != leader]), took),
        "percent_clients": percent(sum(each or 0.0 for each in clients_used.values()), took),
        "log_bytes_per_second": grown / took if grown >= 0 else None,
        "kib_per_session": None if memory is None else memory / 1024 / count,
    }


def percent(used: float | None, seconds: float) -> float | None:
    """Of a CPU."""
    return None if used is None else used / seconds * 100


BENCHMARK = Benchmark(
    name="sessions",
    question="What sessions cost that do nothing but live, with a timeout of 5 s, in CPU, log and memory.",
    columns=(CPU_LEADER, CPU_FOLLOWER, CPU_CLIENTS, LOG, MEMORY),
    picture=Picture(CPU_LEADER, "lines"),
    prepare=prepare,
)
