"""The servers of a cluster as one client sees them: each sequence executed once, in order, and nothing else.

`serve` takes a frame of a connection and returns the answers to it. A command's result is its place in the log; a
query's is how many commands had been executed where it was answered.
"""

from dataclasses import dataclass, field

from copycat.raft.protocol.entries import End
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    HEADER_KEEP_ALIVE,
    HEADER_QUERY,
    HEADER_REGISTER,
    HEADER_UNREGISTER,
    KEPT_ALIVE,
    Reason,
    Tag,
)
from tests.raft.client.frames import (
    answer,
    ended,
    kept,
    leader,
    query_refused,
    register_refused,
    registered,
    rejected,
    results,
    words,
)

HUGE, ODD = "huge", "odd"  # how words begin that are refused as too large and as malformed


@dataclass
class ServedSession:
    id: int
    origin: object
    indices: list[int] = field(default_factory=list)  # of each sequence executed
    batches: dict[int, bytes] = field(default_factory=dict)  # answers, by first sequence

    @property
    def sequence(self) -> int:
        return len(self.indices)


class Model:
    """Everything is executed at once. What is set here decides how the next frames are answered."""

    def __init__(self) -> None:
        self.leader = "a"
        self.term = 1
        self.is_overloaded = False
        self.is_full = False
        self.registration_refusal = ""
        self.query_refusal: Reason | None = None
        self.lag = 0  # how far a server that answers SERIALIZABLE queries is behind
        self.timeout_ms = 3000
        self.members: dict[str, str] = {}
        self.index = 0
        self.executed: dict[str, int] = {}  # word to index
        self.sessions: dict[int, ServedSession] = {}
        self._by_nonce: dict[bytes, int] = {}

    def notice(self) -> bytes:
        return leader(self.leader, self.term, self.members)

    def end(self, session: int, why: End = End.EXPIRED) -> bytes:
        """End a session; returns what its client is told."""
        self.sessions.pop(session, None)
        self.index += 1
        return ended(why, session)

    def serve(self, frame: bytes, origin: object) -> list[bytes]:
        """The answers to a frame that came over the connection `origin`."""
        match Tag(frame[0]):
            case Tag.REGISTER:
                return self._register(frame, origin)
            case Tag.KEEP_ALIVE:
                said = KEPT_ALIVE.iter_unpack(frame[HEADER_KEEP_ALIVE.size :])
                return [self._keep_alive(session, origin) for session, *_ in said]
            case Tag.UNREGISTER:
                session = HEADER_UNREGISTER.unpack(frame)[1]
                return [self.end(session, End.UNREGISTERED)]
            case Tag.BATCH:
                return self._batch(frame, origin)
            case Tag.QUERY:
                return [self._query(frame)]
        raise AssertionError(f"no client sends {frame!r}")

    def _keep_alive(self, session: int, origin: object) -> bytes:
        if session not in self.sessions:
            return ended(End.UNKNOWN, session)
        self.sessions[session].origin = origin
        return kept(session)

    def _register(self, frame: bytes, origin: object) -> list[bytes]:
        _, nonce, _ = HEADER_REGISTER.unpack(frame)
        if self.is_overloaded:
            return [register_refused(nonce, Reason.OVERLOADED)]
        if self.registration_refusal:
            return [register_refused(nonce, Reason.MALFORMED, self.registration_refusal)]
        self.index += 1
        session = self._by_nonce.setdefault(nonce, self.index)
        self.sessions.setdefault(session, ServedSession(session, origin)).origin = origin
        return [registered(nonce, session, self.timeout_ms)]

    def _batch(self, frame: bytes, origin: object) -> list[bytes]:
        _, session_id, first, _, count = HEADER_BATCH.unpack_from(frame)
        session = self.sessions.get(session_id)
        if session is None:
            return [ended(End.UNKNOWN, session_id)]
        if session.origin != origin:
            return []  # no longer this connection's session
        expected = session.sequence + 1
        if self.is_full and first >= expected:
            return [rejected(first, Reason.NO_SPACE, "no room", session=session_id)]
        if first > expected:
            return [rejected(expected, Reason.GAP, session=session_id)]
        if first < expected:
            return [session.batches[first]]
        said = words(frame[HEADER_BATCH.size :])
        refusal = self._refusal(said)
        if refusal is not None:
            return [rejected(first, refusal, session=session_id)]
        for word in said:
            assert word not in self.executed, f"{word} is executed twice"
            self.index += 1
            self.executed[word] = self.index
            session.indices.append(self.index)
        session.batches[first] = results(first, *session.indices[-count:], session=session_id, index=self.index)
        return [session.batches[first]]

    def _refusal(self, said: list[str]) -> Reason | None:
        if self.is_overloaded:
            return Reason.OVERLOADED
        if any(word.startswith(HUGE) for word in said):
            return Reason.TOO_LARGE
        return Reason.MALFORMED if any(word.startswith(ODD) for word in said) else None

    def _query(self, frame: bytes) -> bytes:
        _, request, session_id, sequence, floor, consistency, count = HEADER_QUERY.unpack_from(frame)
        session = self.sessions.get(session_id)
        if session is None:
            return query_refused(request, Reason.UNKNOWN_SESSION)
        if session.sequence < sequence or self.query_refusal is not None:  # a real server waits for the sequence
            return query_refused(request, self.query_refusal or Reason.OVERLOADED)
        index = self.index
        if consistency == ConsistencyLevel.SERIALIZABLE:
            reached = session.indices[sequence - 1] if sequence else session_id
            index = max(floor, reached, self.index - self.lag)
        executed = sum(each <= index for each in self.executed.values())
        return answer(request, index, *[executed] * count)
