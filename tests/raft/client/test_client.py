"""RaftClient, for programs: opened and closed once, used where it was opened, and what it tells of itself."""

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.errors import (
    ClosedError,
    ConfigurationError,
    CopycatError,
    DecodeError,
    ForkedError,
    Outcome,
    SerializationError,
    ThreadError,
    TooLargeError,
)
from copycat.raft.client.client import RaftClient
from copycat.raft.client.encoding import ENTRY_BYTES_MAX
from copycat.raft.client.states import ClientState, Recovery
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.operations import Command, ConsistencyLevel, Query
from copycat.raft.protocol.wire import HEADER_QUERY, Tag
from tests.raft.client.loops import Cluster, ask, say, turn, virtual

# -- life --------------------------------------------------------------------------------------------------------------


@virtual
async def test_a_client_is_opened_by_with_by_await_or_by_open_and_only_once() -> None:
    async with Cluster() as cluster:
        async with cluster.new_client() as client:
            session = client.session_id
            assert await client is client
            assert await client.open() is client
            assert client.session_id == session > 0
        assert client.state is ClientState.CLOSED
        with pytest.raises(ClosedError, match="the client is closed"):
            await client.open()


@virtual
async def test_two_that_open_it_at_once_get_the_same_session() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        await asyncio.gather(client.open(), client.open())
        assert len(cluster.model.sessions) == 1


@virtual
async def test_an_opening_that_is_cancelled_leaves_nothing_behind() -> None:
    async with Cluster() as cluster:
        cluster.a.is_mute = True
        client = cluster.new_client()
        opening = asyncio.create_task(client.open(timeout=None))
        await turn()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await turn()
        assert client.state is ClientState.CLOSED
        assert cluster.a.connections == []


@virtual
async def test_closing_what_was_never_opened_does_nothing_and_it_stays_closed() -> None:
    client = RaftClient("a:1")
    await client.close()
    assert client.state is ClientState.CLOSED
    with pytest.raises(ClosedError, match="the client is closed"):
        await client.open()


@virtual
async def test_a_transport_that_was_given_stays_open() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        transport = client._given_transport
        await client.close()
        again = await cluster.client(transport=transport)
        assert await say(again, "a")


def test_repr_and_properties_before_it_is_open() -> None:
    client = RaftClient("a:1")
    assert repr(client) == "<RaftClient CLOSED session=None leader=None>"
    assert (client.session_id, client.floor, client.leader, client.connected_to) == (0, 0, None, None)


@virtual
async def test_repr_and_properties_while_it_is_open() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        index = await say(client, "a")
        assert repr(client) == f"<RaftClient CONNECTED session={client.session_id} leader=a>"
        assert (client.floor, client.leader, client.connected_to) == (index, "a", "a")
        await client.close()
        assert client.connected_to is None


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": ""}, "the member list is empty: name at least one member as id=host:port"),
        ({"members": []}, "the member list is empty"),
        ({"members": "localhost"}, "member 'localhost' is not of the form id=host:port or host:port"),
        ({"members": "a:1,a:1"}, "two members have the id 'a:1': every id must be listed once"),
        ({"members": "a=h:1,b=h:1"}, "two members have the address 'h:1': every address must be listed once"),
        ({"members": "a:0"}, "has no usable address"),
        ({"session_timeout": 0}, "session_timeout is a positive number of seconds, not 0"),
        ({"session_timeout": 5_000_000}, "session_timeout is a positive number of seconds, not 5000000"),
        ({"session_timeout": "5"}, "session_timeout is a positive number of seconds, not '5'"),
        ({"timeout": -1}, "timeout is a positive number of seconds, not -1"),
        ({"timeout": True}, "timeout is a positive number of seconds, not True"),
        ({"timeout": float("nan")}, "timeout is a positive number of seconds, not nan"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RaftClient(**{"members": "a:1", **arguments})


def test_what_can_be_is_taken() -> None:
    client = RaftClient([Member("a", "h", 1), "h:2"], session_timeout=1, timeout=None, recovery=Recovery("CLOSE"))
    assert [member.address for member in client.members] == ["h:1", "h:2"]
    assert RaftClient.builder("a:1").set(timeout=3).build().timeout == 3


CALLS: list[Callable[[RaftClient], Any]] = [lambda client: say(client, "a"), ask]


@pytest.mark.parametrize("call", CALLS)
def test_an_operation_before_open_says_what_to_do(call: Callable[[RaftClient], Any]) -> None:
    with pytest.raises(ClosedError, match=r"^the client is not open: await its open\(\)$"):
        call(RaftClient("a:1"))


@pytest.mark.parametrize("call", CALLS)
@virtual
async def test_an_operation_after_close_says_so(call: Callable[[RaftClient], Any]) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        await client.close()
        with pytest.raises(ClosedError, match=r"^the client is closed: open another$") as caught:
            call(client)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert isinstance(caught.value, RuntimeError)


def raised_in_a_thread(work: Callable[[], object]) -> BaseException:
    """What `work` raises in a thread of its own, called foreign."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="foreign")
    thread.start()
    thread.join()
    (error,) = raised
    return error


@virtual
async def test_a_foreign_thread_is_refused_and_both_threads_are_named() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        works: list[Callable[[], object]] = [
            lambda: say(client, "a"),
            lambda: ask(client),
            lambda: asyncio.run(client.open()),
            lambda: asyncio.run(client.close()),
            lambda: asyncio.run(client.status()),
        ]
        for work in works:
            error = raised_in_a_thread(work)
            assert isinstance(error, ThreadError)
            assert str(error) == (
                "used from thread 'foreign', but it belongs to the event loop of thread 'MainThread'; "
                "use asyncio.run_coroutine_threadsafe(..., loop)"
            )
        assert await say(client, "b")
        assert list(cluster.model.executed) == ["b"]


def test_another_loop_of_the_same_thread_is_refused() -> None:
    async def begin() -> None:
        client._start()

    client = RaftClient("127.0.0.1:1")
    with asyncio.Runner() as first:
        first.run(begin())

        async def use() -> None:
            with pytest.raises(ThreadError, match="the client belongs to another event loop, that it was opened on"):
                say(client, "a")
            with pytest.raises(ThreadError, match="another event loop"):
                await client.close()

        def elsewhere() -> None:
            with asyncio.Runner() as second:
                second.run(use())

        elsewhere()
        first.run(client.close())


@virtual
async def test_a_forked_child_is_refused_and_told_to_open_another() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        parent = os.getpid()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                asyncio.events._set_running_loop(None)  # as in any child: the loop is the parent's
                asyncio.run(client.close())
                say(client, "a")
            except ForkedError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as words:
            told = words.read()
        os.waitpid(child, 0)
        assert told == f"opened in process {parent} and used in its child {child}: open another after the fork"
        assert await say(client, "b")
        assert list(cluster.model.executed) == ["b"]


@pytest.mark.parametrize("call", ["command", "query"])
@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        (object(), SerializationError, "^put: the arguments cannot be sent: "),
        (1 << 64, SerializationError, "^put: the arguments cannot be sent: "),
        ("\ud800", SerializationError, "^put: the arguments cannot be sent: "),
        ("x" * ENTRY_BYTES_MAX, TooLargeError, r"^put: an operation of 10485\d\d bytes exceeds the limit of 1048576: "),
    ],
)
@virtual
async def test_arguments_that_cannot_be_sent_raise_at_the_call_and_send_nothing(
    call: str, argument: Any, error: type[CopycatError], message: str
) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        with pytest.raises(error, match=message) as caught:
            getattr(client, call)(0, 0, 1, (argument,), what="put")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        if isinstance(caught.value, TooLargeError):
            assert caught.value.size_bytes > caught.value.limit_bytes == ENTRY_BYTES_MAX
        await say(client, "b")
        assert list(cluster.model.executed) == ["b"]


@virtual
async def test_arguments_nested_without_end_raise_at_the_call() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(SerializationError, match="the arguments cannot be sent"):
            client.command(0, 0, 1, endless)


# -- operations of classes ---------------------------------------------------------------------------------------------


@dataclass
class Deposit(Command[int], id=1):
    amount: int


@dataclass
class Balance(Query[int], id=2):
    pass


class Stale(Query[int], id=3):
    consistency = ConsistencyLevel.SERIALIZABLE

    def arguments(self) -> tuple[Any, ...]:
        return ()


@virtual
async def test_a_mistaken_operation_is_refused_at_the_call() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        wrong: Any
        for wrong in ("deposit", Deposit):
            with pytest.raises(ConfigurationError, match="only a Command or a Query can be submitted, not"):
                client.submit(wrong)
        with pytest.raises(ConfigurationError, match="Deposit is a command: commands are always linearizable and take"):
            client.submit(Deposit(1), consistency=ConsistencyLevel.SERIALIZABLE)
        wrong = Deposit(object())  # type: ignore[arg-type]  # the mistake
        with pytest.raises(SerializationError):
            client.submit(wrong)


@virtual
async def test_the_level_of_a_query_is_the_calls_or_that_of_its_class() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.is_mute = True
        for query, level in (
            (Balance(), None),
            (Stale(), None),
            (Stale(), ConsistencyLevel.LINEARIZABLE_LEASE),
        ):
            client.submit(query, consistency=level)
            await turn()
        levels = [HEADER_QUERY.unpack_from(frame)[5] for frame in cluster.a.frames if frame[0] == Tag.QUERY]
        assert levels == [3, 1, 2]


@virtual
async def test_a_result_that_is_not_of_the_promised_type_names_the_operation() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        with pytest.raises(DecodeError, match="the state machine: the result of Balance is no int: "):
            await client.submit(Balance())  # the model answers with a number, where bytes are due
