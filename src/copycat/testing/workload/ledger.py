"""A ledger, to which tokens are appended, several on their way at a time.

What was acknowledged stands where it was said to stand, nothing twice, nothing that was refused, each client's own in
the order of its calls; and whoever listens hears each entry once, in order, with no gap.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.errors import CopycatError, Outcome
from copycat.resource import Commit, Executor, Resource, ResourceContext, Session, StateMachine
from copycat.testing.workload.work import Site, Work

APPEND, READ, LISTEN = 1, 2, 3
ENTRY = 1


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


class LedgerWork(Work):
    """Everybody appends to the one ledger, and listens."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.entries: list[str] = []  # as they are in the end
        self._appended: dict[str, list[tuple[str, str, int | None]]] = {}  # client -> token, outcome, position
        self._ledgers: dict[str, Ledger] = {}
        self._listens: dict[str, bool] = {}  # client -> whether it hears of entries
        self._overtaken: list[str] = []

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        ledger = self._ledgers[name] = await self.create(client, "ledger", Ledger)
        mine = self._appended[name] = []
        self._listens[name] = False  # in the session there is
        ledger.session.on_recovery(lambda _session: self._listens.update({name: False}))

        async def append(token: str) -> None:
            place = len(mine)
            mine.append((token, "unknown", None))
            try:
                position = await self.counted(lambda: ledger.append(token))
            except CopycatError as error:
                mine[place] = (token, "unknown" if error.outcome is Outcome.UNKNOWN else "fail", None)
            else:
                mine[place] = (token, "ok", position)
                hears = self._listens[name] and ledger.heard and not ledger.session.is_lost
                run = ledger.heard[-1] if hears else []
                if run and run[-1][0] < position:
                    self._overtaken.append(f"14: {name} was answered {position} before it heard of {run[-1][0] + 1}")

        async def act() -> None:
            if not self._listens[name]:
                self._listens[name] = True
                try:
                    await ledger.listen()
                except CopycatError:
                    self._listens[name] = False
            burst = [append(f"{name}-{len(mine) + number}") for number in range(chooser.choice((1, 1, 2, 5)))]
            await asyncio.gather(*burst)

        await self.repeat(chooser, act)

    async def conclude(self, client: CopycatClient) -> None:
        ledger: Ledger = await client.create("ledger", Ledger)
        self.entries = await ledger.read()

    def is_settled(self) -> bool:
        """Whether everybody who listens has heard of the last entry."""
        return all(
            (ledger.heard[-1][-1][0] + 1 if ledger.heard[-1] else ledger.heard_from) >= len(self.entries)
            for name, ledger in self._ledgers.items()
            if self._listens[name] and not self.cluster.hosts[name].is_dead
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
