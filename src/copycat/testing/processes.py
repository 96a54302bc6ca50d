"""A cluster of `copycat server` processes on this host, for tests and for commands that need one to play with.

The servers hold the other end of a pipe that this process never writes to: when it ends, however it ends, they see
the end of their stdin and close.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from copycat.errors import CopycatError
from copycat.raft.client.survey import Answers, ask_all, summary
from copycat.raft.protocol.members import Member

LOOPBACK = "127.0.0.1"
PREFIX = "COPYCAT_"  # of the settings of commands in the environment
PORTS = range(20_000, 32_000)
"""Below what systems hand out to outgoing connections (Linux from 32,768, macOS from 49,152): while a server is down,
nothing else may be given its port."""

POLL_S = 0.05
PATIENCE_S = 30.0
LOG_BYTES_SHOWN = 2000


class ClusterError(CopycatError):
    """The servers did not do what was waited for."""


class LocalCluster:
    """Servers "a", "b", "c" …, each with a directory of its own and a log file under `directory`."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        self.directory = directory
        names = [chr(ord("a") + number) for number in range(size)]
        self.members = {name: Member(name, LOOPBACK, port) for name, port in zip(names, free_ports(size), strict=True)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def addresses(self) -> str:
        """The member list, as text."""
        return ",".join(map(str, self.members.values()))

    def process_id(self, name: str) -> int:
        """Of a server that was started."""
        return self._processes[name].pid

    @property
    def started(self) -> list[str]:
        """The members whose servers were started, and not killed since."""
        return [name for name in self.members if name in self._processes]

    # -- starting and ending -----------------------------------------------------------------------------------------

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start these servers, None for all; returns at once."""
        for name in names if names is not None else self.members:
            self._processes[name] = self._spawn(name)

    def command(self, name: str) -> list[str]:
        """What starts a server: the interpreter and its arguments."""
        settings = {"--id": name, "--members": self.addresses, "--data": str(self.directory / name)}
        command = [sys.executable, "-m", "copycat", "server", "--until-eof", "--log-level", "info"]
        return [*command, *(word for pair in settings.items() for word in pair)]

    def environment(self, name: str) -> dict[str, str]:
        """What a server finds in its environment."""
        return clean_environment()

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        with self.log_file(name).open("ab") as log:
            return subprocess.Popen(
                self.command(name),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self.environment(name),
                start_new_session=True,  # Ctrl-C is for the process that started them
            )

    def kill(self, names: Iterable[str] | None = None) -> None:
        """`kill -9` these servers, None for all that run; returns when they have ended."""
        processes = [self._processes.pop(name) for name in list(names if names is not None else self._processes)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def log_file(self, name: str) -> Path:
        """Where a server's output goes."""
        return self.directory / f"{name}.log"

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def answers(self) -> Answers:
        """What every server says of itself."""
        return await ask_all(list(self.members.values()), timeout=1.0)

    async def wait_for_leader(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Wait until these servers, None for all, follow one leader; returns the summary. Raises ClusterError."""
        wanted = list(names if names is not None else self.members)

        async def settled() -> dict[str, Any] | None:
            cluster = summary(await self.answers())
            leaders = {cluster["members"][name].get("leader") for name in wanted}
            return cluster if cluster["leader"] in wanted and leaders == {cluster["leader"]} else None

        return await self.wait_until(settled, f"{', '.join(wanted)} to follow a leader")

    async def wait_until(self, probe: Callable[[], Awaitable[dict[str, Any] | None]], what: str) -> dict[str, Any]:
        """Ask `probe` again and again until it gives something. Raises ClusterError when that takes too long, or a
        server has ended by itself."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (found := await probe()) is None:
                    self._check_alive()
                    await asyncio.sleep(POLL_S)
                return found
        except TimeoutError as error:
            raise ClusterError(f"waited {PATIENCE_S:g} s in vain for {what}{self._logs(self._processes)}") from error

    def _check_alive(self) -> None:
        ended = {name: process.returncode for name, process in self._processes.items() if process.poll() is not None}
        if ended:
            statuses = ", ".join(f"{name} with exit status {status}" for name, status in ended.items())
            raise ClusterError(f"servers ended by themselves: {statuses}{self._logs(ended)}")

    def _logs(self, names: Iterable[str]) -> str:
        """The ends of these servers' logs, for an error message."""
        logs = ""
        for name in names:
            text = self.log_file(name).read_bytes()[-LOG_BYTES_SHOWN:].decode(errors="replace").strip()
            logs += f"\n--- {self.log_file(name)}\n{text or '(empty)'}"
        return logs


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of `copycat`, which are not meant for what it starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now. Raises ClusterError."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"there are no {count} free ports from {PORTS.start} to {PORTS.stop - 1} on {LOOPBACK}")
