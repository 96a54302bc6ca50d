"""Commands that were sent together, until their results have come.

A batch goes out again, byte for byte, whenever it may have been lost; so several copies of it may be on their way, and
as long as one may still arrive its commands may take effect. One that was sent once, and whose only copy a server
has refused, is nowhere any more: its commands can be taken back with certainty, as if they had never left.

Source: protocol §5.3.
"""

from collections import deque

import msgspec

from copycat.raft.client.outcomes import Token
from copycat.raft.protocol.wire import HEADER_BATCH

_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Batch:
    """The commands from the sequence `first` on. `sent_at`: for the first time. `copies`: how often it was sent."""

    __slots__ = ("copies", "event_index", "first", "frame", "index", "is_refused", "results", "sent_at", "tokens")

    def __init__(self, first: int, frame: bytes, tokens: list[Token], sent_at: float) -> None:
        self.first = first
        self.frame = frame
        self.tokens = tokens
        self.sent_at = sent_at
        self.copies = 1
        self.is_refused = False  # its only copy was, so it will not be executed unless it is sent again
        self.index = 0
        self.event_index = 0  # events up to here are shown before the results
        self.results: list[object] | None = None

    @property
    def last(self) -> int:
        return self.first + len(self.tokens) - 1

    def send_again(self) -> bytes:
        """The same frame."""
        self.copies += 1
        self.is_refused = False
        return self.frame

    def operations(self) -> list[bytes]:
        """As they were when they were called."""
        return [bytes(operation) for operation in _split(self.frame[HEADER_BATCH.size :])]


def take_back(in_flight: deque[Batch]) -> list[Batch]:
    """The refused batches at the end, out of `in_flight`, oldest first: one with another behind it keeps its place."""
    taken: deque[Batch] = deque()
    while in_flight and in_flight[-1].is_refused:
        taken.appendleft(in_flight.pop())
    return list(taken)
