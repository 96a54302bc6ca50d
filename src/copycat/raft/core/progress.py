"""What the leader knows of one other member.

A member is *probed* until it has accepted one append: one request at a time, at the position where the logs may
agree. Then requests are *pipelined*: `next_index` moves on when blocks are sent, not when they are answered, within
a limit on bytes in flight. A refusal, a broken link or a lost request returns it to probing.

Source: Raft dissertation §10.2.2; reliability §5 (9, 11, 16).
"""

from collections import deque
from dataclasses import dataclass, field

from copycat.raft.core.transfer import Transfer


@dataclass(slots=True, kw_only=True)
class Progress:
    """`match_index` is verified and durable at the member; `next_index` is always above it.

    It only grows, but for a member whose disk has lost what it once vouched for (`refilling`).
    """

    next_index: int
    contact_ms: int  # send time of the latest round it acknowledged (never the time of the answer)
    match_index: int = 0
    probing: bool = True
    probe_sent: bool = False
    reachable: bool = True
    refilling: bool = False
    acknowledged_round: int = 0
    told_commit: int = 0
    echo_ms: int = 0
    inflight_bytes: int = 0
    transfer: Transfer | None = None  # of a snapshot, to a member that lacks what the log no longer holds
    inflight: deque[tuple[int, int]] = field(default_factory=deque)  # (last index, bytes) of each append on the way

    def sent(self, last_index: int, size: int) -> None:
        """Blocks up to `last_index` are on the way."""
        self.inflight.append((last_index, size))
        self.inflight_bytes += size
        if self.probing:
            self.probe_sent = True
        else:
            self.next_index = last_index + 1

    def matched(self, index: int) -> None:
        """The member holds everything up to `index`, durably. Late answers change nothing."""
        self.match_index = max(self.match_index, index)
        self.next_index = max(self.next_index, self.match_index + 1)
        while self.inflight and self.inflight[0][0] <= self.match_index:
            self.inflight_bytes -= self.inflight.popleft()[1]

    def lost(self, index: int) -> None:
        """The member holds nothing beyond `index` any more, whatever it said before."""
        self.match_index = min(self.match_index, index)

    def pipeline(self) -> None:
        """The member agrees with the log at the position last sent: stream from there."""
        if self.probing:
            self.probing = self.probe_sent = False
            if self.inflight:
                self.next_index = max(self.next_index, self.inflight[-1][0] + 1)

    def probe(self, next_index: int) -> None:
        """Go back to one request at a time from `next_index`, never to or below what is known to match."""
        self.probing, self.probe_sent = True, False
        self.next_index = max(next_index, self.match_index + 1)
        self.inflight.clear()
        self.inflight_bytes = 0
