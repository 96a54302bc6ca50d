"""Server processes behind proxies, and what can be done to them from outside.

Each server's list of members names itself as it is and the others by the proxies that lead to them, so that every link
between two members has its own, in each direction; and every client has one to each server.
"""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

from copycat.raft.protocol.members import Member
from copycat.raft.server.fatal import EXIT_STATUS
from copycat.testing.chaos.clock import environment as clock_environment
from copycat.testing.chaos.clock import set_shift
from copycat.testing.chaos.proxy import Link
from copycat.testing.processes import LOOPBACK, LocalCluster, clean_environment, free_ports
from copycat.util.address import Address

RESOURCES = "copycat.testing.workload:LedgerMachine"
ATTACH_SECONDS_MAX = 10.0


def why_no_strace() -> str | None:
    """Why system calls cannot be made to fail here; None: they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-qq", "-o", os.devnull, "-e", "inject=fdatasync:error=EIO:when=1", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip() or 'no reason given'}"


class ChaosServers(LocalCluster):
    """A LocalCluster behind proxies. `open` before use; `close` ends every process and proxy.

    clients: how many have proxies of their own, named "client-0" and so on.
    clock_library: what makes wall clocks jump, from `clock.build_library`; None: nothing does.
    """

    def __init__(
        self,
        directory: Path,
        size: int,
        clients: int,
        *,
        random: Random,
        clock_library: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, size)
        self._clock_library = clock_library
        self._options = options
        self._limited: set[int] = set()  # processes
        self._tracers: dict[str, subprocess.Popen[bytes]] = {}
        self._may_end: Counter[str] = Counter()  # by member: the faults in force that may end it
        self.ended: list[str] = []  # what ended by itself and should not have
        self.stopped_by_disk = 0  # members that ended as they must when a disk fails
        own = {member.port for member in self.members.values()}
        pairs = [
            *permutations(self.members, 2),
            *((client_name(n), name) for n in range(clients) for name in self.members),
        ]
        ports = [port for port in free_ports(len(pairs) + size) if port not in own]
        self.links = {
            (source, target): Link(
                f"{source}→{target}", port, Address(LOOPBACK, self.members[target].port), random=random
            )
            for (source, target), port in zip(pairs, ports, strict=False)
        }

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the proxies and all servers."""
        await self.bring_up(self.members)

    async def close(self) -> None:
        """End all."""
        for name in list(self._tracers):
            self.untrace(name)
        self.kill()
        for link in self.links.values():
            await link.close()

    def view_of(self, source: str) -> str:
        """The member list as `source`, a member or a client, is to dial it."""
        return ",".join(
            str(member if name == source else Member(name, LOOPBACK, self.links[source, name].address.port))
            for name, member in self.members.items()
        )

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        command[command.index("--members") + 1] = self.view_of(name)
        return [*command, "--resources", RESOURCES, *self._options]

    def environment(self, name: str) -> dict[str, str]:
        environment = clean_environment()
        if self._clock_library is not None:
            file = self._clock_file(name)
            if not file.exists():
                set_shift(file, 0)
            environment |= clock_environment(self._clock_library, file)
        return environment

    # -- what is done to processes -----------------------------------------------------------------------------------

    def is_up(self, name: str) -> bool:
        """Whether it was started, and not killed since. It may have ended by itself."""
        return name in self._processes

    async def bring_up(self, names: Iterable[str]) -> None:
        """Start those that are not up."""
        for name in names:
            if not self.is_up(name):
                for link in self.links_to(name):
                    await link.start()
                self.start([name])

    def take_down(self, names: Iterable[str]) -> None:
        """`kill -9` those that are up."""
        alive = [name for name in names if self.is_up(name)]
        for name in alive:
            self.untrace(name)
        self.kill(alive)
        for name in alive:
            for link in self.links_to(name):
                link.refuse()

    def pause(self, name: str) -> None:
        """SIGSTOP, if it is up."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT, if it is up."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if self.is_up(name) and self._processes[name].poll() is None:
            self._processes[name].send_signal(number)

    def expect_end(self, name: str, *, is_over: bool = False) -> None:
        """From now on this member may end itself as a failing disk makes it; `is_over`: one reason less for that."""
        self._may_end[name] += -1 if is_over else 1

    def bury(self) -> list[str]:
        """Take down those that have ended by themselves, and return them; who should not have is in `ended`."""
        dead = {name: process.poll() for name, process in self._processes.items()}
        names = [name for name, status in dead.items() if status is not None]
        for name in names:
            # A disk that fails before the member serves is told like any error that keeps it from starting.
            if dead[name] in (EXIT_STATUS, 1) and self._may_end[name] > 0:
                self.stopped_by_disk += 1
            else:
                self.ended.append(f"{name} ended by itself with exit status {dead[name]}")
        self.take_down(names)
        return names

    # -- what is done to links ---------------------------------------------------------------------------------------

    def links_to(self, name: str) -> list[Link]:
        """The links that lead to a member."""
        return [link for (_, target), link in self.links.items() if target == name]

    def links_between(self, some: Iterable[str], others: Iterable[str]) -> Iterator[Link]:
        """The links from some to others; there is none between two clients, or to one."""
        others = list(others)
        for one in some:
            for other in others:
                if (one, other) in self.links:
                    yield self.links[one, other]

    # -- what is done to disks and clocks ----------------------------------------------------------------------------

    def limit_files(self, name: str, size: int | None) -> None:
        """Let this member write nothing beyond `size` bytes of any file, as if its disk were full; None: it may.

        From outside, by the process's RLIMIT_FSIZE: its writes fail with EFBIG.
        """
        if not self.is_up(name) or self._processes[name].poll() is not None:
            return
        process = self.process_id(name)
        if size is None and process not in self._limited:
            return
        self._limited.add(process)
        try:
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
        except ProcessLookupError:
            pass  # it ended just now

    async def trace(self, name: str, injection: str) -> None:
        """Have strace inject this into the system calls of a member, until `untrace`; see strace(1), `-e inject`."""
        if not self.is_up(name) or name in self._tracers:
            return
        calls = injection.partition(":")[0]
        command = ["strace", "-f", "-o", os.devnull, "-p", str(self.process_id(name))]
        tracer = self._tracers[name] = subprocess.Popen(  # noqa: ASYNC220 – as the servers are; it takes a millisecond
            [*command, "-e", f"trace={calls}", "-e", f"inject={injection}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if tracer.stderr is not None:  # it says "attached", or why it could not
            await asyncio.wait_for(asyncio.to_thread(tracer.stderr.readline), ATTACH_SECONDS_MAX)

    def untrace(self, name: str) -> None:
        """Let strace go."""
        tracer = self._tracers.pop(name, None)
        if tracer is not None:
            tracer.terminate()
            tracer.wait()
            if tracer.stderr is not None:
                tracer.stderr.close()

    def shift_clock(self, name: str, seconds: int) -> None:
        """Let its wall clock be off by so many seconds, now and after every start."""
        set_shift(self._clock_file(name), seconds)

    def _clock_file(self, name: str) -> Path:
        return self.directory / f"{name}.clock"

    # -- what is known of them ---------------------------------------------------------------------------------------

    async def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """What those that are up say of themselves, by id; without those that do not answer."""
        return {name: answer for name, answer in (await self.answers()).items() if "role" in answer}


def client_name(slot: int) -> str:
    """The name of a client's end of a link."""
    return f"client-{slot}"
