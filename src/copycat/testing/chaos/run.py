"""A chaos run from its beginning to its verdict.

First the faults. Then everything is healed, and within a bound the cluster must be as good as new: a leader that all
follow, every client served again, every call ended, everything heard. Then all servers are killed once more, what they
have is read, and they are compared.
"""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock, DistributedTopic
from copycat.errors import CopycatError
from copycat.handle import Copycat
from copycat.raft.client.survey import summary
from copycat.testing.chaos.clients import CALL_SECONDS, COUNTER, LOCK, MAP, NUMBERS_STEP, VALUE, Job, client_of, number
from copycat.testing.chaos.clock import ClockError, build_library
from copycat.testing.chaos.faults import Nemesis, draw_plan, impossible
from copycat.testing.chaos.hearing import LAST, LEDGER, TOPIC, Ledger
from copycat.testing.chaos.judge import Check, judge, kind_of, longest_stop
from copycat.testing.chaos.members import compare_members
from copycat.testing.chaos.processes import ClientProcesses
from copycat.testing.chaos.servers import ChaosServers
from copycat.testing.chaos.timeline import render
from copycat.testing.history import History, join, read
from copycat.testing.recorder import Recorder
from copycat.util.clock import SystemClock
from copycat.util.tasks import TaskOwner

RECOVERY_SECONDS = 60.0  # in which the healed cluster has to be as good as new, for each thing that is waited for
ENOUGH = 20  # operations that a client has to be answered after the faults
LOOK_SECONDS = 0.25
ENOUGH_OK = 0.5  # of all operations; with fewer a run says little
JUDGE = NUMBERS_STEP - 1  # the first process number of who reads everything in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for. kinds: keys of `faults.KINDS`. era, pace, session: as of a client's Job."""

    seconds: float
    kinds: tuple[str, ...]
    members: int
    clients: int
    seed: int
    era: float = 3.0
    pace: float = 0.1
    session: float = 4.0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What became of a run.

    problems: what must not be, besides breaches of `checks`. impossible: faults that this machine cannot bring about,
    and why. faults: how many of each there were. ended_by_their_disk: members, as they must when it fails.
    """

    settings: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    impossible: dict[str, str] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    leader_changes: int = 0
    longest_stop_seconds: float = 0.0
    ended_by_their_disk: int = 0
    clients_started: int = 0

    @property
    def is_good(self) -> bool:
        return not self.problems and all(check.is_kept for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"ok": self.is_good, **facts, "checks": [check.as_dict() for check in self.checks]}


async def run(directory: Path, settings: Settings) -> Verdict:
    """All of it. No process is left when this returns or raises.

    The directory, which exists and is empty, gets `history.jsonl`, `verdict.json` and `timeline.html`, and what servers
    and clients wrote.
    """
    chaos = _Run(directory, settings)
    try:
        await chaos.play()
    finally:
        await chaos.close()
    return chaos.conclude()


class _Run:
    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        for name in ("servers", "clients"):
            (directory / name).mkdir()
        library, self._why_no_clock = _clock_library(directory, settings)
        self._clock = SystemClock()
        self._tasks = TaskOwner("chaos")
        self._recorder = Recorder(
            directory / "clients" / "nemesis.jsonl",
            first=JUDGE,
            step=NUMBERS_STEP,
            seed=settings.seed,
            seconds=settings.seconds,
            members=settings.members,
            clients=settings.clients,
        )
        self._servers = ChaosServers(
            directory / "servers",
            settings.members,
            settings.clients,
            random=Random(f"{settings.seed}/links"),
            clock_library=library,
        )
        job = Job(
            members="",
            slot=0,
            life=0,
            seed=settings.seed,
            file="",
            began=self._clock.monotonic(),
            era=settings.era,
            pace=settings.pace,
            session=settings.session,
        )
        self._clients = ClientProcesses(directory / "clients", self._servers, settings.clients, job, self._now)
        self._leader: str | None = None
        self._terms: list[tuple[int, str]] = []
        self._healed_at = 0
        self._level_at = 0
        self.verdict = Verdict(settings=asdict(settings))
        self._nemesis = Nemesis(self._servers, self._clients, self._recorder, lambda: self._leader)

    def _now(self) -> int:
        return round(self._clock.monotonic() * 1e9)

    # -- the run -----------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Until the members can be compared, or cannot go on; `verdict.problems` says why."""
        settings = self._settings
        self.verdict.impossible = impossible(settings.kinds, self._why_no_clock)
        plan = draw_plan(
            settings.seed,
            settings.seconds,
            settings.kinds,
            list(self._servers.members),
            settings.clients,
            without=self.verdict.impossible,
        )
        try:
            await self._servers.open()
            await self._servers.wait_for_leader()
            self._tasks.start(self._watch(), name="watch")
            for slot in range(settings.clients):
                await self._clients.start(slot)
            await self._within("the clients to begin", self._served([0] * settings.clients))
            await asyncio.gather(self._nemesis.run(plan), asyncio.sleep(settings.seconds))
            await self._recover()
            await self._settle()
        except (CopycatError, OSError) as error:
            self.verdict.problems.append(str(error))
        finally:
            self._healed_at = self._healed_at or self._now()
            await self._tasks.close()
            self.verdict.problems += [*self._servers.ended, *self._clients.failures()]

    async def _recover(self) -> None:
        """34: nothing hinders it any more, so the cluster makes progress."""
        await self._nemesis.heal()
        await self._clients.heal()
        self._healed_at = self._now()
        await self._servers.wait_for_leader()
        before = self._clients.acknowledged()
        await self._within("every client to be answered again", self._served(before))

    async def _settle(self) -> None:
        """Let all calls end and everything be heard; kill all servers once more, and read everything back."""
        await self._within("the calls under way to end", self._clients.rest())
        async with client_of(self._servers.addresses, session_timeout=30.0) as client:
            await self._say_last(client)
            await self._within("everything to be heard", self._clients.wait())
            self._servers.take_down(self._servers.members)
            self._recorder.fault("kill all, once more")
            await self._servers.bring_up(self._servers.members)
            await self._servers.wait_for_leader()
            await self._read_back(client)
        await self._within("the members to be level", self._level())

    async def _within(self, what: str, work: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                await work
        except TimeoutError:
            raise CopycatError(f"waited {RECOVERY_SECONDS:g} s in vain for {what}") from None

    async def _served(self, before: Sequence[int]) -> None:
        while any(now < then + ENOUGH for now, then in zip(self._clients.acknowledged(), before, strict=True)):
            failures = self._clients.failures()
            if failures:
                raise CopycatError("; ".join(failures))
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self) -> None:
        """Note who leads, again and again."""
        while True:
            cluster = summary(await self._servers.answers())
            if cluster["leader"] != self._leader:
                self._leader = cluster["leader"]
                self._recorder.fault("leader", {"leader": self._leader, "term": cluster["term"]})
                if self._leader is not None and self._terms[-1:] != [(cluster["term"], self._leader)]:
                    self._terms.append((cluster["term"], self._leader))
            await asyncio.sleep(LOOK_SECONDS)

    async def _say_last(self, client: Copycat) -> None:
        """Append and publish what everybody waits for."""
        ledger = await client.create(LEDGER, Ledger)
        topic = await client.create(TOPIC, DistributedTopic[str])
        record = self._recorder.caller().record
        await record("append", partial(ledger.append, LAST), value=LAST, resource=LEDGER)
        await record("publish", partial(topic.publish, LAST), value=LAST, resource=TOPIC)

    async def _read_back(self, client: Copycat) -> None:
        """25, 26: as operations of the history, so that they are judged with the others."""
        record = self._recorder.caller().record
        ledger = await client.create(LEDGER, Ledger)
        await record("read", ledger.read, resource=LEDGER)
        values = await client.create(MAP, DistributedMap[str, str])
        for path, key in self._used():
            if path == MAP:
                await record("get", partial(values.get, key), key=key, resource=MAP)
            elif kind_of(path) == LOCK:
                lock = await client.create(path, DistributedLock)
                await record("lock", partial(lock.lock, timeout=CALL_SECONDS), resource=path)
            elif kind_of(path) in (VALUE, COUNTER):
                value = await client.create(path, DistributedAtomicValue[Any])
                await record("get", value.get, resource=path, result=number if kind_of(path) == COUNTER else None)

    def _used(self) -> list[tuple[str, Any]]:
        """Every resource and key that a client called."""
        histories = self._clients.histories()
        return list(dict.fromkeys((event.resource, event.key) for each in histories for event in each.events))

    async def _level(self) -> None:
        """Wait until all have applied the same, and nothing else is in any log."""
        names = list(self._servers.members)
        while True:
            statuses = await self._servers.statuses()
            facts = {(each["applied_index"], each["last_index"]) for each in statuses.values()}
            if len(statuses) == len(names) and len(facts) == 1 and len(set(*facts)) == 1:
                self._level_at = facts.pop()[0]
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """End every process."""
        await self._clients.close()
        await self._servers.close()
        self._recorder.close()

    # -- the verdict -------------------------------------------------------------------------------------------------

    def conclude(self) -> Verdict:
        """Judge, and write everything down."""
        verdict, settings = self.verdict, self._settings
        history = join(*self._clients.histories(), read(self._directory / "clients" / "nemesis.jsonl"))
        history = History(history.events, {name: fact for name, fact in history.facts.items() if name != "slot"})
        history.write(self._directory / "history.jsonl")
        verdict.checks = judge(history)
        if self._level_at:
            places = {name: self._directory / "servers" / name for name in self._servers.members}
            verdict.checks.append(compare_members(places, self._level_at))
        verdict.faults = dict(sorted(self._nemesis.done.items()))
        verdict.operations = history.counts()
        verdict.leader_changes = max(0, len(self._terms) - 1)
        verdict.longest_stop_seconds = round(longest_stop(history, self._healed_at), 3)
        verdict.ended_by_their_disk = self._servers.stopped_by_disk
        verdict.clients_started = len(self._clients.lives)
        verdict.problems += too_little(verdict, settings)
        text = json.dumps(verdict.as_dict(), indent=2)
        (self._directory / "verdict.json").write_text(text + "\n", encoding="utf-8")
        slots = {life.job.life: life.job.slot for life in self._clients.lives}
        page = render(history, slots=slots, members=list(self._servers.members), verdict=verdict.as_dict())
        (self._directory / "timeline.html").write_text(page, encoding="utf-8")
        return verdict


def too_little(verdict: Verdict, settings: Settings) -> list[str]:
    """Why a run says little, if it does: hardly anything was acknowledged, or a kind of fault never came."""
    counts = verdict.operations
    every, ok = sum(counts.values()), counts.get("ok", 0)
    found = []
    if ok < ENOUGH_OK * every:
        found.append(f"only {ok} of {every} operations were acknowledged, which says little")
    came = {name.partition(":")[0] for name in verdict.faults}
    room = settings.seconds >= 5.0 * len(settings.kinds)
    missing = [kind for kind in settings.kinds if kind not in came and kind not in verdict.impossible]
    if room and missing:
        found.append(f"no fault of the kind {', '.join(missing)} came, though there was time")
    return found


def _clock_library(directory: Path, settings: Settings) -> tuple[Path | None, str | None]:
    """What makes wall clocks jump, if that is asked for; else, or if it cannot be had, why not."""
    if "clock" not in settings.kinds:
        return None, "nobody asked for it"
    try:
        return build_library(directory / "servers"), None
    except ClockError as error:
        return None, str(error)
