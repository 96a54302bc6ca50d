"""A map that survives: run this twice, and the second run finds what the first has written."""

import asyncio

import copycat
from copycat.collections import DistributedMap


async def main() -> None:
    async with copycat.open("data/") as cc:
        users = await cc.create("users", DistributedMap[str, int])

        previous = await users.put("ann", 41)  # on disk when this line is past
        print("ann was", previous, "and is", await users.get("ann"))

        puts = [users.put(f"user {number}", number) for number in range(1000)]  # all under way, in this order
        await asyncio.gather(*puts)
        print(await users.size(), "users")

        await users.put("visitor", 1, ttl=60)  # gone after a minute
        print("replaced:", await users.replace("ann", 41, 42))  # only if it is 41: nobody was faster


if __name__ == "__main__":
    asyncio.run(main())
