"""Keys, values and items of a DistributedMap: in order, a page at a time, each once."""

from typing import Any

import pytest

from copycat.collections import DistributedMap, pages
from copycat.collections.map_machine import PAGE, MapMachine
from copycat.errors import ApplicationError, ClosedError, DecodeError, Outcome, UnknownResourceError
from copycat.handle import Copycat
from copycat.io.serializer import encode_key, encode_value
from copycat.resource import ConsistencyLevel
from copycat.testing import LocalClient, StateMachineHarness
from tests.resource.harness import Replicas, connect

KEYS: list[Any] = ["", "a", "ab", "abc", "b", "ä", b"", b"a", b"ab", 0, 1, 255, -1, True, ("a",), ("a", 1), "zz"]


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedMap, count=2)


@pytest.fixture
async def cc(replicas: Replicas) -> Copycat:
    return await connect(replicas)


@pytest.fixture
async def users(cc: Copycat) -> DistributedMap[Any, Any]:
    return await cc.create("users", DistributedMap)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three keys."""
    monkeypatch.setattr(pages, "PAGE_KEYS_MAX", 3)


def calls(cc: Copycat) -> list[dict[str, Any]]:
    client: Any = cc._client
    assert isinstance(client, LocalClient)
    return client.calls


async def listed(iterator: Any) -> list[Any]:
    return [each async for each in iterator]


# -- order and prefix --------------------------------------------------------------------------------------------------


async def test_an_empty_map_has_no_pages(users: DistributedMap[Any, Any], cc: Copycat) -> None:
    before = len(calls(cc))
    for each in (users.keys, users.values, users.items):
        assert await listed(each()) == []
    assert len(calls(cc)) == before + 3


@pytest.mark.usefixtures("small")
async def test_keys_values_and_items_come_in_the_order_of_their_canonical_bytes(
    users: DistributedMap[Any, Any],
) -> None:
    for number, key in enumerate(KEYS):
        await users.put(key, number)
    in_order = sorted(KEYS, key=encode_key)

    keys = await listed(users.keys())
    assert [(type(key), key) for key in keys] == [(type(key), key) for key in in_order]
    assert await listed(users.values()) == [KEYS.index(key) if key is not True else 13 for key in in_order]
    items = await listed(users.items())
    assert [key for key, _ in items] == keys
    assert [value for _, value in items] == await listed(users.values())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("prefix", ["", "a", "ab", "abcd", "ä", "z", "zzz", b"", b"a", b"\xff", None])
async def test_a_prefix_is_of_the_text_or_the_bytes_of_a_key(
    users: DistributedMap[Any, Any], prefix: str | bytes | None
) -> None:
    for key in KEYS:
        await users.put(key, 1)

    def begins(key: Any) -> bool:
        if isinstance(prefix, str):
            return isinstance(key, str) and key.startswith(prefix)
        return prefix is None or (isinstance(key, bytes) and key.startswith(prefix))

    wanted = [key for key in sorted(KEYS, key=encode_key) if begins(key)]
    assert await listed(users.keys(prefix)) == wanted
    assert await listed(users.keys(prefix=prefix)) == wanted
    assert await listed(users.items(prefix)) == [(key, 1) for key in wanted]
    assert len(await listed(users.values(prefix))) == len(wanted)


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "queries"), [(1, 1), (999, 1), (1000, 2), (1001, 2), (2500, 3)])
async def test_a_page_has_a_thousand_keys(
    users: DistributedMap[Any, Any], cc: Copycat, count: int, queries: int
) -> None:
    for number in range(count):
        await users.put(number, 0)
    before = len(calls(cc))

    assert sorted(await listed(users.keys())) == list(range(count))
    assert len(calls(cc)) == before + queries


async def test_a_page_of_large_values_ends_early(users: DistributedMap[Any, Any], cc: Copycat) -> None:
    large = "x" * 100_000
    for number in range(7):
        await users.put(number, large)
    before = len(calls(cc))

    assert await listed(users.items()) == [(number, large) for number in range(7)]
    assert len(calls(cc)) == before + 3  # three, three and one
    assert await listed(users.keys()) == list(range(7))
    assert len(calls(cc)) == before + 4


async def test_a_value_larger_than_a_page_comes_alone(users: DistributedMap[Any, Any]) -> None:
    await users.put("a", "x" * 1_000_000)
    await users.put("b", "y" * 1_000_000)

    assert [len(value) for value in await listed(users.values())] == [1_000_000, 1_000_000]


@pytest.mark.usefixtures("small")
async def test_nothing_is_asked_for_before_the_first_step_and_nothing_behind_the_last(
    users: DistributedMap[Any, Any], cc: Copycat
) -> None:
    for number in range(7):
        await users.put(number, 0)
    before = len(calls(cc))
    iterator = users.keys()
    assert len(calls(cc)) == before

    async for key in iterator:
        if key == 1:
            break
    assert len(calls(cc)) == before + 1


@pytest.mark.usefixtures("small")
async def test_what_is_there_all_the_time_comes_once_whatever_comes_and_goes(
    users: DistributedMap[Any, Any],
) -> None:
    for number in range(0, 100, 2):
        await users.put(number, 0)
    seen: list[int] = []
    async for key in users.keys():
        seen.append(key)
        if key % 2 == 0 and key < 98:
            await users.put(key + 1, 0)  # in the page at hand, or in one that follows
            await users.remove(97 - key)
        await users.remove(key)  # it may be the one to go on behind
        await users.put(0, 0)  # and another one comes before

    assert seen == sorted(set(seen))
    assert set(range(0, 100, 2)) <= set(seen)


@pytest.mark.usefixtures("small")
async def test_every_page_shows_values_as_they_are_when_it_is_asked_for(users: DistributedMap[Any, Any]) -> None:
    for number in range(6):
        await users.put(number, "old")
    seen: list[Any] = []
    async for key, value in users.items():
        if not seen:
            for number in range(6):
                await users.put(number, "new")
        seen.append((key, value))

    assert seen == [(0, "old"), (1, "old"), (2, "old"), (3, "new"), (4, "new"), (5, "new")]


async def test_pages_have_the_level_and_the_deadline_of_their_call(
    users: DistributedMap[Any, Any], cc: Copycat
) -> None:
    lease = ConsistencyLevel.LINEARIZABLE_LEASE
    for iterator in (users.keys, users.values, users.items):
        await listed(iterator(consistency=lease, timeout=3))
        assert (calls(cc)[-1]["consistency"], calls(cc)[-1]["timeout"]) == (lease, 3)
        await listed(iterator())
        assert (calls(cc)[-1]["consistency"], calls(cc)[-1]["timeout"]) == (ConsistencyLevel.LINEARIZABLE, 30)


# -- what ends an iteration --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("end", "error"), [("close", ClosedError), ("delete", UnknownResourceError)])
async def test_an_iteration_of_a_handle_that_is_gone_raises_at_the_next_page(
    users: DistributedMap[Any, Any], end: str, error: type[Exception]
) -> None:
    for number in range(7):
        await users.put(number, 0)
    seen: list[Any] = []

    async def collect() -> None:
        async for key in users.keys():
            if not seen:
                await getattr(users, end)()
            seen.append(key)

    with pytest.raises(error):
        await collect()
    assert seen == [0, 1, 2]


async def test_a_key_or_a_value_of_another_type_is_named_and_raised(cc: Copycat) -> None:
    anything = await cc.create("users", DistributedMap)
    await anything.put("ann", 41)
    typed = await cc.create("users", DistributedMap[int, str])

    with pytest.raises(DecodeError, match=r"DistributedMap 'users': a key is no int: 'ann' is not int") as caught:
        await listed(typed.keys("ann"))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    await (await cc.create("flags", DistributedMap)).put(True, 41)
    with pytest.raises(DecodeError, match=r"a key is no int: True is not int"):
        await listed((await cc.create("flags", DistributedMap[int, int])).items())
    with pytest.raises(DecodeError, match=r"a value is no str"):
        await listed(typed.values())
    with pytest.raises(DecodeError, match=r"key 'ann' is no bytes"):
        await listed((await cc.create("users", DistributedMap[str, bytes])).items("ann"))


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("", b"", 1), "TypeError"), ((b"", None, 1), "TypeError"), ((b"", b"", 4), "ValueError"), ((), "TypeError")],
)
async def test_a_client_of_another_make_cannot_ask_for_what_is_no_page(
    users: DistributedMap[Any, Any], arguments: tuple[Any, ...], kind: str
) -> None:
    await users.put("ann", 41)
    with pytest.raises(ApplicationError) as caught:
        await users.query(PAGE, *arguments)
    assert caught.value.kind == kind


# -- the order of the keys ---------------------------------------------------------------------------------------------


def test_the_order_is_no_part_of_the_state() -> None:
    """Only the server that is asked knows it, so replicas and replays must count as equal with and without."""
    bank = StateMachineHarness(MapMachine)
    for key in ("b", "a", "c"):
        bank.apply(1, encode_key(key), encode_value(1), 0, 0)

    assert bank.query(PAGE, b"", b"", 1) == [None, encode_key("a"), encode_key("b"), encode_key("c")]
    bank.check_replay()


def test_the_order_forgets_what_went() -> None:
    keys: dict[bytes, Any] = {}
    order = pages.KeyOrder(keys)
    for number in range(100):
        keys[b"%02d" % number] = None
        order.added += 1
    assert len(list(order.after(b"", b""))) == 100
    for number in range(97):
        del keys[b"%02d" % number]

    assert list(order.after(b"", b"")) == [b"97", b"98", b"99"]
    assert order._sorted == [b"97", b"98", b"99"]


def test_a_key_that_goes_and_comes_is_in_the_order_once() -> None:
    keys: dict[bytes, Any] = dict.fromkeys([b"a", b"b", b"c"])
    order = pages.KeyOrder(keys)
    order.added = 3
    assert list(order.after(b"", b"")) == [b"a", b"b", b"c"]
    del keys[b"b"]
    assert list(order.after(b"", b"")) == [b"a", b"c"]
    keys[b"b"] = None
    order.added += 1

    assert list(order.after(b"", b"")) == [b"a", b"b", b"c"]
    assert list(order.after(b"a", b"")) == [b"b", b"c"]
    assert list(order.after(b"b", b"")) == [b"c"]
