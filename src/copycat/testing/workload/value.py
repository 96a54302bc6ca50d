"""An atomic value, by linearizability; and a counter made of one, by its sum: each increment counts once."""

from collections.abc import Iterator
from functools import partial
from random import Random

from copycat.atomic import DistributedAtomicValue
from copycat.client import CopycatClient
from copycat.errors import CopycatError, Outcome
from copycat.testing.models import ValueModel
from copycat.testing.workload.work import CALL_SECONDS, EXACT, Site, Work


class ValueWork(Work):
    """Everybody sets, and compares and sets, the one value, and adds to the one counter."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.counted_up = 0  # increments that were acknowledged
        self.unsure = 0
        self.total = 0  # as it is in the end

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        value: DistributedAtomicValue[str] = await self.create(client, "value", DistributedAtomicValue[str])
        counter: DistributedAtomicValue[int] = await self.create(client, "counter", DistributedAtomicValue[int])
        caller, number = self.recorder.caller("value"), 0
        seen: str | None = None

        async def act() -> None:
            nonlocal number, seen
            number += 1
            new, action = f"{name}-{number}", chooser.choice(("set", "get", "cas", "cas", "count"))
            if action == "set":
                await caller.record("set", partial(value.set, new, timeout=CALL_SECONDS), value=new)
                seen = new
            elif action == "get":
                get = partial(value.get, consistency=chooser.choice(EXACT), timeout=CALL_SECONDS)
                seen = await caller.record("get", get)
            elif action == "count":
                await count()
            elif await caller.record(
                "cas", partial(value.compare_and_set, seen, new, timeout=CALL_SECONDS), value=[seen, new]
            ):
                seen = new

        async def count() -> None:
            try:
                await counter.update(lambda total: (total or 0) + 1, timeout=CALL_SECONDS)
            except CopycatError as error:
                self.unsure += error.outcome is Outcome.UNKNOWN
                raise
            self.counted_up += 1

        await self.repeat(chooser, lambda _: self.counted(act))

    async def conclude(self, client: CopycatClient) -> None:
        value: DistributedAtomicValue[str] = await client.create("value", DistributedAtomicValue[str])
        counter: DistributedAtomicValue[int] = await client.create("counter", DistributedAtomicValue[int])
        await self.recorder.caller("value").record("get", value.get)
        self.total = await counter.get() or 0

    def verdicts(self) -> Iterator[str]:
        yield from self.linearizable("value", ValueModel(), "10")
        # Whoever died before its increment was answered is not counted among the unsure.
        dead = sum(host.is_dead for host in self.cluster.hosts.values())
        if not self.counted_up <= self.total <= self.counted_up + self.unsure + dead:
            yield f"15: {self.counted_up} increments were acknowledged, {self.unsure} are unsure; {self.total} counted"
