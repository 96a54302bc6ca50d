"""A program that takes a lock, says so, and goes on holding it: `python holder.py SERVERS SESSION_SECONDS`."""

import asyncio
import sys

from copycat.client import CopycatClient
from copycat.coordination import DistributedLock


async def main(servers: str, session_seconds: float) -> None:
    async with CopycatClient(servers, session_timeout=session_seconds) as client:
        lock = await client.create("lock", DistributedLock)
        print(await lock.lock(), flush=True)  # noqa: T201  # it speaks to the test
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
