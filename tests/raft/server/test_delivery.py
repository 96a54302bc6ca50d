"""Delivery: what a server sends down which connection, from the queues it shares with all others."""

from typing import Any

import pytest

from copycat.io.transport.transport import Connection
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.protocol.wire import HEADER_EVENTS, decode_events, encode_msgpack, unpack
from copycat.raft.server import delivery
from copycat.raft.server.delivery import Delivery
from copycat.raft.server.origins import ClientConnection


class Pipe:
    """A connection that keeps what is sent, and is full after so many frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.room = 1 << 60
        self.flushed = 0

    @property
    def writable(self) -> bool:
        return self.room > 0

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.room -= 1

    def flush(self) -> None:
        self.flushed += 1


class Stage:
    """One server, with sessions whose events are numbered by their index."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.executor: Any = self  # whose sessions are these
        self.delivery = Delivery(self)
        self.routes = 0

    def session(self, session_id: int = 1) -> ServerSession:
        made = ServerSession(session_id, session_id.to_bytes(16, "big"), b"", 5000)
        self.sessions.add(made)
        return made

    def client(self) -> tuple[ClientConnection, Pipe]:
        self.routes += 1
        pipe: Any = Pipe()
        connection: Connection = pipe
        return ClientConnection(self.routes, connection), pipe

    def publish(self, session: ServerSession, *indices: int) -> None:
        for index in indices:
            session.publish(index, encode_msgpack([0, 0, index]))
        self.delivery.published([session.id])


def sent(pipe: Pipe) -> list[tuple[int, list[int]]]:
    """(the index before, the indices) of every frame since the last look."""
    frames, pipe.frames = pipe.frames, []
    return [(unpack(HEADER_EVENTS, frame)[2], [batch[0] for batch in decode_events(frame)]) for frame in frames]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_events_go_down_the_connection_of_their_session_once(stage: Stage) -> None:
    session = stage.session()
    client, pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.publish(session, 3, 5)
    stage.publish(session, 8)
    stage.delivery.bind(1, client)

    assert sent(pipe) == [(0, [3, 5]), (5, [8])]


def test_a_connection_new_to_the_session_is_sent_everything_unacknowledged(stage: Stage) -> None:
    session = stage.session()
    old, old_pipe = stage.client()
    new, new_pipe = stage.client()
    stage.delivery.bind(1, old)
    stage.publish(session, 3, 5)
    session.acknowledge_events(3)
    stage.delivery.bind(1, new)
    stage.publish(session, 8)

    assert sent(old_pipe) == [(0, [3, 5])]
    assert sent(new_pipe) == [(3, [5]), (5, [8])]
    assert (list(old.delivered), list(new.delivered)) == ([], [1])


def test_sessions_that_are_not_connected_here_are_another_server_s(stage: Stage) -> None:
    stage.publish(stage.session(), 3)
    other, pipe = stage.client()
    stage.session(2)
    stage.delivery.bind(2, other)

    assert sent(pipe) == []


def test_a_session_bound_before_this_server_has_applied_its_beginning_is_sent_its_events_later(stage: Stage) -> None:
    client, pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.publish(stage.session(), 3)

    assert sent(pipe) == [(0, [3])]


def test_a_client_that_misses_something_is_sent_it_again(stage: Stage) -> None:
    session = stage.session()
    client, pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.publish(session, 3, 5, 8)
    sent(pipe)
    stage.delivery.send_after(1, client, 3)
    stage.delivery.send_after(1, client, 8)
    stage.delivery.send_after(1, client, 1 << 60)  # beyond all there is: nothing is skipped for it
    stage.publish(session, 9)

    assert sent(pipe) == [(3, [5, 8]), (8, [9])]


def test_whose_connections_were_written_to_is_told(stage: Stage) -> None:
    client, _ = stage.client()
    other, _ = stage.client()
    for session_id, owner in ((1, client), (2, other)):
        stage.session(session_id)
        stage.delivery.bind(session_id, owner)
    stage.session(3)

    assert stage.delivery.published([2, 3]) == [other]
    assert stage.delivery.published([3]) == []


def test_nobody_asks_for_another_s_events(stage: Stage) -> None:
    session = stage.session()
    client, pipe = stage.client()
    stranger, strange_pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.publish(session, 3)
    sent(pipe)
    stage.delivery.send_after(1, stranger, 0)
    stage.delivery.send_after(7, stranger, 0)

    assert sent(pipe) == sent(strange_pipe) == []


def test_a_client_that_does_not_read_waits_and_goes_on_where_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FRAME_BYTES_MAX", 1)  # one batch a frame
    session = stage.session()
    client, pipe = stage.client()
    pipe.room = 2
    stage.delivery.bind(1, client)
    stage.publish(session, 3, 5, 8, 9)
    assert sent(pipe) == [(0, [3]), (3, [5])]
    assert pipe.flushed == 2  # or `writable` would not know

    stage.publish(session, 10)
    assert sent(pipe) == []
    pipe.room = 10
    stage.delivery.has_read(client)
    assert sent(pipe) == [(5, [8]), (8, [9]), (9, [10])]


def test_what_was_acknowledged_meanwhile_is_not_sent(stage: Stage) -> None:
    session = stage.session()
    client, pipe = stage.client()
    pipe.room = 0
    stage.delivery.bind(1, client)
    stage.publish(session, 3, 5)
    session.acknowledge_events(3)  # by way of another connection
    pipe.room = 1
    stage.delivery.has_read(client)

    assert sent(pipe) == [(3, [5])]


def test_a_connection_that_is_gone_takes_its_sessions_with_it(stage: Stage) -> None:
    first, second = stage.session(1), stage.session(2)
    client, pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.delivery.bind(2, client)
    stage.delivery.disconnected(client)
    stage.publish(first, 3)
    stage.publish(second, 3)
    stage.delivery.has_read(client)

    assert sent(pipe) == []
    assert (client.delivered, stage.delivery._cursors) == ({}, {})


def test_a_session_that_has_ended_is_sent_nothing(stage: Stage) -> None:
    session = stage.session()
    client, pipe = stage.client()
    stage.delivery.bind(1, client)
    stage.publish(session, 3)
    sent(pipe)
    stage.sessions.remove(session, expired=True)
    stage.delivery.has_read(client)  # before this server told delivery
    stage.delivery.send_after(1, client, 0)
    stage.delivery.ended(1)
    stage.delivery.ended(1)
    stage.delivery.send_after(1, client, 0)

    assert sent(pipe) == []
    assert client.delivered == {}
