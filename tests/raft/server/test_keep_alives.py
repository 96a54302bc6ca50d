"""Keep-alives that bring no news wait for one another; nothing else does, and nothing overtakes them: protocol §5.2."""

import asyncio
from typing import Any

import pytest

from copycat.errors import ProtocolError
from copycat.raft.client.states import ClientState
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.protocol.entries import ItemKind, iterate_items
from copycat.raft.protocol.wire import (
    HEADER_KEEP_ALIVE,
    HEADER_KEPT,
    HEADER_MANY,
    KEPT_ALIVE,
    KEPT_SESSION,
    MANY_BYTES_MAX,
    Tag,
    decode_many,
    encode_many,
)
from copycat.raft.server.keep_alives import GATHERING_SECONDS, TIMEOUT_MS_MIN, TOGETHER_MAX, KeepAlives
from copycat.raft.server.origins import ClientConnection
from copycat.testing.cluster import SimulatedCluster, simulate
from tests.raft.client.loops import virtual
from tests.raft.server.caller import call
from tests.raft.server.caller import keep_alive as one_keep_alive
from tests.raft.server.cluster import Cluster


def keep_alive(*sessions: int, event_ack: int = 0, stamp: int = 0) -> bytes:
    kept = b"".join(KEPT_ALIVE.pack(session, b"s" * 16, 0, event_ack, stamp) for session in sessions)
    return HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, len(sessions)) + kept


class Gate:
    """What is passed on, by route, and the clients of sessions 1 to 3, each settled on a connection of its own."""

    def __init__(self) -> None:
        self.passed: list[tuple[int, bytes]] = []
        self.sessions = Sessions()
        self.executor: Any = self  # whose sessions are these
        self.clients = [self.client(session) for session in (1, 2, 3)]
        self.keep_alives = KeepAlives(self, self.pass_on)

    def pass_on(self, waiting: list[tuple[ClientConnection, bytes]]) -> None:
        self.passed += [(client.route, frame) for client, frame in waiting]

    def waits(self, client: ClientConnection, frame: bytes) -> bool:
        return self.keep_alives.take(client, frame) is None

    def client(self, session_id: int, timeout_ms: int = 5000) -> ClientConnection:
        nothing: Any = None
        client = ClientConnection(session_id, nothing)
        self.settle(client, session_id, timeout_ms)
        return client

    def settle(self, client: ClientConnection, session_id: int, timeout_ms: int = 5000) -> None:
        self.sessions.add(ServerSession(session_id, session_id.to_bytes(16, "big"), b"s" * 16, timeout_ms))
        client.delivered[session_id] = None
        client.settled.add(session_id)


async def elapse(seconds: float = GATHERING_SECONDS) -> None:
    await asyncio.sleep(seconds + 0.001)


@virtual
async def test_those_of_many_sessions_are_passed_on_together_in_the_order_in_which_they_came() -> None:
    gate = Gate()
    for client in reversed(gate.clients):
        assert gate.waits(client, keep_alive(client.route))
        await asyncio.sleep(GATHERING_SECONDS / 4)
    assert gate.passed == []
    await elapse(GATHERING_SECONDS / 4)
    assert gate.passed == [(route, keep_alive(route)) for route in (3, 2, 1)]
    await elapse()
    assert len(gate.passed) == 3


@virtual
async def test_the_newest_of_a_connection_stands_for_those_before() -> None:
    gate = Gate()
    assert gate.waits(gate.clients[0], keep_alive(1, stamp=5))
    assert gate.waits(gate.clients[0], keep_alive(1, stamp=6))
    await elapse()
    assert gate.passed == [(1, keep_alive(1, stamp=6))]


@virtual
async def test_those_of_one_connections_sessions_become_one_and_leave_together() -> None:
    gate = Gate()
    first, second, _ = gate.clients
    gate.settle(first, 7)
    for session, stamp in ((7, 1), (1, 2), (7, 3)):
        assert gate.waits(first, keep_alive(session, stamp=stamp))
    assert gate.waits(second, keep_alive(2))
    gate.keep_alives.release(first)
    said = keep_alive(7, stamp=3) + keep_alive(1, stamp=2)[HEADER_KEEP_ALIVE.size :]
    assert gate.passed == [(1, HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 2) + said[HEADER_KEEP_ALIVE.size :])]
    await elapse()
    assert gate.passed[1:] == [(2, keep_alive(2))]


@virtual
async def test_very_many_of_one_connection_are_told_in_several_frames() -> None:
    gate = Gate()
    client = gate.clients[0]
    for session in range(10, 10 + TOGETHER_MAX):
        gate.settle(client, session)
        assert gate.waits(client, keep_alive(session))
    assert gate.waits(client, keep_alive(1))
    await elapse()
    assert gate.passed == [(1, keep_alive(*range(10, 10 + TOGETHER_MAX))), (1, keep_alive(1))]


@virtual
async def test_what_a_client_says_next_does_not_overtake_the_one_that_waits() -> None:
    gate = Gate()
    first, second, _ = gate.clients
    for client in (first, second):
        assert gate.waits(client, keep_alive(client.route))
    gate.keep_alives.release(first)
    assert gate.passed == [(1, keep_alive(1))]
    await elapse()
    assert gate.passed == [(1, keep_alive(1)), (2, keep_alive(2))]


@virtual
async def test_one_whose_connection_is_gone_is_forgotten() -> None:
    gate = Gate()
    assert gate.waits(gate.clients[0], keep_alive(1))
    gate.keep_alives.forget(gate.clients[0])
    await elapse()
    assert gate.passed == []


@virtual
async def test_the_first_since_a_notice_of_a_leader_does_not_wait() -> None:
    gate = Gate()
    gate.clients[0].settled.clear()
    assert not gate.waits(gate.clients[0], keep_alive(1))


@virtual
async def test_one_of_a_session_that_lives_on_another_connection_or_is_unknown_does_not_wait() -> None:
    gate = Gate()
    assert not gate.waits(gate.clients[0], keep_alive(2))
    gate.clients[0].settled.add(2)
    assert not gate.waits(gate.clients[0], keep_alive(2))
    gate.settle(gate.clients[0], 9)
    del gate.sessions._sessions[9]
    assert not gate.waits(gate.clients[0], keep_alive(9))


@virtual
async def test_one_that_acknowledges_events_does_not_wait_and_one_that_repeats_it_does() -> None:
    gate = Gate()
    session = gate.sessions.get(1)
    assert session is not None
    session.publish(7, b"event")
    assert not gate.waits(gate.clients[0], keep_alive(1, event_ack=7))
    session.acknowledge_events(7)
    assert gate.waits(gate.clients[0], keep_alive(1, event_ack=7))


@virtual
async def test_a_short_session_has_no_time_to_wait() -> None:
    gate = Gate()
    assert not gate.waits(gate.client(4, TIMEOUT_MS_MIN - 1), keep_alive(4))
    assert gate.waits(gate.client(5, TIMEOUT_MS_MIN), keep_alive(5))


@virtual
async def test_of_one_that_speaks_of_several_sessions_only_those_with_news_do_not_wait() -> None:
    gate = Gate()
    first = gate.clients[0]
    for session in (7, 8):
        gate.settle(first, session)
    newest = gate.sessions.get(7)
    assert newest is not None
    newest.publish(9, b"event")
    said = keep_alive(1, 7, 2, 8, event_ack=9)
    assert gate.keep_alives.take(first, said) == keep_alive(7, 2, event_ack=9)
    await elapse()
    assert gate.passed == [(1, keep_alive(1, 8, event_ack=9))]


@virtual
async def test_one_of_another_length_than_it_says_costs_the_connection() -> None:
    gate = Gate()
    for nonsense in (keep_alive(1)[:-1], keep_alive(1) + b"?", bytes([Tag.KEEP_ALIVE])):
        with pytest.raises(ProtocolError):
            gate.keep_alives.take(gate.clients[0], nonsense)


async def test_those_of_a_followers_clients_go_to_the_leader_together_and_are_answered_together() -> None:
    async with Cluster(3) as cluster:
        leader = await cluster.elected()
        follower = cluster.others(leader)[0]
        callers = [await call(cluster, follower) for _ in range(5)]
        sessions = [await caller.register(bytes([number]) * 16) for number, caller in enumerate(callers)]
        await cluster.level()  # only a session that the follower knows may wait
        sent = cluster.network.sent
        before = sent(Tag.FORWARD, source=follower), sent(Tag.RELAY, source=leader)

        for caller, session in zip(callers, sessions, strict=True):
            caller.send(one_keep_alive(*session))
        for caller, (session_id, _) in zip(callers, sessions, strict=True):
            assert await caller.answer(Tag.KEPT) == HEADER_KEPT.pack(Tag.KEPT, 1) + KEPT_SESSION.pack(session_id, 0)

        assert (sent(Tag.FORWARD, source=follower), sent(Tag.RELAY, source=leader)) == before
        assert 1 <= sent(Tag.FORWARD_MANY, source=follower, target=leader) < len(callers)
        assert 1 <= sent(Tag.RELAY_MANY, source=leader, target=follower) < len(callers)


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(2))
def test_idle_sessions_of_all_servers_share_entries_and_none_of_them_ends(seed: int) -> None:
    sessions, seconds = 60, 10.0

    async def scenario(cluster: SimulatedCluster) -> None:
        clients = [await cluster.client() for _ in range(sessions)]
        leader = cluster.nodes[await cluster.elected()]
        await cluster.level()
        assert leader.server is not None
        assert leader.server.driver is not None
        log = leader.server.driver.log
        first = log.last_index + 1
        await asyncio.sleep(seconds)
        kept = [
            blob
            for block in log.read(first, log.last_index, 1 << 30)
            for kind, *_, blob in iterate_items(block.body)
            if kind == ItemKind.KEEP_ALIVE
        ]
        entries, words = len(kept), sum(len(blob) // 24 for blob in kept)
        assert words > sessions * 5  # a third of 5 s each
        assert entries < seconds / GATHERING_SECONDS * 3  # each server passes on once in so long
        assert entries < words / 2
        assert leader.server.status().sessions == sessions
        assert {client.state for client in clients} == {ClientState.CONNECTED}

    simulate(scenario, seed=seed)


def test_frames_of_many_clients_travel_by_size_and_in_bounded_pieces() -> None:
    frames = [(route, bytes([route % 251]) * (70_000 if route % 3 else 5)) for route in range(20)]
    frames.append((99, b"x" * (MANY_BYTES_MAX + 1)))
    many = encode_many(Tag.RELAY_MANY, frames)
    assert sorted((route, bytes(frame)) for each in many for route, frame in decode_many(each)) == sorted(frames)
    assert max(len(list(decode_many(each))) for each in many) == 7  # the short ones, as one
    assert sum(len(each) > MANY_BYTES_MAX + HEADER_MANY.size for each in many) == 1  # the one that is larger
