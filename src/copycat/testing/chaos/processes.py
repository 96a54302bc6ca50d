"""The client processes of a chaos run: started, told to rest, killed, stopped and continued; and what they wrote."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from copycat.testing.chaos.clients import REST, RESTING, Job
from copycat.testing.chaos.servers import ChaosServers, client_name
from copycat.testing.history import FAIL, INFO, INVOKE, OK, Event, History, read
from copycat.testing.processes import clean_environment

OK_LINE = b'"type": "ok"'


@dataclass(slots=True)
class Life:
    """One client process. killed_at: ns of the monotonic clock; None: it was not killed."""

    job: Job
    process: asyncio.subprocess.Process
    killed_at: int | None = None

    @property
    def name(self) -> str:
        return f"{client_name(self.job.slot)} (process {self.process.pid})"


class ClientProcesses:
    """`count` client processes at a time, each in a slot of its own; what they write is in `directory`.

    job: what all have in common; `members`, `slot`, `life` and `file` are filled in. now: ns of the
        monotonic clock.
    """

    def __init__(self, directory: Path, servers: ChaosServers, count: int, job: Job, now: Callable[[], int]) -> None:
        self._directory = directory
        self._servers = servers
        self._job = job
        self._now = now
        self.count = count
        self.lives: list[Life] = []
        self._current: dict[int, Life] = {}

    # -- what is done to them ----------------------------------------------------------------------------------------

    async def start(self, slot: int) -> None:
        """Start a client in a slot that has none."""
        life = len(self.lives)
        view = self._servers.view_of(client_name(slot))
        file = self._directory / f"{life}.jsonl"
        job = replace(self._job, members=view, slot=slot, life=life, file=str(file))
        with (self._directory / f"{life}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "copycat.testing.chaos.clients", job.as_text()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )
        self._current[slot] = Life(job, process)
        self.lives.append(self._current[slot])

    async def restart(self, slot: int) -> None:
        """Start another in the place of one that was killed."""
        if self._current[slot].killed_at is not None:
            await self.start(slot)

    def kill(self, slot: int) -> None:
        """`kill -9`."""
        life = self._current[slot]
        if life.killed_at is None and life.process.returncode is None:
            life.process.kill()
            life.killed_at = self._now()

    def pause(self, slot: int) -> None:
        self._signal(slot, signal.SIGSTOP)

    def resume(self, slot: int) -> None:
        self._signal(slot, signal.SIGCONT)

    def _signal(self, slot: int, number: signal.Signals) -> None:
        process = self._current[slot].process
        if process.returncode is None:
            process.send_signal(number)

    async def heal(self) -> None:
        """Let every slot have a client that runs."""
        for slot in range(self.count):
            self.resume(slot)
            await self.restart(slot)

    async def close(self) -> None:
        """End all."""
        for life in self.lives:
            if life.process.returncode is None:
                life.process.kill()
            await life.process.wait()

    # -- what is known of them ---------------------------------------------------------------------------------------

    def acknowledged(self) -> list[int]:
        """How many operations each current client has had acknowledged."""
        files = [Path(life.job.file) for life in self._all()]
        return [file.read_bytes().count(OK_LINE) if file.exists() else 0 for file in files]

    def failures(self) -> list[str]:
        """Those that ended by themselves, and should not have."""
        return [
            f"{life.name} ended with exit status {life.process.returncode}: {self._last_words(life)}"
            for life in self.lives
            if life.killed_at is None and life.process.returncode not in (None, 0)
        ]

    async def rest(self) -> None:
        """Tell all to call nothing more, and wait until all calls have ended."""
        await asyncio.gather(*(self._rest(life) for life in self._all()))

    async def _rest(self, life: Life) -> None:
        if life.process.stdin is None or life.process.stdout is None:
            return
        life.process.stdin.write(f"{REST}\n".encode())
        while (line := await life.process.stdout.readline()) and line.decode().strip() != RESTING:
            pass

    async def wait(self) -> None:
        """Until all have heard everything, and ended."""
        await asyncio.gather(*(life.process.wait() for life in self._all()))

    def _all(self) -> list[Life]:
        return [self._current[slot] for slot in range(self.count)]

    def _last_words(self, life: Life) -> str:
        lines = (self._directory / f"{life.job.life}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was logged"

    def histories(self) -> list[History]:
        """What each process wrote. Those that were killed need not hear anything after that."""
        found = []
        for life in self.lives:
            if Path(life.job.file).exists():
                history = read(life.job.file)
                found.append(history if life.killed_at is None else cut_short(history, life.killed_at))
        return found


def cut_short(history: History, at: int) -> History:
    """The history of a process that was killed `at` (ns): its listeners are closed then."""
    at = max([at, *(event.time for event in history.events[-1:])])
    latest: dict[int | str, Event] = {}  # by process that listens or listened
    for event in history.events:
        if event.f == "listen" or event.process in latest:
            latest[event.process] = event
    ends = []
    for process, event in latest.items():
        if event.type == INVOKE:  # killed in the middle; it never ends
            if event.f != "close":
                ends.append(replace(event, time=at, type=INFO, value=None, error="killed"))
        elif event.type in (OK, FAIL):
            ends.append(Event(time=at, process=process, type=INVOKE, f="close", resource=event.resource))
    return History((*history.events, *ends), history.facts)
