"""What one at a time may hold, by three judges who know different things.

A store sees everything at once, as nothing real can: no token is granted twice, and while a holder believes that it
holds, nobody was granted a later one. The history of the calls has an order in which each grant comes after the end of
the one before, with a token above it: `LockModel`. And in the end a stranger is granted it, so nobody who is gone has
kept it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import Any, ClassVar

from copycat.client import CopycatClient
from copycat.coordination.claims import Claimant
from copycat.coordination.grant import Grant
from copycat.coordination.scope import Holding
from copycat.errors import LostError
from copycat.testing.models import LockModel
from copycat.testing.recorder import Caller
from copycat.testing.workload.work import Site, Work

CONCLUDE_SECONDS = 60.0  # the longest session has ended by then


class Store:
    """What a holder guards. rule: the invariant's number."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._owners: dict[int, str] = {}  # by token
        self._latest: dict[str, int] = {}  # of each client, the token
        self._highest = 0
        self.violations: list[str] = []

    @property
    def grants(self) -> int:
        """How often somebody came to hold it."""
        return len(self._owners)

    def grant(self, who: str, token: int) -> None:
        """A client has learned that it holds. That may take a while, so only its own grants come in their order."""
        if token in self._owners:
            before = self._owners[token]
            self.violations.append(f"{self._rule}: {who} was granted token {token}, as {before} was before")
        elif token < self._latest.get(who, 0):
            self.violations.append(f"{self._rule}: {who} was granted token {token} after {self._latest[who]}")
        self._owners[token], self._latest[who] = who, token
        self._highest = max(self._highest, token)

    def use(self, who: str, token: int) -> None:
        """A client that believes it holds writes."""
        if token < self._highest:
            self.violations.append(f"{self._rule}: {who} holds by token {token} while another has {self._highest}")


class ClaimWork(Work):
    """Everybody claims the one thing at this path, which is of this kind, and uses the store while it holds it.

    rule: the invariant's number. grants: the name of their figure. uses: how often one uses what it holds.
    """

    path: ClassVar[str]
    kind: ClassVar[type[Claimant]]
    rule: ClassVar[str]
    grants: ClassVar[str]
    uses: ClassVar[tuple[int, ...]]

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.store = Store(self.rule)

    def scope(self, claimant: Any, timeout: float) -> Holding[Any]:
        """A scope in which this handle holds it."""
        raise NotImplementedError

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        claimant = await self.create(client, self.path, self.kind)
        caller, loss = self.recorder.caller(self.path), self.recorder.caller(self.path)
        await self.repeat(chooser, lambda _: self.counted(lambda: self.act(name, claimant, chooser, caller, loss)))

    async def act(self, name: str, claimant: Any, chooser: Random, caller: Caller, loss: Caller) -> None:
        """Claim and hold once. `loss` has an operation open while the hold may end by itself."""
        try:
            async with AsyncExitStack() as scopes:
                enter = partial(scopes.enter_async_context, self.scope(claimant, chooser.uniform(1, 15)))
                grant: Grant = await caller.record("lock", enter, result=lambda grant: grant.token)
                loss.invoke("lost", value=grant.token)
                was_held = False
                try:
                    await self._hold(name, grant, chooser)
                    if chooser.random() < 0.5:  # rather than leave it to the scope, which does not say what came of it
                        give_back = partial(claimant.release, grant)
                        was_held = await caller.record("unlock", give_back, value=grant.token)
                finally:
                    if was_held:
                        loss.fail("it was given back")
                    else:
                        loss.info("it may have ended")
        except LostError:
            pass

    async def _hold(self, name: str, grant: Grant, chooser: Random) -> None:
        self.store.grant(name, grant.token)
        for _ in range(chooser.choice(self.uses)):
            grant.check()
            self.store.use(name, grant.token)
            await asyncio.sleep(chooser.uniform(0, 0.5))

    async def conclude(self, client: CopycatClient) -> None:
        """20: whoever is gone holds nothing."""
        async with self.scope(await client.create(self.path, self.kind), CONCLUDE_SECONDS) as grant:
            self.store.grant("the judge", grant.token)

    def verdicts(self) -> Iterator[str]:
        self.figures[self.grants] += self.store.grants
        yield from self.store.violations
        yield from self.linearizable(self.path, LockModel(), self.rule)
