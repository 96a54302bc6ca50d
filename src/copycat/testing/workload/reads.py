"""Reads of every level, judged by the log: whatever is read is the state at one index of it.

Everybody appends to a ledger, and looks where it stands: at which index, with how many entries. A look may be old, and
it is never wrong: at its index there were exactly so many. To a client the index only grows, whichever servers it asks;
what it has called before it sees, and what it has heard of too. And a linearizable look sees at least what anybody was
told before it began, be it by another's look; so does one by lease: clocks drift here no more than leases allow for.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from random import Random

from copycat.client import CopycatClient
from copycat.resource import ConsistencyLevel
from copycat.testing.workload.ledger import Ledger, Look
from copycat.testing.workload.work import CALL_SECONDS, Site, Work

LEVELS = {
    ConsistencyLevel.LINEARIZABLE: "11",
    ConsistencyLevel.LINEARIZABLE_LEASE: "12",
    ConsistencyLevel.SERIALIZABLE: "13",
}
PATH = "reads"
BURSTS = (1, 2, 4)
LOOKS = 0.6  # of all calls
LOOK_SECONDS = 5.0
UNKNOWN = -1  # the position of what was not acknowledged


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told; `before`: how many appends it had called before it asked."""

    look: Look
    before: int
    words: str


class ReadsWork(Work):
    """Everybody appends and looks, several times in a turn. Who waits for an append looks nevertheless."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.indices: list[int] = []  # of every entry, as they are in the end
        self.entries: list[str] = []
        self.told = Look()  # the most that anybody was told
        self._answers: dict[str, list[Answer]] = {}  # by client
        self._appended: dict[str, list[int]] = {}  # by client, the positions in the order of the calls
        self._violations: list[str] = []

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        ledger: Ledger = await self.create(client, PATH, Ledger)
        answers, mine = self._answers.setdefault(name, []), self._appended.setdefault(name, [])
        shown = Look()  # the most that this client was told

        def learn(look: Look) -> None:
            nonlocal shown
            shown, self.told = _latest(shown, look), _latest(self.told, look)

        async def append() -> None:
            number = len(mine)
            mine.append(UNKNOWN)
            mine[number] = position = await ledger.append(f"{name}-{number}", timeout=CALL_SECONDS)
            learn(Look(count=position + 1))

        async def look() -> None:
            level, before, told = chooser.choice(list(LEVELS)), len(mine), self.told
            found = await ledger.look(consistency=level, timeout=LOOK_SECONDS)
            words = f"{name} was told of {found.count} entries at {found.index} by {level.name}"
            answers.append(Answer(found, before, words))
            if level is not ConsistencyLevel.SERIALIZABLE and _is_older(found, told):
                self._violations.append(f"{LEVELS[level]}: {words}, when {told.count} at {told.index} were known")
            if _is_older(found, shown):
                self._violations.append(f"13: {words}, after {shown.count} at {shown.index}")
            if (unheard := ledger.unheard(found.count)) is not None:
                self._violations.append(f"14: {words}, before it heard of {unheard}")
            learn(found)

        async def act(call: Callable[[], Awaitable[object]], calls: int) -> None:
            await ledger.listen()
            await self.together([partial(self.counted, call)] * calls)

        await asyncio.gather(
            self.repeat(chooser, partial(act, append), bursts=BURSTS, share=1 - LOOKS),
            self.repeat(chooser, partial(act, look), bursts=BURSTS, share=LOOKS),
        )

    async def conclude(self, client: CopycatClient) -> None:
        ledger: Ledger = await client.create(PATH, Ledger)
        self.indices, self.entries = await ledger.indices(), await ledger.read()

    def verdicts(self) -> Iterator[str]:
        yield from self._violations
        for name, answers in self._answers.items():
            self.figures["reads checked"] += len(answers)
            # By number of calls, how many entries there are at least once all of these were executed.
            own = [0, *accumulate((position + 1 for position in self._appended[name]), max)]
            for answer in answers:
                look = answer.look
                count = bisect_right(self.indices, look.index)
                if look.count != count or look.last != (self.entries[count - 1] if count else ""):
                    yield f"13: {answer.words}, the last {look.last!r}; but the log has {count} up to there"
                if look.count < own[answer.before]:
                    yield f"13: {answer.words}, and had appended number {own[answer.before]} before"


def _is_older(look: Look, other: Look) -> bool:
    return look.index < other.index or look.count < other.count


def _latest(look: Look, other: Look) -> Look:
    """The most of both."""
    return Look(max(look.index, other.index), max(look.count, other.count))
