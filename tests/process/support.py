"""Clusters of real server processes, for tests that kill, stop and restart them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from copycat.client import CopycatClient
from copycat.collections.map import DistributedMap
from copycat.handle import Copycat
from copycat.raft.client.client import RaftClient
from copycat.testing.processes import PATIENCE_S, LocalCluster

Numbers = DistributedMap[str, int]
C = TypeVar("C", bound="ProcessCluster")

QUICK = ("--election-timeout", "150", "--heartbeat", "30")
"""Members that miss their leader soon, for tests that need many elections."""

SESSION_SECONDS = 30.0  # longer than any test leaves a session alone


class ProcessCluster(LocalCluster):
    """A LocalCluster whose servers can be stopped in other ways, too.

    options: more arguments of every server. interpreter: arguments of Python itself. wrapper: a command that ends by
    executing the one it is given.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        *,
        options: Sequence[str] = (),
        interpreter: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, size)
        self._options = options
        self._interpreter = interpreter
        self.wrapper = wrapper

    def command(self, name: str) -> list[str]:
        python, *arguments = super().command(name)
        return [*self.wrapper, python, *self._interpreter, *arguments, *self._options]

    def is_running(self, name: str) -> bool:
        """Whether a server that was started has not ended by itself."""
        return self._processes[name].poll() is None

    def pause(self, name: str) -> None:
        """SIGSTOP: the process stands still, its sockets stay open."""
        os.kill(self.process_id(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        os.kill(self.process_id(name), signal.SIGCONT)

    async def stop(self, name: str) -> int:
        """SIGTERM; returns the exit status."""
        os.kill(self.process_id(name), signal.SIGTERM)
        return await self.ended(name)

    async def hang_up(self, name: str) -> int:
        """Let go of its stdin, upon which it closes; returns the exit status."""
        stdin = self._processes[name].stdin
        if stdin is not None:
            stdin.close()
        return await self.ended(name)

    async def ended(self, name: str) -> int:
        """Wait until a server has ended by itself; returns its exit status."""
        process = self._processes[name]
        status = await asyncio.to_thread(process.wait, PATIENCE_S)
        self.kill([name])  # lets go of its stdin
        return status

    async def leader(self) -> str:
        """The leader that all running servers follow; waits for one."""
        return str((await self.wait_for_leader(self._processes))["leader"])

    def logs(self) -> str:
        """The ends of all logs, for the report of a failure."""
        return self._logs(name for name in self.members if self.log_file(name).exists())


@asynccontextmanager
async def running(
    directory: Path, size: int = 3, *, kind: type[ProcessCluster] = ProcessCluster, **more: Sequence[str]
) -> AsyncIterator[ProcessCluster]:
    """A new cluster, as `started`."""
    async with started(kind(directory, size, **more)) as cluster:
        yield cluster


@asynccontextmanager
async def started(cluster: C) -> AsyncIterator[C]:
    """This cluster with a leader. Whatever happens inside, no process stays; a failure shows the servers' logs."""
    try:
        cluster.start()
        await cluster.wait_for_leader()
        yield cluster
    except BaseException as error:
        error.add_note(cluster.logs())
        raise
    finally:
        cluster.kill()


def client_of(cluster: LocalCluster, **options: Any) -> CopycatClient:
    """A client of all members, whose session outlives the test."""
    return CopycatClient(cluster.addresses, **{"session_timeout": SESSION_SECONDS, **options})


def client_at(cluster: LocalCluster, name: str, *, discover: bool = False, **options: Any) -> Copycat:
    """A client that first goes to one member, and with `discover` also learns of the others."""
    members = [cluster.members[name]]
    return Copycat(RaftClient(members, discover=discover, **{"session_timeout": SESSION_SECONDS, **options}))


async def turns(count: int = 3) -> None:
    """Let the loop run: what was called leaves, without waiting for any answer."""
    for _ in range(count):
        await asyncio.sleep(0)


def resident_bytes(process_id: int) -> int:
    """The memory of a process that is in use (Linux)."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


HAS_PROC = sys.platform == "linux"
