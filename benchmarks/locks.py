"""What a lock costs that nobody else wants, how soon the next in line has it, and how soon after its holder's death."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, metered, running
from benchmarks.figures import LOAD_COLUMNS, MEDIAN_MS
from copycat.cli.measuring import READY, Figures, end, expect, spawn, summary
from copycat.client import CopycatClient
from copycat.coordination import DistributedLock
from copycat.handle import SESSION_TIMEOUT_SECONDS

ROOT = Path(__file__).parent.parent
SESSION_SECONDS_LEAST = 1.0


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    many, crowd = options.pick(64, 4), options.pick(16, 3)
    timeouts = options.pick((SESSION_SECONDS_LEAST, SESSION_TIMEOUT_SECONDS), (0.2,))
    async with running(options) as servers:
        yield Plan(
            [
                Case("lock and unlock, 1 lock", lambda: cycles(options, servers, 1)),
                Case(f"lock and unlock, {many} locks at once", lambda: cycles(options, servers, many)),
                Case("hand-off between 2 sessions", lambda: hand_offs(options, servers, 2)),
                Case(f"hand-off among {crowd} sessions", lambda: hand_offs(options, servers, crowd)),
                *(killed_holder_case(servers, seconds) for seconds in timeouts),
            ]
        )


async def cycles(options: Options, servers: Servers, count: int) -> Figures:
    """So many locks of one client, each taken and given back all the time, wanted by nobody else."""
    (leader,) = await servers.addresses("leader")
    async with CopycatClient(leader) as client:
        locks = [await client.create(f"alone-{number}", DistributedLock) for number in range(count)]

        async def work() -> list[float]:
            ends, latencies = time.perf_counter() + options.seconds, list[float]()

            async def cycle(lock: DistributedLock) -> None:
                while (began := time.perf_counter()) < ends:
                    await lock.lock()
                    await lock.unlock()
                    latencies.append(time.perf_counter() - began)

            await asyncio.gather(*map(cycle, locks))
            return latencies

        return await metered(servers, work())


async def hand_offs(options: Options, servers: Servers, count: int) -> Figures:
    """One lock that so many sessions stand in line for: from the holder's `unlock` to the next grant."""
    (leader,) = await servers.addresses("leader")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(CopycatClient(leader)) for _ in range(count)]
        locks = [await client.create("crowd", DistributedLock) for client in clients]
        released: list[float] = []

        async def work() -> list[float]:
            ends, latencies = time.perf_counter() + options.seconds, list[float]()

            async def stand(lock: DistributedLock) -> None:
                while time.perf_counter() < ends:
                    await lock.lock()
                    if released:
                        latencies.append(time.perf_counter() - released.pop())
                    released.append(time.perf_counter())
                    await lock.unlock()

            await asyncio.gather(*map(stand, locks))
            return latencies

        return await metered(servers, work())


def killed_holder_case(servers: Servers, session_seconds: float) -> Case:
    """A holder whose session may be silent for so long is killed: until the next in line is granted the lock."""
    return Case(f"holder killed, session of {session_seconds:g} s", lambda: killed_holder(servers, session_seconds))


async def killed_holder(servers: Servers, session_seconds: float) -> Figures:
    """Kill a holder once."""
    addresses = ",".join(await servers.addresses("all"))
    holder = await spawn("benchmarks.holder", addresses, str(session_seconds), cwd=ROOT)
    try:
        await expect(holder, READY)
        async with CopycatClient(addresses) as client:
            lock = await client.create("held", DistributedLock)
            grant = lock.lock()
            await client.exists("held")  # answered behind the claim: the claim stands in line
            began = time.perf_counter()
            holder.kill()
            await grant
            took = time.perf_counter() - began
            await lock.unlock()
    finally:
        await end([holder])
    return {"median_ms": summary([took])["median_ms"]}


BENCHMARK = Benchmark(
    name="locks",
    question="How long a lock takes: one that nobody else wants, from holder to holder, and after a holder's death.",
    columns=LOAD_COLUMNS,
    picture=Picture(MEDIAN_MS),
    prepare=prepare,
)
