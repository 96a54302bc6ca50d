"""A session's events on the client: each once, in order, and before the answers that come after them. Sans-IO.

Servers send batches, each naming the index of the one before. What was delivered already is dropped; what does not
follow is dropped, too, and asked for from the last one delivered. A response says which event was the last by its
time; it is held until that one was delivered, and when it does not come within a heartbeat, events are asked for again.

Source: protocol §6.
"""

from math import inf
from typing import Any

from copycat.raft.protocol.wire import HEADER_EVENTS, HEADER_EVENTS_AFTER, Tag, decode_events, unpack

ASK_SECONDS = 0.1
"""How long to wait for an event that a response spoke of before asking for it: about a heartbeat."""

UNACKNOWLEDGED_MAX = 8192
"""So many events delivered call for a keep-alive out of turn: servers keep events until they are acknowledged."""


class EventInbox:
    """The events of one session. `index` is the last one delivered; `ask_at` is when to send `ask`."""

    def __init__(self) -> None:
        self.index = 0
        self.ask_at = inf
        self._unacknowledged = 0

    def receive(self, frame: bytes) -> list[list[Any]]:
        """The batches of an EVENTS frame of this session that are to be delivered now. Raises ProtocolError."""
        _, _, previous = unpack(HEADER_EVENTS, frame)
        if previous > self.index:
            self.ask_at = 0.0
            return []
        batches = [batch for batch in decode_events(frame) if batch[0] > self.index]
        if batches:
            self.index = batches[-1][0]
            self._unacknowledged += sum(map(len, batches)) - len(batches)
            self.ask_at = inf
        return batches

    @property
    def are_many(self) -> bool:
        """Whether an acknowledgement should not wait for the next keep-alive."""
        return self._unacknowledged >= UNACKNOWLEDGED_MAX

    def acknowledge(self) -> int:
        """The index to acknowledge, in a keep-alive that leaves now."""
        self._unacknowledged = 0
        return self.index

    def wait_for(self, index: int, now: float) -> bool:
        """Whether a response that speaks of `index` must wait; then the event is asked for in time."""
        if index <= self.index:
            return False
        if self.ask_at == inf:
            self.ask_at = now + ASK_SECONDS
        return True

    def ask(self, session: int, now: float) -> bytes:
        """The frame that asks for what follows the last event delivered."""
        self.ask_at = now + ASK_SECONDS
        return HEADER_EVENTS_AFTER.pack(Tag.EVENTS_AFTER, session, self.index)
