"""When a query is answered: protocol §3.5 to §3.7."""

from typing import Any

import pytest

from copycat.errors import ProtocolError
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.state_machine import Commit, StateMachine
from copycat.raft.protocol.state_machine import Executor as Operations
from copycat.raft.protocol.wire import (
    HEADER_ANSWER,
    HEADER_QUERY,
    HEADER_QUERY_REFUSED,
    Reason,
    Tag,
    decode_operations,
    decode_results,
    encode_msgpack,
    encode_operations,
    encode_results,
)
from copycat.raft.server.reads import Reads, WaitingQuery
from tests.raft.server.test_intake import Wire


class Codec:
    """Not used: these operations carry plain values."""

    def encode_value(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode_value(self, data: bytes) -> Any:
        raise NotImplementedError

    def encode_state(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode_state(self, data: bytes, kind: Any = Any) -> Any:
        raise NotImplementedError


class Index(StateMachine, name="test.index"):
    """Answers with the index it has reached."""

    def configure(self, executor: Operations) -> None:
        executor.register_query(1, lambda commit: self.index(commit))

    def index(self, commit: Commit) -> int:
        return commit.index


class Room:
    """Reads over an executor whose applied index the test moves."""

    def __init__(self, max_waiting: int = 10) -> None:
        self.clockwork = Clockwork()
        self.executor = Executor(
            clockwork=self.clockwork,
            machines=SingleMachine(Index(), self.clockwork, Codec()),
            decode_operations=decode_operations,
            encode_results=encode_results,
            encode_event=encode_msgpack,
        )
        self.session = ServerSession(3, b"n" * 16, b"s" * 16, 5000)
        self.clockwork.sessions.add(self.session)
        self.reads = Reads(self, max_waiting)
        self.wire = Wire()
        self.reach(10)

    def reach(self, index: int) -> None:
        self.executor.applied_index = self.clockwork.index = index
        self.reads.release()

    def query(self, request: int, *, sequence: int = 0, floor: int = 0, session: int = 3) -> WaitingQuery:
        header = HEADER_QUERY.pack(Tag.QUERY, request, session, sequence, floor, ConsistencyLevel.LINEARIZABLE, 1)
        return WaitingQuery.read(self.wire, header + encode_operations([[0, 0, 1]]))

    def answers(self) -> list[tuple[int, Any]]:
        """(request, result) of each answer since the last call."""
        frames = self.wire.take()
        return [
            (HEADER_ANSWER.unpack_from(frame)[1], decode_results(frame[HEADER_ANSWER.size :])[0]) for frame in frames
        ]


def test_a_linearizable_query_waits_for_its_confirmation_and_then_for_the_index() -> None:
    room = Room()
    room.reads.confirm_first(room.query(1))
    room.reach(11)
    assert room.answers() == []
    room.reads.confirmed(room.reads.take_arrived(), 13)
    room.reach(12)
    assert room.answers() == []
    room.reach(13)
    assert room.answers() == [(1, 13)]


def test_a_query_waits_for_the_commands_called_before_it() -> None:
    room = Room()
    room.reads.answer_when_reached(room.query(1, sequence=2))
    room.session.executed(1, 1, 11, b"")
    room.reach(11)
    assert room.answers() == []
    room.session.executed(2, 1, 12, b"")
    room.reach(12)
    assert room.answers() == [(1, 12)]


def test_a_query_never_sees_less_than_its_client_has_seen() -> None:
    room = Room()
    room.reads.answer_when_reached(room.query(1, floor=12))
    room.reach(11)
    assert room.answers() == []
    room.reach(12)
    assert room.answers() == [(1, 12)]


def test_a_query_of_a_session_that_has_ended_is_refused() -> None:
    room = Room()
    room.reads.answer_when_reached(room.query(1, sequence=5))
    room.clockwork.sessions.remove(room.session, expired=True)
    room.reach(11)
    (frame,) = room.wire.take()
    assert HEADER_QUERY_REFUSED.unpack_from(frame) == (Tag.QUERY_REFUSED, 1, Reason.UNKNOWN_SESSION)


def test_a_query_without_a_session_is_answered() -> None:
    room = Room()
    room.reads.answer_when_reached(room.query(1, session=0))
    assert room.answers() == [(1, 10)]


def test_queries_beyond_the_limit_are_refused_and_answered_ones_make_room() -> None:
    room = Room(max_waiting=1)
    room.reads.answer_when_reached(room.query(1, floor=11))
    room.reads.confirm_first(room.query(2))
    (frame,) = room.wire.take()
    assert HEADER_QUERY_REFUSED.unpack_from(frame) == (Tag.QUERY_REFUSED, 2, Reason.OVERLOADED)
    room.reach(11)
    room.reads.answer_when_reached(room.query(3))
    assert [request for request, _ in room.answers()] == [1, 3]


def test_forgotten_queries_are_never_answered() -> None:
    room = Room(max_waiting=2)
    room.reads.confirm_first(room.query(1))
    room.reads.answer_when_reached(room.query(2, floor=20))
    room.reads.forget()
    room.reach(30)
    assert room.answers() == []
    assert room.reads.take_arrived() == []
    room.reads.answer_when_reached(room.query(3))
    assert room.answers() == [(3, 30)]


def test_a_query_that_makes_no_sense_is_not_readable() -> None:
    room = Room()
    for consistency, count in ((0, 1), (9, 1), (1, 0)):
        with pytest.raises(ProtocolError):
            WaitingQuery.read(room.wire, HEADER_QUERY.pack(Tag.QUERY, 1, 3, 0, 0, consistency, count))
    with pytest.raises(ProtocolError):
        WaitingQuery.read(room.wire, b"\x15")
