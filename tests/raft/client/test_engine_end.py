"""How a client ends: in order, without a majority, or because it cannot go on."""

import asyncio
from typing import Any

import pytest

from copycat.errors import (
    ClosedError,
    IndeterminateError,
)
from copycat.raft.client.engine import CLOSE_SECONDS
from copycat.raft.client.states import ClientState
from tests.raft.client.loops import Cluster, ask, now, reach, say, turn, virtual

SUSPENDED, CLOSED = ClientState.SUSPENDED, ClientState.CLOSED


def is_done(future: "asyncio.Future[Any]") -> bool:
    return future.done()


@virtual
async def test_what_was_called_before_the_close_is_sent_and_answered() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        session = client.session_id
        called = say(client, "a")
        await client.close()
        assert await called
        assert session not in cluster.model.sessions
        await turn()
        assert cluster.a.connections == []


@virtual
async def test_closing_without_a_majority_takes_two_seconds_and_says_what_is_known() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.is_mute = True
        sent, asked = say(client, "a"), ask(client, "q")
        await turn()
        started = now()
        await client.close()
        assert now() - started == CLOSE_SECONDS
        with pytest.raises(IndeterminateError, match=r"^say 'a': sent, but the session ended \(the client was c"):
            await sent
        with pytest.raises(ClosedError, match=r"^ask 'q': unanswered; the client was closed$"):
            await asked


@virtual
async def test_closing_without_a_leader_takes_no_time_and_unsent_commands_did_not_happen() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.model.leader = ""
        cluster.a.announce()
        await reach(client, SUSPENDED)
        unsent, started = say(client, "a"), now()
        await client.close()
        assert now() == started
        with pytest.raises(ClosedError, match=r"^say 'a': the client was closed before it was sent$"):
            await unsent
        assert cluster.model.executed == {}


@virtual
async def test_closing_is_idempotent_and_whoever_closes_second_waits_too() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.is_mute = True
        say(client, "a").cancel()
        await turn()
        first, second = asyncio.create_task(client.close()), asyncio.create_task(client.close())
        await turn()
        assert {first.done(), second.done()} == {False}
        await asyncio.gather(first, second)
        await client.close()


@virtual
async def test_a_close_that_is_cancelled_lets_go_all_the_same() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.is_mute = True
        sent = say(client, "a")
        await turn()
        closing = asyncio.create_task(client.close())
        await turn()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert is_done(sent)
        assert sent.exception()
        await turn()
        assert cluster.a.connections == []


@virtual
async def test_a_client_whose_transport_is_closed_stops_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        assert client._pool is not None
        called = say(client, "a")
        await called
        await client._pool.transport.close()
        await reach(client, CLOSED)
        assert "the client has stopped: the transport is closed" in [record.getMessage() for record in caplog.records]
        with pytest.raises(ClosedError, match="the client is closed"):
            say(client, "b")


@virtual
async def test_opening_with_a_transport_that_is_closed_raises_its_error() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        await client._given_transport.close()  # type: ignore[union-attr]  # one was given
        with pytest.raises(ClosedError, match="the transport is closed"):
            await client.open()
