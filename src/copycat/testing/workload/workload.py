"""Everything the clients of a simulation do.

Every client has a task for each kind of work, on its own host, so that it stops and dies with it. What was called and
what came of it is recorded; the rules are checked in the end by `Workload.verdicts`, which names each breach.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from copycat.client import CopycatClient
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.workload.election import ElectionWork
from copycat.testing.workload.ledger import LedgerMachine, LedgerWork
from copycat.testing.workload.lock import LockWork
from copycat.testing.workload.map import MapWork
from copycat.testing.workload.reads import ReadsWork
from copycat.testing.workload.topic import TopicWork
from copycat.testing.workload.value import ValueWork
from copycat.testing.workload.work import Counts, Site, Work

WORKS: dict[str, type[Work]] = {
    "ledger": LedgerWork,
    "map": MapWork,
    "lock": LockWork,
    "topic": TopicWork,
    "value": ValueWork,
    "reads": ReadsWork,
    "election": ElectionWork,
}

MACHINES = (LedgerMachine,)
"""Classes that the servers must allow, besides what is shipped."""


class Workload:
    """These kinds of work (keys of WORKS), until `stop`; `verdicts` are the breaches. pace: seconds of a client
    for each call of a kind."""

    def __init__(self, cluster: SimulatedCluster, kinds: Sequence[str] = tuple(WORKS), *, pace: float) -> None:
        self.cluster = cluster
        self.site = Site(cluster, pace=pace)
        self.works = {kind: WORKS[kind](self.site) for kind in kinds}
        self._unfinished: dict[asyncio.Task[None], str] = {}

    async def begin(self, name: str, **options: Any) -> None:
        """A client more, with all it does."""
        client = await self.cluster.client(name, **options)
        for kind, work in self.works.items():
            chooser = self.cluster.streams[f"workload {name} {kind}"]
            task = self.cluster.run_on(name, work.use(name, client, chooser))
            self._unfinished[task] = name
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._unfinished.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.cluster.problems.append(f"the workload failed: {task.exception()!r}")

    @property
    def counts(self) -> Counts:
        """Operations so far, by what their clients know of them."""
        return self.site.counts

    @property
    def living(self) -> list[str]:
        """Whose work has not come to its end, of those whose hosts live."""
        return sorted({name for name in self._unfinished.values() if not self.cluster.hosts[name].is_dead})

    def stop(self) -> None:
        """Let nobody begin anything more."""
        self.site.is_over = True

    async def conclude(self, client: CopycatClient) -> None:
        """Look at what there is in the end, as a client that knows nothing. Raises CopycatError."""
        for work in self.works.values():
            await work.conclude(client)

    def is_settled(self) -> bool:
        """Whether everything that is still to arrive has."""
        return all(work.is_settled() for work in self.works.values())

    def verdicts(self) -> list[str]:
        """Every breach, in words, after `conclude`."""
        return [breach for work in self.works.values() for breach in work.verdicts()]

    @property
    def figures(self) -> Counter[str]:
        """What was done and checked, after `verdicts`."""
        return sum((work.figures for work in self.works.values()), Counter())
