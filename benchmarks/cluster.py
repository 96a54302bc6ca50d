"""Three real servers on loopback with real disks, loads on them, and what their processes use."""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.benchmark import BenchmarkError, Options
from copycat.cli.bench_client import Job, spawn_client
from copycat.cli.cpu import cpu_seconds
from copycat.cli.measuring import Figures, Usage, costs, difference, measure_each, nothing, summary, together
from copycat.testing.processes import LocalCluster

KEYS = 10_000
"""Each client writes and reads so many keys, over and over: the state stays small, the log grows."""

VALUE_BYTES = 100
SEGMENTS = "*.log"


class Servers:
    """A cluster that runs. The leader is found out anew for each load, and may not change meanwhile."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    @property
    def process_ids(self) -> Mapping[str, int]:
        """By member, of those that run."""
        return {name: self.cluster.process_id(name) for name in self.cluster.started}

    @property
    def data(self) -> list[Path]:
        """The directories of the members."""
        return [self.cluster.directory / name for name in self.cluster.members]

    async def leader(self) -> str:
        """The member that all follow, which run."""
        return str((await self.cluster.wait_for_leader(self.cluster.started))["leader"])

    async def addresses(self, via: str = "leader") -> list[str]:
        """Of the members to talk to: "leader", "followers", or "all"."""
        leader = await self.leader()
        wanted = {
            "leader": [leader],
            "followers": [name for name in self.cluster.members if name != leader],
            "all": list(self.cluster.members),
        }[via]
        return [self.cluster.members[name].address for name in wanted]

    async def load(self, *jobs: Job, begin: Callable[[], object] = nothing) -> Figures:
        """Let a client process do each job at once. `begin` is called when they are told to."""
        leader = await self.leader()
        found, used = await self.load_each(*jobs, begin=begin)
        return {**together(found), **costs(used, leader, sum(each["count"] for each in found))}

    async def load_each(self, *jobs: Job, begin: Callable[[], object] = nothing) -> tuple[list[Figures], Usage]:
        """The same, with what each found, and the CPU that the members used."""
        leader = await self.leader()
        clients = [await spawn_client(replace(job, client=number)) for number, job in enumerate(jobs)]
        found = await measure_each(clients, self.process_ids, begin)
        if await self.leader() != leader:
            raise BenchmarkError("the leader changed while it was measured; run it again on a quieter machine")
        return found


def used_since(before: Usage, process_ids: Mapping[str, int]) -> Usage:
    """The CPU of these processes since `before`."""
    return {name: difference(before[name], cpu_seconds(process_id)) for name, process_id in process_ids.items()}


def usage(process_ids: Mapping[str, int]) -> Usage:
    """The CPU of these processes so far."""
    return {name: cpu_seconds(process_id) for name, process_id in process_ids.items()}


async def metered(servers: Servers, work: Awaitable[list[float]]) -> Figures:
    """Do `work` in this process; it returns how long each of its operations took, in seconds."""
    leader = await servers.leader()
    before, cpu, began = usage(servers.process_ids), time.process_time(), time.perf_counter()
    latencies = await work
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    found = {"seconds": seconds, "cpu_seconds": cpu, **summary(latencies)}
    return {**together([found]), **costs(used_since(before, servers.process_ids), leader, len(latencies))}


def job(options: Options, addresses: str, kind: str = "put", **more: Any) -> Job:
    """A job of one operation at a time, unless `more` says otherwise."""
    settings = {
        "members": addresses,
        "kind": kind,
        "in_flight": 1,
        "seconds": options.seconds,
        "value_bytes": VALUE_BYTES,
        "keys": options.pick(KEYS, 100),
        "client": 0,
    }
    return Job(**{**settings, **more})


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[Servers]:
    """Three servers that follow a leader; they and their data are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="copycat-benchmark-", dir=options.directory) as directory:
        cluster = LocalCluster(Path(directory))
        try:
            cluster.start()
            await cluster.wait_for_leader()
            yield Servers(cluster)
        finally:
            cluster.kill()


def resident_bytes(process_id: int) -> int | None:
    """The memory a process has in use; None where the system does not tell."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return None
    sizes = [line.split() for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0][1]) * 1024 if sizes else None


def resident(process_ids: Mapping[str, int]) -> int | None:
    """The memory of the largest of these processes; None if one is unknown."""
    sizes = [resident_bytes(process_id) for process_id in process_ids.values()]
    known = [size for size in sizes if size is not None]
    return max(known) if known and len(known) == len(sizes) else None


def log_bytes(directory: Path) -> int:
    """How long a member's log is, without the zeros written ahead; a few bytes short where a record ends with some."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in directory.glob(SEGMENTS))
