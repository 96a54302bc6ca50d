"""What measurements have in common: a load, client processes that bear it, what processes use, and medians.

A client process is told what to do by its arguments and when by its stdin: it says READY on its stdout once it may be
told GO, and answers with one line of JSON. `copycat bench` and the programs in `benchmarks/` share this.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from copycat import __version__
from copycat.cli.cpu import cpu_seconds
from copycat.errors import CopycatError
from copycat.testing.processes import clean_environment

READY = "ready"
GO = "go"
WARM_UP_S = 0.3  # or as long as it is measured, if that is less

Start = Callable[[], "Future[Any]"]
"""Starts an operation."""

Figures = dict[str, Any]
"""What was measured, by name: numbers, and None for what cannot be known here."""


class Load:
    """Keeps so many operations under way: each one that ends starts the next.

    starts: what starts an operation; where there are several, each has its share of those under way.
    """

    def __init__(self, starts: Sequence[Start], in_flight: int) -> None:
        self._starts = starts
        self._in_flight = in_flight
        self._under_way = 0
        self._ends = 0.0
        self._over: Future[None]
        self.latencies: list[float] = []

    async def run(self, seconds: float) -> float:
        """Work for `seconds`; returns how long it took until the last operation ended. Raises what one raises."""
        self._over = asyncio.get_running_loop().create_future()
        self.latencies = []
        began = time.perf_counter()
        self._ends = began + seconds
        self._under_way = self._in_flight
        for number in range(self._in_flight):
            self._begin(self._starts[number % len(self._starts)], began)
        await self._over
        return time.perf_counter() - began

    def _begin(self, start: Start, now: float) -> None:
        start().add_done_callback(partial(self._done, start, now))

    def _done(self, start: Start, began: float, future: "Future[Any]") -> None:
        now = time.perf_counter()
        error = future.exception()
        if error is None:
            self.latencies.append(now - began)
            if now < self._ends:
                start().add_done_callback(partial(self._done, start, now))
                return
        self._under_way -= 1
        if self._over.done():
            return
        if error is not None:
            self._ends = 0.0
            self._over.set_exception(error)
        elif not self._under_way:
            self._over.set_result(None)


# -- in a client process -----------------------------------------------------------------------------------------------


async def bear(load: Load, seconds: float) -> Figures:
    """Warm up, say READY, wait for GO, and measure."""
    await load.run(min(WARM_UP_S, seconds))
    await told_to_go()
    cpu = time.process_time()
    took = await load.run(seconds)
    cpu = time.process_time() - cpu
    return {"seconds": took, "cpu_seconds": cpu, **summary(load.latencies)}


async def told_to_go() -> None:
    """Say READY and wait for GO. Raises CopycatError when nobody is left to say it."""
    print(READY, flush=True)
    heard = await asyncio.to_thread(sys.stdin.readline)
    if heard.strip() != GO:
        raise CopycatError("the process that started this client has ended")


def summary(latencies: Sequence[float]) -> Figures:
    """How many there were, and their median, 99th and 99.9th percentile in milliseconds."""
    ordered = sorted(latencies)
    return {
        "count": len(ordered),
        "median_ms": percentile(ordered, 500) * 1000,
        "p99_ms": percentile(ordered, 990) * 1000,
        "p999_ms": percentile(ordered, 999) * 1000,
    }


def percentile(ordered: Sequence[float], per_mille: int) -> float:
    """The value that so many of 1,000 are below, of values in order, at least one."""
    return ordered[min(len(ordered) * per_mille // 1000, len(ordered) - 1)]


# -- client processes, from outside ------------------------------------------------------------------------------------


async def spawn(module: str, *arguments: str, cwd: Path | None = None) -> asyncio.subprocess.Process:
    """Start a client process: `python -m module arguments`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        cwd=cwd,
        start_new_session=True,
    )


def tell(client: asyncio.subprocess.Process, word: str) -> None:
    """Send a word to a client."""
    if client.stdin is not None:
        client.stdin.write(f"{word}\n".encode())


async def expect(client: asyncio.subprocess.Process, word: str) -> None:
    """Wait for a word from a client. Raises CopycatError if it says something else, or ends."""
    heard = await hear(client)
    if heard != word:
        raise CopycatError(f"a client process said {heard!r} instead of {word!r}; what went wrong is on stderr")


async def answer(client: asyncio.subprocess.Process) -> Figures:
    """The result of a client, which then closes what it opened and ends."""
    heard = await hear(client)
    if not heard:
        raise CopycatError("a client process ended without a result; what went wrong is on stderr")
    return dict(json.loads(heard))


async def end(clients: Sequence[asyncio.subprocess.Process]) -> None:
    """Kill those of these clients that still run."""
    for client in clients:
        if client.returncode is None:
            client.kill()
            await client.wait()


async def hear(client: asyncio.subprocess.Process) -> str:
    """The next line a client says; empty when it has ended."""
    return (await client.stdout.readline()).decode().strip() if client.stdout is not None else ""


Usage = dict[str, float | None]
"""Seconds of CPU by member; None where the system does not tell."""


def nothing() -> None:
    """Nothing else begins with the clients."""


async def measure_each(
    clients: Sequence[asyncio.subprocess.Process],
    servers: Mapping[str, int],
    begin: Callable[[], object] = nothing,
) -> tuple[list[Figures], Usage]:
    """Let these clients, just spawned, work at once. What each found, and what the servers used meanwhile.

    servers: process ids by member, of those whose CPU can be read. begin: called when the clients are told to go.
    """
    try:
        await asyncio.gather(*(expect(client, READY) for client in clients))
        before = {name: cpu_seconds(process_id) for name, process_id in servers.items()}
        for client in clients:
            tell(client, GO)
        begin()
        found = await asyncio.gather(*(answer(client) for client in clients))
        after = {name: cpu_seconds(process_id) for name, process_id in servers.items()}
        await asyncio.gather(*(client.wait() for client in clients))
    finally:
        await end(clients)
    return found, {name: difference(before[name], after[name]) for name in servers}


async def measure(
    clients: Sequence[asyncio.subprocess.Process], servers: Mapping[str, int], leader: str | None
) -> Figures:
    """What these clients found together, and what each operation cost; `leader` is one of `servers`."""
    found, used = await measure_each(clients, servers)
    return {**together(found), **costs(used, leader, sum(each["count"] for each in found))}


def together(found: Sequence[Figures]) -> Figures:
    """The figures of clients that worked at once: rates add up; the tail is that of the slowest."""
    count = sum(each["count"] for each in found)
    return {
        "per_second": sum(each["count"] / each["seconds"] for each in found),
        "median_ms": statistics.median(each["median_ms"] for each in found),
        "p99_ms": max(each["p99_ms"] for each in found),
        "p999_ms": max(each["p999_ms"] for each in found),
        "cpu_us_client": per_operation(sum(each["cpu_seconds"] for each in found), count),
    }


def costs(used: Usage, leader: str | None, count: int) -> Figures:
    """What each of `count` operations cost the leader, a follower, and all servers together, given seconds of CPU."""
    followers = [seconds for name, seconds in used.items() if name != leader]
    average = mean(list(used.values()))
    return {
        "cpu_us_leader": per_operation(used.get(leader or ""), count),
        "cpu_us_follower": per_operation(mean(followers), count),
        "cpu_us_servers": per_operation(None if average is None else average * len(used), count),
    }


# -- numbers -----------------------------------------------------------------------------------------------------------


def medians(measured: Sequence[Mapping[str, Any]]) -> Figures:
    """Each figure's median over the rounds; None where a round has none."""
    figures = {}
    for name in measured[0]:
        values = [each[name] for each in measured]
        figures[name] = None if None in values else round(statistics.median(values), 3)
    return figures


def difference(before: float | None, after: float | None) -> float | None:
    """What was used between two readings, if both are known."""
    return None if before is None or after is None else after - before


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, if there are values and all are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def per_operation(seconds: float | None, count: int) -> float | None:
    """Microseconds for each of `count` operations."""
    return None if seconds is None or not count else seconds * 1e6 / count


def machine() -> Figures:
    """What was measured on."""
    return {
        "copycat": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
