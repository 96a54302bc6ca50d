"""A client's session, without any I/O: what to send, and what became of it.

Commands get consecutive sequence numbers when they are put in a batch. A batch is kept, byte for byte, until it is
answered, and sent again whenever it may have been lost: the servers execute each sequence number once, so sending too
often is harmless and sending too little is all there is to fear. Hence the one rule for trouble: at every notice of a
leader, everything unanswered is sent again, oldest first, behind a keep-alive that ties the session to the connection.

A command without a batch has no number and never left: it can still be taken back with certainty. A leader that has no
room refuses commands until it has; a batch of which no copy can be left anywhere is then taken apart again.

Drive it with `command` and `query`, `receive` for each frame, `suspend` when the connection is lost; after any of
these, send what `take_frames` gives, and call that again at `due`. Times are seconds on any one clock that never
goes back.

Source: protocol §3.7, §5.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from random import Random

from copycat.errors import ProtocolError
from copycat.raft.client.batch import Batch, take_back
from copycat.raft.client.encoding import BATCH_COUNT_FIRST, count_that_fits, join_operations, next_count_max
from copycat.raft.client.events import EventInbox
from copycat.raft.client.keep_alive import KeepAlive
from copycat.raft.client.notice import NOBODY, decode_notice
from copycat.raft.client.outcomes import (
    Delivered,
    Ended,
    Kept,
    Outcome,
    Registered,
    RegistrationRefused,
    Resolved,
    Token,
)
from copycat.raft.client.queries import Queries
from copycat.raft.protocol.entries import SESSION_WINDOW, End
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    HEADER_ENDED,
    HEADER_EVENTS,
    HEADER_KEEP_ALIVE,
    HEADER_KEPT,
    HEADER_QUERY_REFUSED,
    HEADER_REGISTER,
    HEADER_REGISTER_REFUSED,
    HEADER_REGISTERED,
    HEADER_REJECTED,
    HEADER_RESULTS,
    HEADER_UNREGISTER,
    KEPT_ALIVE,
    KEPT_SESSION,
    Reason,
    Tag,
    decode_results,
    unpack,
)
from copycat.util.backoff import Backoff

NONCE_BYTES = 16
IN_FLIGHT_BYTES_MAX = 16 << 20
"""A server takes no more frames at once than fit its buffers: beyond this, batches wait for earlier answers."""

PATIENT_SECONDS = 1.0  # a session with a shorter timeout has no moment to give

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.01, 0.5  # a loaded server clears its desk in a few fsyncs


class ClientSession:
    """One client's session, and the next one after it is lost.

    timeout_ms: what to ask the servers for. random: for the nonce and for jitter.
    floor: the highest index shown to this client by an earlier session of its.
    """

    def __init__(self, *, timeout_ms: int, random: Random, floor: int = 0) -> None:
        self.id = 0  # 0 while there is no session
        self.floor = floor
        self.ack = 0  # results of all sequences up to here have been received
        self.last_sent = 0
        self.notice = NOBODY
        self.is_ready = False  # this connection's server knows a leader
        self.is_bound = False  # and has confirmed the session
        self.is_leaving = False  # nothing unsent leaves any more
        self.obstacle = ""  # why a leader refused commands, until one is executed
        self.queries = Queries(Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX, random=random))
        self.keep_alive = KeepAlive(timeout_ms / 1000)
        self.events = EventInbox()
        self._random = random
        self._nonce = random.randbytes(NONCE_BYTES)
        self._registering_at = inf  # when it was sent first
        self._secret = b""
        self._timeout_ms = timeout_ms
        self._in_flight: deque[Batch] = deque()
        self._in_flight_bytes = 0
        self._count_max = BATCH_COUNT_FIRST
        self._operations: list[bytes] = []  # called and not sent, with their tokens
        self._tokens: list[Token] = []
        self._outbox: list[bytes] = []
        self._resend_from = 0  # the sequence a server last wanted, until it is answered
        self._retry_at = inf
        self._backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX, random=random)

    # -- what is called ------------------------------------------------------------------------------------------------

    def command(self, operation: bytes, token: Token) -> None:
        """A command was called; `token` comes back with its result."""
        self._operations.append(operation)
        self._tokens.append(token)

    def query(self, operation: bytes, token: Token, consistency: int) -> None:
        """A query was called; `token` comes back with its result."""
        self.queries.add(operation, token, consistency, self.last_sent + len(self._tokens))

    def leave(self) -> None:
        """End the session in order, after everything sent so far. Nothing unsent leaves any more."""
        self.is_leaving = True
        if self.is_ready and self.id:
            self._outbox.append(self._unregister())

    # -- what to send --------------------------------------------------------------------------------------------------

    def take_frames(self, now: float) -> list[bytes]:
        """The frames to send now, in order, on the connection last heard from."""
        if not self.is_ready:
            return []
        if now >= self._retry_at:
            self._retry(now)
        frames, self._outbox = self._outbox, []
        if not self.id:
            self._registering_at = min(self._registering_at, now)
            return frames
        if now >= self.keep_alive.due or (self.events.are_many and not self.keep_alive.is_waiting):
            frames.append(self._keep_alive(now))
        if now >= self.events.ask_at:
            frames.append(self.events.ask(self.id, now))
        if self._operations and self._retry_at == inf and not self.is_leaving:
            self._fill_window(frames, now)
        frames += self.queries.take_frames(self.id, self.last_sent, self.floor, now)
        return frames

    @property
    def due(self) -> float:
        """When `take_frames` will have something to send even if nothing happens; infinity for never."""
        if not self.is_ready:
            return inf
        if not self.id:
            return min(self._retry_at, self.queries.retry_at)
        return min(self._retry_at, self.queries.retry_at, self.keep_alive.due, self.events.ask_at)

    @property
    def is_patient(self) -> bool:
        """Whether nothing hangs on when, within a moment, a keep-alive leaves."""
        return self.is_bound and self.keep_alive.timeout >= PATIENT_SECONDS

    @property
    def is_waiting(self) -> bool:
        """Whether a server owes an answer, be it who leads."""
        return (
            bool(self._in_flight)
            or not self.is_ready
            or not self.id
            or self.keep_alive.is_waiting
            or self.is_leaving
            or self.queries.are_waiting
        )

    @property
    def is_owed_results(self) -> bool:
        """Whether a server owes the results of commands, and did not ask for patience."""
        return bool(self._in_flight) and self._retry_at == inf

    def _fill_window(self, frames: list[bytes], now: float) -> None:
        while self._operations and self._in_flight_bytes < IN_FLIGHT_BYTES_MAX:
            room = min(self.ack + SESSION_WINDOW - self.last_sent, self._count_max)
            if self.obstacle:  # one command finds out whether it is still there
                room = min(room, 0 if self._in_flight else 1)
            if room <= 0:
                return
            frames.append(self._next_batch(count_that_fits(self._operations, room), now))

    def _next_batch(self, count: int, now: float) -> bytes:
        if count == len(self._operations):
            operations, self._operations = self._operations, []
            tokens, self._tokens = self._tokens, []
        else:
            operations, self._operations = self._operations[:count], self._operations[count:]
            tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        first = self.last_sent + 1
        frame = HEADER_BATCH.pack(Tag.BATCH, self.id, first, self.ack, count) + join_operations(operations)
        self.last_sent += count
        self._in_flight.append(Batch(first, frame, tokens, now))
        self._in_flight_bytes += len(frame)
        return frame

    def _keep_alive(self, now: float) -> bytes:
        stamp = self.keep_alive.sent(now)
        kept = KEPT_ALIVE.pack(self.id, self._secret, self.ack, self.events.acknowledge(), stamp)
        return HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 1) + kept

    def _register(self) -> bytes:
        return HEADER_REGISTER.pack(Tag.REGISTER, self._nonce, self._timeout_ms)

    def _unregister(self) -> bytes:
        return HEADER_UNREGISTER.pack(Tag.UNREGISTER, self.id, self._secret)

    def _retry(self, now: float) -> None:
        """The pause a server asked for is over."""
        self._retry_at = inf
        if not self.id:
            self._outbox.append(self._register())
        elif self._batch_at(self._resend_from) is not None:
            self._send_batches_again()

    def _send_batches_again(self) -> None:
        self._outbox += [batch.send_again() for batch in self._in_flight if batch.results is None]

    def _send_all_again(self, now: float) -> None:
        self._retry_at, self._resend_from = inf, 0
        if not self.id:
            self._outbox = [] if self.is_leaving else [self._register()]
            return
        self._outbox = [self._keep_alive(now)]
        self._send_batches_again()
        if self.is_leaving:
            self._outbox.append(self._unregister())
        self.queries.send_again()

    # -- what comes ----------------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """The connection is lost, or its server knows no leader: nothing can be sent until one is named."""
        self.is_ready = self.is_bound = self.keep_alive.is_waiting = False
        self._outbox = []

    def receive(self, frame: bytes, now: float) -> list[Outcome]:
        """A server's frame. Raises ProtocolError for one that no server sends to a client."""
        handler = HANDLERS.get(frame[0] if frame else 0)
        if handler is None:
            raise ProtocolError(f"a server sent a frame with tag {frame[:1].hex() or 'none'}, unknown to clients")
        return handler(self, frame, now)

    def _on_leader(self, frame: bytes, now: float) -> list[Outcome]:
        notice = decode_notice(frame[1:])
        is_news = (notice.term, notice.leader) != (self.notice.term, self.notice.leader)
        self.notice = notice
        if not notice.leader:
            self.suspend()
            return []
        self.is_bound = self.is_bound and not is_news
        self.is_ready = True
        self._send_all_again(now)
        return []

    def _on_registered(self, frame: bytes, now: float) -> list[Outcome]:
        _, nonce, session, secret, timeout_ms = unpack(HEADER_REGISTERED, frame)
        if self.id or nonce != self._nonce:
            return []
        self.id, self._secret = session, secret
        self.keep_alive.granted(timeout_ms / 1000)
        self.keep_alive.confirm(self._registering_at)
        self.is_bound = True
        self._backoff.reset()
        return [Registered()]

    def _on_register_refused(self, frame: bytes, now: float) -> list[Outcome]:
        _, nonce, number = unpack(HEADER_REGISTER_REFUSED, frame)
        if self.id or nonce != self._nonce:
            return []
        reason = _reason(number)
        if reason is Reason.NO_LEADER:
            self.suspend()
        elif reason is Reason.OVERLOADED:
            self._retry_at = now + self._backoff.next_delay()
        else:
            return [RegistrationRefused(_detail(frame, HEADER_REGISTER_REFUSED.size))]
        return []

    def _on_results(self, frame: bytes, now: float) -> list[Outcome]:
        _, session, first, count, index, event_index = unpack(HEADER_RESULTS, frame)
        batch = self._batch_at(first) if session == self.id else None
        if batch is None:
            return []  # an answer repeated because its batch was sent again
        results = decode_results(frame[HEADER_RESULTS.size :])
        if not count == len(results) == len(batch.tokens):
            raise ProtocolError(f"{len(batch.tokens)} commands were answered with {len(results)} results")
        batch.index, batch.event_index, batch.results = index, event_index, results
        self._count_max = next_count_max(self._count_max, count, len(frame))
        self.is_bound = True
        return self._release(now)

    def _batch_at(self, first: int) -> Batch | None:
        if self._in_flight and self._in_flight[0].first == first:
            return self._in_flight[0]
        return next((batch for batch in self._in_flight if batch.first == first), None)

    def _release(self, now: float) -> list[Outcome]:
        """Results are shown in order, even when an answer was lost on the way and a later one was not.

        Each waits for the events that came before it (protocol §6).
        """
        released: list[Outcome] = []
        while self._in_flight and self._in_flight[0].results is not None:
            if self.events.wait_for(self._in_flight[0].event_index, now):
                break
            batch = self._in_flight.popleft()
            self._in_flight_bytes -= len(batch.frame)
            self.ack = batch.last
            self.floor = max(self.floor, batch.index)
            self.keep_alive.confirm(batch.sent_at)
            self.obstacle = ""
            released.append(Resolved(batch.tokens, batch.results or [], are_commands=True))
        if released:
            self._backoff.reset()
        return released

    def _on_rejected(self, frame: bytes, now: float) -> list[Outcome]:
        _, session, sequence, number = unpack(HEADER_REJECTED, frame)
        if session != self.id or sequence <= self.ack:
            return []
        reason, detail = _reason(number), _detail(frame, HEADER_REJECTED.size)
        if reason is Reason.NO_LEADER:
            self.suspend()
        elif reason is Reason.UNKNOWN_SESSION:
            return self._end(detail or "unknown to the servers")
        elif reason in (Reason.TOO_LARGE, Reason.MALFORMED):
            return self._end(detail, refused_from=sequence, reason=reason)
        elif reason is Reason.NO_SPACE:
            self._put_back(sequence, detail, now)
        elif reason is Reason.GAP and self._resend_from != sequence:
            self._resend_from = sequence
            self._outbox = []
            self._send_batches_again()
        elif self._retry_at == inf:
            # Every batch behind a rejected one is rejected, too: only the first answer may cause a sending at once.
            self._resend_from = sequence
            self._retry_at = now + self._backoff.next_delay()
        return []

    def _put_back(self, first: int, why: str, now: float) -> None:
        """This batch was refused. If that was its only copy, it is as if it had never left; likewise those behind it,
        when each has been refused, for the numbers of commands have no gap. Else it is sent again, later."""
        self.obstacle = why
        refused = self._batch_at(first)
        if refused is not None and refused.copies == 1:
            refused.is_refused = True
        else:
            self._resend_from = first
        for batch in reversed(take_back(self._in_flight)):
            self._in_flight_bytes -= len(batch.frame)
            self.last_sent = batch.first - 1
            self._operations = batch.operations() + self._operations
            self._tokens = batch.tokens + self._tokens
        if self._retry_at == inf:
            self._retry_at = now + self._backoff.next_delay()

    def _on_kept(self, frame: bytes, now: float) -> list[Outcome]:
        _, count = unpack(HEADER_KEPT, frame)
        if len(frame) != HEADER_KEPT.size + count * KEPT_SESSION.size:
            raise ProtocolError(f"a list of {count} kept sessions does not fit {len(frame)} bytes")
        stamp = dict(KEPT_SESSION.iter_unpack(frame[HEADER_KEPT.size :])).get(self.id)
        if stamp is None:
            return []
        self.keep_alive.kept(stamp)
        self.is_bound = True
        return [Kept()]

    def _on_events(self, frame: bytes, now: float) -> list[Outcome]:
        _, session, _ = unpack(HEADER_EVENTS, frame)
        batches = self.events.receive(frame) if self.id and session == self.id else []
        if not batches:
            return []
        return [Delivered(batches), *self._release(now), *self._release_queries(now)]

    def _on_ended(self, frame: bytes, now: float) -> list[Outcome]:
        _, session, number = unpack(HEADER_ENDED, frame)
        if not self.id or session != self.id:
            return []
        try:
            why = End(number).name.lower()
        except ValueError:
            raise ProtocolError(f"a session ended for reason {number}, which is unknown") from None
        return self._end(why)

    def _on_answer(self, frame: bytes, now: float) -> list[Outcome]:
        self.queries.answered(frame)
        return [*self._release_queries(now)]

    def _release_queries(self, now: float) -> list[Resolved]:
        released, self.floor = self.queries.release(self.floor, self.events, now)
        return released

    def _on_query_refused(self, frame: bytes, now: float) -> list[Outcome]:
        _, request, number = unpack(HEADER_QUERY_REFUSED, frame)
        reason, detail = _reason(number), _detail(frame, HEADER_QUERY_REFUSED.size)
        if not self.queries.has_asked(request):
            return []
        if reason is Reason.UNKNOWN_SESSION:
            return self._end(detail)
        if reason is Reason.NO_LEADER:
            self.suspend()
        refused = self.queries.refused(request, reason, detail, now)
        if refused is None:
            return []
        return [refused, *self._release_queries(now)]  # those behind it may have been answered before

    # -- the end, and what is given up ---------------------------------------------------------------------------------

    def end(self, why: str) -> list[Outcome]:
        """Give the session up. Commands are reported as `Ended` says; queries wait for the next session."""
        return self._end(why)

    def _end(self, why: str, *, refused_from: int = 0, reason: Reason | None = None) -> list[Outcome]:
        ended = Ended(why=why, sent=[], unsent=[], refused=[], reason=reason)
        outcomes: list[Outcome] = []
        for batch in self._in_flight:
            if batch.results is not None:
                self.floor = max(self.floor, batch.index)
                outcomes.append(Resolved(batch.tokens, batch.results, are_commands=True))
            elif reason is None or batch.first < refused_from:
                ended.sent += batch.tokens
            elif batch.first == refused_from:
                ended.refused += batch.tokens
            else:
                ended.unsent += batch.tokens
        ended.unsent += self._tokens
        outcomes.append(ended)
        self._start_anew()
        return outcomes

    def _start_anew(self) -> None:
        self.id = self.ack = self.last_sent = self._resend_from = 0
        self.is_bound, self.obstacle = False, ""
        self._secret, self._nonce = b"", self._random.randbytes(NONCE_BYTES)
        self.keep_alive, self.events = KeepAlive(self._timeout_ms / 1000), EventInbox()
        self._registering_at = inf
        self._retry_at = inf
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._operations, self._tokens = [], []
        self.queries.forget_sequences()
        self._outbox = [self._register()] if self.is_ready and not self.is_leaving else []

    # -- what waits, for deadlines -------------------------------------------------------------------------------------

    def sent(self) -> Iterator[list[Token]]:
        """The tokens of each batch in flight. A token may be exchanged in its place for another."""
        return (batch.tokens for batch in self._in_flight)

    @property
    def unsent(self) -> list[Token]:
        """The tokens of the commands that never left, in the order of calls."""
        return self._tokens

    def withdraw(self, is_withdrawn: Callable[[Token], bool]) -> None:
        """Take back unsent commands: they will not be sent."""
        kept = [not is_withdrawn(token) for token in self._tokens]
        first = self.last_sent + 1
        self.queries.withdrawn([first + at for at, is_kept in enumerate(kept) if not is_kept])
        self._operations = [each for each, is_kept in zip(self._operations, kept, strict=True) if is_kept]
        self._tokens = [each for each, is_kept in zip(self._tokens, kept, strict=True) if is_kept]

    def drop_queries(self, is_done: Callable[[Token], bool], now: float) -> list[Resolved]:
        """Forget queries whose results nobody waits for; returns those that were answered and waited for them."""
        self.queries.drop(is_done)
        return self._release_queries(now)


def _reason(number: int) -> Reason:
    try:
        return Reason(number)
    except ValueError:
        raise ProtocolError(f"a server refused for reason {number}, which is unknown") from None


def _detail(frame: bytes, start: int) -> str:
    return frame[start:].decode(errors="replace")


HANDLERS: dict[int, Callable[[ClientSession, bytes, float], list[Outcome]]] = {
    Tag.LEADER: ClientSession._on_leader,
    Tag.REGISTERED: ClientSession._on_registered,
    Tag.REGISTER_REFUSED: ClientSession._on_register_refused,
    Tag.RESULTS: ClientSession._on_results,
    Tag.REJECTED: ClientSession._on_rejected,
    Tag.KEPT: ClientSession._on_kept,
    Tag.ENDED: ClientSession._on_ended,
    Tag.ANSWER: ClientSession._on_answer,
    Tag.QUERY_REFUSED: ClientSession._on_query_refused,
    Tag.EVENTS: ClientSession._on_events,
}
