"""A process that takes a lock, says READY, and holds it until it is killed: `holder SERVERS SESSION_SECONDS`."""

import asyncio
import sys

from copycat.cli.measuring import READY
from copycat.client import CopycatClient
from copycat.coordination import DistributedLock


async def main(servers: str, session_seconds: float) -> None:
    """Hold it."""
    async with CopycatClient(servers, session_timeout=session_seconds) as client:
        lock = await client.create("held", DistributedLock)
        await lock.lock()
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
