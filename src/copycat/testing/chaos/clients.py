"""One client process of a chaos run: what it calls, and the history it writes while it does.

    python -m copycat.testing.chaos.clients JOB

It works until it is told on its stdin: REST ends the calls, after which it says RESTING and only listens; its end comes
when everything was heard that the last entry of the ledger and the last message of the topic come after, or when its
stdin ends. What it does runs at the same time, all processes on the same resources:

- a map, whose keys change from era to era, so that each key has a history that can be checked: one call at a time, and
  several under way at once;
- a value, a counter and a lock for each era;
- a ledger, to which entries are appended in bursts, and which every process listens to;
- a topic, likewise.
"""

import asyncio
import json
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock, DistributedTopic
from copycat.errors import CopycatError
from copycat.handle import Copycat
from copycat.raft.client.client import RaftClient
from copycat.raft.protocol.members import parse_members
from copycat.testing.chaos.hearing import LAST, LEDGER, TOPIC, Ledger
from copycat.testing.hearing import RETRY_SECONDS, Hearing
from copycat.testing.recorder import Recorder
from copycat.util.clock import SystemClock
from copycat.util.loop_thread import new_event_loop
from copycat.util.tasks import TaskOwner

MAP, VALUE, COUNTER, LOCK = "map", "value", "counter", "lock"
REST, RESTING = "rest", "resting"

NUMBERS_STEP = 1000  # between the process numbers that one client process uses
KEYS = 4  # of the map, in an era
CALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a client process is told.

    members: the servers' addresses, as this process reaches them. slot: which of the clients it is, from 0 on.
    life: how many client processes there were before it, in all slots; its process numbers are life, life + 1000 ….
    file: where its history goes. began: when the run began, in seconds of the monotonic clock. era: seconds.
    pace: seconds between two calls of each kind, on average. session: its timeout, in seconds.
    """

    members: str
    slot: int
    life: int
    seed: int
    file: str
    began: float
    era: float
    pace: float
    session: float

    def as_text(self) -> str:
        return json.dumps(asdict(self))


def client_of(members: str, **options: Any) -> Copycat:
    """A client that keeps to these addresses: what servers say of one another leads around the proxies."""
    return Copycat(RaftClient(parse_members(members), discover=False, **options), timeout=CALL_SECONDS)


def number(found: int | None) -> int:
    """What a counter says that nobody has counted on yet, as the model of counters has it."""
    return found or 0


class Worker:
    """Does the job."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self.job = job
        self.recorder = recorder
        self.is_resting = False
        self.heard_last = {LEDGER: asyncio.Event(), TOPIC: asyncio.Event()}
        self._clock = SystemClock()
        self._client = client_of(job.members, session_timeout=job.session)
        self._name = f"{job.slot}.{job.life}"
        self._tasks = TaskOwner(f"client-{self._name}")

    async def run(self) -> None:
        """Work until told to rest, listen until told to end. Raises what should not have happened."""
        try:
            async with self._client:
                await self._work()
        finally:
            await self._tasks.close()

    async def _work(self) -> None:
        await self._hear_ledger(await self._create(LEDGER, Ledger))
        await self._hear_topic(await self._create(TOPIC, DistributedTopic[str]))
        maps = self._use_map, self._use_map_in_bursts
        async with asyncio.TaskGroup() as tasks:
            for act in (*maps, self._use_value, self._use_counter, self._use_lock, self._append, self._publish):
                chooser = random.Random(f"{self.job.seed}/{self.job.life}/{act.__name__}")
                tasks.create_task(act(chooser), name=act.__name__)
        print(RESTING, flush=True)  # noqa: T201 – to the process that started this one
        await asyncio.gather(*(event.wait() for event in self.heard_last.values()))

    # -- what all kinds have in common -------------------------------------------------------------------------------

    @property
    def era(self) -> int:
        """Which era it is; processes agree, for they read one clock."""
        return int((self._clock.monotonic() - self.job.began) / self.job.era)

    async def _repeat(self, chooser: random.Random, act: Callable[[], Awaitable[object]]) -> None:
        while not self.is_resting:
            try:
                await act()
            except CopycatError:
                pass  # what it means for the operation was recorded
            await asyncio.sleep(chooser.expovariate(1 / self.job.pace))

    async def _create(self, path: str, kind: Any) -> Any:
        """The resource, however long it takes."""
        while True:
            try:
                return await self._client.create(path, kind)
            except CopycatError:
                await asyncio.sleep(RETRY_SECONDS)

    def _each_era(self, path: str, kind: Any) -> "Callable[[], Coroutine[Any, Any, Any]]":
        """What gives the handle of this era."""
        current: tuple[int, Any] = (-1, None)

        async def handle() -> Any:
            nonlocal current
            era = self.era
            if current[0] != era:
                current = (era, await self._create(f"{path}-{era}", kind))
            return current[1]

        return handle

    # -- the kinds ---------------------------------------------------------------------------------------------------

    async def _use_map(self, chooser: random.Random) -> None:
        values: DistributedMap[str, str] = await self._create(MAP, DistributedMap[str, str])
        caller, number = self.recorder.caller(MAP), 0
        seen: dict[str, str | None] = {}

        async def act() -> None:
            nonlocal number
            number += 1
            key, new = f"{self.era}-{chooser.randrange(KEYS)}", f"{self._name}-{number}"
            old = seen.get(key)
            record = partial(caller.record, key=key)
            match chooser.choice(("put", "put", "get", "get", "cas", "put_if_absent", "remove")):
                case "put":
                    await record("put", partial(values.put, key, new), value=new)
                    seen[key] = new
                case "cas" if old is not None:
                    if await record("cas", partial(values.replace, key, old, new), value=[old, new]):
                        seen[key] = new
                case "put_if_absent":
                    seen[key] = await record("put_if_absent", partial(values.put_if_absent, key, new), value=new) or new
                case "remove":
                    await record("remove", partial(values.remove, key))
                    seen[key] = None
                case _:
                    seen[key] = await record("get", partial(values.get, key))

        await self._repeat(chooser, act)

    async def _use_map_in_bursts(self, chooser: random.Random) -> None:
        """Every key of the era at once, each by a caller of its own."""
        values: DistributedMap[str, str] = await self._create(MAP, DistributedMap[str, str])
        callers, number = [self.recorder.caller(MAP) for _ in range(KEYS)], 0

        async def act() -> None:
            nonlocal number
            number += 1
            era = self.era
            calls = []
            for at, caller in enumerate(callers):
                key, new = f"{era}-{at}", f"{self._name}-b{number}-{at}"
                if chooser.random() < 0.5:
                    calls.append(caller.record("put", partial(values.put, key, new), key=key, value=new))
                else:
                    calls.append(caller.record("get", partial(values.get, key), key=key))
            await asyncio.gather(*calls, return_exceptions=True)

        await self._repeat(chooser, act)

    async def _use_value(self, chooser: random.Random) -> None:
        handle, caller, number = self._each_era(VALUE, DistributedAtomicValue[str]), self.recorder.caller(), 0
        seen: str | None = None

        async def act() -> None:
            nonlocal number, seen
            value: DistributedAtomicValue[str] = await handle()
            record = partial(caller.record, resource=value.path)
            number += 1
            new = f"{self._name}-{number}"
            match chooser.choice(("get", "set", "get_and_set", "cas")):
                case "get":
                    seen = await record("get", value.get)
                case "set":
                    await record("set", partial(value.set, new), value=new)
                    seen = new
                case "get_and_set":
                    await record("get_and_set", partial(value.get_and_set, new), value=new)
                    seen = new
                case _:
                    if await record("cas", partial(value.compare_and_set, seen, new), value=[seen, new]):
                        seen = new

        await self._repeat(chooser, act)

    async def _use_counter(self, chooser: random.Random) -> None:
        handle, caller = self._each_era(COUNTER, DistributedAtomicValue[int]), self.recorder.caller()

        async def act() -> None:
            value: DistributedAtomicValue[int] = await handle()
            record = partial(caller.record, resource=value.path)
            if chooser.random() < 0.3:
                await record("get", value.get, result=number)
            else:
                await record("increment", partial(value.update, lambda count: (count or 0) + 1))

        await self._repeat(chooser, act)

    async def _use_lock(self, chooser: random.Random) -> None:
        """`use` says that its caller was sure to hold the lock when that began; `lost`, open from the grant on,
        that the hold may end by itself. That it did not is known when it was given back."""
        handle = self._each_era(LOCK, DistributedLock)
        caller, loss = self.recorder.caller(), self.recorder.caller()

        async def act() -> None:
            lock: DistributedLock = await handle()
            record = partial(caller.record, resource=lock.path)
            claim = partial(lock.claim, "lock", CALL_SECONDS, lambda grant: grant)
            grant = await record("lock", claim, result=lambda grant: grant.token)
            loss.invoke("lost", value=grant.token, resource=lock.path)
            was_held = False
            try:
                for _ in range(chooser.choice((1, 2, 5))):
                    caller.invoke("use", value=grant.token, resource=lock.path)
                    if grant.lost:
                        caller.fail("the hold was lost")
                        return
                    caller.ok(grant.token)
                    await asyncio.sleep(chooser.uniform(0, 0.05))
                was_held = await record("unlock", partial(lock.release, grant), value=grant.token)
            finally:
                if was_held:
                    loss.fail("it was given back")
                else:
                    loss.info("it may have been")

        await self._repeat(chooser, act)

    async def _append(self, chooser: random.Random) -> None:
        ledger: Ledger = await self._create(LEDGER, Ledger)
        callers, number = [self.recorder.caller(LEDGER) for _ in range(5)], 0

        async def act() -> None:
            nonlocal number
            calls = []
            for caller in callers[: chooser.choice((1, 1, 2, 5))]:
                number += 1
                token = f"{self._name}-{number}"
                calls.append(caller.record("append", partial(ledger.append, token), value=token))
            await asyncio.gather(*calls, return_exceptions=True)

        await self._repeat(chooser, act)

    async def _publish(self, chooser: random.Random) -> None:
        topic: DistributedTopic[str] = await self._create(TOPIC, DistributedTopic[str])
        caller, number = self.recorder.caller(TOPIC), 0

        async def act() -> None:
            nonlocal number
            number += 1
            message = f"{self._name}-{number}"
            await caller.record("publish", partial(topic.publish, message), value=message)

        await self._repeat(chooser, act)

    # -- hearing -----------------------------------------------------------------------------------------------------

    async def _hear_ledger(self, ledger: Ledger) -> None:
        """Listen for good: in every session, as a process of its own in the history."""
        hearing = Hearing(self.recorder, LEDGER)

        def heard(position: int, token: str) -> None:
            hearing.take([position, token])
            if token == LAST:
                self.heard_last[LEDGER].set()

        def again(_session: int) -> None:
            nonlocal hearing
            hearing.close()
            hearing = Hearing(self.recorder, LEDGER)
            self._tasks.start(hearing.open(ledger.listen), name="ledger")

        ledger.on_entry = heard
        ledger.session.on_recovery(again)
        await hearing.open(ledger.listen)

    async def _hear_topic(self, topic: DistributedTopic[str]) -> None:
        """Likewise."""

        async def listen() -> None:
            hearing = Hearing(self.recorder, TOPIC)

            def heard(message: str) -> None:
                hearing.take(message)
                if message == LAST:
                    self.heard_last[TOPIC].set()

            def again() -> None:
                hearing.close()
                listener.close()
                self._tasks.start(listen(), name="topic")

            listener = await hearing.open(partial(topic.on_message, heard, on_gap=again), result=lambda _: None)

        await listen()


async def work(job: Job) -> None:
    """Do a job, as stdin says."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    with Recorder(job.file, first=job.life, step=NUMBERS_STEP, slot=job.slot) as recorder:
        worker = Worker(job, recorder)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(worker.run(), name="worker")
            obeying = tasks.create_task(_obey(orders, worker), name="orders")
            await asyncio.wait((working, obeying), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, obeying):
                task.cancel()


async def _obey(orders: asyncio.StreamReader, worker: Worker) -> None:
    """Until there are no more orders."""
    while order := await orders.readline():
        if order.decode().strip() == REST:
            worker.is_resting = True


def main() -> int:
    """The whole process."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work(Job(**json.loads(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
