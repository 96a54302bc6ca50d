"""DistributedSet does what its docstrings say, for one program and for several."""

import asyncio
import enum
from collections.abc import Callable
from typing import Any

import pytest

from copycat.collections import DistributedSet, pages
from copycat.collections.set import ADD, LISTEN, PAGE, SetMachine
from copycat.errors import (
    ApplicationError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    SerializationError,
    TooLargeError,
)
from copycat.handle import Copycat
from copycat.io.serializer import encode_key
from copycat.resource import ConsistencyLevel, PersistenceMode
from copycat.testing import LocalClient, StateMachineHarness
from tests.coordination.support import PATH, client, handles, machine, turns
from tests.resource.harness import Replicas, connect

EPHEMERAL = PersistenceMode.EPHEMERAL


class Colour(enum.Enum):
    RED = 1


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedSet, count=2)


@pytest.fixture
async def sets(replicas: Replicas) -> list[DistributedSet[Any]]:
    """Two programs on one set."""
    return await handles(replicas, DistributedSet, 2)


@pytest.fixture
async def users(sets: list[DistributedSet[Any]]) -> DistributedSet[Any]:
    return sets[0]


async def listed(users: DistributedSet[Any], *arguments: Any) -> list[Any]:
    return [member async for member in users.members(*arguments)]


def timers(replicas: Replicas) -> int:
    return len(replicas.replicas[0].clockwork.timers)


# -- what every set does -----------------------------------------------------------------------------------------------


async def test_a_value_is_added_once(users: DistributedSet[Any]) -> None:
    assert await users.add("ann") is True
    assert await users.add("ann") is False
    assert (await users.contains("ann"), await users.contains("bob"), await users.size()) == (True, False, 1)


async def test_a_value_is_removed_once(users: DistributedSet[Any]) -> None:
    assert await users.remove("ann") is False
    await users.add("ann")
    assert await users.remove("ann") is True
    assert await users.remove("ann") is False
    assert (await users.contains("ann"), await users.is_empty()) == (False, True)


async def test_size_counts_members(users: DistributedSet[Any]) -> None:
    assert (await users.size(), await users.is_empty()) == (0, True)
    await asyncio.gather(users.add("a"), users.add("b"), users.add("a"))
    assert (await users.size(), await users.is_empty()) == (2, False)


async def test_clear_removes_every_member_and_their_timers(users: DistributedSet[Any], replicas: Replicas) -> None:
    await users.add("a", ttl=5)
    await users.add("b", mode=EPHEMERAL)
    await users.add("c")
    await users.clear()

    assert (await users.is_empty(), timers(replicas)) == (True, 0)
    assert machine(replicas)._lifetimes._owned == {}
    await users.add("a")
    replicas.advance(10)
    assert await users.contains("a")


async def test_members_whose_hashes_are_equal_are_two(users: DistributedSet[Any]) -> None:
    assert hash(-1) == hash(-2)

    assert (await users.add(-1), await users.add(-2)) == (True, True)
    assert await listed(users) == [-2, -1]


async def test_members_are_strict_about_their_type(users: DistributedSet[Any]) -> None:
    values = [1, True, "1", b"1", (1,), ("1",)]
    assert await asyncio.gather(*map(users.add, values)) == [True] * 6

    assert sorted(map(repr, await listed(users))) == sorted(map(repr, values))


async def test_two_programs_share_a_path(sets: list[DistributedSet[Any]]) -> None:
    await sets[0].add("ann")
    assert await sets[1].contains("ann")
    assert await sets[1].add("ann") is False


async def test_operations_take_effect_in_the_order_of_calls(users: DistributedSet[Any]) -> None:
    calls = [call(1) for call in (users.add, users.add, users.remove, users.add, users.remove, users.remove)]

    assert await asyncio.gather(*calls) == [True, False, True, True, True, False]


# -- members that go by themselves -------------------------------------------------------------------------------------


async def test_a_member_goes_after_its_time_and_never_before(users: DistributedSet[Any], replicas: Replicas) -> None:
    await users.add("ann", ttl=30)
    replicas.advance(29.999)
    assert await users.contains("ann")
    replicas.advance(0.001)
    assert (await users.contains("ann"), await users.size()) == (False, 0)


async def test_adding_a_member_again_changes_neither_its_time_nor_its_mode(
    sets: list[DistributedSet[Any]], replicas: Replicas
) -> None:
    await sets[0].add("stays")
    await sets[0].add("goes", ttl=30)
    assert await sets[1].add("stays", ttl=1, mode=EPHEMERAL) is False
    assert await sets[1].add("goes") is False
    replicas.end(client(sets[1]).session)
    replicas.advance(30)

    assert await listed(sets[0]) == ["stays"]


async def test_a_member_that_went_is_added_with_a_time_of_its_own(
    users: DistributedSet[Any], replicas: Replicas
) -> None:
    await users.add("expired", ttl=30)
    await users.add("removed", ttl=40)
    await users.remove("removed")
    assert timers(replicas) == 1
    replicas.advance(30)
    assert await users.add("expired", ttl=30)
    assert await users.add("removed")
    replicas.advance(29)
    assert await listed(users) == ["expired", "removed"]
    replicas.advance(1)
    assert await listed(users) == ["removed"]


@pytest.mark.parametrize("expired", [True, False])
async def test_ephemeral_members_go_when_the_session_that_added_them_ends(
    sets: list[DistributedSet[Any]], replicas: Replicas, expired: bool
) -> None:
    await sets[0].add("mine", mode=EPHEMERAL)
    await sets[0].add("both", mode=EPHEMERAL, ttl=60)
    await sets[0].add("stays")
    await sets[1].add("theirs", mode=EPHEMERAL)
    replicas.end(client(sets[0]).session, expired=expired)

    assert await listed(sets[1]) == ["stays", "theirs"]
    assert timers(replicas) == 0
    assert list(machine(replicas)._lifetimes._owned) == [client(sets[1]).session]


async def test_nothing_is_left_of_members_that_are_gone(users: DistributedSet[Any], replicas: Replicas) -> None:
    for number in range(10):
        await users.add(number, ttl=5, mode=EPHEMERAL)
        await users.remove(number)

    lifetimes = machine(replicas)._lifetimes
    assert (lifetimes.by_key, lifetimes._owned, timers(replicas)) == ({}, {}, 0)


# -- iteration ---------------------------------------------------------------------------------------------------------


async def test_members_come_in_the_order_of_their_canonical_bytes_page_by_page(
    users: DistributedSet[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_KEYS_MAX", 3)
    values: list[Any] = ["b", "a", "ab", b"a", 3, 1, True, ("a",), "é", "aé"]
    for value in values:
        await users.add(value)
    before = len(client(users).calls)

    assert await listed(users) == sorted(values, key=encode_key)
    assert len(client(users).calls) == before + 4
    assert await listed(users, "a") == ["a", "ab", "aé"]
    assert await listed(users, b"") == [b"a"]
    assert await listed(users, "") == ["a", "ab", "aé", "b", "é"]


async def test_members_that_are_there_all_the_time_come_once(
    users: DistributedSet[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_KEYS_MAX", 2)
    for number in range(0, 20, 2):
        await users.add(number)
    seen: list[int] = []
    async for member in users.members():
        seen.append(member)
        if member % 2 == 0:
            await users.add(member + 1)
        await users.remove(member)

    assert seen == sorted(set(seen))
    assert set(range(0, 20, 2)) <= set(seen)


async def test_members_come_back_as_the_type_the_set_was_created_with(replicas: Replicas) -> None:
    cc: Copycat = await connect(replicas)
    cc.serializer.register(Colour, id=1)
    colours = await cc.create(PATH, DistributedSet[Colour])
    await colours.add(Colour.RED)

    assert await listed(colours) == [Colour.RED]
    with pytest.raises(DecodeError, match=r"DistributedSet 'the one': a key is no str: <Colour.RED: 1> is not str"):
        await listed(await cc.create(PATH, DistributedSet[str]))


# -- events ------------------------------------------------------------------------------------------------------------


async def test_listeners_hear_of_every_member_that_comes_and_goes(
    sets: list[DistributedSet[Any]], replicas: Replicas
) -> None:
    heard: list[tuple[str, Any]] = []
    await sets[0].on_add(lambda member: heard.append(("add", member)))
    await sets[0].on_remove(lambda member: heard.append(("remove", member)))

    async def news() -> list[tuple[str, Any]]:
        await turns()
        told = heard.copy()
        heard.clear()
        return told

    await sets[1].add("ann")
    await sets[1].add("ann", ttl=1)
    await sets[1].remove("ann")
    await sets[1].remove("ann")
    assert await news() == [("add", "ann"), ("remove", "ann")]

    await sets[1].add("timed", ttl=5)
    replicas.advance(4)
    assert await news() == [("add", "timed")]
    replicas.advance(1)
    assert await news() == [("remove", "timed")]

    for member in ("b", "a"):
        await sets[1].add(member, ttl=60)
    await sets[1].clear()
    assert await news() == [("add", "b"), ("add", "a"), ("remove", "b"), ("remove", "a")]

    await sets[1].add("mine", mode=EPHEMERAL)
    replicas.end(client(sets[1]).session, expired=True)
    replicas.advance(60)
    assert await news() == [("add", "mine"), ("remove", "mine")]


async def test_members_of_another_type_are_logged_and_passed_over(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    cc = await connect(replicas)
    names, anything = await cc.create(PATH, DistributedSet[str]), await cc.create(PATH, DistributedSet)
    heard: list[Any] = []
    await names.on_add(heard.append)
    for member in ("ann", 7, "bob"):
        await anything.add(member)
    await turns()

    assert heard == ["ann", "bob"]
    assert "a key is no str: 7 is not str" in caplog.text


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda s: s.add(None), SerializationError, "None of type NoneType cannot be a key"),
        (lambda s: s.add(1.5), SerializationError, "1.5 of type float cannot be a key"),
        (lambda s: s.add({"a": 1}), SerializationError, "of type dict cannot be a key"),
        (lambda s: s.add(Colour.RED), SerializationError, "register Colour with an id"),
        (lambda s: s.add("x" * 4097), TooLargeError, "4096"),
        (lambda s: s.add("x", ttl=0), ConfigurationError, "ttl must be more than 0 and at most .* seconds, not 0"),
        (lambda s: s.add("x", ttl="1"), ConfigurationError, "ttl is a number of seconds"),
        (lambda s: s.add("x", mode=0), ConfigurationError, "mode must be PersistenceMode.PERSISTENT or EPHEMERAL"),
        (lambda s: s.remove(None), SerializationError, "cannot be a key"),
        (lambda s: s.contains([]), SerializationError, "cannot be a key"),
        (lambda s: s.members(1), ConfigurationError, "a prefix is str or bytes"),
        (lambda s: s.members("\ud800"), SerializationError, "lone surrogate"),
        (lambda s: s.size(consistency="strong"), ConfigurationError, "'strong' is no ConsistencyLevel"),
    ],
)
async def test_a_mistake_raises_at_the_call_and_sends_nothing(
    users: DistributedSet[Any], wrong: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    before = len(client(users).calls)

    with pytest.raises(error, match=message):
        wrong(users)
    assert len(client(users).calls) == before


async def test_a_closed_handle_refuses_everything(users: DistributedSet[Any]) -> None:
    await users.close()

    for wrong in (
        lambda: users.add("x"),
        lambda: users.remove("x"),
        lambda: users.contains("x"),
        users.clear,
        users.size,
        users.is_empty,
        users.members,
        lambda: users.on_add(print),
        lambda: users.on_remove(print),
    ):
        with pytest.raises(ClosedError, match="this handle on DistributedSet 'the one' is closed"):
            wrong()


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (ADD, ("x", 0, 0)),
        (ADD, (b"x", "1", 0)),
        (ADD, (b"x", 0, 2)),
        (ADD, (b"x", float("nan"), 0)),
        (ADD, ()),
        (LISTEN, (3,)),
        (LISTEN, (None,)),
        (LISTEN, ([],)),
    ],
)
async def test_a_client_of_another_make_cannot_do_what_makes_no_sense(
    users: DistributedSet[Any], replicas: Replicas, operation: int, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await users.command(operation, *arguments)
    assert caught.value.kind == "TypeError"
    state = machine(replicas)
    assert (state._members, state._audience.by_topic, timers(replicas)) == ({}, {}, 0)


async def test_levels_and_deadlines_are_the_calls_then_the_handles(users: DistributedSet[Any]) -> None:
    session: LocalClient = client(users)
    lax = users.with_consistency(ConsistencyLevel.SERIALIZABLE).with_timeout(9)

    async def asked(call: Any) -> tuple[Any, Any]:
        await call
        return session.calls[-1]["consistency"], session.calls[-1]["timeout"]

    lease = ConsistencyLevel.LINEARIZABLE_LEASE
    for query in (lax.size, lax.is_empty, lambda **options: lax.contains("x", **options)):
        assert await asked(query()) == (ConsistencyLevel.SERIALIZABLE, 9)
        assert await asked(query(consistency=lease, timeout=None)) == (lease, None)
    assert await asked(lax.add("x", timeout=1)) == (None, 1)
    assert await asked(users.remove("x")) == (None, 30)
    assert [member async for member in lax.members(timeout=2)] == []
    assert (session.calls[-1]["consistency"], session.calls[-1]["timeout"]) == (ConsistencyLevel.SERIALIZABLE, 2)


def test_a_set_does_the_same_when_its_log_is_applied_once_more() -> None:
    members = StateMachineHarness(SetMachine)
    session = members.session()
    members.apply(LISTEN, 1, session=session)
    members.apply(LISTEN, 2, session=session)
    for number in range(5):
        members.apply(ADD, encode_key(number), 1_000 * (number % 2), number % 2, session=members.session())
    members.apply(2, encode_key(0))
    members.query(PAGE, b"", b"")
    members.advance(1)
    members.apply(3)

    assert [event.arguments for event in members.events(session)][-2:] == [(encode_key(2),), (encode_key(4),)]
    members.check_replay()
