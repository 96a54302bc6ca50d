"""A ledger, to which tokens are appended, several on their way at a time.

What was acknowledged stands where it was said to stand, nothing twice, nothing that was refused, each client's own in
the order of its calls; and whoever listens hears each entry once, in order, with no gap.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from copycat.client import CopycatClient
from copycat.errors import CopycatError, Outcome
from copycat.resource import (
    Commit,
    ConsistencyLevel,
    Executor,
    Resource,
    ResourceContext,
    Session,
    StateMachine,
    Timeout,
)
from copycat.testing.workload.work import Site, Work

APPEND, READ, LISTEN, LOOK, INDICES = 1, 2, 3, 4, 5
ENTRY = 1


class LedgerMachine(StateMachine, name="copycat.testing.ledger", version=1):
    """Text, in the order in which it was appended."""

    entries: list[str]
    indices: list[int]  # of the log, at which each was appended
    _listeners: dict[int, int]  # session -> instance

    def __init__(self) -> None:
        self.entries = []
        self.indices = []
        self._listeners = {}

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(APPEND, self._append)
        executor.register_command(LISTEN, self._listen)
        executor.register_query(READ, lambda commit: list(self.entries))
        executor.register_query(LOOK, self._look)
        executor.register_query(INDICES, lambda commit: list(self.indices))

    def close(self, session: Session) -> None:
        self._listeners.pop(session.id, None)

    def _append(self, commit: Commit, token: str) -> int:
        self.entries.append(token)
        self.indices.append(commit.index)
        for session_id, instance in self._listeners.items():
            session = self._executor.session(session_id)
            if session is not None:
                self._executor.publish(session, instance, ENTRY, len(self.entries) - 1, token)
        return len(self.entries) - 1

    def _listen(self, commit: Commit) -> int:
        self._listeners[commit.session.id] = commit.instance
        return len(self.entries)

    def _look(self, commit: Commit) -> list[int | str]:
        return [commit.index, len(self.entries), self.entries[-1] if self.entries else ""]


@dataclass(frozen=True, slots=True)
class Look:
    """A ledger at one index of the log: how many entries there were, and which was the last."""

    index: int = 0
    count: int = 0
    last: str = ""


class Ledger(Resource, machine=LedgerMachine):
    """What the simulation appends to. `heard` are runs of positions and tokens; with a session begins another run."""

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self.heard: list[list[tuple[int, str]]] = []
        self.heard_from = 0  # how many entries there were when it began to listen
        self.hears = False  # of entries, in the session there is
        self.on_event(ENTRY, lambda _index, position, token: self.heard[-1].append((position, token)))
        self.session.on_recovery(self._begin_anew)

    def append(self, token: str, *, timeout: Timeout = ...) -> Future[int]:
        """Its position."""
        return self.command(APPEND, token, timeout=timeout, what="append")

    def read(self) -> Future[list[str]]:
        """All of it."""
        return self.query(READ, what="read")

    def look(self, *, consistency: ConsistencyLevel, timeout: Timeout = ...) -> Future[Look]:
        """Where it stands, which is shorter than all of it."""
        return self.query(
            LOOK, consistency=consistency, timeout=timeout, decode=lambda answer: Look(*answer), what="look"
        )

    def indices(self) -> Future[list[int]]:
        """The index of the log at which each entry was appended."""
        return self.query(INDICES, what="indices")

    async def listen(self) -> None:
        """Hear of every entry from now on, in this session; no error: `hears` tells whether it does."""
        if self.hears:
            return
        self.hears = True
        self.heard.append([])
        try:
            self.heard_from = await self.command(LISTEN, what="listen")
        except CopycatError:
            self.hears = False

    def _begin_anew(self, _session: int) -> None:
        self.hears = False

    def unheard(self, count: int) -> int | None:
        """Whoever was told of so many entries has heard of each, if it listens: the first it has not, or None."""
        run = self.heard[-1] if self.hears and not self.session.is_lost else []
        return run[-1][0] + 1 if run and run[-1][0] + 1 < count else None


class LedgerWork(Work):
    """Everybody appends to the one ledger, and listens."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.entries: list[str] = []  # as they are in the end
        self._appended: dict[str, list[tuple[str, str, int | None]]] = {}  # client -> token, outcome, position
        self._ledgers: dict[str, Ledger] = {}
        self._overtaken: list[str] = []

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        ledger = self._ledgers[name] = await self.create(client, "ledger", Ledger)
        mine = self._appended[name] = []

        async def append(token: str) -> None:
            place = len(mine)
            mine.append((token, "unknown", None))
            try:
                position = await self.counted(lambda: ledger.append(token))
            except CopycatError as error:
                mine[place] = (token, "unknown" if error.outcome is Outcome.UNKNOWN else "fail", None)
            else:
                mine[place] = (token, "ok", position)
                if (unheard := ledger.unheard(position + 1)) is not None:
                    self._overtaken.append(f"14: {name} was answered {position} before it heard of {unheard}")

        async def act(calls: int) -> None:
            await ledger.listen()
            await asyncio.gather(*(append(f"{name}-{len(mine) + number}") for number in range(calls)))

        await self.repeat(chooser, act, bursts=(1, 1, 2, 5, 20))

    async def conclude(self, client: CopycatClient) -> None:
        ledger: Ledger = await client.create("ledger", Ledger)
        self.entries = await ledger.read()

    def is_settled(self) -> bool:
        """Whether everybody who listens has heard of the last entry."""
        return all(
            (ledger.heard[-1][-1][0] + 1 if ledger.heard[-1] else ledger.heard_from) >= len(self.entries)
            for name, ledger in self._ledgers.items()
            if ledger.hears and not self.cluster.hosts[name].is_dead
        )

    def verdicts(self) -> Iterator[str]:
        yield from self._judge_entries()
        yield from self._judge_events()
        yield from self._overtaken

    def _judge_entries(self) -> Iterator[str]:
        place = {token: position for position, token in enumerate(self.entries)}
        if len(place) != len(self.entries):
            twice = sorted(token for token in place if self.entries.count(token) > 1)
            yield f"15: appended twice: {', '.join(twice)}"
        for tokens in self._appended.values():
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

    def _judge_events(self) -> Iterator[str]:
        for name, ledger in self._ledgers.items():
            for run in ledger.heard:
                self.figures["events checked"] += len(run)
                for at, (position, token) in enumerate(run):
                    if self.entries[position : position + 1] != [token]:
                        yield f"16: {name} heard {token} at {position}, where there is another"
                    if position != run[0][0] + at:
                        yield f"16: {name} heard of {position} after {run[at - 1][0]}"
