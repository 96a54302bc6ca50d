"""CopycatReplica and CopycatClient: a server and a session with one life, and the mistakes made with handles."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import copycat
from copycat import CopycatClient, CopycatReplica
from copycat.collections import DistributedMap
from copycat.errors import (
    ClosedError,
    ConfigurationError,
    CopycatError,
    ForkedError,
    NoLeaderError,
    Outcome,
    ResourceTypeError,
    SerializationError,
    ThreadError,
    TooLargeError,
    UnknownResourceError,
)
from copycat.io.transport import LocalTransport
from copycat.raft.client.states import ClientState
from copycat.resource import Resource
from tests.resource.machines import Counter


def alone(*, thread: bool = True, resources: Any = ()) -> CopycatReplica:
    """A cluster of one in memory."""
    return CopycatReplica("a", "a=127.0.0.1:1", transport=LocalTransport(), thread=thread, resources=resources)


@pytest.fixture(params=[True, False], ids=["thread", "no thread"])
def replica(request: pytest.FixtureRequest) -> CopycatReplica:
    return alone(thread=request.param)


@pytest.fixture
async def users() -> AsyncIterator[DistributedMap[Any, Any]]:
    async with alone() as cc:
        yield await cc.create("users", DistributedMap)


# -- life --------------------------------------------------------------------------------------------------------------


async def test_opening_is_idempotent_also_for_two_at_once(replica: CopycatReplica) -> None:
    first, second = await asyncio.gather(replica.open(), replica.open())
    assert first is second is replica
    assert replica.state is ClientState.CONNECTED
    assert await replica.open() is replica
    assert (await replica.server_status()).leader == "a"
    await replica.close()


async def test_closing_is_idempotent_also_for_two_at_once(replica: CopycatReplica) -> None:
    await replica.open()
    await asyncio.gather(replica.close(), replica.close())
    await replica.close()
    assert replica.state is ClientState.CLOSED
    assert not [thread for thread in threading.enumerate() if thread.name == "copycat-a"]


async def test_one_that_was_closed_does_not_open_again(replica: CopycatReplica) -> None:
    await replica.open()
    await replica.close()
    with pytest.raises(ClosedError, match=r"^the replica is closed: open another$"):
        await replica.open()


async def test_one_that_was_never_opened_may_be_closed(replica: CopycatReplica) -> None:
    await replica.close()
    with pytest.raises(ClosedError, match="the replica is closed: open another"):
        await replica.open()


@pytest.mark.parametrize("thread", [True, False])
async def test_without_a_majority_opening_says_who_is_missing_and_leaves_nothing_open(thread: bool) -> None:
    lonely = CopycatReplica("a", "a=127.0.0.1:1,b=127.0.0.1:2", transport=LocalTransport(), thread=thread)
    with pytest.raises(NoLeaderError, match=r"no leader within 0\.2 s: .*b"):
        await lonely.open(timeout=0.2)
    assert lonely.state is ClientState.CLOSED
    assert not [thread for thread in threading.enumerate() if thread.name == "copycat-a"]
    with pytest.raises(ClosedError, match="the replica is closed"):
        await lonely.open()


async def test_closing_ends_an_opening_that_waits_for_a_leader() -> None:
    lonely = CopycatReplica("a", "a=127.0.0.1:1,b=127.0.0.1:2", transport=LocalTransport())
    opening = asyncio.create_task(lonely.open(timeout=None))
    while not [thread for thread in threading.enumerate() if thread.name == "copycat-a"]:  # noqa: ASYNC110  # rings no bell
        await asyncio.sleep(0)
    await lonely.close()
    with pytest.raises(ClosedError):
        await opening


async def test_status_of_the_server_needs_it_to_be_open(replica: CopycatReplica) -> None:
    with pytest.raises(ClosedError, match=r"^the replica is not open: await its open\(\)$"):
        await replica.server_status()
    async with replica:
        assert (await replica.server_status()).leader == "a"
        assert (await replica.status())["leader"] == "a"
    with pytest.raises(ClosedError, match=r"^the replica is closed: open another$"):
        await replica.server_status()


async def test_a_client_of_a_cluster_reaches_what_a_replica_made() -> None:
    transport = LocalTransport()
    async with CopycatReplica("a", "a=127.0.0.1:1", transport=transport, thread=False) as cc:
        await (await cc.create("users", DistributedMap[str, int])).put("ann", 41)
        client = CopycatClient("127.0.0.1:1", transport=LocalTransport(transport.registry), timeout=5)
        heard: list[Any] = []
        client.on_state_change(heard.append)
        async with client:
            assert repr(client) == "<CopycatClient CONNECTED leader=a>"
            assert await (await client.get("users", DistributedMap[str, int])).get("ann") == 41
        assert heard == [ClientState.SUSPENDED, ClientState.CONNECTED, ClientState.CLOSED]


# -- mistakes with handles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: m.put("k", "x" * (1 << 20)),
            TooLargeError,
            "a value of 1048581 bytes; the limit is 1048576: store it in parts",
        ),
        (
            lambda m: m.put("k" * 4096, 1),
            TooLargeError,
            "a key of 4097 bytes; the limit is 4096: use a shorter one",
        ),
        (
            lambda m: m.put("k", "x" * ((1 << 20) - 5)),
            TooLargeError,
            "put on 'users': an operation of 1048591 bytes exceeds the limit of 1048576: send it in parts",
        ),
        (
            lambda m: m.put("k", object()),
            SerializationError,
            "a object cannot be a value; allowed are str, bytes, int, float, bool, list, tuple, dict, set, frozenset, "
            "Decimal, UUID, datetime, date, time, timedelta, dataclasses, msgspec Structs and registered types",
        ),
        (
            lambda m: m.put("k", None),
            SerializationError,
            "None cannot be a value: it means absent; remove the value instead",
        ),
        (
            lambda m: m.get(None),
            SerializationError,
            "None of type NoneType cannot be a key; allowed are str, bytes, int, bool, UUID, an Enum registered "
            "with an id, and tuples of these",
        ),
        (
            lambda m: m.get(1.5),
            SerializationError,
            "1.5 of type float cannot be a key; allowed are str, bytes, int, bool, UUID, an Enum registered with "
            "an id, and tuples of these",
        ),
        (
            lambda m: m.put("k", 1, ttl=0),
            ConfigurationError,
            "ttl must be more than 0 and at most 3162240000 seconds, not 0",
        ),
        (
            lambda m: m.put("k", 1, ttl=-2.5),
            ConfigurationError,
            "ttl must be more than 0 and at most 3162240000 seconds, not -2.5",
        ),
        (
            lambda m: m.put("k", 1, timeout=0),
            ConfigurationError,
            "a timeout is a positive number of seconds, or None for ever; not 0",
        ),
        (
            lambda m: bool(m.contains_key("k")),
            TypeError,
            "contains_key on 'users' was used as true or false without await; write: if await ...",
        ),
    ],
)
async def test_a_mistake_raises_at_the_call_and_nothing_happens(
    users: DistributedMap[Any, Any], call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call(users)
    assert str(caught.value) == message
    if isinstance(caught.value, CopycatError):
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert await users.is_empty()


@pytest.mark.parametrize(
    ("path", "resource", "error", "message"),
    [
        ("nobody", DistributedMap, UnknownResourceError, "there is no resource at path 'nobody'; create it"),
        (
            "users",
            Counter,
            ResourceTypeError,
            "path 'users' holds a 'copycat.map' of version 1, not a 'test.counter' of version 1",
        ),
    ],
)
async def test_a_path_that_does_not_hold_what_was_expected_says_what_it_holds(
    path: str, resource: type[Resource], error: type[CopycatError], message: str
) -> None:
    async with alone(resources=[Counter]) as cc:
        await cc.create("users", DistributedMap)
        with pytest.raises(error) as caught:
            await cc.get(path, resource)
        assert str(caught.value) == message


async def test_a_handle_is_of_no_use_before_open_and_after_close() -> None:
    cc = alone()
    with pytest.raises(ClosedError, match=r"^the client is not open: await its open\(\)$"):
        await cc.create("users", DistributedMap)
    async with cc:
        users = await cc.create("users", DistributedMap)
    for call in (lambda: users.put("k", 1), lambda: users.get("k"), users.delete):
        with pytest.raises(ClosedError, match=r"^the client is closed: open another$"):
            call()
    with pytest.raises(ClosedError, match=r"^the client is closed: open another$"):
        await cc.paths()


async def test_a_foreign_thread_is_refused_by_name_and_does_no_harm() -> None:
    cc = await alone()
    users = await cc.create("users", DistributedMap)
    told: list[str] = []

    def misuse() -> None:
        for work in (lambda: users.put("k", 1), lambda: asyncio.run(cc.open()), lambda: asyncio.run(cc.close())):
            try:
                work()
            except ThreadError as error:
                told.append(str(error))

    await asyncio.to_thread(misuse)
    assert len(told) == 3
    for words in told:
        assert words.startswith("used from thread 'asyncio_")
        assert words.endswith(
            "but it belongs to the event loop of thread 'MainThread'; use asyncio.run_coroutine_threadsafe(..., loop)"
        )
    assert await users.is_empty()
    await cc.close()


async def test_a_forked_child_is_refused_and_may_close_what_it_inherited() -> None:
    cc = await alone()
    users = await cc.create("users", DistributedMap)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            asyncio.events._set_running_loop(None)  # as in any child: the loop is the parent's
            for work in (lambda: asyncio.run(cc.close()), lambda: users.put("k", 1), lambda: asyncio.run(cc.open())):
                try:
                    work()
                except ForkedError as error:
                    os.write(writer, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as words:
        told = await asyncio.to_thread(words.read)
    os.waitpid(child, 0)
    expected = f"opened in process {os.getpid()} and used in its child {child}: open another after the fork"
    assert told.splitlines() == [expected] * 2
    assert await users.is_empty()
    await cc.close()


async def test_a_member_that_is_not_in_its_list_is_refused_when_it_is_made() -> None:
    for member in ("c", copycat.Member("a", "h", 9)):
        with pytest.raises(ConfigurationError, match=r"member .* is not in the member list a=h:1, b=h:2"):
            CopycatReplica(member, "a=h:1,b=h:2")


# -- backups -----------------------------------------------------------------------------------------------------------


async def test_a_replica_writes_backups_while_it_is_open(replica: CopycatReplica, tmp_path: Path) -> None:
    with pytest.raises(ClosedError, match="not open"):
        await replica.backup(tmp_path / "early")
    async with replica as cc:
        users = await cc.create("users", DistributedMap[str, int])
        await users.put("ann", 41)
        backup = await cc.backup(tmp_path / "backup")
        assert backup.index >= (await replica.server_status()).commit_index
        with pytest.raises(ConfigurationError, match="is there already"):
            await cc.backup(tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_size == backup.size
    assert not (tmp_path / "early").exists()
