"""One client process of `copycat bench`: told what to do by its argument and when by its stdin."""

import asyncio
import json
import random
import sys
import time
from argparse import ArgumentParser, Namespace
from asyncio import Future
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from copycat.cli.command import Command
from copycat.client import CopycatClient
from copycat.collections.map import DistributedMap
from copycat.errors import CopycatError
from copycat.util.loop_thread import new_event_loop

READY = "ready"
GO = "go"
MAP = "copycat-bench"
FILL_CHUNK = 1_000
WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one client does: `kind` is "put" or "get"; `client` numbers the clients that work at once."""

    members: str
    kind: str
    in_flight: int
    seconds: float
    value_bytes: int
    keys: int
    client: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Load:
    """Keeps so many operations under way: each one that ends starts the next."""

    def __init__(self, start: Callable[[], "Future[Any]"], in_flight: int) -> None:
        self._start = start
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
        for _ in range(self._in_flight):
            self._begin(began)
        await self._over
        return time.perf_counter() - began

    def _begin(self, now: float) -> None:
        self._under_way += 1
        self._start().add_done_callback(lambda future: self._done(future, now))

    def _done(self, future: "Future[Any]", began: float) -> None:
        self._under_way -= 1
        now = time.perf_counter()
        if self._over.done():
            return
        error = future.exception()
        if error is not None:
            self._over.set_exception(error)
            return
        self.latencies.append(now - began)
        if now < self._ends:
            self._begin(now)
        elif not self._under_way:
            self._over.set_result(None)


async def work(job: Job) -> dict[str, Any]:
    """Prepare, say READY, wait for GO, and measure."""
    async with CopycatClient(job.members) as client:
        values = await client.create(MAP, DistributedMap[str, bytes])
        keys = [f"{job.client}-{number}" for number in range(job.keys)]
        value = random.Random(job.client).randbytes(job.value_bytes)
        if job.kind == "get":
            for start in range(0, len(keys), FILL_CHUNK):
                await asyncio.gather(*(values.put(key, value) for key in keys[start : start + FILL_CHUNK]))
        chance = random.Random(job.client)

        def put() -> "Future[Any]":
            return values.put(keys[int(chance.random() * len(keys))], value)

        def get() -> "Future[Any]":
            return values.get(keys[int(chance.random() * len(keys))])

        load = Load(put if job.kind == "put" else get, job.in_flight)
        await load.run(WARM_UP_S)
        print(READY, flush=True)
        heard = await asyncio.to_thread(sys.stdin.readline)
        if heard.strip() != GO:
            raise CopycatError("the process that started this client has ended")
        cpu = time.process_time()
        seconds = await load.run(job.seconds)
        cpu = time.process_time() - cpu
        return {"seconds": seconds, "cpu_seconds": cpu, **summary(load.latencies)}


def summary(latencies: list[float]) -> dict[str, float]:
    """How many there were, and their median and 99th percentile in milliseconds."""
    ordered = sorted(latencies)
    return {
        "count": len(ordered),
        "median_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
    }


def run(options: Namespace) -> int:
    """Do one job."""
    job = Job(**json.loads(options.job))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(work(job))), flush=True)
    return 0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JSON", help="the job, as JSON")


COMMAND = Command(name="bench-client", summary="", arguments=_arguments, run=run)
