"""Whoever is cancelled leaves nothing behind: a walk through every await of every resource that could.

Each program runs in a task that is cancelled where it waits for the first time; then, begun anew, where it waits for
the second time; and so on until it comes to its end unharmed. There are three ways to be cancelled: while waiting;
when what is waited for has come, and the task has not gone on; and while waiting, and once more while cleaning up.
After each, nobody holds, nobody waits, nobody listens, and the handles remember nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from typing import Any

import pytest

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap, DistributedSet
from copycat.coordination import DistributedLeaderElection, DistributedLock, DistributedTopic, Term
from tests.coordination.support import PATH, TURNS, machine, turns
from tests.resource.harness import Replicas, connect

WAYS = ["waiting", "gone on", "twice"]
Program = Callable[[Any], Coroutine[Any, Any, Any]]


class Walk:
    """Awaits a coroutine, and cancels the task around it where it suspends for the `at`th time, from 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, way: str) -> None:
        self.reached = False
        self._coroutine = coroutine
        self._at = at
        self._way = way

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._coroutine.__await__()
        step: Callable[[], Any] = lambda: next(steps)  # noqa: E731  # what to do to the coroutine next
        for number in count():
            try:
                waited_for = step()
            except StopIteration as end:
                return end.value
            if number == self._at or (number == self._at + 1 and self._way == "twice"):
                self.reached = True
                if self._way == "gone on" and waited_for is not None:
                    waited_for.add_done_callback(lambda _: task.cancel())  # before the task's own callback
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited_for
            except BaseException as error:
                step = lambda error=error: steps.throw(error)  # type: ignore[misc]  # noqa: E731  # mypy: the default
            else:
                step = lambda: next(steps)  # noqa: E731  # rebinds


# -- programs ----------------------------------------------------------------------------------------------------------


async def locks_and_unlocks(lock: DistributedLock) -> None:
    await lock.lock()
    try:
        await asyncio.sleep(0)
    finally:
        await lock.unlock()


async def locks_for_a_while(lock: DistributedLock) -> None:
    token = await lock.lock(timeout=100)
    try:
        await asyncio.sleep(0)
    finally:
        await lock.unlock(token)


async def tries_to_lock(lock: DistributedLock) -> None:
    if await lock.try_lock(timeout=100) is not None:
        await lock.unlock()


async def locks_within_a_timeout(lock: DistributedLock) -> None:
    async with asyncio.timeout(100):
        await lock.lock()
    await lock.unlock()


async def holds(lock: DistributedLock) -> None:
    async with lock.hold(timeout=100) as held:
        await asyncio.sleep(0)
        held.check()
        await lock.is_locked()


async def holds_and_raises(lock: DistributedLock) -> None:
    try:
        async with lock.hold():
            await asyncio.sleep(0)
            raise KeyError("of the body")
    except KeyError:
        pass


async def holds_and_closes(lock: DistributedLock) -> None:
    twin = lock.with_timeout(5)
    async with twin.hold():
        await twin.close()
        await asyncio.sleep(0)


async def leads(election: DistributedLeaderElection) -> None:
    async with election.lead() as term:
        await election.is_leader(term.epoch)
        await asyncio.sleep(0)


async def runs(election: DistributedLeaderElection) -> None:
    async def function(term: Term) -> int:
        await asyncio.sleep(0)
        return await election.epoch()

    await election.run(function)


async def runs_and_resigns(election: DistributedLeaderElection) -> None:
    async def function(term: Term) -> None:
        await asyncio.sleep(0)
        await election.resign(term.epoch)
        await asyncio.sleep(0)

    await election.run(function)


async def stands_as_a_listener(election: DistributedLeaderElection) -> None:
    elected = asyncio.Event()
    with await election.on_election(lambda epoch: elected.set()):
        await elected.wait()
        await election.epoch()


async def listens_and_publishes(topic: DistributedTopic[str]) -> None:
    heard = asyncio.Event()
    with await topic.on_message(lambda message: heard.set()):
        await topic.publish("one")
        await heard.wait()


async def iterates(topic: DistributedTopic[str]) -> None:
    async for message in topic.messages():
        await asyncio.sleep(0)
        if message == "the last":
            break


async def uses_a_map(users: DistributedMap[str, int]) -> None:
    await users.put("ann", 41)
    await users.get("ann")
    await users.remove("ann")


async def listens_to_a_map(users: DistributedMap[str, int]) -> None:
    removed = asyncio.Event()
    with await users.on_add(print), await users.on_remove(lambda change: removed.set(), key="ann"):
        await users.update("ann", lambda age: (age or 0) + 1)
        await users.update("ann", lambda age: None)
        await removed.wait()


async def iterates_over_a_map(users: DistributedMap[str, int]) -> None:
    await users.put("ann", 41)
    async for key in users.keys():
        await users.remove(key)


async def listens_to_a_set(users: DistributedSet[str]) -> None:
    removed = asyncio.Event()
    with await users.on_add(print), await users.on_remove(lambda member: removed.set()):
        await users.add("ann")
        async for member in users.members():
            await users.remove(member)
        await removed.wait()


async def listens_to_a_value(value: DistributedAtomicValue[int]) -> None:
    changed = asyncio.Event()
    with await value.on_change(lambda change: changed.set()):
        await value.update(lambda n: (n or 0) + 1)
        await changed.wait()


PROGRAMS: list[tuple[Any, Program]] = [
    *[
        (DistributedLock, each)
        for each in (
            locks_and_unlocks,
            locks_for_a_while,
            tries_to_lock,
            locks_within_a_timeout,
            holds,
            holds_and_raises,
            holds_and_closes,
        )
    ],
    *[(DistributedLeaderElection, each) for each in (leads, runs, runs_and_resigns, stands_as_a_listener)],
    *[(DistributedTopic, each) for each in (listens_and_publishes, iterates)],
    *[(DistributedMap, each) for each in (uses_a_map, listens_to_a_map, iterates_over_a_map)],
    (DistributedSet, listens_to_a_set),
    (DistributedAtomicValue, listens_to_a_value),
]


# -- the walk ----------------------------------------------------------------------------------------------------------


async def walked(kind: Any, program: Program, at: int, way: str, is_busy: bool) -> bool:
    """Run it once, cancelled at one place; returns whether it came there."""
    replicas = Replicas(kind)
    handle, other = [await (await connect(replicas)).create(PATH, kind) for _ in range(2)]
    loop = asyncio.get_running_loop()
    neighbour = loop.create_task(neighbours(other, is_busy))
    await asyncio.sleep(0)  # the neighbour has asked first
    walk = Walk(program(handle), at, way)
    task = loop.create_task(awaited(walk))
    done, _ = await asyncio.wait([task], timeout=20)
    assert done, "it waits for ever"
    await neighbour
    await turns()
    if walk.reached:
        assert task.cancelled() or task.exception() is None
    else:
        task.result()
    assert_nothing_is_left_behind(replicas, handle)
    return walk.reached


async def neighbours(other: Any, is_busy: bool) -> None:
    """What somebody else does meanwhile: holds for some turns, or publishes now and then."""
    if isinstance(other, DistributedLock) and is_busy:
        async with other.hold():
            await turns(8)
    elif isinstance(other, DistributedLeaderElection) and is_busy:
        async with other.lead():
            await turns(8)
    elif isinstance(other, DistributedTopic):
        for message in ["one"] * 3 + ["the last"] * TURNS:
            await turns(2)
            await other.publish(message)


def assert_nothing_is_left_behind(replicas: Replicas, handle: Any) -> None:
    state = machine(replicas)
    assert len(replicas.replicas[0].clockwork.timers) == 0
    if isinstance(handle, DistributedTopic | DistributedMap | DistributedSet | DistributedAtomicValue):
        assert (state._audience.by_topic, state._audience._topics, handle._subscriptions) == ({}, {}, {})
    else:
        assert (state._holder, state._line, handle._claims, handle._grants) == (None, {}, {}, {})
    if isinstance(handle, DistributedLeaderElection):
        assert (len(handle._candidacy._listeners), handle._candidacy._claim) == (0, None)


async def awaited(walk: Walk) -> Any:
    return await walk


@pytest.mark.parametrize("is_busy", [False, True], ids=["free", "busy"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "program"), PROGRAMS, ids=lambda each: getattr(each, "__name__", ""))
async def test_whoever_is_cancelled_at_an_await_leaves_nothing_behind(
    kind: Any, program: Program, way: str, is_busy: bool
) -> None:
    places = 0
    while await walked(kind, program, places, way, is_busy):
        places += 1

    assert places >= 2  # to wait for, and to give back
