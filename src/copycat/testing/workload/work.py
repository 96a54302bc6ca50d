"""One kind of work: what every client of a simulation does with one resource, and the rules it must find kept."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from copycat.client import CopycatClient
from copycat.errors import CopycatError, Outcome
from copycat.resource import ConsistencyLevel
from copycat.testing.clock import SimulatedClock
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.linearizability import Conclusion, Model, check
from copycat.testing.recorder import Recorder

R = TypeVar("R")

CALL_SECONDS = 20.0
JUDGE = "judge"  # the client that looks at what there is in the end
EXACT = (ConsistencyLevel.LINEARIZABLE, ConsistencyLevel.LINEARIZABLE_LEASE)
"""Reads of these levels have one moment, as long as clocks drift no more than leases allow for; here they never do."""
RETRY_SECONDS = 0.5
REST_SECONDS = 5.0  # nobody notices later than this that all is over


@dataclass(slots=True)
class Counts:
    """Operations, by what their clients know of them."""

    invoked: int = 0
    ok: int = 0
    fail: int = 0
    unknown: int = 0


class Site:
    """Where all work of a simulation is done, and written down. pace: seconds for each call, on average."""

    def __init__(self, cluster: SimulatedCluster, *, pace: float) -> None:
        self.cluster = cluster
        self.recorder = Recorder(clock=SimulatedClock(lambda: cluster.loop.now), seed=cluster.streams.seed)
        self.counts = Counts()
        self.pace = pace
        self.is_over = False  # nobody shall begin anything more


class Work:
    """Subclass, with `use` and `verdicts`. One object for all clients, which records what they did.

    `figures`: what was done and checked, for the report.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cluster = site.cluster
        self.recorder = site.recorder
        self.figures: Counter[str] = Counter()

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        """All that the client of this name does, until the site `is_over`."""
        raise NotImplementedError

    async def conclude(self, client: CopycatClient) -> None:
        """Everybody has stopped, and all is well: look at what there is, as a client that knows nothing."""

    def is_settled(self) -> bool:
        """Whether everything that is still to arrive has."""
        return True

    def verdicts(self) -> Iterable[str]:
        """Every breach, in words, by the number of the invariant."""
        raise NotImplementedError

    def linearizable(self, path: str, model: Model[Any], rule: str) -> Iterator[str]:
        """The breach, by this rule, if what was recorded of this path fits no order of single moments, or it is not
        known whether it does."""
        verdict = check(self.recorder.history.only(path), model)
        self.figures["operations checked"] += verdict.operations
        self.figures["partitions checked"] += verdict.parts
        self.figures["unknown verdicts"] += verdict.conclusion is Conclusion.UNKNOWN
        if not verdict:
            yield f"{rule}: {verdict.explanation}"

    # -- for those who work --------------------------------------------------------------------------------------------

    async def create(self, client: CopycatClient, path: str, kind: Any) -> Any:
        """The resource, however long it takes."""
        return await self.insist(lambda: client.create(path, kind))

    async def insist(self, call: Callable[[], Awaitable[R]]) -> R:
        """Call until it is answered."""
        while True:
            try:
                return await call()
            except CopycatError:
                await asyncio.sleep(RETRY_SECONDS)

    async def repeat(
        self,
        chooser: Random,
        act: Callable[[int], Awaitable[object]],
        *,
        bursts: Sequence[int] = (1,),
        share: float = 1.0,
    ) -> None:
        """Act again and again, whatever becomes of it; `act` is told how many calls to make in one turn, one of
        `bursts`. As many are followed by as long a pause: in the end the pace alone says how much was done.

        share: of all calls that are made here, where others make the rest.
        """
        while not self.site.is_over:
            calls = chooser.choice(bursts)
            try:
                await act(calls)
            except CopycatError:
                pass  # what it means for the operation was recorded
            await self._rest(chooser.expovariate(share / (self.site.pace * calls)))

    async def _rest(self, seconds: float) -> None:
        """Do nothing for so long, or until all is over."""
        while seconds > 0 and not self.site.is_over:
            await asyncio.sleep(min(seconds, REST_SECONDS))
            seconds -= REST_SECONDS

    async def together(self, calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
        """Make these calls in one turn, and wait for all. Raises what the first that failed raised."""
        outcomes = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def counted(self, call: Callable[[], Awaitable[R]]) -> R:
        """Make this call, and count what became of it."""
        counts = self.site.counts
        counts.invoked += 1
        try:
            result = await call()
        except CopycatError as error:
            if error.outcome is Outcome.UNKNOWN:
                counts.unknown += 1
            else:
                counts.fail += 1
            raise
        counts.ok += 1
        return result
