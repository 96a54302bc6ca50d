"""Clients of one loop that share a connection: each hears what is its own, and what befalls one befalls no other."""

import asyncio
from typing import Any

import pytest

from copycat.errors import ConnectError, CopycatError
from copycat.io.transport import LocalTransport
from copycat.raft.client import channels
from copycat.raft.client.channels import TOGETHER_BYTES_MAX, TOGETHER_SECONDS, ConnectionPool, pool_of
from copycat.raft.client.client import RaftClient
from copycat.raft.client.engine import PATIENCE_SECONDS_MIN
from copycat.raft.client.queries import REQUEST_BITS
from copycat.raft.client.states import ClientState
from copycat.raft.protocol.wire import HEADER_KEEP_ALIVE, HEADER_KEPT, KEPT_ALIVE, KEPT_SESSION, Tag
from copycat.testing.cluster import SimulatedCluster, simulate
from copycat.util.address import Address
from tests.raft.client.loops import Cluster, ask, now, reach, say, turn, virtual


async def beside(cluster: Cluster, count: int, **options: Any) -> list[RaftClient]:
    """So many clients with one transport."""
    transport = LocalTransport(cluster.registry)
    return [await cluster.client(transport=transport, seed=seed, **options) for seed in range(1, count + 1)]


def all_say(clients: list[RaftClient], word: str) -> list[asyncio.Future[Any]]:
    """Each a word of its own that begins with this one."""
    return [say(client, f"{word} {number}") for number, client in enumerate(clients)]


# -- one connection ----------------------------------------------------------------------------------------------------


@virtual
async def test_clients_with_one_transport_share_a_connection_and_each_hears_its_own_answers() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 5)
        assert cluster.a.callers == 1
        assert len({client._engine.session.id for client in clients}) == 5  # type: ignore[union-attr]  # they are open
        for before, word in ((0, "a"), (5, "b"), (10, "c")):
            said, asked = all_say(clients, word), [ask(client) for client in clients]
            assert len({await each for each in said}) == 5
            assert min(await asyncio.gather(*asked)) > before


@virtual
async def test_clients_with_transports_of_their_own_have_connections_of_their_own() -> None:
    async with Cluster() as cluster:
        for _ in range(3):
            await cluster.client()
        assert cluster.a.callers == 3


@virtual
async def test_what_many_clients_send_in_one_turn_leaves_together_and_what_is_much_at_once() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 3)
        connection = clients[0]._engine.connector.connection.shared.connection  # type: ignore[union-attr]  # open
        flushed: list[int] = []
        flush = connection.flush

        def note_flush() -> None:
            flushed.append(connection.buffered_bytes)
            flush()

        connection.flush = note_flush  # type: ignore[method-assign]  # watched
        for word, count in (("a", 1), ("b" * TOGETHER_BYTES_MAX, 3)):
            flushed.clear()
            await asyncio.gather(*all_say(clients, word))
            assert len([size for size in flushed if size]) == count


@virtual
async def test_a_client_that_joins_later_is_told_at_once_who_leads() -> None:
    async with Cluster() as cluster:
        transport = LocalTransport(cluster.registry)
        await cluster.client(transport=transport, seed=1)
        began = now()
        await cluster.client(transport=transport, seed=2)
        assert now() == began
        assert cluster.a.callers == 1


@virtual
async def test_a_client_that_is_closed_leaves_the_connection_to_the_others_and_the_last_one_ends_it() -> None:
    async with Cluster() as cluster:
        first, second = await beside(cluster, 2)
        await first.close()
        await turn()
        assert len(cluster.a.connections) == 1
        await say(second, "a")
        await second.close()
        await turn()
        assert cluster.a.connections == []


@virtual
async def test_frames_for_a_client_that_is_gone_are_nobodys() -> None:
    async with Cluster() as cluster:
        first, second, third = await beside(cluster, 3)
        assert first._engine is not None
        gone = first._engine.session.id
        await first.close()
        cluster.a.tell(HEADER_KEPT.pack(Tag.KEPT, 1) + KEPT_SESSION.pack(gone, 1))
        await turn()
        assert {second.state, third.state} == {ClientState.CONNECTED}


@virtual
async def test_one_word_that_many_sessions_are_kept_alive_is_heard_by_each() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 3)
        sessions = [client._engine.session for client in clients]  # type: ignore[union-attr]  # they are open
        for session in sessions:
            session.keep_alive.is_waiting = True
        kept = b"".join(KEPT_SESSION.pack(session.id, 1) for session in sessions[:2])
        cluster.a.tell(HEADER_KEPT.pack(Tag.KEPT, 2) + kept)
        await turn()
        assert [session.keep_alive.is_waiting for session in sessions] == [False, False, True]


@virtual
async def test_keep_alives_of_clients_that_do_nothing_else_leave_together() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 5)
        await asyncio.sleep(10)
        said = [frame for frame in cluster.a.frames if frame[0] == Tag.KEEP_ALIVE]
        counts = [HEADER_KEEP_ALIVE.unpack_from(frame)[1] for frame in said]
        assert sum(counts) >= 5 * 9  # a third of 3 s each
        assert max(counts) == 5
        assert len(counts) < sum(counts) / 3
        assert {client.state for client in clients} == {ClientState.CONNECTED}


@virtual
async def test_what_a_client_sends_does_not_overtake_its_keep_alive() -> None:
    async with Cluster() as cluster:
        pool = ConnectionPool(LocalTransport(cluster.registry))
        first = await pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)
        second = await pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)
        cluster.a.is_mute = True
        ones = [HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 1) + bytes([number]) * KEPT_ALIVE.size for number in (1, 2)]
        first.send_some_time(ones[0])
        second.send_some_time(ones[1])
        await turn()
        assert cluster.a.frames == []
        second.send([b"more"])
        await turn()
        both = HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 2) + b"".join(one[HEADER_KEEP_ALIVE.size :] for one in ones)
        assert cluster.a.frames == [both, b"more"]
        first.send_some_time(ones[0])
        await asyncio.sleep(TOGETHER_SECONDS)
        await turn()
        assert cluster.a.frames[2:] == [ones[0]]
        second.close()
        first.send_some_time(ones[0])  # nobody is left to wait for
        await turn()
        assert cluster.a.frames[3:] == [ones[0]]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@virtual
async def test_when_the_connection_is_lost_all_go_on_over_another_one_and_nothing_is_lost() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 4)
        cluster.a.drop = lambda frame: frame[0] in (Tag.RESULTS, Tag.ANSWER)
        said, asked = all_say(clients, "a"), [ask(client) for client in clients]
        await turn()
        cluster.a.drop = lambda frame: False
        cluster.a.hang_up(ConnectionResetError("reset"))
        assert len({await each for each in said}) == 4
        assert len(await asyncio.gather(*asked)) == 4
        assert cluster.a.callers == 2
        assert len(cluster.model.executed) == 4


@virtual
async def test_what_no_server_sends_costs_all_their_connection_and_none_its_session() -> None:
    async with Cluster() as cluster:
        clients = await beside(cluster, 3)
        for word, nonsense in {"a": b"\xff?", "b": b"", "c": bytes([Tag.RESULTS]), "d": bytes([Tag.KEPT, 9])}.items():
            cluster.a.tell(nonsense)
            for client in clients:
                await reach(client, ClientState.SUSPENDED)
            assert len(await asyncio.gather(*all_say(clients, word))) == 3


@virtual
async def test_a_client_that_lost_patience_begins_anew_on_a_connection_of_which_nobody_doubts() -> None:
    async with Cluster() as cluster:
        first, second = await beside(cluster, 2)
        cluster.a.is_mute = True
        said = say(first, "a")
        await asyncio.sleep(PATIENCE_SECONDS_MIN / 2)
        cluster.a.is_mute = False
        assert cluster.a.callers == 1
        await said
        assert cluster.a.callers == 2
        assert len(cluster.a.connections) == 2  # the other is content with the one there was
        await say(second, "b")
        assert len(cluster.a.connections) == 2


@virtual
async def test_many_clients_that_find_no_server_dial_once_and_all_hear_why() -> None:
    async with Cluster() as cluster:
        await cluster.a.close()
        transport = LocalTransport(cluster.registry)
        dials = 0
        connect = transport.connect

        async def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal dials
            dials += 1
            await asyncio.sleep(0.5)
            return await connect(*arguments, **options)

        transport.connect = slow  # type: ignore[method-assign]  # counted
        pool = ConnectionPool(transport)

        async def try_it() -> None:
            await pool.connect(Address.parse("a:1"), lambda _channel, _frames: None, timeout=2.0)

        outcomes = await asyncio.gather(*(try_it() for _ in range(5)), return_exceptions=True)
        assert dials == 1
        assert [type(each) for each in outcomes] == [type(outcomes[0])] * 5
        assert isinstance(outcomes[0], ConnectError)


@virtual
async def test_when_the_one_who_dials_gives_up_another_dials_in_its_place() -> None:
    async with Cluster() as cluster:
        pool = ConnectionPool(LocalTransport(cluster.registry))
        dials = [asyncio.create_task(pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)) for _ in range(3)]
        await asyncio.sleep(0)
        dials[0].cancel()
        second, third = await dials[1], await dials[2]
        assert second.shared is third.shared
        assert dials[0].cancelled()


def _ignore(_channel: object, _frames: list[bytes]) -> None:
    """Whatever comes."""


@virtual
async def test_a_connection_that_ended_while_it_was_dialled_is_joined_by_nobody_else() -> None:
    async with Cluster() as cluster:
        transport = LocalTransport(cluster.registry)
        connect = transport.connect

        async def closed_at_once(*arguments: Any, **options: Any) -> Any:
            connection = await connect(*arguments, **options)
            connection.close()
            await turn()
            return connection

        pool = ConnectionPool(transport)
        transport.connect = closed_at_once  # type: ignore[method-assign]  # for once
        first = await pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)
        assert first.is_closed
        transport.connect = connect  # type: ignore[method-assign]  # as it was
        second = await pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)
        assert not second.is_closed


@virtual
async def test_a_connection_that_has_had_as_many_clients_as_it_can_tell_apart_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (channels.CHANNELS_MAX << REQUEST_BITS) - 1 < 1 << 63
    monkeypatch.setattr(channels, "CHANNELS_MAX", 2)
    async with Cluster() as cluster:
        clients = await beside(cluster, 3)
        assert cluster.a.callers == 2
        assert len(await asyncio.gather(*all_say(clients, "a"))) == 3


@virtual
async def test_a_channel_of_a_connection_that_is_gone_sends_nothing_and_is_told_once() -> None:
    async with Cluster() as cluster:
        pool = ConnectionPool(LocalTransport(cluster.registry))
        channel = await pool.connect(Address.parse("a:1"), _ignore, timeout=2.0)
        ends: list[Exception | None] = []
        channel.on_close.append(lambda _channel, error: ends.append(error))
        cluster.a.hang_up()
        await turn()
        assert channel.is_closed
        channel.send([b"x"])
        channel.close()
        assert len(ends) == 1


@virtual
async def test_sessions_that_are_over_are_forgotten_by_the_connection() -> None:
    async with Cluster() as cluster:
        first, second = await beside(cluster, 2)
        assert first._engine is not None
        shared = first._engine.connector.connection.shared  # type: ignore[union-attr]  # it is open
        known = len(shared._owners)
        for _ in range(5):
            cluster.a.tell(cluster.model.end(first._engine.session.id))
            await reach(first, ClientState.EXPIRED)
            await reach(first, ClientState.CONNECTED)
        assert len(shared._owners) == known
        assert len(await asyncio.gather(*all_say([first, second], "a"))) == 2


# -- pools -------------------------------------------------------------------------------------------------------------


async def test_clients_without_a_transport_share_one_until_the_last_is_closed() -> None:
    pool = pool_of(None)
    pool.enter()
    pool.enter()
    assert pool_of(None) is pool
    await pool.leave()
    assert pool_of(None) is pool
    await pool.leave()
    assert pool.is_closed
    anew = pool_of(None)
    assert anew is not pool
    with pytest.raises(CopycatError, match="the transport is closed"):
        await pool.connect(Address.parse("localhost:1"), _ignore, timeout=1.0)
    anew.enter()
    await anew.leave()


@virtual
async def test_a_given_transport_is_left_open_when_its_last_client_is_closed() -> None:
    async with Cluster() as cluster:
        transport = LocalTransport(cluster.registry)
        await (await cluster.client(transport=transport)).close()
        await (await cluster.client(transport=transport)).close()
        assert cluster.a.callers == 2


async def test_pools_are_forgotten_with_their_clients() -> None:
    before = len(channels._pools)
    pool = pool_of(LocalTransport())
    assert len(channels._pools) == before + 1
    del pool
    assert len(channels._pools) == before


# -- with everything around it -----------------------------------------------------------------------------------------


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(3))
def test_clients_that_share_a_connection_survive_its_server(seed: int) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        first = await cluster.client("first")
        others = [await cluster.client(f"other-{number}", beside="first") for number in range(8)]
        raft: list[Any] = [each._client for each in (first, *others)]  # as a test may look
        there = raft[0].connected_to
        assert there is not None
        shared = {id(each._engine.connector.connection.shared) for each in raft if each.connected_to == there}
        assert [each.connected_to for each in raft].count(there) > len(shared) == 1
        cluster.crash(there)
        for each in raft:
            await asyncio.wait_for(each.status(), 20)
        await cluster.until(lambda: {each.state for each in raft} == {ClientState.CONNECTED}, 20, "all to be connected")
        assert {each.connected_to for each in raft} & {there} == set()

    simulate(scenario, seed=seed)
