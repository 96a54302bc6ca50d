"""Tells people that their event loop stood still: once, however many clients live on it."""

import logging
from asyncio import AbstractEventLoop
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0

_told_at: WeakKeyDictionary[AbstractEventLoop, float] = WeakKeyDictionary()
"""When each loop was last spoken of: all clients of a loop notice the same standstill."""


def tell_of_lag(loop: AbstractEventLoop, late: float, session_timeout: float) -> None:
    """Warn if a timer came so late, in seconds, that sessions are in danger; at most every QUIET_SECONDS a loop."""
    if late <= session_timeout / 3:
        return
    now, told_at = loop.time(), _told_at.get(loop)
    if told_at is not None and now < told_at + QUIET_SECONDS:
        return
    _told_at[loop] = now
    _log.warning(
        "the event loop was blocked for %.1f s of a %.1f s session: at %.1f s locks and leaderships are lost. "
        "Move blocking work to asyncio.to_thread, or raise session_timeout",
        late,
        session_timeout,
        session_timeout,
        extra={"blocked_s": late, "session_timeout_s": session_timeout},
    )
