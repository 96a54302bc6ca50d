"""Queries: how each waits until this server may answer it, and the answer.

A linearizable query waits until a round sent after its arrival is confirmed, then until the commit index of its
arrival is applied. Every query waits until its session's earlier commands are applied, and never sees less than its
client has seen before.

Source: protocol §3.4 to §3.7; Raft dissertation §6.4.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from copycat.errors import ProtocolError
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import HEADER_ANSWER, HEADER_QUERY, HEADER_QUERY_REFUSED, Reason, Tag, unpack
from copycat.raft.server.origins import Origin


@dataclass(slots=True)
class WaitingQuery:
    """A batch of queries of one session, its blob still closed."""

    origin: Origin
    request: int
    session: int
    sequence: int
    floor: int
    consistency: int
    count: int
    blob: bytes

    @classmethod
    def read(cls, origin: Origin, frame: bytes) -> "WaitingQuery":
        """Raises ProtocolError."""
        _, request, session, sequence, floor, consistency, count = unpack(HEADER_QUERY, frame)
        if consistency not in LEVELS or count < 1:
            raise ProtocolError(f"a query of {count} operations at consistency {consistency} cannot be")
        return cls(origin, request, session, sequence, floor, consistency, count, frame[HEADER_QUERY.size :])

    def refuse(self, reason: Reason, detail: str) -> None:
        """Tell the client that this server does not answer."""
        self.origin.send(HEADER_QUERY_REFUSED.pack(Tag.QUERY_REFUSED, self.request, reason) + detail.encode())

    def answer(self, executor: Executor, session: ServerSession | None) -> None:
        """The state is what was asked for."""
        results = executor.query(session, self.blob, self.count)
        if results is None:
            self.refuse(Reason.TOO_LARGE, f"the results of {self.count} queries are too large together")
            return
        event_index = 0 if session is None else session.event_index
        header = HEADER_ANSWER.pack(Tag.ANSWER, self.request, executor.applied_index, event_index)
        self.origin.send(header + results)


LEVELS = frozenset(int(level) for level in ConsistencyLevel)


class HasState(Protocol):
    """Whose state it is; a leader's snapshot may take its place."""

    executor: Executor


class Reads:
    """The queries a server has taken on. The caller decides which; `forget` drops them when it no longer may."""

    def __init__(self, state: HasState, max_waiting: int) -> None:
        self._state = state
        self._max_waiting = max_waiting
        self._arrived: list[WaitingQuery] = []
        self._confirmed: deque[tuple[int, list[WaitingQuery]]] = deque()  # (index to apply first, queries)
        self._blocked: list[WaitingQuery] = []
        self.unanswered = 0  # of all these

    def confirm_first(self, query: WaitingQuery) -> None:
        """Answer after leadership is confirmed."""
        if self._has_room(query):
            self._arrived.append(query)

    def answer_when_reached(self, query: WaitingQuery) -> None:
        """Answer as soon as the state is what the query asks for, perhaps now."""
        if self._has_room(query):
            self._answer(query)

    def take_arrived(self) -> list[WaitingQuery]:
        """The queries of this turn that need a confirmation; they come back by `confirmed`."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def confirmed(self, queries: list[WaitingQuery], index: int) -> None:
        """Leadership held after these arrived: answer once everything up to `index` is applied."""
        self._confirmed.append((index, queries))

    def release(self) -> None:
        """Answer whatever the state has reached."""
        applied = self._state.executor.applied_index
        while self._confirmed and self._confirmed[0][0] <= applied:
            for query in self._confirmed.popleft()[1]:
                self._answer(query)
        if self._blocked:
            blocked, self._blocked = self._blocked, []
            for query in blocked:
                self._answer(query)

    def forget(self) -> None:
        """Drop every query: the clients ask again when they hear of the next leader."""
        self._arrived.clear()
        self._confirmed.clear()
        self._blocked.clear()
        self.unanswered = 0

    def _has_room(self, query: WaitingQuery) -> bool:
        if self.unanswered >= self._max_waiting:
            query.refuse(Reason.OVERLOADED, f"{self.unanswered} queries wait here already")
            return False
        self.unanswered += 1
        return True

    def _answer(self, query: WaitingQuery) -> None:
        executor = self._state.executor
        session = executor.sessions.get(query.session)
        if session is None and query.session:
            self.unanswered -= 1
            query.refuse(Reason.UNKNOWN_SESSION, f"session {query.session} has ended")
        elif (session is not None and session.sequence < query.sequence) or executor.applied_index < query.floor:
            self._blocked.append(query)
        else:
            self.unanswered -= 1
            query.answer(executor, session)
