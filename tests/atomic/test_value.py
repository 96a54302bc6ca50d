"""DistributedAtomicValue does what its docstrings say, for one program and for several."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.atomic import DistributedAtomicValue, ValueChange
from copycat.atomic.value import COMPARE_AND_SET, GET_AND_SET, LISTEN, REPLACE_VERSION, SET, ValueMachine
from copycat.errors import (
    ApplicationError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    Outcome,
    SerializationError,
    TooLargeError,
)
from copycat.handle import Copycat
from copycat.io.serializer import encode_value
from copycat.resource import ConsistencyLevel, PersistenceMode
from copycat.testing import StateMachineHarness
from tests.coordination.support import PATH, client, handles, machine, turns
from tests.resource.harness import Replicas, connect

EPHEMERAL = PersistenceMode.EPHEMERAL


@dataclass
class User:
    age: int


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedAtomicValue, count=2)


@pytest.fixture
async def values(replicas: Replicas) -> list[DistributedAtomicValue[Any]]:
    """Two programs on one value."""
    return await handles(replicas, DistributedAtomicValue, 2)


@pytest.fixture
async def value(values: list[DistributedAtomicValue[Any]]) -> DistributedAtomicValue[Any]:
    return values[0]


def timers(replicas: Replicas) -> int:
    return len(replicas.replicas[0].clockwork.timers)


# -- getting and setting -----------------------------------------------------------------------------------------------


async def test_there_is_no_value_before_the_first_write(value: DistributedAtomicValue[Any]) -> None:
    assert await value.get() is None
    assert await value.entry() is None


async def test_what_is_set_is_got_by_all(values: list[DistributedAtomicValue[Any]]) -> None:
    await values[0].set({"age": 41})
    assert await values[1].get() == {"age": 41}
    await values[1].set([1])
    assert await values[0].get() == [1]


async def test_get_and_set_answers_the_previous_value(value: DistributedAtomicValue[Any]) -> None:
    assert await value.get_and_set(1) is None
    assert await value.get_and_set(2) == 1
    assert await value.get() == 2


async def test_setting_none_removes_the_value(value: DistributedAtomicValue[Any]) -> None:
    await value.set(1)
    await value.set(None)
    assert (await value.get(), await value.entry()) == (None, None)
    await value.set(2)
    assert await value.get_and_set(None) == 2
    assert await value.get() is None


async def test_operations_take_effect_in_the_order_of_calls(value: DistributedAtomicValue[Any]) -> None:
    assert await asyncio.gather(*(value.get_and_set(number) for number in range(20))) == [None, *range(19)]


# -- comparing ---------------------------------------------------------------------------------------------------------


async def test_compare_and_set_sets_what_is_as_expected(value: DistributedAtomicValue[Any]) -> None:
    await value.set("a")
    assert await value.compare_and_set("b", "c") is False
    assert await value.get() == "a"
    assert await value.compare_and_set("a", "c") is True
    assert await value.get() == "c"


async def test_compare_and_set_of_no_value_expects_none_and_stores_the_update(
    value: DistributedAtomicValue[Any],
) -> None:
    assert await value.compare_and_set("a", "b") is False
    assert await value.get() is None
    assert await value.compare_and_set(None, "b") is True
    assert await value.get() == "b"
    assert await value.compare_and_set(None, "c") is False
    assert await value.get() == "b"


async def test_a_value_that_went_equals_none(value: DistributedAtomicValue[Any], replicas: Replicas) -> None:
    await value.set("a", ttl=5)
    replicas.advance(5)
    assert await value.compare_and_set("a", "b") is False
    assert await value.compare_and_set(None, "b") is True
    assert await value.get() == "b"


async def test_compare_and_set_may_remove(value: DistributedAtomicValue[Any]) -> None:
    assert await value.compare_and_set(None, None) is True
    await value.set("a")
    assert await value.compare_and_set("b", None) is False
    assert await value.compare_and_set("a", None) is True
    assert await value.get() is None


async def test_values_compare_by_type_too(value: DistributedAtomicValue[Any]) -> None:
    await value.set(1)
    for other in (True, 1.0, "1", (1,)):
        assert await value.compare_and_set(other, "changed") is False
    assert await value.compare_and_set(1, "changed") is True


async def test_of_many_that_compare_one_sets(replicas: Replicas) -> None:
    programs = await handles(replicas, DistributedAtomicValue, 5)
    won = await asyncio.gather(*(each.compare_and_set(None, number) for number, each in enumerate(programs)))

    assert sum(won) == 1
    assert await programs[0].get() == won.index(True)


async def test_a_failed_comparison_changes_nothing_not_even_the_time_to_live(
    value: DistributedAtomicValue[Any], replicas: Replicas
) -> None:
    await value.set("a", ttl=10)
    before = await value.entry()
    assert await value.compare_and_set("b", "c", ttl=60, mode=EPHEMERAL) is False
    assert await value.replace("c", version=1, ttl=60) is False
    assert await value.entry() == before
    replicas.advance(10)
    assert await value.get() is None


# -- values that go by themselves --------------------------------------------------------------------------------------


async def test_a_value_goes_after_its_time_and_never_before(
    value: DistributedAtomicValue[Any], replicas: Replicas
) -> None:
    await value.set("a", ttl=30)
    replicas.advance(29.999)
    assert await value.get() == "a"
    replicas.advance(0.001)
    assert (await value.get(), await value.entry()) == (None, None)


WRITES: list[Callable[[DistributedAtomicValue[Any]], Any]] = [
    lambda value: value.set("b"),
    lambda value: value.get_and_set("b"),
    lambda value: value.compare_and_set("a", "b"),
    lambda value: value.update(lambda _: "b"),
]


@pytest.mark.parametrize("write", WRITES)
async def test_every_write_replaces_time_to_live_and_mode(
    values: list[DistributedAtomicValue[Any]], replicas: Replicas, write: Callable[[Any], Any]
) -> None:
    await values[0].set("a", ttl=30, mode=EPHEMERAL)
    await write(values[1])
    assert timers(replicas) == 0
    replicas.advance(60)
    replicas.end(client(values[0]).session)

    assert await values[1].get() == "b"
    lifetimes = machine(replicas)._lifetimes
    assert (lifetimes.by_key, lifetimes._owned) == ({}, {})


@pytest.mark.parametrize("expired", [True, False])
async def test_an_ephemeral_value_goes_with_the_session_that_wrote_it_last(
    values: list[DistributedAtomicValue[Any]], replicas: Replicas, expired: bool
) -> None:
    await values[0].set("a", mode=EPHEMERAL)
    await values[1].set("b", mode=EPHEMERAL, ttl=60)
    replicas.end(client(values[0]).session, expired=expired)
    assert await values[1].get() == "b"

    reader = (await handles(replicas, DistributedAtomicValue, 1))[0]
    replicas.end(client(values[1]).session, expired=expired)
    assert (await reader.get(), timers(replicas)) == (None, 0)


async def test_removing_the_value_cancels_its_time(value: DistributedAtomicValue[Any], replicas: Replicas) -> None:
    await value.set("a", ttl=5, mode=EPHEMERAL)
    await value.set(None)
    lifetimes = machine(replicas)._lifetimes
    assert (lifetimes.by_key, lifetimes._owned, timers(replicas)) == ({}, {}, 0)


# -- events ------------------------------------------------------------------------------------------------------------


async def test_listeners_hear_of_every_change_with_old_and_new(
    values: list[DistributedAtomicValue[Any]], replicas: Replicas
) -> None:
    heard: list[ValueChange[Any]] = []
    await values[0].on_change(heard.append)

    async def news() -> list[tuple[Any, Any]]:
        await turns()
        told = [(change.old, change.new) for change in heard]
        heard.clear()
        return told

    other = values[1]
    await other.set(1)
    await other.set(1)
    await other.get_and_set(2)
    await other.compare_and_set(2, 3)
    await other.update(lambda n: (n or 0) + 1)
    await other.set(None)
    assert await news() == [(None, 1), (1, 1), (1, 2), (2, 3), (3, 4), (4, None)]

    await other.set(None)
    await other.compare_and_set(7, 8)
    await other.replace(8, version=7)
    await other.compare_and_set(None, None)
    assert await news() == []

    await other.set(5, ttl=5)
    replicas.advance(4)
    assert await news() == [(None, 5)]
    replicas.advance(1)
    assert await news() == [(5, None)]

    await other.set(6, mode=EPHEMERAL, ttl=60)
    replicas.end(client(other).session, expired=True)
    assert await news() == [(None, 6), (6, None)]
    replicas.advance(60)
    assert await news() == []


async def test_a_change_has_the_version_at_which_it_happened(
    values: list[DistributedAtomicValue[Any]], replicas: Replicas
) -> None:
    heard: list[ValueChange[Any]] = []
    await values[0].on_change(heard.append)
    await values[1].set("a", ttl=5)
    entry = await values[1].entry()
    assert entry is not None
    replicas.advance(5)
    await turns()

    assert heard == [ValueChange(None, "a", entry.version), ValueChange("a", None, replicas.index)]


# -- types -------------------------------------------------------------------------------------------------------------


async def test_values_come_back_as_the_type_the_resource_was_created_with(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    cc: Copycat = await connect(replicas)
    typed = await cc.create(PATH, DistributedAtomicValue[User])
    anything = await cc.create(PATH, DistributedAtomicValue)
    heard: list[Any] = []
    await typed.on_change(lambda change: heard.append(change.new))
    await typed.set(User(41))
    assert await typed.get() == User(41)
    assert await typed.compare_and_set(User(41), User(42))
    assert await anything.get() == {"age": 42}

    await anything.set("text")
    with pytest.raises(DecodeError, match=r"DistributedAtomicValue 'the one': the value is no User: ") as caught:
        await typed.get()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(DecodeError, match=r"the command was applied$") as caught:
        await typed.get_and_set(User(43))
    assert caught.value.outcome is Outcome.APPLIED
    assert await typed.get() == User(43)
    await turns()
    assert heard == [User(41), User(42)]
    assert "the value is no User" in caplog.text


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda v: v.set(object()), SerializationError, "object"),
        (lambda v: v.set("x" * (1 << 20)), TooLargeError, "1048576"),
        (lambda v: v.get_and_set(object()), SerializationError, "object"),
        (lambda v: v.compare_and_set(object(), 1), SerializationError, "object"),
        (lambda v: v.compare_and_set(1, object()), SerializationError, "object"),
        (lambda v: v.set(1, ttl=0), ConfigurationError, "ttl must be more than 0"),
        (lambda v: v.get_and_set(1, ttl="1"), ConfigurationError, "ttl is a number of seconds"),
        (lambda v: v.compare_and_set(1, 2, mode=1), ConfigurationError, "mode must be"),
        (lambda v: v.set(None, ttl=1), ConfigurationError, "None removes the value: it takes no ttl and no mode"),
        (lambda v: v.compare_and_set(1, None, mode=EPHEMERAL), ConfigurationError, "None removes the value"),
        (lambda v: v.replace(1, version=None), ConfigurationError, r"a version is the int that entry\(\) answers"),
        (lambda v: v.replace(1, version=True), ConfigurationError, "a version is the int"),
        (lambda v: v.get(consistency="strong"), ConfigurationError, "'strong' is no ConsistencyLevel"),
    ],
)
async def test_a_mistake_raises_at_the_call_and_sends_nothing(
    value: DistributedAtomicValue[Any], wrong: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    before = len(client(value).calls)

    with pytest.raises(error, match=message):
        wrong(value)
    assert len(client(value).calls) == before


async def test_a_closed_handle_refuses_everything(value: DistributedAtomicValue[Any]) -> None:
    await value.close()

    for wrong in (
        value.get,
        value.entry,
        lambda: value.set(1),
        lambda: value.get_and_set(1),
        lambda: value.compare_and_set(None, 1),
        lambda: value.replace(1, version=0),
        lambda: value.on_change(print),
    ):
        with pytest.raises(ClosedError, match="this handle on DistributedAtomicValue 'the one' is closed"):
            wrong()
    with pytest.raises(ClosedError):
        await value.update(lambda _: 1)


@pytest.mark.parametrize(
    ("operation", "arguments", "kind"),
    [
        (SET, ("text", 0, 0), "TypeError"),
        (SET, (b"x", "1", 0), "TypeError"),
        (SET, (b"x", 0, 2), "TypeError"),
        (SET, (b"x", -1, 0), "ConfigurationError"),
        (SET, (None, 1, 0), "ValueError"),
        (GET_AND_SET, (7, 0, 0), "TypeError"),
        (COMPARE_AND_SET, (None, "text", 0, 0), "TypeError"),
        (REPLACE_VERSION, (0, "text", 0, 0), "TypeError"),
        (SET, (), "TypeError"),
    ],
)
async def test_a_client_of_another_make_cannot_set_what_is_no_value(
    value: DistributedAtomicValue[Any], replicas: Replicas, operation: int, arguments: tuple[Any, ...], kind: str
) -> None:
    with pytest.raises((ApplicationError, ConfigurationError)) as caught:
        await value.command(operation, *arguments)
    assert kind in (type(caught.value).__name__, getattr(caught.value, "kind", None))
    state = machine(replicas)
    assert (state._value, state._version, state._lifetimes.by_key, timers(replicas)) == (None, 0, {}, 0)


async def test_levels_and_deadlines_are_the_calls_then_the_handles(value: DistributedAtomicValue[Any]) -> None:
    session = client(value)
    lax = value.with_consistency(ConsistencyLevel.SERIALIZABLE).with_timeout(9)

    async def asked(call: Any) -> tuple[Any, Any]:
        await call
        return session.calls[-1]["consistency"], session.calls[-1]["timeout"]

    lease = ConsistencyLevel.LINEARIZABLE_LEASE
    for query in (lax.get, lax.entry):
        assert await asked(query()) == (ConsistencyLevel.SERIALIZABLE, 9)
        assert await asked(query(consistency=lease, timeout=None)) == (lease, None)
    assert await asked(value.get()) == (ConsistencyLevel.LINEARIZABLE, 30)
    assert await asked(lax.set(1)) == (None, 9)
    assert await asked(lax.compare_and_set(1, 2, timeout=1)) == (None, 1)


def test_a_value_does_the_same_when_its_log_is_applied_once_more() -> None:
    value = StateMachineHarness(ValueMachine)
    session, other = value.session(), value.session()
    value.apply(LISTEN, session=session)
    value.apply(SET, encode_value(1), 1_000, 0, session=other)
    value.advance(1)
    value.apply(COMPARE_AND_SET, None, encode_value(2), 0, 1, session=other)
    value.expire(other)

    one, two = encode_value(1), encode_value(2)
    assert [event.arguments for event in value.events(session)] == [(None, one), (one, None), (None, two), (two, None)]
    value.check_replay()
