"""`copycat demo`: three servers, eight clients, kill -9, and a count of what was lost."""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from copycat.cli.command import Command
from copycat.cli.demo_view import View, bar, make_view
from copycat.cli.jobs import Job, open_jobs
from copycat.cli.settings import Setting, SettingError, positive_number
from copycat.cli.text import figure
from copycat.cli.workload import Pace, Row, Tally, Writer, open_writers, read_back
from copycat.client import CopycatClient
from copycat.errors import CopycatError
from copycat.raft.client.survey import ask, summary
from copycat.testing.processes import LOOPBACK, PATIENCE_S, LocalCluster
from copycat.util.loop_thread import new_event_loop

SETTINGS = (
    Setting(
        name="seconds",
        metavar="SECONDS",
        parse=positive_number,
        default=5.0,
        help="how long to write before the first server is killed (5)",
    ),
    Setting(name="data", metavar="DIR", help="an empty directory of your own; it is kept"),
)

EPILOG = """\
example: copycat demo

Starts three servers on this host, writes through eight clients, kills the leader, then all three, each with kill -9,
and reads everything back. Takes about 20 seconds. Nothing stays behind, unless something was lost: then the data are
kept, and named.

exit status: 0 nothing was lost or duplicated; 1 something was, or the demo could not run; 2 wrong usage;
130 interrupted.
"""

STEPS = 5
CLIENTS = 8
KEYS_MAX = 400_000
"""At most so many keys in the first phase, so that reading them back stays quick."""

FULL_BATCH = 128
CALM_BATCH, CALM_REST_S = 8, 0.005
"""While servers are killed the writers take it easy: what counts then is when an acknowledgement comes."""

SETTLE_S = 0.5
LOOK_S = 0.1
ASK_EVERY = 3  # looks


class DemoError(CopycatError):
    """The demo could not run to its end."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The result. `rows` are by kind of key; `unacknowledged` counts puts that failed, or whose outcome is unknown."""

    rows: dict[str, Row] = field(default_factory=dict)
    unacknowledged: int = 0
    writes_per_second: float = 0.0
    fail_over_seconds: float = 0.0
    catch_up_seconds: float = 0.0

    @property
    def total(self) -> Row:
        return sum(self.rows.values(), Row())

    @property
    def is_good(self) -> bool:
        """Nothing acknowledged was lost, and nothing took effect twice."""
        return self.total.acknowledged > 0 and self.total.lost == 0 and self.total.duplicated == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values: the total's, then the rest."""
        return {"ok": self.is_good, **asdict(self.total), **asdict(self)}


class Demo:
    """The five steps."""

    def __init__(self, cluster: LocalCluster, view: View, *, seconds: float, sabotage: bool) -> None:
        self._cluster = cluster
        self._view = view
        self._seconds = seconds
        self._sabotage = sabotage
        self._tally = Tally()
        self._pace = Pace(batch=FULL_BATCH)
        self._writers: list[Writer] = []
        self._jobs: list[Job] = []
        self._report = Report()
        self._state: dict[str, Any] = {"leader": None, "term": 0}
        self._first_phase: tuple[float, float] | None = None  # while it lasts: its start and its length

    async def run(self) -> Report:
        """All of it. Raises CopycatError when it cannot go on; every server it started may still run then."""
        await self._start()
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch())
                writing = [tasks.create_task(writer.run(self._pace, self._tally)) for writer in self._writers]
                writing += [tasks.create_task(job.run(self._pace)) for job in self._jobs]
                await self._write()
                await self._kill_leader()
                await self._kill_all()
                await self._stop_writing(writing)
                watch.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        await self._read_back()
        return self._report

    # -- the steps ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        names = list(self._cluster.members)
        self._step(1, f"three servers on {LOOPBACK}, data in {self._cluster.directory}")
        self._view.live("starting")
        self._cluster.start()
        self._state = cluster = await self._cluster.wait_for_leader()
        leader, term = cluster["leader"], cluster["term"]
        roles = (f"{name} LEADER term {term}" if name == leader else f"{name} follower" for name in names)
        self._view.note("   ".join(roles))
        self._writers = await open_writers(self._cluster.addresses, CLIENTS)
        self._jobs = await open_jobs([writer.client for writer in self._writers])

    async def _write(self) -> None:
        self._step(2, f"{CLIENTS} clients: maps, a counter, a lock, an election, a topic")
        loop = asyncio.get_running_loop()
        start = loop.time()
        self._first_phase = start, self._seconds
        while loop.time() < start + self._seconds and self._tally.acknowledged < KEYS_MAX:  # noqa: ASYNC110  # a tally rings no bell
            await asyncio.sleep(LOOK_S / 2)
        acknowledged, passed = self._tally.acknowledged, loop.time() - start
        self._first_phase = None
        self._pace.batch, self._pace.rest = CALM_BATCH, CALM_REST_S
        self._report.writes_per_second = rate = acknowledged / passed
        self._view.note(f"{bar(1)} {figure(acknowledged)} acknowledged   {figure(rate)} writes/s")

    async def _kill_leader(self) -> None:
        leader = (await self._cluster.wait_for_leader())["leader"]
        survivors = [name for name in self._cluster.members if name != leader]
        self._step(3, f"kill -9 {leader} (the leader)")
        loop = asyncio.get_running_loop()
        self._tally.longest_gap = 0.0
        self._cluster.kill([leader])
        cluster = await self._cluster.wait_for_leader(survivors)
        await self._wait_for_writes()
        self._report.fail_over_seconds = gap = self._tally.longest_gap
        self._view.note(f"writes stopped for {gap:.2f} s; {cluster['leader']} leads term {cluster['term']}")
        started = loop.time()
        self._cluster.start([leader])
        await self._cluster.wait_until(lambda: self._caught_up(leader, cluster["leader"]), f"{leader} to catch up")
        self._report.catch_up_seconds = passed = loop.time() - started
        self._view.note(f"{leader} is back, and caught up {passed:.2f} s after its start")

    async def _caught_up(self, late: str, leader: str) -> dict[str, Any] | None:
        """The status of `late` if it has applied what `leader` had applied before it was asked."""
        ahead = await ask(self._cluster.members[leader], 1.0)
        behind = await ask(self._cluster.members[late], 1.0)
        reached = behind.get("applied_index", -1) >= ahead.get("applied_index", float("inf"))
        return behind if reached else None

    async def _kill_all(self) -> None:
        names = list(self._cluster.members)
        self._step(4, f"kill -9 {', '.join(names[:-1])} and {names[-1]}")
        self._cluster.kill()
        self._cluster.start()
        cluster = await self._cluster.wait_for_leader()
        await self._wait_for_writes()
        self._view.note(f"all restarted; {cluster['leader']} leads term {cluster['term']}, and the writes go on")

    async def _wait_for_writes(self) -> None:
        """Until acknowledgements come again, and a little longer."""
        before = self._tally.acknowledged

        async def come() -> dict[str, Any] | None:
            return {} if self._tally.acknowledged > before else None

        await self._cluster.wait_until(come, "writes to be acknowledged again")
        await asyncio.sleep(SETTLE_S)

    async def _stop_writing(self, writing: Sequence["asyncio.Task[None]"]) -> None:
        self._pace.is_over = True
        _, unfinished = await asyncio.wait(writing, timeout=PATIENCE_S)
        if unfinished:
            raise DemoError(f"{len(unfinished)} of {len(writing)} tasks got no answer within {PATIENCE_S:g} s")

    async def _read_back(self) -> None:
        self._step(5, "reading everything back")
        if self._sabotage:
            await self._alter_one()
        keys, chains = Row(), Row()
        async with CopycatClient(self._cluster.addresses) as reader:
            for writer in self._writers:
                self._view.live(f"{bar(keys.acknowledged / self._tally.acknowledged)} {writer.name}")
                unique, chained = await read_back(reader, writer)
                keys, chains = keys + unique, chains + chained
            jobs = {job.name: await job.read_back(reader) for job in self._jobs}
        self._report.rows = {"map": keys, "map, chained": chains, **jobs}
        self._report.unacknowledged = sum(writer.unacknowledged for writer in self._writers)
        await asyncio.gather(*(writer.client.close() for writer in self._writers))

    async def _alter_one(self) -> None:
        writer = self._writers[0]
        await writer.map.put(f"key-{writer.acknowledged[0]}", "altered")

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _step(self, number: int, text: str) -> None:
        self._view.live("")
        self._view.step(number, STEPS, text)

    async def _watch(self) -> None:
        """Move the moving line until cancelled."""
        loop = asyncio.get_running_loop()
        seen: deque[tuple[float, int]] = deque(maxlen=round(1 / LOOK_S))
        while True:
            for _ in range(ASK_EVERY):
                now, count = loop.time(), self._tally.acknowledged
                seen.append((now, count))
                passed = now - seen[0][0]
                rate = (count - seen[0][1]) / passed if passed else 0.0
                self._view.live(f"{self._bar(now, count)}{figure(count)} acknowledged   {self._describe(rate)}")
                await asyncio.sleep(LOOK_S)
            self._state = summary(await self._cluster.answers())

    def _bar(self, now: float, count: int) -> str:
        if self._first_phase is None:
            return ""
        start, length = self._first_phase
        return f"{bar(max((now - start) / length, count / KEYS_MAX))} "

    def _describe(self, rate: float) -> str:
        leader = f"{self._state['leader']} leads term {self._state['term']}" if self._state["leader"] else "no leader"
        return f"{figure(rate)} writes/s   {leader}"


def show(view: View, report: Report) -> None:
    """The table at the end, and the last word."""
    rows = [
        [name, *(figure(number) for number in (row.acknowledged, row.found, row.lost, row.duplicated))]
        for name, row in {**report.rows, "total": report.total}.items()
    ]
    view.live("")
    view.table(["", "acknowledged", "found", "lost", "duplicated"], rows)
    view.note(f"fail-over {report.fail_over_seconds:.2f} s   {figure(report.writes_per_second)} writes/s")
    if report.is_good:
        view.end(
            'Nothing lost. Next: copycat.open("data/") in Python (README.md), or servers: copycat server --help',
            is_good=True,
        )
    else:
        total = report.total
        view.end(f"Lost {total.lost}, duplicated {total.duplicated}. That must not be.", is_good=False)


async def play(directory: Path, view: View, *, seconds: float, sabotage: bool) -> Report:
    """Run the demo; no server is left when this returns or raises."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    cluster = LocalCluster(directory)
    try:
        return await Demo(cluster, view, seconds=seconds, sabotage=sabotage).run()
    finally:
        cluster.kill()


def make_directory(data: str | None) -> Path:
    """A directory to keep data in: `data` if given, which must be empty, else a temporary one. Raises SettingError."""
    if data is None:
        return Path(tempfile.mkdtemp(prefix="copycat-demo-"))
    directory = Path(data).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_empty = not any(directory.iterdir())
    except OSError as error:
        raise SettingError(f"{directory} cannot be used: {error.strerror}") from error
    if not is_empty:
        raise SettingError(f"{directory} is not empty: name an empty directory, or leave out --data")
    return directory


def run(options: Namespace) -> int:
    """Run the demo, show the result, and clean up."""
    directory = make_directory(options.data)
    keep = True
    try:
        with make_view(for_programs=options.json) as view, asyncio.Runner(loop_factory=new_event_loop) as runner:
            report = runner.run(play(directory, view, seconds=options.seconds, sabotage=options.sabotage))
            show(view, report)
        keep = not report.is_good or options.data is not None
        if options.json:
            print(json.dumps({**report.as_dict(), "directory": str(directory) if keep else None}))
        return 0 if report.is_good else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        keep = options.data is not None
        raise KeyboardInterrupt from None
    except CopycatError as error:
        if options.json:
            print(json.dumps({"ok": False, "error": str(error), "directory": str(directory)}))
        raise
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
        elif not options.json:
            print(f" The data are in {directory}", file=sys.stderr)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="show nothing; print the result as one JSON object")
    parser.add_argument("--sabotage", action="store_true", help=SUPPRESS)  # alter one value: the check must see it


COMMAND = Command(
    name="demo",
    summary="three servers, kill -9, and a count of what was lost",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
    prefix="COPYCAT_DEMO_",
)
