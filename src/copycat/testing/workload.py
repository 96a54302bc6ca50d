"""What the clients of a simulation do, and how it is judged afterwards.

Every client has a task per resource, on the client's own host, so that it stops and dies with it. What was called and
what came of it is recorded; the rules are checked in the end by `Workload.verdicts`, which names each breach.

- A map, by linearizability: `copycat.testing.linearizability`.
- A ledger, to which tokens are appended, several on their way at a time: what was acknowledged stands where it was said
  to stand, nothing twice, nothing that was refused, each client's own in the order of its calls; and whoever listens
  hears each entry once, in order, with no gap.
- A lock: tokens grow; and while its holder believes that it holds, nobody was granted a later one.
- A topic: nothing twice, and what two listeners both heard they heard in one order.
"""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock, DistributedTopic
from copycat.errors import CopycatError, LostError, Outcome
from copycat.resource import Commit, Executor, Resource, ResourceContext, Session, StateMachine
from copycat.testing.clock import SimulatedClock
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.linearizability import Conclusion, check
from copycat.testing.models import MapModel
from copycat.testing.recorder import Recorder

APPEND, READ, LISTEN = 1, 2, 3
ENTRY = 1

CALL_SECONDS = 20.0


class LedgerMachine(StateMachine, name="copycat.testing.ledger", version=1):
    """Text, in the order in which it was appended."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._listeners: dict[int, tuple[Session, int]] = {}

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(APPEND, self._append)
        executor.register_command(LISTEN, self._listen)
        executor.register_query(READ, lambda commit: list(self.entries))

    def close(self, session: Session) -> None:
        self._listeners.pop(session.id, None)

    def _append(self, commit: Commit, token: str) -> int:
        self.entries.append(token)
        for session, instance in self._listeners.values():
            self._executor.publish(session, instance, ENTRY, len(self.entries) - 1, token)
        return len(self.entries) - 1

    def _listen(self, commit: Commit) -> int:
        self._listeners[commit.session.id] = (commit.session, commit.instance)
        return len(self.entries)


class Ledger(Resource, machine=LedgerMachine):
    """What the simulation appends to. `heard` are runs of positions and tokens; with a session begins another run."""

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self.heard: list[list[tuple[int, str]]] = []
        self.heard_from = 0  # how many entries there were when it began to listen
        self.on_event(ENTRY, lambda _index, position, token: self.heard[-1].append((position, token)))

    def append(self, token: str) -> Future[int]:
        """Its position."""
        return self.command(APPEND, token, what="append")

    def read(self) -> Future[list[str]]:
        """All of it."""
        return self.query(READ, what="read")

    async def listen(self) -> None:
        """Hear of every entry from now on, in this session."""
        self.heard.append([])
        self.heard_from = await self.command(LISTEN, what="listen")


class Store:
    """What the lock guards. It sees everything at once, as nothing real can."""

    def __init__(self) -> None:
        self.granted = 0  # the highest token anybody was granted
        self.grants = 0
        self.violations: list[str] = []

    def grant(self, who: str, token: int) -> None:
        """A client has learned that it holds the lock."""
        self.grants += 1
        if token == self.granted:
            self.violations.append(f"21: {who} was granted token {token}, which was granted before")
        self.granted = max(self.granted, token)

    def use(self, who: str, token: int) -> None:
        """A client that believes it holds the lock writes."""
        if token < self.granted:
            self.violations.append(f"21: {who} holds the lock by token {token} while another has {self.granted}")


class Workload:
    """Everything the clients do, until `is_over`; `verdicts` are the breaches. `pace`: seconds between two calls."""

    def __init__(self, cluster: SimulatedCluster, *, pace: float) -> None:
        self.cluster = cluster
        self.recorder = Recorder(clock=SimulatedClock(lambda: cluster.loop.now), seed=cluster.streams.seed)
        self.store = Store()
        self.appended: dict[str, list[tuple[str, str, int | None]]] = {}  # client -> token, outcome, position
        self.ledgers: dict[str, Ledger] = {}
        self.listens: dict[str, bool] = {}  # client -> whether it hears of entries
        self.heard: dict[str, list[str]] = {}  # client -> messages of the topic
        self.counts = dict.fromkeys(("invoked", "ok", "fail", "unknown"), 0)
        self.is_over = False
        self.unfinished: dict[asyncio.Task[None], str] = {}
        self._pace = pace

    async def begin(self, name: str, **options: Any) -> None:
        """A client more, with all it does."""
        client = await self.cluster.client(name, **options)
        for work in (self._use_map, self._use_ledger, self._use_lock, self._use_topic):
            chooser = self.cluster.streams[f"workload {name} {work.__name__}"]
            task = self.cluster.run_on(name, work(name, client, chooser))
            self.unfinished[task] = name
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.unfinished.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.cluster.problems.append(f"the workload failed: {task.exception()!r}")

    @property
    def living(self) -> list[str]:
        """Whose work has not come to its end, of those whose hosts live."""
        return sorted({name for name in self.unfinished.values() if not self.cluster.hosts[name].is_dead})

    def has_heard_all(self, count: int) -> bool:
        """Whether everybody who listens to the ledger has heard of the last of so many entries."""
        return all(
            (ledger.heard[-1][-1][0] + 1 if ledger.heard[-1] else ledger.heard_from) >= count
            for name, ledger in self.ledgers.items()
            if self.listens[name] and not self.cluster.hosts[name].is_dead
        )

    # -- what a client does ------------------------------------------------------------------------------------------

    async def _repeat(self, chooser: Random, act: Callable[[], Awaitable[object]]) -> None:
        """Act again and again, whatever becomes of it."""
        while not self.is_over:
            try:
                await act()
            except CopycatError:
                pass  # what it means for the operation was recorded
            await asyncio.sleep(chooser.expovariate(1 / self._pace))

    async def _create(self, client: CopycatClient, path: str, kind: Any) -> Any:
        """The resource, however long it takes."""
        while True:
            try:
                return await client.create(path, kind)
            except CopycatError:
                await asyncio.sleep(0.5)

    async def _counted(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.counts["invoked"] += 1
        try:
            result = await call()
        except CopycatError as error:
            self.counts["unknown" if error.outcome is Outcome.UNKNOWN else "fail"] += 1
            raise
        self.counts["ok"] += 1
        return result

    async def _use_map(self, name: str, client: CopycatClient, chooser: Random) -> None:
        values: DistributedMap[str, str] = await self._create(client, "map", DistributedMap[str, str])
        caller, number = self.recorder.caller("map"), 0
        seen: dict[str, str | None] = {}

        async def act() -> None:
            nonlocal number
            number += 1
            key, new = f"k{chooser.randrange(4)}", f"{name}-{number}"
            old = seen.get(key)
            action = chooser.choice(("put", "put", "get", "get", "cas", "put_if_absent", "remove"))
            record = partial(caller.record, key=key)
            if action == "put":
                await record("put", partial(values.put, key, new, timeout=CALL_SECONDS), value=new)
                seen[key] = new
            elif action == "cas" and old is not None:
                if await record("cas", partial(values.replace, key, old, new, timeout=CALL_SECONDS), value=[old, new]):
                    seen[key] = new
            elif action == "put_if_absent":
                there = await record("put_if_absent", partial(values.put_if_absent, key, new), value=new)
                seen[key] = there or new
            elif action == "remove":
                await record("remove", partial(values.remove, key, timeout=CALL_SECONDS))
            else:
                seen[key] = await record("get", partial(values.get, key, timeout=CALL_SECONDS))

        await self._repeat(chooser, lambda: self._counted(act))

    async def _use_ledger(self, name: str, client: CopycatClient, chooser: Random) -> None:
        ledger = self.ledgers[name] = await self._create(client, "ledger", Ledger)
        mine = self.appended[name] = []
        self.listens[name] = False  # in the session there is
        ledger.session.on_recovery(lambda _session: self.listens.update({name: False}))

        async def append(token: str) -> None:
            place = len(mine)
            mine.append((token, "unknown", None))
            try:
                position = await self._counted(lambda: ledger.append(token))
            except CopycatError as error:
                mine[place] = (token, "unknown" if error.outcome is Outcome.UNKNOWN else "fail", None)
            else:
                mine[place] = (token, "ok", position)

        async def act() -> None:
            if not self.listens[name]:
                self.listens[name] = True
                try:
                    await ledger.listen()
                except CopycatError:
                    self.listens[name] = False
            burst = [append(f"{name}-{len(mine) + number}") for number in range(chooser.choice((1, 1, 2, 5)))]
            await asyncio.gather(*burst)

        await self._repeat(chooser, act)

    async def _use_lock(self, name: str, client: CopycatClient, chooser: Random) -> None:
        lock: DistributedLock = await self._create(client, "lock", DistributedLock)

        async def act() -> None:
            try:
                async with lock.hold(timeout=chooser.uniform(1, 15)) as held:
                    self.store.grant(name, held.token)
                    for _ in range(chooser.choice((1, 2, 5, 30))):
                        held.check()
                        self.store.use(name, held.token)
                        await asyncio.sleep(chooser.uniform(0, 0.5))
            except LostError:
                pass

        await self._repeat(chooser, lambda: self._counted(act))

    async def _use_topic(self, name: str, client: CopycatClient, chooser: Random) -> None:
        topic: DistributedTopic[str] = await self._create(client, "topic", DistributedTopic[str])
        heard = self.heard[name] = []
        number = 0

        async def act() -> None:
            nonlocal number
            number += 1
            await topic.publish(f"{name}-{number}", timeout=CALL_SECONDS)

        while not self.is_over:
            try:
                await topic.on_message(heard.append, on_gap=lambda *_: None)
                break
            except CopycatError:
                await asyncio.sleep(0.5)
        await self._repeat(chooser, lambda: self._counted(act))

    # -- how it is judged --------------------------------------------------------------------------------------------

    def verdicts(self, entries: list[str]) -> list[str]:
        """Every breach, in words. `entries` is the ledger as it is in the end, read from a member that has all."""
        verdict = check(self.recorder.history.only("map"), MapModel())
        found = [] if verdict.conclusion is Conclusion.LINEARIZABLE else [f"10: the map: {verdict.explanation}"]
        return [*found, *self.store.violations, *self._judge_ledger(entries), *self._judge_topic()]

    def _judge_ledger(self, entries: list[str]) -> Iterator[str]:
        place = {token: position for position, token in enumerate(entries)}
        if len(place) != len(entries):
            twice = sorted(token for token in place if entries.count(token) > 1)
            yield f"15: appended twice: {', '.join(twice)}"
        for tokens in self.appended.values():
            last = -1
            for token, outcome, position in tokens:
                found = place.get(token)
                if outcome == "ok" and (found is None or found != position):
                    yield f"25: {token} was acknowledged at {position} and is at {found}"
                if outcome == "fail" and found is not None:
                    yield f"33: {token} was said not to be applied and is at {found}"
                if found is not None:
                    if found < last:
                        yield f"14: {token} is at {found}, before one its client appended earlier, at {last}"
                    last = found
        for name, ledger in self.ledgers.items():
            for run in ledger.heard:
                for at, (position, token) in enumerate(run):
                    if entries[position : position + 1] != [token]:
                        yield f"16: {name} heard {token} at {position}, where there is another"
                    if position != run[0][0] + at:
                        yield f"16: {name} heard of {position} after {run[at - 1][0]}"

    def _judge_topic(self) -> Iterator[str]:
        for name, heard in self.heard.items():
            if len(set(heard)) != len(heard):
                yield f"16: {name} heard a message twice"
        names = list(self.heard)
        for number, name in enumerate(names):
            order = {message: at for at, message in enumerate(self.heard[name])}
            for other in names[number + 1 :]:
                common = [order[message] for message in self.heard[other] if message in order]
                if common != sorted(common):
                    yield f"16: {name} and {other} heard the topic in different orders"
