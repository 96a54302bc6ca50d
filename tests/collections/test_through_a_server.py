"""Maps, sets and values through a server, its clock and its connections, not through the replicated half alone."""

import asyncio
from typing import Any

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap, DistributedSet
from copycat.opening import open as open_copycat


async def test_what_goes_after_its_time_is_told_to_listeners() -> None:
    gone: asyncio.Queue[Any] = asyncio.Queue()
    async with open_copycat() as cc:
        users = await cc.create("users", DistributedMap[str, int])
        online = await cc.create("online", DistributedSet[str])
        price = await cc.create("price", DistributedAtomicValue[int])
        await users.on_remove(gone.put_nowait)
        await online.on_remove(gone.put_nowait)
        await price.on_change(lambda change: gone.put_nowait(change) if change.new is None else None)

        await users.put("ann", 41, ttl=0.05)
        change = await gone.get()
        assert (change.key, change.old, change.new) == ("ann", 41, None)
        await online.add("bob", ttl=0.05)
        assert await gone.get() == "bob"
        await price.set(7, ttl=0.05)
        assert (await gone.get()).old == 7
        assert (await users.is_empty(), await online.is_empty(), await price.get()) == (True, True, None)


async def test_many_keys_come_page_by_page() -> None:
    async with open_copycat() as cc:
        users = await cc.create("users", DistributedMap[str, int])
        await asyncio.gather(*(users.put(f"user {number:04}", number) for number in range(2500)))

        assert [value async for value in users.values()] == list(range(2500))
        assert [key async for key, _ in users.items("user 24")] == [f"user 24{number:02}" for number in range(100)]
