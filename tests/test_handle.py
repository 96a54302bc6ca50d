"""Copycat: resources by path, and a session's life passed through."""

from typing import Any

import pytest

from copycat.collections import DistributedMap
from copycat.errors import (
    ClosedError,
    ConfigurationError,
    ResourceTypeError,
    SerializationError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
)
from copycat.handle import Copycat
from copycat.resource.operations import CATALOG, CREATE
from tests.resource.harness import LocalClient, Replicas, connect
from tests.resource.machines import Bank, BankAccount, Counter


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedMap, Counter)


@pytest.fixture
async def cc(replicas: Replicas) -> Copycat:
    return await connect(replicas)


async def test_create_finds_what_another_created(replicas: Replicas, cc: Copycat) -> None:
    other = await connect(replicas)
    await (await cc.create("a", Counter)).add(5)

    assert await (await other.create("a", Counter)).total() == 5
    assert await (await other.get("a", Counter)).total() == 5


async def test_get_creates_nothing(cc: Copycat) -> None:
    with pytest.raises(UnknownResourceError, match="there is no resource at path 'a'; create it"):
        await cc.get("a", Counter)
    assert not await cc.exists("a")


@pytest.mark.parametrize("verb", ["create", "get"])
async def test_a_path_of_another_type_names_both(cc: Copycat, verb: str) -> None:
    await cc.create("a", Counter)

    with pytest.raises(ResourceTypeError, match=r"path 'a' holds a 'test\.counter' of version 1, not a 'copycat\.map'"):
        await getattr(cc, verb)("a", DistributedMap[str, int])


async def test_a_type_the_servers_do_not_run_says_what_to_do(cc: Copycat) -> None:
    with pytest.raises(UnknownResourceTypeError, match=r"start each with it, as resources=\[\.\.\.\] or --resources"):
        await cc.create("bank", BankAccount)


async def test_delete_frees_the_path(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)

    assert (await cc.delete("a"), await cc.delete("a"), await cc.exists("a")) == (True, False, False)
    with pytest.raises(UnknownResourceError):
        await counter.total()


async def test_paths_are_found_by_prefix_and_type(cc: Copycat) -> None:
    for path in ("b", "a/2", "a/1"):
        await cc.create(path, Counter)
    await cc.create("a/map", DistributedMap)

    assert await cc.paths() == ["a/1", "a/2", "a/map", "b"]
    assert await cc.paths("a/", Counter) == ["a/1", "a/2"]
    assert await cc.paths("", DistributedMap[str, int]) == ["a/map"]
    assert await cc.paths("c") == []


async def test_a_slash_is_a_letter_like_any_other(cc: Copycat) -> None:
    await (await cc.create("/a", Counter)).add(1)

    assert await (await cc.create("a", Counter)).total() == 0


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (5, SerializationError, "a path is a str, not int: 5"),
        (None, SerializationError, "a path is a str, not NoneType"),
        (b"a", SerializationError, "a path is a str, not bytes"),
        ("", ConfigurationError, "a path must not be empty"),
        ("\ud800", SerializationError, "lone surrogate"),
        ("é" * 257, TooLargeError, "has 514 bytes; the limit is 512"),
    ],
)
async def test_what_is_no_path_is_refused_before_it_is_sent(
    cc: Copycat, path: Any, error: type[Exception], message: str
) -> None:
    for call in (
        lambda: cc.create(path, Counter),
        lambda: cc.get(path, Counter),
        lambda: cc.exists(path),
        lambda: cc.delete(path),
    ):
        with pytest.raises(error, match=message):
            await call()
    client: Any = cc._client
    assert client.calls == []


async def test_the_longest_path_is_a_path(cc: Copycat) -> None:
    assert (await cc.create("é" * 256, Counter)).path == "é" * 256


async def test_a_mistaken_class_is_told_apart(cc: Copycat) -> None:
    wrong: Any
    for wrong in (dict, "map", 5):
        with pytest.raises(ResourceTypeError, match="is no Resource class"):
            await cc.create("a", wrong)
    wrong = Bank
    with pytest.raises(ResourceTypeError, match="it is a state machine"):
        await cc.get("a", wrong)


async def test_a_mistaken_level_is_told(cc: Copycat) -> None:
    wrong: Any = "strong"

    with pytest.raises(ConfigurationError, match="'strong' is no ConsistencyLevel"):
        await cc.create("a", Counter, consistency=wrong)


async def test_a_resource_of_a_newer_encoding_is_refused(cc: Copycat) -> None:
    client: Any = cc._client
    await client.command(CATALOG, 0, CREATE, ("a", "test.counter", 1, 2))

    with pytest.raises(ResourceTypeError, match="created with encoding version 2; this process knows 1: upgrade it"):
        await cc.get("a", Counter)


async def test_deadlines_are_the_calls_or_the_copycats(replicas: Replicas) -> None:
    cc = await connect(replicas, timeout=9)
    client: Any = cc._client
    await cc.exists("a")
    await cc.exists("a", timeout=2)
    await cc.create("a", Counter, timeout=None)

    assert [call["timeout"] for call in client.calls] == [9, 2, None]


# -- life --------------------------------------------------------------------------------------------------------------


async def test_a_copycat_is_opened_by_with_or_by_await(replicas: Replicas) -> None:
    async with Copycat(LocalClient(replicas)) as cc:
        assert repr(cc) == "<Copycat CONNECTED leader=a>"
        counter = await cc.create("a", Counter)
    assert repr(cc) == "<Copycat CLOSED leader=None>"
    with pytest.raises(ClosedError):
        counter.total()

    again = await Copycat(LocalClient(replicas))
    assert await again.exists("a")


async def test_state_listeners_and_status_are_the_sessions(replicas: Replicas) -> None:
    cc = Copycat(LocalClient(replicas))
    heard: list[Any] = []
    listener = cc.on_state_change(heard.append)
    await cc.open()
    assert (cc.state, cc.leader, await cc.status()) == ("CONNECTED", "a", {"leader": "a"})
    await cc.close()
    listener.close()
    await cc.open()

    assert heard == ["CONNECTED", "CLOSED"]


async def test_a_copycat_without_servers_has_no_backups(replicas: Replicas) -> None:
    async with Copycat(LocalClient(replicas)) as cc:
        with pytest.raises(ConfigurationError, match="nothing to back up"):
            await cc.backup("backup")
