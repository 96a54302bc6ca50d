"""A map, by linearizability: `copycat.testing.linearizability`."""

from collections.abc import Iterator
from functools import partial
from random import Random

from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.testing.models import MapModel
from copycat.testing.recorder import Caller
from copycat.testing.workload.work import CALL_SECONDS, EXACT, Work

KEYS = 4
BURSTS = (1, 1, 1, 2, 4)


class MapWork(Work):
    """Everybody writes and reads the same few keys, some calls in one turn."""

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        values: DistributedMap[str, str] = await self.create(client, "map", DistributedMap[str, str])
        callers, number = [self.recorder.caller("map") for _ in range(max(BURSTS))], 0
        seen: dict[str, str | None] = {}

        async def call(caller: Caller) -> None:
            nonlocal number
            number += 1
            key, new = f"k{chooser.randrange(KEYS)}", f"{name}-{number}"
            old = seen.get(key)
            action = chooser.choice(("put", "put", "get", "get", "cas", "put_if_absent", "remove"))
            record = partial(caller.record, key=key)
            if action == "put":
                await record("put", partial(values.put, key, new, timeout=CALL_SECONDS), value=new)
                seen[key] = new
            elif action == "cas" and old is not None:
                if await record("cas", partial(values.replace, key, old, new, timeout=CALL_SECONDS), value=[old, new]):
                    seen[key] = new
            elif action == "put_if_absent":
                there = await record("put_if_absent", partial(values.put_if_absent, key, new), value=new)
                seen[key] = there or new
            elif action == "remove":
                await record("remove", partial(values.remove, key, timeout=CALL_SECONDS))
            else:
                get = partial(values.get, key, consistency=chooser.choice(EXACT), timeout=CALL_SECONDS)
                seen[key] = await record("get", get)

        async def act(calls: int) -> None:
            await self.together(partial(self.counted, partial(call, caller)) for caller in callers[:calls])

        await self.repeat(chooser, act, bursts=BURSTS)

    async def conclude(self, client: CopycatClient) -> None:
        values: DistributedMap[str, str] = await client.create("map", DistributedMap[str, str])
        caller = self.recorder.caller("map")
        for key in (f"k{number}" for number in range(KEYS)):
            await caller.record("get", partial(values.get, key), key=key)

    def verdicts(self) -> Iterator[str]:
        yield from self.linearizable("map", MapModel(), "10")
