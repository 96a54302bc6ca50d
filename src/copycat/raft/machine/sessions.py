"""Sessions on the servers: who may still command, what was executed, and the results kept until acknowledged.

A session executes each sequence number once. Results are kept as runs, one per batch as it was encoded, and leave
memory only by an acknowledgement that is itself in the log, so that every replica forgets at the same index.

Source: protocol §5.1, §5.2, §5.4; reliability §5 (36) to (41).
"""

from collections import deque
from collections.abc import Callable, Iterator

from copycat.errors import broken, check
from copycat.raft.machine.event_queues import EventQueue

Run = tuple[int, int, int, int, bytes]
"""The results of a batch: first sequence, count, last index, last index with an event, results."""


class ServerSession:
    """One session. `sequence` is the highest executed, `ack` the highest whose result the client has."""

    __slots__ = (
        "_state",
        "ack",
        "activity_index",
        "events",
        "id",
        "nonce",
        "runs",
        "secret",
        "sequence",
        "timeout_ms",
    )

    def __init__(self, session_id: int, nonce: bytes, secret: bytes, timeout_ms: int) -> None:
        self.id = session_id
        self.nonce = nonce
        self.secret = secret
        self.timeout_ms = timeout_ms
        self.sequence = 0
        self.ack = 0
        self.activity_index = session_id
        self.runs: deque[Run] = deque()
        self.events: EventQueue | None = None  # made when something is published to it
        self._state = "open"

    @property
    def is_open(self) -> bool:
        return self._state == "open"

    @property
    def is_expired(self) -> bool:
        return self._state == "expired"

    @property
    def is_closed(self) -> bool:
        return self._state != "open"

    def end(self, expired: bool) -> None:
        """The session is over."""
        check(self.is_open, "a session ends once", self.id)
        self._state = "expired" if expired else "closed"
        self.runs.clear()
        if self.events is not None:
            self.events.clear()

    @property
    def event_index(self) -> int:
        """The last index at which something was published to this session; 0 for none."""
        return 0 if self.events is None else self.events.index

    def publish(self, index: int, event: bytes) -> EventQueue:
        """Queue an event, published at `index`, until the client acknowledges it in the log."""
        if self.events is None:
            self.events = EventQueue()
        self.events.add(index, event)
        return self.events

    def acknowledge_events(self, index: int) -> None:
        """The client has every event up to `index`: forget them."""
        if self.events is not None:
            self.events.acknowledge(index)

    def acknowledge(self, ack: int) -> None:
        """The client has every result up to `ack`: forget them. Never raises `sequence` (protocol §5.2)."""
        if ack >= self.sequence:
            self.ack = self.sequence
            self.runs.clear()
        elif ack > self.ack:
            self.ack = ack
            while self.runs and self.runs[0][0] + self.runs[0][1] - 1 <= ack:
                self.runs.popleft()

    def executed(self, first: int, count: int, last_index: int, results: bytes) -> Run:
        """Remember a batch's results until they are acknowledged; returned as they are kept."""
        if first != self.sequence + 1:
            raise broken("sequences are executed in order", self.id, first, self.sequence)
        self.sequence = first + count - 1
        self.activity_index = last_index
        run = first, count, last_index, self.event_index, results
        self.runs.append(run)
        return run

    def run_of(self, first: int, count: int) -> Run | None:
        """The kept results of exactly this batch; None when they were acknowledged or the batch was another."""
        return next((run for run in self.runs if run[0] == first and run[1] == count), None)

    def __repr__(self) -> str:
        return f"<Session {self.id} {self._state}>"


NOBODY = ServerSession(0, b"", b"", 0)
"""Whose query it is when it came without a session."""


class Sessions:
    """The open sessions, in order of registration."""

    def __init__(self) -> None:
        self._sessions: dict[int, ServerSession] = {}
        self._by_nonce: dict[bytes, ServerSession] = {}
        self.get: Callable[[int], ServerSession | None] = self._sessions.get  # the open session with this id

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ServerSession]:
        return iter(list(self._sessions.values()))

    def by_nonce(self, nonce: bytes) -> ServerSession | None:
        """The open session registered with this nonce: a repeated registration returns it."""
        return self._by_nonce.get(nonce)

    def add(self, session: ServerSession) -> None:
        """A session begins."""
        self._sessions[session.id] = session
        self._by_nonce[session.nonce] = session

    def remove(self, session: ServerSession, expired: bool) -> None:
        """A session ends."""
        del self._sessions[session.id]
        del self._by_nonce[session.nonce]
        session.end(expired)
