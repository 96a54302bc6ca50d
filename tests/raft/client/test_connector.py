"""Whom a client talks to: which server, which one next, and what it tells of those that were of no use."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest

from copycat.errors import ClosedError, ConnectError, NoLeaderError
from copycat.io.transport import DialError, LocalTransport, TcpTransport
from copycat.raft.client.channels import ConnectionPool
from copycat.raft.client.client import RaftClient
from copycat.raft.client.connector import DIAL_SECONDS, Connector
from copycat.raft.client.selection import REDIAL_SECONDS_MIN
from copycat.raft.client.states import ClientState
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.util.address import Address
from tests.raft.client.loops import Cluster, Host, now, reach, say, turn, virtual


class Line:
    """A connector that runs, and what it reported."""

    def __init__(self, cluster: Cluster, addresses: list[str], *, seed: int = 1) -> None:
        self.events: list[str] = []
        self.frames: list[bytes] = []
        self.connector = Connector(
            addresses,
            ConnectionPool(LocalTransport(cluster.registry)),
            random=random.Random(seed),
            on_frames=self.frames.extend,
            on_connected=lambda: self.events.append(f"connected to {self.connector.member}"),
            on_lost=lambda: self.events.append("lost"),
        )

    async def until(self, count: int) -> None:
        """Wait for so many events in all."""
        while len(self.events) < count:  # noqa: ASYNC110 – virtual time
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(line: Line) -> AsyncIterator[Connector]:
    task = asyncio.get_running_loop().create_task(line.connector.run())
    try:
        yield line.connector
    finally:
        task.cancel()
        await asyncio.wait([task])


# -- which server ------------------------------------------------------------------------------------------------------


@virtual
async def test_clients_spread_over_the_servers() -> None:
    async with Cluster("abc") as cluster:
        for seed in range(60):
            await cluster.client(seed=seed)
        callers = Counter({name: host.callers for name, host in cluster.hosts.items()})
        assert min(callers.values()) >= 10


@virtual
async def test_a_server_that_cannot_be_reached_is_passed_over_without_waiting() -> None:
    async with Cluster("ab") as cluster:
        await cluster.a.close()
        for seed in range(8):
            line = Line(cluster, ["a:1", "b:1"], seed=seed)
            started = now()
            async with running(line) as connector:
                await line.until(1)
                assert (connector.address, connector.member) == ("b:1", "b")
                assert now() - started < REDIAL_SECONDS_MIN / 2


@virtual
async def test_when_a_server_is_lost_another_is_tried_before_it() -> None:
    async with Cluster("ab") as cluster:
        line = Line(cluster, ["a:1", "b:1"])
        async with running(line) as connector:
            await line.until(1)
            for _ in range(5):
                first = cluster.hosts[connector.member]
                first.hang_up()
                await line.until(len(line.events) + 2)
                assert line.events[-2:] == ["lost", f"connected to {connector.member}"]
                assert cluster.hosts[connector.member] is not first


@virtual
async def test_a_server_that_is_left_is_hung_up_on_and_its_late_frames_are_not_heard() -> None:
    async with Cluster("ab") as cluster:
        line = Line(cluster, ["a:1", "b:1"])
        async with running(line) as connector:
            await line.until(1)
            left = cluster.hosts[connector.member]
            await turn()
            line.frames.clear()
            left.tell(b"late")
            connector.leave("not useful")
            assert connector.connection is None
            assert connector.tried[left.address] == "not useful"
            connector.leave("again")
            await line.until(3)
            await turn()
            assert left.connections == []
            assert b"late" not in line.frames
            assert line.events.count("lost") == 1


@virtual
async def test_dials_pause_longer_and_longer_while_nobody_answers() -> None:
    async with Cluster("") as cluster:
        line = Line(cluster, ["x:1"])
        dials: list[float] = []
        registry_find = cluster.registry.find

        def find(address: Address) -> None:
            dials.append(now())
            assert registry_find(address) is None

        cluster.registry.find = find  # type: ignore[method-assign]  # a spy
        async with running(line):
            await asyncio.sleep(60)
        pauses = [later - earlier for earlier, later in itertools.pairwise(dials)]
        assert pauses[0] <= 0.02
        assert all(1.0 <= pause <= 2.0 for pause in pauses[-5:])


@virtual
async def test_servers_learnt_of_are_tried_too_and_named_once() -> None:
    async with Cluster("ab") as cluster:
        line = Line(cluster, ["a:1", "a:1"])
        async with running(line) as connector:
            await line.until(1)
            connector.learn(["b:1", "a:1"])
            assert connector.addresses == ["a:1", "b:1"]
            cluster.a.hang_up()
            await line.until(3)
            assert connector.member == "b"
            assert connector.addresses == ["b:1", "a:1"]


@virtual
async def test_a_connector_ends_when_its_transport_is_closed() -> None:
    async with Cluster() as cluster:
        line = Line(cluster, ["a:1"])
        await line.connector._pool.transport.close()
        with pytest.raises(ClosedError, match="the transport is closed"):
            await line.connector.run()


# -- what is told of servers -------------------------------------------------------------------------------------------


@virtual
async def test_every_server_is_described_by_what_became_of_it() -> None:
    async with Cluster("ab") as cluster:
        await cluster.hosts["b"].close()
        line = Line(cluster, ["a:1", "b:1"])
        connector = line.connector
        assert connector.describe() == "none of a:1, b:1 has answered yet"
        async with running(line):
            await line.until(1)
            cluster.a.hang_up(ConnectionResetError("broken"))
            await line.until(3)
            connector.note("has no leader")
            assert connector.describe() == "a (a:1): has no leader; b:1: connection refused"
            assert str(connector.error("put")) == (
                "put: no leader answered. a (a:1): has no leader; b:1: connection refused. "
                "Check the addresses, or run: copycat status a:1,b:1"
            )
            connector.settle()
            assert connector.describe() == "connected to a (a:1)"
        assert connector.tried["a:1"] == "the client was closed"


@virtual
async def test_why_a_connection_was_lost_is_remembered() -> None:
    async with Cluster() as cluster:
        line = Line(cluster, ["a:1"])
        async with running(line) as connector:
            await line.until(1)
            await cluster.a.close()
            await line.until(2)
            assert connector.tried == {"a:1": "closed the connection"}


@virtual
async def test_opening_without_any_server_lists_all_that_were_tried_and_why() -> None:
    async with Cluster("") as cluster:
        client = cluster.new_client(["x:1", "y:1"])
        started = now()
        with pytest.raises(ConnectError) as caught:
            await client.open(timeout=3)
        assert now() - started == 3
        assert str(caught.value) == (
            "no session within 3 s: no server answered. x:1: connection refused; y:1: connection refused. "
            "Check the addresses, or run: copycat status x:1,y:1"
        )
        assert caught.value.tried == {"x:1": "connection refused", "y:1": "connection refused"}
        assert client.state is ClientState.CLOSED


@virtual
async def test_opening_without_a_leader_says_so_of_each_server() -> None:
    async with Cluster("ab") as cluster:
        cluster.model.leader = ""
        client = cluster.new_client()
        with pytest.raises(NoLeaderError) as caught:
            await client.open(timeout=10)
        assert str(caught.value) == (
            "no session within 10 s: no leader answered. a (a:1): no leader for 4 s; b (b:1): has no leader. "
            "Check the addresses, or run: copycat status a:1,b:1"
        )


class Silent(LocalTransport):
    """Nobody answers."""

    async def connect(self, address: Address, *_: object, timeout: float = 5.0) -> NoReturn:
        await asyncio.sleep(timeout)
        raise DialError(address, f"no answer within {timeout:g} s")


@virtual
async def test_a_host_that_does_not_answer_is_given_two_seconds() -> None:
    client = RaftClient(["x:1"], transport=Silent())
    with pytest.raises(ConnectError, match="x:1: no answer within 2 s"):
        await client.open(timeout=DIAL_SECONDS + 1)


async def test_a_server_of_something_else_is_named_as_what_it_is() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = RaftClient(address)
    with pytest.raises(ConnectError, match=rf"{address}: speaks HTTP, not Copycat\. Check the addresses, or run:"):
        await client.open(timeout=0.3)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"what?", "the handshake cannot be read"),
        (
            encode_hello(Hello(role="member", versions=(7, 9))),
            "no common protocol version: this side speaks 1 to 1, the other 7 to 9",
        ),
    ],
)
@virtual
async def test_a_server_that_cannot_be_understood_is_passed_over_with_the_reason(hello: bytes, reason: str) -> None:
    async with Cluster("ab") as cluster:
        cluster.a.hello = hello
        await cluster.a.close()
        await cluster.a.open()
        client = cluster.new_client(["a:1"])
        with pytest.raises(ConnectError, match=f"a:1: {reason}"):
            await client.open(timeout=1)
        assert (await cluster.client()).connected_to == "b"


# -- one cluster and no other ------------------------------------------------------------------------------------------


@virtual
async def test_once_a_session_stands_servers_of_another_cluster_are_refused() -> None:
    async with Cluster("ab") as cluster:
        cluster.hosts["b"].cluster = b"o" * 16
        client = await cluster.client(["a:1"], discover=False)
        assert client._engine is not None
        connector = client._engine.connector
        connector.learn(["b:1"])
        await cluster.a.close()
        await asyncio.sleep(5)
        assert connector.connection is None
        assert connector.tried["b:1"] == f"belongs to another cluster: {'6f' * 16}, and this client's is {'63' * 16}"
        await cluster.a.open()
        await reach(client, ClientState.CONNECTED)
        assert client.connected_to == "a"


@virtual
async def test_before_a_session_stands_a_server_of_another_cluster_is_as_good() -> None:
    async with Cluster("ab") as cluster:
        cluster.a.knows_leader = False
        cluster.hosts["b"].cluster = b"o" * 16
        for seed in range(4):
            client = await cluster.client(seed=seed)
            assert client.connected_to == "b"


@virtual
async def test_a_server_that_does_not_know_its_cluster_yet_is_talked_to() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client(["a:1", "b:1"])
        first = cluster.host_of(client)
        other: Host = cluster.hosts["b" if first is cluster.a else "a"]
        other.cluster = b""
        await first.close()
        await reach(client, ClientState.SUSPENDED)
        await reach(client, ClientState.CONNECTED)
        assert await say(client, "a")
        assert cluster.host_of(client) is other


async def test_a_dial_over_tcp_that_nobody_answers_is_refused_by_name() -> None:
    transport = TcpTransport()
    client = RaftClient("127.0.0.1:1", transport=transport)
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1: connection refused"):
        await client.open(timeout=0.2)
    await transport.close()
