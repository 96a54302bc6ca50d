"""An election, by its epochs: see `claims`. Who only listens is elected, and hears that it is over, by turns."""

import asyncio
from random import Random
from typing import Any

from copycat.coordination import DistributedLeaderElection, Term
from copycat.coordination.scope import Holding
from copycat.testing.recorder import Caller
from copycat.testing.workload.claims import ClaimWork


class ElectionWork(ClaimWork):
    """Everybody stands, and leads for a while, in a scope or by a listener."""

    path = "election"
    kind = DistributedLeaderElection
    rule = "22"
    grants = "elections won"
    uses = (1, 2, 10)

    def scope(self, claimant: DistributedLeaderElection, timeout: float) -> Holding[Term]:
        return claimant.lead(timeout=timeout)

    async def act(self, name: str, claimant: Any, chooser: Random, caller: Caller, loss: Caller) -> None:
        if chooser.random() < 0.3:
            await self._listen(name, claimant, chooser.uniform(0, 5))
        else:
            await super().act(name, claimant, chooser, caller, loss)

    async def _listen(self, name: str, election: DistributedLeaderElection, seconds: float) -> None:
        leading = 0  # in this epoch

        def won(epoch: int) -> None:
            nonlocal leading
            if leading:
                self.store.violations.append(f"22: {name} was elected in {epoch} and has not heard of losing {leading}")
            leading = epoch
            self.store.grant(name, epoch)

        def lost(epoch: int) -> None:
            nonlocal leading
            if epoch != leading:
                self.store.violations.append(f"22: {name} lost {epoch} while it led in {leading}")
            leading = 0

        listener = await election.on_election(won, on_lost=lost)
        try:
            await asyncio.sleep(seconds)
        finally:
            listener.close()
