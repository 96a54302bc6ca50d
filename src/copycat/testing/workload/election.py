"""An election: epochs grow; while a leader believes that it leads, nobody was elected in a later epoch."""

import asyncio
from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.coordination import DistributedLeaderElection
from copycat.errors import LostError
from copycat.testing.workload.lock import Store
from copycat.testing.workload.work import Site, Work


class ElectionWork(Work):
    """Everybody stands, and leads for a while."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.store = Store("22")

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        election: DistributedLeaderElection = await self.create(client, "election", DistributedLeaderElection)

        async def act() -> None:
            try:
                async with election.lead(timeout=chooser.uniform(1, 15)) as term:
                    self.store.grant(name, term.epoch)
                    for _ in range(chooser.choice((1, 2, 10))):
                        term.check()
                        self.store.use(name, term.epoch)
                        await asyncio.sleep(chooser.uniform(0, 0.5))
            except LostError:
                pass

        await self.repeat(chooser, lambda: self.counted(act))

    def verdicts(self) -> Iterator[str]:
        self.figures["elections won"] += self.store.grants
        yield from self.store.violations
