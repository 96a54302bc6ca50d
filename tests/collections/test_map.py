"""DistributedMap does what its docstrings say, for one program and for several."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.collections import DistributedMap
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
from copycat.resource import ConsistencyLevel, PersistenceMode
from tests.resource.harness import LocalClient, Replicas, connect

EPHEMERAL = PersistenceMode.EPHEMERAL


@dataclass
class User:
    age: int


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedMap, count=2)


@pytest.fixture
async def cc(replicas: Replicas) -> Copycat:
    return await connect(replicas)


@pytest.fixture
async def users(cc: Copycat) -> DistributedMap[Any, Any]:
    return await cc.create("users", DistributedMap)


# -- what every map does -----------------------------------------------------------------------------------------------


async def test_put_answers_the_previous_value(users: DistributedMap[Any, Any]) -> None:
    assert await users.put("ann", 41) is None
    assert await users.put("ann", 42) == 41
    assert await users.get("ann") == 42


async def test_get_of_an_absent_key_is_none(users: DistributedMap[Any, Any]) -> None:
    assert await users.get("nobody") is None


async def test_get_or_default_answers_a_default_that_need_not_be_encodable(users: DistributedMap[Any, Any]) -> None:
    default = object()

    assert await users.get_or_default("nobody", default) is default
    await users.put("ann", 41)
    assert await users.get_or_default("ann", default) == 41


async def test_put_if_absent_sets_once(users: DistributedMap[Any, Any]) -> None:
    assert await users.put_if_absent("ann", 41) is None
    assert await users.put_if_absent("ann", 42) == 41
    assert await users.get("ann") == 41


async def test_remove_answers_what_was_removed(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)

    assert await users.remove("ann") == 41
    assert await users.remove("ann") is None
    assert not await users.contains_key("ann")


async def test_remove_of_a_value_removes_only_that_value(users: DistributedMap[Any, Any]) -> None:
    await users.put("ann", 41)

    assert await users.remove("ann", 42) is False
    assert await users.remove("ann", 41) is True
    assert await users.remove("ann", 41) is False
    assert await users.is_empty()


async def test_replace_leaves_an_absent_key_absent(users: DistributedMap[Any, Any]) -> None:
    assert await users.replace("ann", 41) is None
    assert not await users.contains_key("ann")
    await users.put("ann", 41)
    assert await users.replace("ann", 42) == 41
    assert await users.get("ann") == 42


async def test_replace_of_a_value_compares_and_sets(users: DistributedMap[Any, Any]) -> None:
    assert await users.replace("ann", 41, 42) is False
    await users.put("ann", 41)
    assert await users.replace("ann", 40, 42) is False
    assert await users.replace("ann", 41, 42) is True
    assert await users.get("ann") == 42


async def test_values_compare_by_type_too(users: DistributedMap[Any, Any]) -> None:
    await users.put("one", 1)

    assert await users.remove("one", True) is False
    assert await users.contains_value(1.0) is False
    assert await users.contains_value(1) is True


async def test_size_counts_keys(users: DistributedMap[Any, Any]) -> None:
    assert (await users.size(), await users.is_empty()) == (0, True)
    await asyncio.gather(users.put("a", 1), users.put("b", 1), users.put("a", 2))
    assert (await users.size(), await users.is_empty()) == (2, False)


async def test_clear_removes_every_key_and_their_timers(users: DistributedMap[Any, Any], replicas: Replicas) -> None:
    await users.put("a", 1, ttl=5)
    await users.put("b", 1, mode=EPHEMERAL)
    await users.clear()

    assert await users.is_empty()
    assert len(replicas.replicas[0].clockwork.timers) == 0
    await users.put("a", 2)
    replicas.advance(10)
    assert await users.get("a") == 2


async def test_keys_are_strict_about_their_type(users: DistributedMap[Any, Any]) -> None:
    for value, key in enumerate([1, True, "1", b"1", (1,), ("1",)]):
        await users.put(key, value)

    assert [await users.get(key) for key in (1, True, "1", b"1", (1,), ("1",))] == [0, 1, 2, 3, 4, 5]


async def test_two_processes_share_a_path(replicas: Replicas, users: DistributedMap[Any, Any]) -> None:
    other = await (await connect(replicas)).create("users", DistributedMap)
    await users.put("ann", {"age": 41})

    assert await other.get("ann") == {"age": 41}


async def test_operations_take_effect_in_the_order_of_calls(users: DistributedMap[Any, Any]) -> None:
    calls = [users.put("k", n) for n in range(1, 50)]

    assert await asyncio.gather(*calls) == [None, *range(1, 49)]


# -- entries that go by themselves -------------------------------------------------------------------------------------


async def test_an_entry_goes_after_its_time_and_never_before(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41, ttl=30)

    replicas.advance(29.999)
    assert await users.size() == 1
    replicas.advance(0.001)
    assert (await users.get("ann"), await users.size()) == (None, 0)


async def test_a_key_written_again_does_not_go_with_the_old_time(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41, ttl=30)
    await users.put("ann", 42)
    await users.put("bob", 1, ttl=30)
    await users.replace("bob", 2, ttl=60)
    await users.put("cid", 1, ttl=30)
    await users.remove("cid")
    await users.put_if_absent("cid", 2)

    replicas.advance(45)
    assert [await users.get(key) for key in ("ann", "bob", "cid")] == [42, 2, 2]
    replicas.advance(45)
    assert [await users.get(key) for key in ("ann", "bob", "cid")] == [42, None, 2]


async def test_a_timer_that_could_not_be_cancelled_spares_later_values(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41, ttl=30)
    machine = replicas.replicas[0].machine(2 + 1)
    key = users.serializer.encode_key("ann")
    first = machine._lifetimes.by_key[key].index
    await users.put("ann", 42, ttl=90)

    machine._expire(key, first)
    assert await users.get("ann") == 42


async def test_put_if_absent_over_an_expired_key_sets_its_own_time(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41, ttl=30)
    replicas.advance(31)
    assert await users.put_if_absent("ann", 42, ttl=30) is None

    replicas.advance(31)
    assert await users.get("ann") is None


async def test_put_if_absent_of_a_present_key_changes_neither_value_nor_time(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    await users.put("ann", 41)
    assert await users.put_if_absent("ann", 42, ttl=1, mode=EPHEMERAL) == 41

    replicas.advance(2)
    assert await users.get("ann") == 41


async def test_overwriting_a_key_often_does_not_pile_up_timers(
    users: DistributedMap[Any, Any], replicas: Replicas
) -> None:
    for n in range(1, 1000):
        await users.put("ann", n, ttl=3600)

    timers = replicas.replicas[0].clockwork.timers
    assert len(timers) == 1
    assert len(timers._heap) < 200


@pytest.mark.parametrize("expired", [True, False])
async def test_ephemeral_entries_go_when_their_session_ends(replicas: Replicas, expired: bool) -> None:
    first, second = await connect(replicas), await connect(replicas)
    mine, theirs = await first.create("m", DistributedMap), await second.create("m", DistributedMap)
    await mine.put("ephemeral", 1, mode=EPHEMERAL)
    await mine.put("both", 1, mode=EPHEMERAL, ttl=60)
    await mine.put("stays", 1)
    await theirs.put("theirs", 1, mode=EPHEMERAL)

    client: Any = first._client
    replicas.end(client.session, expired=expired)
    assert await theirs.size() == 2
    assert await theirs.contains_key("stays")
    assert await theirs.contains_key("theirs")
    assert len(replicas.replicas[0].clockwork.timers) == 0


async def test_whoever_writes_last_owns_an_ephemeral_key(replicas: Replicas) -> None:
    first, second = await connect(replicas), await connect(replicas)
    mine, theirs = await first.create("m", DistributedMap), await second.create("m", DistributedMap)
    await mine.put("taken over", 1, mode=EPHEMERAL)
    await theirs.put("taken over", 2, mode=EPHEMERAL)
    await mine.put("made to stay", 1, mode=EPHEMERAL)
    await theirs.put("made to stay", 2)

    await first.close()
    assert (await theirs.get("taken over"), await theirs.get("made to stay")) == (2, 2)
    third = await (await connect(replicas)).create("m", DistributedMap)
    await second.close()
    assert (await third.get("taken over"), await third.get("made to stay")) == (None, 2)


async def test_no_record_is_kept_of_plain_entries(users: DistributedMap[Any, Any], replicas: Replicas) -> None:
    await users.put("ann", 1, ttl=5, mode=EPHEMERAL)
    await users.put("ann", 2)

    machine = replicas.replicas[1].machine(3)
    assert (machine._lifetimes.by_key, machine._lifetimes._owned, len(machine._records)) == ({}, {}, 1)


# -- types -------------------------------------------------------------------------------------------------------------


async def test_values_come_back_as_the_type_the_map_was_created_with(cc: Copycat) -> None:
    users = await cc.create("users", DistributedMap[str, User])
    await users.put("ann", User(41))

    assert await users.get("ann") == User(41)
    assert await users.put("ann", User(42)) == User(41)
    assert await (await cc.create("users", DistributedMap)).get("ann") == {"age": 42}


async def test_a_value_of_another_type_names_path_key_and_type(cc: Copycat) -> None:
    await (await cc.create("users", DistributedMap)).put("ann", "text")
    users = await cc.create("users", DistributedMap[str, User])

    with pytest.raises(DecodeError, match=r"DistributedMap 'users': key 'ann' is no User: ") as caught:
        await users.get("ann")
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert "applied" not in str(caught.value)


async def test_a_command_whose_reply_does_not_decode_says_that_it_was_applied(cc: Copycat) -> None:
    await (await cc.create("users", DistributedMap)).put("ann", "text")
    users = await cc.create("users", DistributedMap[str, User])

    with pytest.raises(DecodeError, match=r"the command was applied$") as caught:
        await users.put("ann", User(41))
    assert caught.value.outcome is Outcome.APPLIED
    assert await users.get("ann") == User(41)


# -- what is refused, at the call --------------------------------------------------------------------------------------

Wrong = Callable[[DistributedMap[Any, Any]], Awaitable[Any]]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda m: m.put(None, 1), SerializationError, "None of type NoneType cannot be a key; allowed are str, bytes"),
        (lambda m: m.put("k", None), SerializationError, "None cannot be a value: it means absent; remove the value"),
        (lambda m: m.put_if_absent("k", None), SerializationError, "None cannot be a value"),
        (lambda m: m.remove("k", None), SerializationError, "None cannot be a value"),
        (lambda m: m.replace("k", None), SerializationError, "None cannot be a value"),
        (lambda m: m.replace("k", 1, None), SerializationError, "None cannot be a value"),
        (lambda m: m.replace("k", None, 1), SerializationError, "None cannot be a value"),
        (lambda m: m.contains_value(None), SerializationError, "None cannot be a value"),
        (lambda m: m.get(1.5), SerializationError, "1.5 of type float cannot be a key"),
        (lambda m: m.get(["k"]), SerializationError, "of type list cannot be a key"),
        (lambda m: m.get("\ud800"), SerializationError, "lone surrogate"),
        (lambda m: m.put("k", object()), SerializationError, "object"),
        (lambda m: m.put("k" * 4097, 1), TooLargeError, "4096"),
        (lambda m: m.put("k", "v" * (1 << 20)), TooLargeError, "1048576"),
        (lambda m: m.put("k", 1, ttl=0), ConfigurationError, "ttl must be more than 0 and at most .* seconds, not 0"),
        (lambda m: m.put("k", 1, ttl=-1), ConfigurationError, "not -1"),
        (lambda m: m.put("k", 1, ttl=float("nan")), ConfigurationError, "not nan"),
        (lambda m: m.put("k", 1, ttl=float("inf")), ConfigurationError, "not inf"),
        (lambda m: m.put("k", 1, ttl="30"), ConfigurationError, "ttl is a number of seconds, not '30'"),
        (lambda m: m.put("k", 1, ttl=True), ConfigurationError, "ttl is a number of seconds, not True"),
        (lambda m: m.put("k", 1, mode=1), ConfigurationError, "mode must be PersistenceMode.PERSISTENT or EPHEMERAL"),
        (lambda m: m.replace("k", 1, 2, ttl=0), ConfigurationError, "ttl must be more than 0"),
        (
            lambda m: m.remove("k", version=None),
            ConfigurationError,
            r"a version is the int that entry\(\) answers, not N",
        ),
        (lambda m: m.remove("k", 1, version=1), ConfigurationError, "the value that is expected, or its version; not"),
        (lambda m: m.replace("k", 1, version=None), ConfigurationError, "a version is the int"),
        (lambda m: m.replace("k", 1, version=True), ConfigurationError, "a version is the int"),
        (lambda m: m.replace("k", 1, 2, version=1), ConfigurationError, "not both"),
        (lambda m: m.entry(None), SerializationError, "cannot be a key"),
        (lambda m: m.keys(1), ConfigurationError, "a prefix is str or bytes, of keys of that type, not 1"),
        (lambda m: m.values(prefix=("a",)), ConfigurationError, "a prefix is str or bytes"),
        (lambda m: m.items("\ud800"), SerializationError, "lone surrogate"),
        (lambda m: m.keys("k" * 4097), TooLargeError, "4096"),
        (lambda m: m.on_add(print, key=1.5), SerializationError, "cannot be a key"),
        (lambda m: m.get("k", consistency="strong"), ConfigurationError, "'strong' is no ConsistencyLevel"),
    ],
)
async def test_a_mistake_raises_at_the_call_and_sends_nothing(
    users: DistributedMap[Any, Any], cc: Copycat, wrong: Wrong, error: type[Exception], message: str
) -> None:
    client: Any = cc._client
    before = len(client.calls)

    with pytest.raises(error, match=message):
        wrong(users)
    assert len(client.calls) == before


async def test_a_closed_handle_refuses_and_names_itself(users: DistributedMap[Any, Any]) -> None:
    await users.close()
    await users.close()

    with pytest.raises(ClosedError, match="this handle on DistributedMap 'users' is closed"):
        users.get("ann")
    with pytest.raises(ClosedError, match="closed"):
        users.put("ann", 1)
    for begin in (users.keys, users.values, users.items, users.clear):
        with pytest.raises(ClosedError, match="closed"):
            begin()
    with pytest.raises(ClosedError, match="closed"):
        users.on_add(print)
    with pytest.raises(ClosedError, match="closed"):
        await users.update("ann", lambda _: 1)


@pytest.mark.parametrize(
    "arguments",
    [("k", b"v", 0, 0), (b"k", "v", 0, 0), (b"k", b"v", float("nan"), 0), (b"k", b"v", "1", 0), (b"k", b"v", 0, 2), ()],
)
async def test_a_client_of_another_make_cannot_put_what_is_no_entry(
    users: DistributedMap[Any, Any], replicas: Replicas, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await users.command(1, *arguments)

    assert caught.value.kind == "TypeError"
    assert replicas.replicas[0].machine(3)._records == {}


# -- levels and deadlines ----------------------------------------------------------------------------------------------


async def test_levels_and_deadlines_are_the_calls_then_the_handles_then_the_defaults(replicas: Replicas) -> None:
    cc = await connect(replicas, timeout=9)
    client: Any = cc._client
    assert isinstance(client, LocalClient)
    lax = await cc.create("m", DistributedMap, consistency=ConsistencyLevel.SERIALIZABLE)

    async def asked(call: Any) -> tuple[Any, Any]:
        await call
        return client.calls[-1]["consistency"], client.calls[-1]["timeout"]

    assert await asked((await cc.create("m", DistributedMap)).get("k")) == (ConsistencyLevel.LINEARIZABLE, 9)
    assert await asked(lax.get("k")) == (ConsistencyLevel.SERIALIZABLE, 9)
    lease = ConsistencyLevel.LINEARIZABLE_LEASE
    assert await asked(lax.size(consistency=lease, timeout=None)) == (lease, None)
    assert await asked(lax.with_consistency(lease).with_timeout(2).is_empty()) == (lease, 2)
    assert await asked(lax.put("k", 1, timeout=0.5)) == (None, 0.5)
