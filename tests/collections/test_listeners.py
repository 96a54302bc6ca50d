"""What all listeners of maps, sets and atomic values have in common, whatever they listen to."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.atomic import DistributedAtomicValue
from copycat.collections import DistributedMap, DistributedSet
from copycat.errors import ClosedError, UnknownResourceError
from copycat.resource import Resource
from copycat.testing.portrait import portrait
from tests.coordination.support import PATH, client, handles, machine, turns
from tests.resource.harness import Replicas, connect

KEY = "the key"


@dataclass(frozen=True)
class Kind:
    """A way to listen. `cause` makes exactly one event of it, of which `show` makes the number it was given."""

    name: str
    resource: type[Resource]
    listen: Callable[..., Any]
    cause: Callable[[Any, int], Coroutine[Any, Any, None]]
    show: Callable[[Any], int]


async def puts(users: DistributedMap[Any, int], number: int) -> None:
    await users.put(number, 0)


async def puts_twice(users: DistributedMap[Any, int], number: int) -> None:
    await users.put(number, 0)
    await users.put(number, 1)


async def puts_and_removes(users: DistributedMap[Any, int], number: int) -> None:
    await users.put(number, 0)
    await users.remove(number)


async def uses_the_key(users: DistributedMap[Any, int], number: int) -> None:
    """Adds, updates and removes it, each once, beside another key."""
    await users.put(KEY, number)
    await users.put(KEY, number)
    await users.remove(KEY)
    await puts_twice(users, number)
    await users.remove(number)


async def adds(users: DistributedSet[int], number: int) -> None:
    await users.add(number)


async def adds_and_removes(users: DistributedSet[int], number: int) -> None:
    await users.add(number)
    await users.remove(number)


async def sets(value: DistributedAtomicValue[int], number: int) -> None:
    await value.set(number)


def on(method: str, **options: Any) -> Callable[..., Any]:
    return lambda handle, callback, **more: getattr(handle, method)(callback, **options, **more)


KINDS = [
    Kind("map, added", DistributedMap, on("on_add"), puts, lambda change: change.key),
    Kind("map, updated", DistributedMap, on("on_update"), puts_twice, lambda change: change.key),
    Kind("map, removed", DistributedMap, on("on_remove"), puts_and_removes, lambda change: change.key),
    Kind("key, added", DistributedMap, on("on_add", key=KEY), uses_the_key, lambda change: change.new),
    Kind("key, updated", DistributedMap, on("on_update", key=KEY), uses_the_key, lambda change: change.new),
    Kind("key, removed", DistributedMap, on("on_remove", key=KEY), uses_the_key, lambda change: change.old),
    Kind("set, added", DistributedSet, on("on_add"), adds, lambda member: member),
    Kind("set, removed", DistributedSet, on("on_remove"), adds_and_removes, lambda member: member),
    Kind("value, changed", DistributedAtomicValue, on("on_change"), sets, lambda change: change.new),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def replicas(kind: Kind) -> Replicas:
    return Replicas(kind.resource, count=2)


@pytest.fixture
async def programs(replicas: Replicas, kind: Kind) -> list[Any]:
    """Handles of two programs."""
    return await handles(replicas, kind.resource, 2)


class Ear:
    """A callback that remembers the numbers it hears."""

    def __init__(self, kind: Kind) -> None:
        self.heard: list[Any] = []
        self._show = kind.show

    def __call__(self, event: Any) -> None:
        self.heard.append(self._show(event))

    def gap(self) -> None:
        self.heard.append("gap")


def listening(replicas: Replicas) -> list[int]:
    """The sessions that listen, in order."""
    return list(machine(replicas)._audience._topics)


def assert_nobody_listens(replicas: Replicas, *programs: Any) -> None:
    audience = machine(replicas)._audience
    assert (audience.by_topic, audience._topics) == ({}, {})
    for handle in programs:
        assert (handle._subscriptions, getattr(handle, "_watched", {})) == ({}, {})


# -- hearing -----------------------------------------------------------------------------------------------------------


async def test_a_listener_hears_each_event_from_now_on_once_and_in_order(programs: list[Any], kind: Kind) -> None:
    ear = Ear(kind)
    await kind.cause(programs[1], 0)
    await kind.listen(programs[0], ear)
    for number in (1, 2, 3):
        await kind.cause(programs[number % 2], number)
    await turns()

    assert ear.heard == [1, 2, 3]


async def test_every_program_hears_the_same(programs: list[Any], kind: Kind) -> None:
    ears = [Ear(kind) for _ in programs]
    for handle, ear in zip(programs, ears, strict=True):
        await kind.listen(handle, ear)
    for number in range(5):
        await kind.cause(programs[number % 2], number)
    await turns()

    assert [ear.heard for ear in ears] == [[0, 1, 2, 3, 4]] * 2


async def test_the_first_listener_registers_and_the_last_to_be_closed_deregisters(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    handle, ears = programs[0], [Ear(kind) for _ in range(3)]
    before = len(client(handle).calls)
    listeners = [await kind.listen(handle, ear) for ear in ears]
    assert len(client(handle).calls) == before + 1

    listeners[0].close()
    listeners[2].close()
    await kind.cause(programs[1], 7)
    await turns()
    assert [ear.heard for ear in ears] == [[], [7], []]
    assert len(client(handle).calls) == before + 1

    listeners[1].close()
    listeners[1].close()
    assert len(client(handle).calls) == before + 2
    assert_nobody_listens(replicas, handle)
    await kind.cause(programs[1], 8)
    await turns()
    assert ears[1].heard == [7]


async def test_whoever_listens_anew_hears_anew(programs: list[Any], replicas: Replicas, kind: Kind) -> None:
    ear = Ear(kind)
    (await kind.listen(programs[0], ear)).close()
    await kind.cause(programs[1], 1)
    with await kind.listen(programs[0], ear):
        await kind.cause(programs[1], 2)
        await turns()

    assert ear.heard == [2]
    assert_nobody_listens(replicas, *programs)


async def test_two_handles_of_one_program_are_two_listeners(replicas: Replicas, kind: Kind) -> None:
    cc = await connect(replicas)
    first, second = [await cc.create(PATH, kind.resource) for _ in range(2)]
    ears = Ear(kind), Ear(kind)
    listeners = [await kind.listen(handle, ear) for handle, ear in zip((first, second), ears, strict=True)]
    await kind.cause(first, 1)
    listeners[0].close()
    await kind.cause(second, 2)
    await turns()

    assert [ear.heard for ear in ears] == [[1], [1, 2]]


# -- what listeners may do ---------------------------------------------------------------------------------------------


async def test_a_listener_that_raises_keeps_nobody_from_hearing(
    programs: list[Any], kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("of the listener")

    ear = Ear(kind)
    await kind.listen(programs[0], broken)
    await kind.listen(programs[0], ear)
    await kind.cause(programs[1], 1)
    await turns()

    assert ear.heard == [1]
    assert "RuntimeError: of the listener" in caplog.text


async def test_a_listener_may_close_itself(programs: list[Any], replicas: Replicas, kind: Kind) -> None:
    ear = Ear(kind)

    def once(event: Any) -> None:
        ear(event)
        listener.close()

    listener = await kind.listen(programs[0], once)
    await kind.cause(programs[1], 1)
    await kind.cause(programs[1], 2)
    await turns()

    assert ear.heard == [1]
    assert_nobody_listens(replicas, *programs)


async def test_a_listener_may_await_operations_of_its_own_handle(programs: list[Any], kind: Kind) -> None:
    ear = Ear(kind)

    async def ask(event: Any) -> None:
        await (programs[0].get() if kind.resource is DistributedAtomicValue else programs[0].size())
        if not ear.heard:
            ear(event)
            await kind.cause(programs[0], 2)
        else:
            ear(event)

    await kind.listen(programs[0], ask)
    await kind.cause(programs[1], 1)
    await turns()

    assert ear.heard == [1, 2]


async def test_a_listener_may_close_its_handle(programs: list[Any], replicas: Replicas, kind: Kind) -> None:
    done: list[bool] = []

    async def close(event: Any) -> None:
        await programs[0].close()
        done.append(True)

    await kind.listen(programs[0], close)
    await kind.cause(programs[1], 1)
    await turns()

    assert done == [True]
    assert_nobody_listens(replicas, *programs)


async def test_what_cannot_be_called_is_refused_at_the_call(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    before = len(client(programs[0]).calls)

    for callback, options in ((1, {}), (print, {"on_gap": 1})):
        with pytest.raises(TypeError, match="must be callable"):
            kind.listen(programs[0], callback, **options)
    assert len(client(programs[0]).calls) == before
    assert_nobody_listens(replicas, *programs)


# -- the end of sessions, handles and resources ------------------------------------------------------------------------


async def test_a_lost_session_is_a_gap_and_the_next_one_listens_again(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    ear = Ear(kind)
    await kind.listen(programs[0], ear, on_gap=ear.gap)
    await kind.cause(programs[1], 1)
    client(programs[0]).expire()
    await kind.cause(programs[1], 2)
    await turns()

    assert ear.heard == [1, "gap", 2]
    assert listening(replicas) == [client(programs[0]).session]


async def test_a_gap_nobody_asked_to_hear_of_is_logged(
    programs: list[Any], kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    await kind.listen(programs[0], print)
    client(programs[0]).expire()
    await turns()

    assert "may have missed events" in caplog.text


async def test_a_session_that_proves_alive_is_no_gap(programs: list[Any], kind: Kind) -> None:
    ear = Ear(kind)
    await kind.listen(programs[0], ear, on_gap=ear.gap)
    client(programs[0]).lose()
    await kind.cause(programs[1], 1)
    client(programs[0]).resume()
    await turns()

    assert ear.heard == [1]


@pytest.mark.parametrize("expired", [True, False])
async def test_servers_forget_the_listeners_of_a_session_that_ended(
    programs: list[Any], replicas: Replicas, kind: Kind, expired: bool
) -> None:
    await kind.listen(programs[0], print)
    replicas.end(client(programs[0]).session, expired=expired)

    assert listening(replicas) == []
    await kind.cause(programs[1], 1)


async def test_closing_a_handle_closes_its_listeners_and_ends_their_tasks(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    ended: list[bool] = []

    async def endless(event: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    listener = await kind.listen(programs[0], endless)
    closed_before = await kind.listen(programs[0], endless)
    await kind.cause(programs[1], 1)
    await turns()
    closed_before.close()
    assert ended == []
    await programs[0].close()

    assert (ended, listener.is_closed) == ([True, True], True)
    assert_nobody_listens(replicas, *programs)
    with pytest.raises(ClosedError):
        kind.listen(programs[0], print)


async def test_what_a_closed_listener_still_does_ends_with_its_handle(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    ended: list[bool] = []

    async def endless(event: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    listener = await kind.listen(programs[0], endless)
    await kind.cause(programs[1], 1)
    await turns()
    listener.close()
    await turns()
    assert ended == []

    await programs[0].close()
    assert ended == [True]


async def test_a_twin_listens_as_its_first(programs: list[Any], replicas: Replicas, kind: Kind) -> None:
    twin, ear = programs[0].with_timeout(3), Ear(kind)
    first, second = await kind.listen(twin, ear), await kind.listen(programs[0], ear)
    await kind.cause(programs[1], 1)
    await turns()
    assert ear.heard == [1, 1]

    await twin.close()
    with pytest.raises(ClosedError):
        kind.listen(twin, ear)
    assert not first.is_closed
    await programs[0].close()
    assert (first.is_closed, second.is_closed) == (True, True)
    assert_nobody_listens(replicas, *programs)


async def test_a_listener_of_what_was_deleted_is_closed_and_that_is_logged(
    programs: list[Any], replicas: Replicas, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await kind.listen(programs[0], print)
    await programs[1].delete()
    await turns()

    assert listener.is_closed
    assert "was deleted" in caplog.text
    with pytest.raises(UnknownResourceError):
        await kind.listen(programs[0], print)
    assert programs[0]._subscriptions == {}


async def test_a_listener_that_nobody_waits_for_is_closed(programs: list[Any], replicas: Replicas, kind: Kind) -> None:
    kind.listen(programs[0], print).cancel()
    await turns()

    assert_nobody_listens(replicas, *programs)


async def test_replicas_that_start_anew_know_the_same_listeners(
    programs: list[Any], replicas: Replicas, kind: Kind
) -> None:
    (await kind.listen(programs[1], print)).close()
    await kind.listen(programs[0], print)
    await kind.listen(programs[1], print)
    await kind.cause(programs[0], 1)
    client(programs[1]).expire()

    assert listening(replicas) == [client(handle).session for handle in programs]
    again = replicas.replay().machine(3)
    assert portrait(again) == portrait(machine(replicas))
