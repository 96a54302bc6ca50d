"""One member of PySyncObj, a library without servers: `peer_member OWN OTHERS JOURNAL JOB`.

It says "leader" or "follower" once there is a leader. The one that is told WORK then does the job of
`copycat.cli.bench_client`, puts only, in its own process: that is how the library is used. It writes a journal, but
has no setting that makes it wait for the disk.
"""

import asyncio
import json
import random
import sys
from asyncio import Future
from functools import partial
from typing import Any

from copycat.cli.bench_client import Job
from copycat.cli.measuring import Figures, Load, bear
from copycat.util.loop_thread import new_event_loop

WORK = "work"
LEADER, FOLLOWER = "leader", "follower"
POLL_S = 0.05


class Members:
    """This member's copy of a dict, and its part in the cluster."""

    def __init__(self, own: str, others: list[str], journal: str) -> None:
        from pysyncobj import SyncObj, SyncObjConf
        from pysyncobj.batteries import ReplDict

        self._values = ReplDict()
        self._member = SyncObj(own, others, conf=SyncObjConf(journalFile=journal), consumers=[self._values])
        self._own = own
        self._loop = asyncio.get_running_loop()

    async def role(self) -> str:
        """Once there is a leader that all the others are connected to, whether it is this member."""
        while True:
            status = self._member.getStatus()
            leader = status["leader"]
            if leader is not None and self._member.isReady() and status["partner_nodes_count"] == 2:
                return LEADER if str(leader) == self._own else FOLLOWER
            await asyncio.sleep(POLL_S)

    def put(self, key: str, value: bytes) -> "Future[Any]":
        """Set a key; the future is done once a majority has it."""
        future: Future[Any] = self._loop.create_future()
        self._values.set(key, value, callback=lambda _, error: self._loop.call_soon_threadsafe(settle, future, error))
        return future


def settle(future: "Future[Any]", error: Any) -> None:
    """What a call came to, told on the loop; 0 is success."""
    if error:
        future.set_exception(RuntimeError(f"PySyncObj failed with {error}"))
    else:
        future.set_result(None)


async def main(own: str, others: list[str], journal: str, job: Job) -> Figures | None:
    """Be a member; work when told so, until stdin ends otherwise."""
    members = Members(own, others, journal)
    print(await members.role(), flush=True)
    heard = await asyncio.to_thread(sys.stdin.readline)
    if heard.strip() != WORK:
        return None
    keys = [f"{job.client}-{number}" for number in range(job.keys)]
    chance, value = random.Random(job.client), random.Random(job.client).randbytes(job.value_bytes)
    put = partial(_put_any, members, keys, value, chance)
    return await bear(Load([put], job.in_flight), job.seconds)


def _put_any(members: Members, keys: list[str], value: bytes, chance: random.Random) -> "Future[Any]":
    return members.put(keys[int(chance.random() * len(keys))], value)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found = runner.run(main(sys.argv[1], sys.argv[2].split(","), sys.argv[3], Job(**json.loads(sys.argv[4]))))
    if found is not None:
        print(json.dumps(found), flush=True)
