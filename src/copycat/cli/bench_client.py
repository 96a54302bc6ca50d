"""One client process of `copycat bench` and of the programs in `benchmarks/`: puts, or gets, as its argument says."""

import asyncio
import json
import random
from argparse import ArgumentParser, Namespace
from asyncio import Future
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

from copycat.cli.command import Command
from copycat.cli.measuring import Load, Start, bear, spawn
from copycat.client import CopycatClient
from copycat.collections.map import DistributedMap
from copycat.io.transport.tcp import TcpTransport
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.util.loop_thread import new_event_loop

MAP = "copycat-bench"
CHUNK = 1_000  # so many are asked for at once before the measurement begins

Map = DistributedMap[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one client process does: `kind` is "put" or "get"; `client` numbers the processes that work at once.

    in_flight: operations under way, of all its sessions together.
    keys: how many it writes and reads, at random. They are written before, if it gets or `fill` says so.
    sharing: whether its sessions share a connection, as those of one loop do by themselves.
    maps: how many maps they are spread over, by chance. consistency: of gets.
    """

    members: str
    kind: str
    in_flight: int
    seconds: float
    value_bytes: int
    keys: int
    client: int
    sessions: int = 1
    sharing: bool = True
    maps: int = 1
    consistency: str = "LINEARIZABLE"
    fill: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def spawn_client(job: Job) -> asyncio.subprocess.Process:
    """Start a client process that does the job."""
    return await spawn("copycat", "bench-client", json.dumps(job.as_dict()))


async def work(job: Job) -> None:
    """Prepare, say READY, wait for GO, measure, and tell; only then close what was opened, which costs servers too."""
    keys = [f"{job.client}-{number}" for number in range(job.keys)]
    value = random.Random(job.client).randbytes(job.value_bytes)
    async with AsyncExitStack() as stack:
        starts = []
        for number in range(job.sessions):
            transport = None if job.sharing else TcpTransport()
            if transport is not None:
                stack.push_async_callback(transport.close)
            client = await stack.enter_async_context(CopycatClient(job.members, transport=transport))
            maps = await open_maps(client, job.maps)
            if number == 0 and (job.fill or job.kind == "get"):
                await fill(maps, keys, value, f"{job.client} has {job.keys}")
            starts.append(start_of(job, maps, keys, value, random.Random(f"{job.client} {number}")))
        print(json.dumps(await bear(Load(starts, job.in_flight), job.seconds)), flush=True)


async def open_maps(client: CopycatClient, count: int) -> list[Map]:
    """The first map, or so many."""
    paths = [MAP, *(f"{MAP}-{number}" for number in range(1, count))]
    maps: list[Map] = []
    for start in range(0, count, CHUNK):
        maps += await asyncio.gather(*(client.create(path, Map) for path in paths[start : start + CHUNK]))
    return maps


async def fill(maps: Sequence[Map], keys: Sequence[str], value: bytes, mark: str) -> None:
    """Write every key, unless `mark` says that it was done before."""
    for values in maps:
        if await values.get(mark) is None:
            for start in range(0, len(keys), CHUNK):
                await asyncio.gather(*(values.put(key, value) for key in keys[start : start + CHUNK]))
            await values.put(mark, b"")


def start_of(job: Job, maps: Sequence[Map], keys: Sequence[str], value: bytes, chance: random.Random) -> Start:
    """What starts one operation of a session."""
    count, level, only = len(keys), ConsistencyLevel[job.consistency], maps[0]

    def put() -> "Future[Any]":
        return only.put(keys[int(chance.random() * count)], value)

    def put_anywhere() -> "Future[Any]":
        return chance.choice(maps).put(keys[int(chance.random() * count)], value)

    def get() -> "Future[Any]":
        return only.get(keys[int(chance.random() * count)], consistency=level)

    if job.kind == "get":
        return get
    return put if len(maps) == 1 else put_anywhere


def run(options: Namespace) -> int:
    """Do one job."""
    job = Job(**json.loads(options.job))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work(job))
    return 0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JSON", help="the job, as JSON")


COMMAND = Command(name="bench-client", summary="", arguments=_arguments, run=run)
