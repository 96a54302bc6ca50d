"""Asking a server how it is: the one a client is connected to, the next that answers, or one by name."""

import asyncio
from collections.abc import Callable

import pytest

from copycat.errors import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    ProtocolError,
    QueryTimeoutError,
)
from copycat.raft.client.client import RaftClient
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.wire import HEADER_STATUS, Tag
from tests.raft.client.loops import Cluster, now, turn, virtual


@virtual
async def test_status_is_that_of_the_connected_server_or_of_the_next_that_answers() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        here = cluster.host_of(client)
        assert await client.status() == {"member": here.address}
        here.is_mute = True
        started = now()
        other = await client.status(timeout=0.5)
        assert other["member"] != here.address
        assert now() - started == 0.5


@virtual
async def test_a_status_that_no_server_tells_lists_all_and_why() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        gone, mute = cluster.hosts["a"], cluster.hosts["b"]
        await gone.close()
        mute.is_mute = True
        with pytest.raises(ConnectError, match="no server tells its status: ") as caught:
            await client.status(timeout=1)
        assert caught.value.tried == {"a:1": "a:1: connection refused", "b:1": "b:1: no answer within 1 s"}


@virtual
async def test_status_needs_an_open_client_and_status_of_does_not() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        with pytest.raises(ClosedError, match="the client is not open"):
            await client.status()
        assert await client.status_of("a:1") == {"member": "a:1"}
        assert await client.status_of(Member("a", "a", 1)) == {"member": "a:1"}
        await turn()
        assert cluster.a.connections == []


@virtual
async def test_a_server_that_does_not_tell_its_status_is_told_apart() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        with pytest.raises(ConfigurationError, match="'a' is not of the form"):
            await client.status_of("a")
        with pytest.raises(ConnectError, match="x:1: connection refused"):
            await client.status_of("x:1")
        cluster.a.is_mute = True
        with pytest.raises(QueryTimeoutError, match=r"^a:1: no answer within 2 s$"):
            await client.status_of("a:1", timeout=2)

        async def after_it_asked(act: Callable[[], None]) -> None:
            asked = len(cluster.a.frames)
            task = asyncio.create_task(client.status_of("a:1"))
            while len(cluster.a.frames) == asked:  # noqa: ASYNC110 – virtual time
                await asyncio.sleep(0)
            act()
            await task

        with pytest.raises(ConnectError, match="a:1: closed the connection"):
            await after_it_asked(lambda: cluster.a.connections[0].close())
        with pytest.raises(ProtocolError, match="a:1: its status cannot be read"):
            await after_it_asked(lambda: cluster.a.tell(HEADER_STATUS.pack(Tag.STATUS_ANSWER, 1) + b"\x01"))


async def test_a_status_over_tcp_closes_the_transport_it_made() -> None:
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1: connection refused"):
        await RaftClient("a:1").status_of("127.0.0.1:1")
