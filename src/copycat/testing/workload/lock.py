"""A lock: tokens grow; and while its holder believes that it holds, nobody was granted a later one."""

import asyncio
from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.coordination import DistributedLock
from copycat.errors import LostError
from copycat.testing.workload.work import Site, Work

CONCLUDE_SECONDS = 60.0  # the longest session has ended by then


class Store:
    """What a lock or a leader guards. It sees everything at once, as nothing real can. rule: the invariant's number."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self.granted = 0  # the highest token anybody was granted
        self.grants = 0
        self.violations: list[str] = []

    def grant(self, who: str, token: int) -> None:
        """A client has learned that it holds."""
        self.grants += 1
        if token == self.granted:
            self.violations.append(f"{self._rule}: {who} was granted token {token}, which was granted before")
        self.granted = max(self.granted, token)

    def use(self, who: str, token: int) -> None:
        """A client that believes it holds writes."""
        if token < self.granted:
            self.violations.append(f"{self._rule}: {who} holds by token {token} while another has {self.granted}")


class LockWork(Work):
    """Everybody wants the lock, and uses the store while it holds."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.store = Store("21")

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        lock: DistributedLock = await self.create(client, "lock", DistributedLock)

        async def act() -> None:
            try:
                async with lock.hold(timeout=chooser.uniform(1, 15)) as held:
                    self.store.grant(name, held.token)
                    for _ in range(chooser.choice((1, 2, 10, 40))):
                        held.check()
                        self.store.use(name, held.token)
                        await asyncio.sleep(chooser.uniform(0, 0.5))
            except LostError:
                pass

        await self.repeat(chooser, lambda: self.counted(act))

    async def conclude(self, client: CopycatClient) -> None:
        """20: whoever is gone holds nothing."""
        lock: DistributedLock = await client.create("lock", DistributedLock)
        async with lock.hold(timeout=CONCLUDE_SECONDS) as held:
            self.store.grant("the judge", held.token)

    def verdicts(self) -> Iterator[str]:
        self.figures["lock grants"] += self.store.grants
        yield from self.store.violations
