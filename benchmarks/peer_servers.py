"""Clusters of three of other systems, on loopback with real disks, as their packages start them: with their own flush
settings, which are to wait for the disk. PySyncObj is a library: its members are in `peer_member`."""

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import BenchmarkError, Options
from copycat.testing.processes import free_ports

LOOPBACK = "127.0.0.1"
PATIENCE_S = 60.0
POLL_S = 0.1
ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")
ZOOKEEPER_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
MEMBERS = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """Another system. `package` is what its servers need from outside Python, `library` the client's module."""

    name: str
    library: str
    package: str
    programs: tuple[str, ...]

    def missing(self) -> str | None:
        """Why it cannot be measured here, as a sentence; None when it can."""
        if importlib.util.find_spec(self.library) is None:
            return f"{self.name} was left out: {self.library} is not installed (`pip install -e '.[peers]'`)."
        absent = [each for each in self.programs if shutil.which(each) is None and not Path(each).exists()]
        if absent:
            return f"{self.name} was left out: {absent[0]} is not there (Debian's package {self.package})."
        return None


ETCD = Peer("etcd", "aetcd", "etcd-server", ("etcd",))
ZOOKEEPER = Peer("ZooKeeper", "kazoo", "zookeeper", ("java", str(ZOOKEEPER_JAR)))
PYSYNCOBJ = Peer("PySyncObj", "pysyncobj", "", ())
PEERS = (ETCD, ZOOKEEPER, PYSYNCOBJ)


@dataclass(frozen=True, slots=True)
class PeerCluster:
    """A cluster that runs: where clients connect, and its processes, by member."""

    addresses: list[str]
    process_ids: dict[str, int]


@asynccontextmanager
async def running(peer: Peer, options: Options) -> AsyncIterator[PeerCluster]:
    """Three members of etcd or ZooKeeper that take clients."""
    with tempfile.TemporaryDirectory(prefix=f"{peer.library}-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        clients, commands = (etcd if peer is ETCD else zookeeper)(directory)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes += [start(command, directory, number) for number, command in enumerate(commands)]
            await wait_for(clients, processes, directory)
            yield PeerCluster(clients, {str(number): process.pid for number, process in enumerate(processes)})
        finally:
            for process in processes:
                process.kill()
                process.wait()


def start(command: list[str], directory: Path, number: int) -> "subprocess.Popen[bytes]":
    """Start a member, whose output goes to a file."""
    with (directory / f"{number}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)


def etcd(directory: Path) -> tuple[list[str], list[list[str]]]:
    """Addresses for clients, and commands that start the members. It flushes every write by default."""
    ports = free_ports(2 * MEMBERS)
    clients, others = ports[:MEMBERS], ports[MEMBERS:]
    cluster = ",".join(f"m{number}=http://{LOOPBACK}:{port}" for number, port in enumerate(others))
    commands = []
    for number, (client, other) in enumerate(zip(clients, others, strict=True)):
        settings = {
            "--name": f"m{number}",
            "--data-dir": str(directory / f"m{number}"),
            "--listen-client-urls": f"http://{LOOPBACK}:{client}",
            "--advertise-client-urls": f"http://{LOOPBACK}:{client}",
            "--listen-peer-urls": f"http://{LOOPBACK}:{other}",
            "--initial-advertise-peer-urls": f"http://{LOOPBACK}:{other}",
            "--initial-cluster": cluster,
        }
        commands.append(["etcd", *(word for pair in settings.items() for word in pair)])
    return [f"{LOOPBACK}:{port}" for port in clients], commands


def zookeeper(directory: Path) -> tuple[list[str], list[list[str]]]:
    """Likewise. It flushes every transaction by default (forceSync)."""
    ports = free_ports(3 * MEMBERS)
    clients = ports[:MEMBERS]
    lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", "admin.enableServer=false", "maxClientCnxns=0"]
    lines += [
        f"server.{number}={LOOPBACK}:{ports[MEMBERS + number]}:{ports[2 * MEMBERS + number]}"
        for number in range(MEMBERS)
    ]
    commands = []
    for number, port in enumerate(clients):
        data = directory / f"m{number}"
        data.mkdir()
        (data / "myid").write_text(f"{number}\n")
        settings = directory / f"m{number}.cfg"
        settings.write_text(
            "\n".join([*lines, f"dataDir={data}", f"clientPort={port}", f"clientPortAddress={LOOPBACK}"])
        )
        commands.append(["java", "-Xmx512m", "-cp", f"{ZOOKEEPER_JAR}", ZOOKEEPER_MAIN, str(settings)])
    return [f"{LOOPBACK}:{port}" for port in clients], commands


async def wait_for(addresses: Sequence[str], processes: Sequence[subprocess.Popen[bytes]], directory: Path) -> None:
    """Until all of these take connections. Raises BenchmarkError."""
    began = time.monotonic()
    for address in addresses:
        host, _, port = address.rpartition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
                break
            except OSError:
                ended = [number for number, process in enumerate(processes) if process.poll() is not None]
                if ended or time.monotonic() - began > PATIENCE_S:
                    log = (directory / f"{(ended or [0])[0]}.log").read_bytes()[-1000:].decode(errors="replace")
                    raise BenchmarkError(f"{address} does not take connections; a log ends with:\n{log}") from None
                await asyncio.sleep(POLL_S)


async def leader_of(peer: Peer, addresses: Sequence[str]) -> str:
    """The address of the leader. Raises BenchmarkError when there is none for long."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for address in addresses:
                if await (etcd_leads if peer is ETCD else zookeeper_leads)(address):
                    return address
            await asyncio.sleep(POLL_S)


async def etcd_leads(address: str) -> bool:
    """Whether this member says that it leads."""
    import aetcd

    host, _, port = address.rpartition(":")
    try:
        async with aetcd.Client(host=host, port=int(port), timeout=5) as client:
            leader = (await client.status()).leader
            return leader is not None and any(url.endswith(address) for url in leader.client_urls)
    except aetcd.ClientError:
        return False


async def zookeeper_leads(address: str) -> bool:
    """Likewise."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"srvr")
        return b"Mode: leader" in await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
