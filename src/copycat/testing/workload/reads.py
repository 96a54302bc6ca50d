"""Reads of every level. Each client writes numbers that only grow under a key of its own, and all read all keys.

So the rules are simple: nobody sees a number that was not written yet, or less than it has seen or written itself; and
a linearizable read sees at least what anybody was acknowledged before it began, and so does one by lease, for clocks
drift here no more than leases allow for.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.resource import ConsistencyLevel
from copycat.testing.workload.work import CALL_SECONDS, Site, Work

LEVELS = {
    ConsistencyLevel.LINEARIZABLE: "11",
    ConsistencyLevel.LINEARIZABLE_LEASE: "12",
    ConsistencyLevel.SERIALIZABLE: "13",
}


class ReadsWork(Work):
    """Everybody writes its own key, several times in a turn, and reads any."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.begun: Counter[str] = Counter()  # by key, the highest number whose writing was begun,
        self.written: Counter[str] = Counter()  # and acknowledged
        self.violations: list[str] = []

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        numbers: DistributedMap[str, int] = await self.create(client, "reads", DistributedMap[str, int])
        seen: Counter[str] = Counter()

        async def write() -> None:
            self.begun[name] += 1
            number = self.begun[name]
            await numbers.put(name, number, timeout=CALL_SECONDS)
            self.written[name] = max(self.written[name], number)
            seen[name] = max(seen[name], number)

        async def read() -> None:
            key, level = chooser.choice(sorted(self.begun)), chooser.choice(list(LEVELS))
            acknowledged, known = self.written[key], seen[key]
            found = await numbers.get(key, consistency=level, timeout=CALL_SECONDS) or 0
            self.figures["reads checked"] += 1
            what = f"{name} read {found} of {key} by {level.name}"
            if found > self.begun[key]:
                self.violations.append(f"10: {what}, when {self.begun[key]} had been written")
            if found < known:
                self.violations.append(f"13: {what} after it had seen {known}")
            if level is not ConsistencyLevel.SERIALIZABLE and found < acknowledged:
                self.violations.append(f"{LEVELS[level]}: {what}, and {acknowledged} had been acknowledged")
            seen[key] = max(seen[key], found)

        async def act() -> None:
            calls = [write if chooser.random() < 0.5 or not self.begun else read for _ in range(chooser.choice((1, 3)))]
            outcomes = await asyncio.gather(*map(self.counted, calls), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

        await self.repeat(chooser, act)

    def verdicts(self) -> Iterator[str]:
        yield from self.violations
