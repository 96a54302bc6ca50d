"""A lock: tokens grow; and while its holder believes that it holds, nobody was granted a later one."""

import asyncio
from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.coordination import DistributedLock
from copycat.errors import LostError
from copycat.testing.workload.work import Site, Work


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


class LockWork(Work):
    """Everybody wants the lock, and uses the store while it holds."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.store = Store()

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

    def verdicts(self) -> Iterator[str]:
        self.figures["lock grants"] += self.store.grants
        yield from self.store.violations
