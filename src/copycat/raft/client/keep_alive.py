"""When a session is to be kept alive, and until when it certainly is: by the client's own clock. Sans-IO.

A command keeps its session alive as well as a keep-alive does, so keep-alives are for sessions that fall silent. Both
count from when they were *sent*: the leader heard of them later than that, so a session cannot have expired before its
timeout has passed since. A client cut off from the cluster never hears that it expired; it counts for itself, and
leaves a margin for clocks that run at different speeds.

Source: protocol §5.6.
"""

from math import inf

KEEP_ALIVES_PER_TIMEOUT = 3
LOST_SHARE = 0.95
"""The share of the timeout after which a session counts as lost: the rest is for clocks that differ in speed, and for
whoever must be told to let go before another is let in."""


class KeepAlive:
    """The times of one session, in seconds, each worked out when it changes.

    timeout: the session's. confirmed_at: when the newest word of this client that is known to have reached the cluster
    was sent. due: when the next keep-alive is to be sent. lost_at: when the session must be counted as lost unless
    something is confirmed before.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sent_at = self.confirmed_at = -inf
        self.due = self.lost_at = -inf
        self.is_waiting = False  # for the answer to one

    def granted(self, timeout: float) -> None:
        """The cluster gave the session so long."""
        self.timeout = timeout
        self._work_out()

    def sent(self, now: float) -> int:
        """A keep-alive leaves; returns its stamp, which the answer repeats."""
        self.sent_at = now
        self.is_waiting = True
        self._work_out()
        return max(0, int(now * 1e6))

    def kept(self, stamp: int) -> None:
        """An answer came, to the keep-alive with this stamp or a later one. 0: to none of this leader's."""
        self.is_waiting = False
        self.confirm(min(stamp / 1e6, self.sent_at))

    def confirm(self, sent_at: float) -> None:
        """Something that was sent then has reached the cluster."""
        if sent_at > self.confirmed_at:
            self.confirmed_at = sent_at
            self._work_out()

    def _work_out(self) -> None:
        self.due = max(self.sent_at, self.confirmed_at) + self.timeout / KEEP_ALIVES_PER_TIMEOUT
        self.lost_at = self.confirmed_at + self.timeout * LOST_SHARE
