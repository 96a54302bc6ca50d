"""What clients of a real cluster see while leaders stop and links are cut, recorded and checked.

A seed decides who does what and what breaks; not how the tasks of one event loop take turns.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from typing import TypeVar

import pytest

from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock, DistributedTopic
from copycat.errors import CopycatError
from copycat.handle import Copycat
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.replica import make_server
from copycat.resource import Resource
from copycat.testing.delivery import check_delivery
from copycat.testing.history import OK
from copycat.testing.linearizability import check
from copycat.testing.models import LockModel, MapModel
from copycat.testing.recorder import Caller, Recorder
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster

R = TypeVar("R", bound=Resource)

CLIENTS = 3
KEYS = ("x", "y", "z")
FAULTS = ("stop the leader", "cut off the leader", "cut off a follower", "cut off the leader from clients")
CALLS_BETWEEN = 60  # answered, from one fault to the next
CALLS_BEHIND = 20  # answered while somebody is cut off, by the others
PATIENCE_SECONDS = 0.4  # of a call: now and then too little to get past a fault, so that outcomes are unknown
LAST = "the last message"

Work = Callable[[], Awaitable[object]]


class Scene:
    """A cluster with clients, what they do, and what goes wrong meanwhile."""

    def __init__(self, cluster: Cluster, seed: int, *, calls_behind: int = CALLS_BEHIND) -> None:
        self.cluster = cluster
        self._calls_behind = calls_behind
        self.recorder = Recorder(seed=seed)
        self.chooser = random.Random(seed)
        self.answered = 0
        self.is_over = False
        self._names: list[str] = []

    async def handle(self, kind: type[R], path: str = "resource", *, to: list[str] | None = None) -> R:
        """A handle in a program of its own."""
        name = f"client {len(self._names)}"
        self._names.append(name)
        client = self.cluster.new_client(name, to=to, random=random.Random(self.chooser.random()))
        return await (await Copycat(client, timeout=PATIENCE_SECONDS).open()).create(path, kind)

    async def play(self, *parts: Work) -> None:
        """Do all parts, over and over, while one fault follows another."""
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(self._repeat(part))
            for fault in self.chooser.sample(FAULTS, len(FAULTS)):
                await self._quiet()
                await self._suffer(fault)
                self._heal()
            await self._quiet()
            self.is_over = True

    def _heal(self) -> None:
        """Mend the links; connections that have lost something end, for none goes on with a gap."""
        self.recorder.fault("heal")
        cut = list(self.cluster.network.cut)
        self.cluster.network.heal()
        for pair in cut:
            self.cluster.network.break_links(*pair)

    async def _repeat(self, part: Work) -> None:
        while not self.is_over:
            try:
                await part()
                self.answered += 1
            except CopycatError:
                await asyncio.sleep(0.01)  # as a program would, rather than ask at full speed
            await asyncio.sleep(0.001 * self.chooser.randrange(4))

    async def _quiet(self) -> None:
        await self.cluster.elected()
        await self._answers(CALLS_BETWEEN)

    async def _answers(self, count: int) -> None:
        enough = self.answered + count
        await wait_until(lambda: self.answered >= enough)

    async def _suffer(self, fault: str) -> None:
        cluster, leader = self.cluster, await self.cluster.elected()
        others = cluster.others(leader)
        self.recorder.fault(fault, leader)
        match fault:
            case "stop the leader":
                await cluster.stop(leader)
                await cluster.elected()
                await cluster.start(leader)
            case "cut off the leader":
                cluster.network.separate([leader], others)
                await cluster.elected(others)
                await self._answers(self._calls_behind)  # while some clients may still hold to the old leader
            case "cut off a follower":
                cluster.network.separate([others[0]], [leader, others[1]])
                await self._answers(self._calls_behind)
            case _:
                cluster.network.separate([leader], self._names)
                await cluster.rounds(leader, 20)


def new_cluster() -> Cluster:
    return Cluster(3, faulty=True, make=make_server)


# -- what is linearizable ----------------------------------------------------------------------------------------------


class MapUser:
    """Puts what nobody else puts, and replaces what it saw last. What is read late is seen to be late."""

    def __init__(self, caller: Caller, users: DistributedMap[str, int], chooser: random.Random) -> None:
        self._caller = caller
        self._users = users
        self._chooser = chooser
        self._seen: dict[str, int] = {}

    async def act(self) -> None:
        key, value = self._chooser.choice(KEYS), self._chooser.getrandbits(32)
        record, users, old = self._caller.record, self._users, self._seen.get(key, 0)
        match self._chooser.randrange(3):
            case 0:
                await record("put", partial(users.put, key, value), key=key, value=value)
            case 1:
                await record("cas", partial(users.replace, key, old, value), key=key, value=[old, value])
            case _:
                seen = await record("get", partial(users.get, key), key=key)
                self._seen[key] = 0 if seen is None else seen


async def read_map(caller: Caller, users: DistributedMap[str, int], chooser: random.Random) -> None:
    key = chooser.choice(KEYS)
    await caller.record("get", partial(users.get, key), key=key)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_map_is_linearizable_while_leaders_stop_and_links_are_cut(seed: int) -> None:
    async with new_cluster() as cluster:
        scene = Scene(cluster, seed)
        users = [await scene.handle(DistributedMap[str, int]) for _ in range(CLIENTS)]
        readers = [await scene.handle(DistributedMap[str, int], to=[name]) for name in cluster.members]
        await scene.play(
            *(MapUser(scene.recorder.caller(), each, scene.chooser).act for each in users),
            *(partial(read_map, scene.recorder.caller(), each, scene.chooser) for each in readers),
        )

    history = scene.recorder.history
    verdict = check(history, MapModel())
    assert verdict, verdict.explanation
    assert verdict.parts == len(KEYS)
    assert history.counts()[OK] >= CALLS_BETWEEN * len(FAULTS), history.counts()


async def use_lock(caller: Caller, lock: DistributedLock) -> None:
    token = await caller.record("lock", partial(lock.lock, timeout=PATIENCE_SECONDS))
    try:
        await caller.record("is_locked", lock.is_locked)
    finally:
        await caller.record("unlock", partial(lock.unlock, token), value=token)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
async def test_a_lock_has_one_holder_and_growing_tokens_while_leaders_stop_and_links_are_cut(seed: int) -> None:
    async with new_cluster() as cluster:
        scene = Scene(cluster, seed, calls_behind=0)  # one that is cut off may hold it
        locks = [await scene.handle(DistributedLock) for _ in range(CLIENTS)]
        await scene.play(*(partial(use_lock, scene.recorder.caller(), each) for each in locks))

    verdict = check(scene.recorder.history, LockModel())
    assert verdict, verdict.explanation
    assert scene.recorder.history.counts()[OK] >= CALLS_BETWEEN * len(FAULTS)


async def test_a_read_of_a_member_that_was_cut_off_is_stale_and_the_checker_says_so() -> None:
    async with new_cluster() as cluster:
        scene = Scene(cluster, seed=0)
        old = (await cluster.elected(), *cluster.others(await cluster.elected()))[-1]
        writer = await scene.handle(DistributedMap[str, int], to=cluster.others(old))
        reader = (await scene.handle(DistributedMap[str, int], to=[old])).with_consistency(
            ConsistencyLevel.SERIALIZABLE
        )
        writing, reading = scene.recorder.caller(), scene.recorder.caller()
        await writing.record("put", partial(writer.put, "x", 1), key="x", value=1)
        while await reader.get("x") is None:  # noqa: ASYNC110 – virtual time
            await asyncio.sleep(0)  # a follower hears of a commit a little later
        await reading.record("get", partial(reader.get, "x"), key="x")

        cluster.network.separate([old], cluster.others(old))
        await writing.record("put", partial(writer.put, "x", 2), key="x", value=2)
        await reading.record("get", partial(reader.get, "x"), key="x")

    verdict = check(scene.recorder.history, MapModel())
    assert not verdict
    assert "process 1: get('x') → 1: it would have to answer 2" in verdict.explanation


# -- what is delivered -------------------------------------------------------------------------------------------------


async def publish(caller: Caller, topic: DistributedTopic[str], numbers: Iterator[int]) -> None:
    message = str(next(numbers))
    await caller.record("publish", partial(topic.publish, message), value=message)


async def listen(caller: Caller, topic: DistributedTopic[str], is_ready: asyncio.Event) -> None:
    """Write down what is received, up to the last message."""
    arrived: asyncio.Queue[str] = asyncio.Queue()
    await caller.record("listen", partial(topic.on_message, arrived.put_nowait), result=lambda _: None)
    is_ready.set()
    message = ""
    while message != LAST:
        message = await arrived.get()
        caller.invoke("receive")
        caller.ok(message)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
async def test_a_topic_reaches_all_once_and_in_one_order_while_leaders_stop_and_links_are_cut(seed: int) -> None:
    async with new_cluster() as cluster, asyncio.TaskGroup() as listeners:
        scene = Scene(cluster, seed)
        for _ in range(2):
            is_ready = asyncio.Event()
            topic = await scene.handle(DistributedTopic[str])
            listeners.create_task(listen(scene.recorder.caller(), topic, is_ready))
            await is_ready.wait()
        topics = [await scene.handle(DistributedTopic[str]) for _ in range(2)]
        numbers = count()
        await scene.play(*(partial(publish, scene.recorder.caller(), each, numbers) for each in topics))
        last = partial(topics[0].publish, LAST, timeout=None)
        await scene.recorder.caller().record("publish", last, value=LAST)

    violations = check_delivery(scene.recorder.history)
    assert not violations, "\n".join(violations)
    assert scene.recorder.history.counts()[OK] >= 3 * CALLS_BETWEEN * len(FAULTS)
