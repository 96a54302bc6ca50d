"""What other systems do with the same work on the same machine, through the clients that Python programs use."""

import asyncio.subprocess
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks import locks
from benchmarks.benchmark import Benchmark, BenchmarkError, Case, Options, Picture, Plan
from benchmarks.cluster import Servers, job
from benchmarks.cluster import running as running_copycat
from benchmarks.figures import LOAD_COLUMNS, PER_SECOND
from benchmarks.peer_member import FOLLOWER, LEADER, WORK
from benchmarks.peer_servers import ETCD, LOOPBACK, MEMBERS, PEERS, PYSYNCOBJ, ZOOKEEPER, Peer, leader_of, running
from benchmarks.yardstick import ceiling
from copycat.cli.bench_client import Job
from copycat.cli.measuring import Figures, costs, end, hear, measure, measure_each, spawn, tell, together
from copycat.testing.processes import free_ports

ROOT = Path(__file__).parent.parent
STALE = "SERIALIZABLE"

NOTES = [
    "The servers of Copycat, etcd and ZooKeeper run all the time, and clients talk to the leader. These three flush "
    "before they acknowledge. PySyncObj does not: it writes a journal, and leaves it to the system when that reaches "
    "the disk; its client is its leader. A get from ZooKeeper may be stale: compare it with the others' stale gets."
]


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    absent = [why for peer in PEERS if (why := peer.missing()) is not None]
    present = [peer for peer in PEERS if peer.missing() is None]
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running_copycat(options))
        clusters = {}
        for peer in (ETCD, ZOOKEEPER):
            if peer in present:
                cluster = await stack.enter_async_context(running(peer, options))
                leader = await leader_of(peer, cluster.addresses)
                clusters[peer] = (cluster, leader)
        cases = []
        for name, one in jobs(options).items():
            cases.append(copycat(f"Copycat: {name}", options, servers, one))
            for peer, (cluster, leader) in clusters.items():
                if peer is ETCD or one.kind != "get" or one.consistency == STALE:
                    at = list(cluster.process_ids)[cluster.addresses.index(leader)]
                    cases.append(Case(f"{peer.name}: {name}", client(peer, cluster.process_ids, at, leader, one)))
            if one.kind == "put":
                if PYSYNCOBJ in present:
                    cases.append(Case(f"{PYSYNCOBJ.name}: {name}", members(options, one)))
                cases += ceiling(options, f"ceiling: {name}", one.in_flight)
        yield Plan(cases, notes=[*NOTES, *absent])


def jobs(options: Options) -> dict[str, Job]:
    """What all are asked to do, by name."""
    some, many = options.pick((64, 1024), (2, 4))
    keys = options.pick(1_000, 10)
    found = {}
    for in_flight in (1, some, many):
        found[f"put, {in_flight:,}"] = job(options, "", in_flight=in_flight, keys=keys)
    for name, level in (("get", "LINEARIZABLE"), ("stale get", STALE)):
        for in_flight in (1, many):
            found[f"{name}, {in_flight:,}"] = job(options, "", "get", in_flight=in_flight, keys=keys, consistency=level)
    found["lock and unlock, 1"] = job(options, "", "cycle", keys=keys)
    return found


def copycat(name: str, options: Options, servers: Servers, one: Job) -> Case:
    """Copycat's case."""

    async def measure_copycat() -> Figures:
        if one.kind == "cycle":
            return await locks.cycles(options, servers, 1)
        (leader,) = await servers.addresses("leader")
        return await servers.load(Job(**{**one.as_dict(), "members": leader}))

    return Case(name, measure_copycat)


def client(
    peer: Peer, process_ids: dict[str, int], leader: str, address: str, one: Job
) -> Callable[[], Awaitable[Figures]]:
    """A client process at the leader."""

    async def measure_peer() -> Figures:
        arguments = json.dumps({**one.as_dict(), "members": address})
        return await measure(
            [await spawn("benchmarks.peer_client", peer.name, arguments, cwd=ROOT)], process_ids, leader
        )

    return measure_peer


def members(options: Options, one: Job) -> Callable[[], Awaitable[Figures]]:
    """Three members of PySyncObj, started for this measurement; the leader works."""

    async def measure_members() -> Figures:
        with tempfile.TemporaryDirectory(prefix="pysyncobj-benchmark-", dir=options.directory) as directory:
            addresses = [f"{LOOPBACK}:{port}" for port in free_ports(MEMBERS)]
            processes = []
            try:
                for number, own in enumerate(addresses):
                    others = ",".join(each for each in addresses if each != own)
                    arguments = own, others, f"{directory}/{number}", json.dumps(one.as_dict())
                    processes.append(await spawn("benchmarks.peer_member", *arguments, cwd=ROOT))
                return await lead(processes)
            finally:
                await end(processes)

    return measure_members


async def lead(processes: list[asyncio.subprocess.Process]) -> Figures:
    """Let the member that leads work. Its CPU is the client's, too."""
    roles = [await hear(process) for process in processes]
    if sorted(roles) != sorted([LEADER, *[FOLLOWER] * (MEMBERS - 1)]):
        raise BenchmarkError(f"PySyncObj has not one leader: its members said {roles}")
    at = roles.index(LEADER)
    tell(processes[at], WORK)
    others = {str(number): process.pid for number, process in enumerate(processes) if number != at}
    found, used = await measure_each([processes[at]], others)
    used[LEADER] = found[0]["cpu_seconds"]
    figures = {**together(found), **costs(used, LEADER, found[0]["count"])}
    return {**figures, "cpu_us_client": None}


BENCHMARK = Benchmark(
    name="peers",
    question="The same work on etcd, ZooKeeper and PySyncObj, through aetcd, kazoo and PySyncObj itself.",
    columns=LOAD_COLUMNS,
    picture=Picture(PER_SECOND),
    prepare=prepare,
)
