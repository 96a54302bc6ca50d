"""The events of one session, kept on every server until the client's acknowledgement of them is in the log.

What is replicated and what belongs to a connection are kept apart. This queue is replicated: it grows by what state
machines publish and shrinks only by a logged ack, so it is the same on every server at the same index. How far a
connection has been sent events is the business of the server that holds it, which may send again whatever is here.

All events of an index are one batch. A batch names the index of the batch before it, so a client knows whether one is
missing, and drops what it has.

Source: protocol §6.
"""

from bisect import bisect_right
from itertools import islice
from operator import attrgetter

EVENTS_COUNT_MAX = 1 << 17
EVENTS_BYTES_MAX = 32 << 20
BATCH_BYTES_MAX = 15 << 20
"""What a session may have unacknowledged, and of one index, for a batch travels in one frame. Beyond it ends, on every
server at one index: part of what they compute."""

FORGOTTEN_MAX = 1024


class EventBatch:
    """The events that one index had for a session, each encoded; `previous` is the index of the batch before."""

    __slots__ = ("events", "index", "previous", "size")

    def __init__(self, index: int, previous: int) -> None:
        self.index = index
        self.previous = previous
        self.events: list[bytes] = []
        self.size = 0


class EventQueue:
    """`index` is the last one with an event, `ack` the last acknowledged; 0 for none."""

    __slots__ = ("_batches", "_start", "ack", "count", "index", "size")

    def __init__(self) -> None:
        self._batches: list[EventBatch] = []  # from `_start` on: what was forgotten before leaves in large strokes
        self._start = 0
        self.index = 0
        self.ack = 0
        self.count = 0
        self.size = 0

    @property
    def overflows(self) -> bool:
        """Whether more is unacknowledged than a session may have, or the newest batch is more than a frame holds."""
        return (
            self.count > EVENTS_COUNT_MAX
            or self.size > EVENTS_BYTES_MAX
            or (self._start < len(self._batches) and self._batches[-1].size > BATCH_BYTES_MAX)
        )

    def add(self, index: int, event: bytes) -> None:
        """An event was published at `index`, the last one or a later one."""
        if index > self.index or self._start == len(self._batches):
            self._batches.append(EventBatch(index, self.index))
            self.index = index
        batch = self._batches[-1]
        batch.events.append(event)
        batch.size += len(event)
        self.count += 1
        self.size += len(event)

    def acknowledge(self, index: int) -> None:
        """The client has every event up to `index`: forget them. What was never published cannot be acknowledged."""
        self.ack = max(self.ack, min(index, self.index))
        start = self._position_after(self.ack)
        for batch in islice(self._batches, self._start, start):
            self.count -= len(batch.events)
            self.size -= batch.size
        if start == len(self._batches) or start > FORGOTTEN_MAX:
            del self._batches[:start]
            start = 0
        self._start = start

    def after(self, index: int, size_max: int) -> list[EventBatch]:
        """The batches after `index`, oldest first, of about `size_max` bytes at most but one at least; or none."""
        first = end = self._position_after(index)
        size = 0
        while end < len(self._batches) and (end == first or size + self._batches[end].size <= size_max):
            size += self._batches[end].size
            end += 1
        return self._batches[first:end]

    def _position_after(self, index: int) -> int:
        return bisect_right(self._batches, index, lo=self._start, key=_index_of)

    def waiting(self) -> list[EventBatch]:
        """What was not acknowledged, oldest first: batches of indices that are over, and so change no more."""
        return self._batches[self._start :]

    def put_back(self, index: int, previous: int, events: list[bytes]) -> None:
        """A batch as it was; in order of index."""
        batch = EventBatch(index, previous)
        batch.events = events
        batch.size = sum(map(len, events))
        self._batches.append(batch)
        self.count += len(events)
        self.size += batch.size

    def clear(self) -> None:
        """The session is over."""
        self._batches.clear()
        self._start = self.count = self.size = 0


_index_of = attrgetter("index")
