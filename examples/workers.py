"""Three workers, one of which does each job. Start it three times, in three terminals:

    python examples/workers.py a
    python examples/workers.py b
    python examples/workers.py c

Each process is a member of the cluster and holds the map of claims; nothing else needs to be installed or run. Stop
one, and the others go on: its unfinished job is claimed again, because claims are ephemeral and end with its session.
"""

import asyncio
import sys

import copycat
from copycat import PersistenceMode
from copycat.collections import DistributedMap

MEMBERS = "a=127.0.0.1:5101,b=127.0.0.1:5102,c=127.0.0.1:5103"
JOBS = [f"report {number}" for number in range(1, 7)]


async def main(worker: str, members: str = MEMBERS) -> None:
    async with copycat.open(f"data/{worker}", id=worker, members=members) as cc:
        claims = await cc.create("claims", DistributedMap[str, str])
        results = await cc.create("results", DistributedMap[str, str])
        while await results.size() < len(JOBS):
            for job in JOBS:
                if await results.contains_key(job):
                    continue
                holder = await claims.put_if_absent(job, worker, mode=PersistenceMode.EPHEMERAL)
                if holder is None:  # nobody had it: it is ours for as long as our session lives
                    await do(job)
                    await results.put(job, f"done by {worker}")
            await asyncio.sleep(0.1)
        print(
            worker,
            "sees every job done, its own:",
            [job for job in JOBS if await results.get(job) == f"done by {worker}"],
        )
        await asyncio.sleep(1)  # let the others see it, too, before this member leaves them


async def do(job: str) -> None:
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
