"""A client's queries: sent in groups, answered in any order, released in the order of calls, never back in time.

Two rules make a client's reads monotone. An answer is released only after those of all earlier queries. And an answer
from before the floor, the highest index this client was shown, is dropped and asked for again. It is then asked at
LINEARIZABLE: the answers to a steady stream of commands could otherwise stay ahead of a follower's for ever, while
what the leader sends arrives in the order of its indices.

No asyncio, no sockets, no clock.

Source: protocol §3.7.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from math import inf

from copycat.errors import ProtocolError
from copycat.raft.client.encoding import BATCH_COUNT_FIRST, count_that_fits, join_operations, next_count_max
from copycat.raft.client.events import EventInbox
from copycat.raft.client.outcomes import QueriesRefused, Resolved, Token
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import HEADER_ANSWER, HEADER_QUERY, Reason, Tag, decode_results, unpack
from copycat.util.backoff import Backoff

REQUEST_BITS = 40
"""A request's number counts within so many bits; those above say whose it is, where several share a connection."""


class QueryGroup:
    """Queries of one level called one after another, answered together.

    `sequence` is the last command called before the last of them; the first of them may see more than it must. They may
    be too many for a frame until they are sent.
    """

    __slots__ = ("answer", "blob", "consistency", "operations", "request", "sequence", "tokens")

    def __init__(self, consistency: int) -> None:
        self.consistency = consistency
        self.sequence = 0
        self.operations: list[bytes] = []
        self.tokens: list[Token] = []
        self.blob = b""  # once sent
        self.request = 0  # of the last time it was sent; 0 while it waits to be
        self.answer: tuple[int, int, list[object]] | None = None  # index, event index, results


class Queries:
    """The queries of one client that were not released yet."""

    def __init__(self, backoff: Backoff) -> None:
        self._groups: deque[QueryGroup] = deque()
        self._growing: QueryGroup | None = None  # the last one, until it is sent
        self._to_send: list[QueryGroup] = []
        self._later: list[QueryGroup] = []  # servers asked to come back at `retry_at`
        self._asked: dict[int, QueryGroup] = {}  # by request
        self._last_request = 0
        self._backoff = backoff
        self._count_max = BATCH_COUNT_FIRST
        self.retry_at = inf

    @property
    def are_waiting(self) -> bool:
        """Whether a server owes an answer."""
        return bool(self._asked)

    def has_asked(self, request: int) -> bool:
        """Whether an answer to this very request is still wanted."""
        return request in self._asked

    def number_from(self, first: int) -> None:
        """Requests have numbers above this one from now on."""
        self._last_request = first + self._last_request % (1 << REQUEST_BITS)

    def add(self, operation: bytes, token: Token, consistency: int, sequence: int) -> None:
        """A query was called after the command `sequence`."""
        group = self._growing
        if group is None or group.consistency != consistency:
            group = self._growing = QueryGroup(consistency)
            self._groups.append(group)
            self._to_send.append(group)
        group.sequence = sequence
        group.operations.append(operation)
        group.tokens.append(token)

    def take_frames(self, session: int, last_sent: int, floor: int, now: float) -> list[bytes]:
        """The frames to send now. A query leaves only after the commands called before it."""
        if now >= self.retry_at:
            self._to_send += self._later
            self._later, self.retry_at = [], inf
        if not self._to_send:
            return []
        groups, self._to_send, self._growing = self._to_send, [], None
        frames = []
        for group in groups:
            if group.sequence > last_sent:
                self._to_send.append(group)
            elif group.blob:
                frames.append(self._frame(group, session, floor))
            else:
                frames += [self._frame(part, session, floor) for part in self._parts(group)]
        return frames

    def _parts(self, group: QueryGroup) -> list[QueryGroup]:
        """The group, cut into as many as it takes for each to fit a frame."""
        parts = [group]
        while (count := count_that_fits(group.operations, self._count_max)) < len(group.operations):
            group = self._cut(group, count)
            parts.append(group)
        return parts

    def _cut(self, group: QueryGroup, count: int) -> QueryGroup:
        """Leave so many in the group. Returns another with the rest, behind it."""
        rest = QueryGroup(group.consistency)
        rest.sequence = group.sequence
        rest.operations, group.operations = group.operations[count:], group.operations[:count]
        rest.tokens, group.tokens = group.tokens[count:], group.tokens[:count]
        self._groups.insert(self._groups.index(group) + 1, rest)
        return rest

    def _frame(self, group: QueryGroup, session: int, floor: int) -> bytes:
        if not group.blob:
            group.blob = join_operations(group.operations)
        self._last_request += 1  # anew each time, so that no answer to an earlier sending is taken for this one's
        group.request = self._last_request
        self._asked[group.request] = group
        header = HEADER_QUERY.pack(
            Tag.QUERY, group.request, session, group.sequence, floor, group.consistency, len(group.tokens)
        )
        return header + group.blob

    def answered(self, frame: bytes) -> None:
        """An ANSWER came. Raises ProtocolError."""
        _, request, index, event_index = unpack(HEADER_ANSWER, frame)
        group = self._asked.get(request)
        if group is None:
            return
        results = decode_results(frame[HEADER_ANSWER.size :])
        if len(results) != len(group.tokens):
            raise ProtocolError(f"{len(group.tokens)} queries were answered with {len(results)} results")
        del self._asked[request]
        group.answer = (index, event_index, results)
        self._count_max = next_count_max(self._count_max, len(results), len(frame))
        self._backoff.reset()

    def release(self, floor: int, events: EventInbox, now: float) -> tuple[list[Resolved], int]:
        """What may be shown now, after the events that came before it, and the floor afterwards."""
        released = []
        while self._groups and self._groups[0].answer is not None:
            group = self._groups[0]
            index, event_index, results = group.answer or (0, 0, [])
            if index < floor:
                self._ask_again(group)
                break
            if events.wait_for(event_index, now):
                break
            floor = index
            self._groups.popleft()
            released.append(Resolved(group.tokens, results, are_commands=False))
        return released, floor

    def _ask_again(self, group: QueryGroup) -> None:
        group.answer = None
        group.consistency = ConsistencyLevel.LINEARIZABLE
        self._to_send.append(group)

    def refused(self, request: int, reason: Reason, detail: str, now: float) -> QueriesRefused | None:
        """A server does not answer; None when it will be asked again."""
        group = self._asked.pop(request, None)
        if group is None:
            return None
        if reason is Reason.TOO_LARGE and len(group.tokens) > 1:
            self._split(group)
            return None
        if reason in (Reason.MALFORMED, Reason.TOO_LARGE):
            self._groups.remove(group)
            return QueriesRefused(group.tokens, reason, detail)
        if reason is Reason.OVERLOADED:
            self._later.append(group)
            self.retry_at = min(self.retry_at, now + self._backoff.next_delay())
        elif reason is Reason.STALE:
            self._ask_again(group)
        else:
            self._to_send.append(group)
        return None

    def _split(self, group: QueryGroup) -> None:
        """Ask again in two halves: the answers are too large together."""
        half = len(group.tokens) // 2
        self._count_max = max(1, min(self._count_max, half))
        rest = self._cut(group, half)
        group.blob, rest.blob = join_operations(group.operations), join_operations(rest.operations)
        self._to_send += [group, rest]

    def send_again(self) -> None:
        """Everything unanswered is to be sent anew: what was sent may be lost."""
        self._asked.clear()
        self._to_send = [group for group in self._groups if group.answer is None]
        self._later, self.retry_at = [], inf

    def forget_sequences(self) -> None:
        """The session ended: its commands are no longer something to wait for."""
        for group in self._groups:
            group.sequence = 0
            if group.answer is not None:
                index, _, results = group.answer
                group.answer = (index, 0, results)  # its events will not come any more
        self.send_again()

    def withdrawn(self, sequences: list[int]) -> None:
        """These commands, in order, were called but will never be sent: later ones take their numbers.

        Whoever was asked to wait for one of them, for it was sent and taken back, is asked again.
        """
        for group in self._groups:
            fewer = bisect_right(sequences, group.sequence)
            group.sequence -= fewer
            if fewer and self._asked.get(group.request) is group:
                del self._asked[group.request]
                self._to_send.append(group)

    def waiting(self) -> Iterator[list[Token]]:
        """The tokens of everything not released, in the order of calls."""
        return (group.tokens for group in self._groups)

    def drop(self, is_done: Callable[[Token], bool]) -> None:
        """Forget groups of which nobody waits for any, so that later ones need not wait for their answers."""
        gone = [group for group in self._groups if all(map(is_done, group.tokens))]
        for group in gone:
            self._groups.remove(group)
            if group is self._growing:
                self._growing = None
            self._asked.pop(group.request, None)
            for waiting in (self._to_send, self._later):
                if group in waiting:
                    waiting.remove(group)

    def take_all(self) -> list[Token]:
        """Forget every query; returns their tokens."""
        tokens = [token for group in self._groups for token in group.tokens]
        self._groups.clear()
        self._growing = None
        self.send_again()
        return tokens
