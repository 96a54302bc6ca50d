"""The future of one operation: what a call returns, and what is awaited for its result."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from copycat.errors import Outcome

_log = logging.getLogger(__name__)

R = TypeVar("R")


class CopycatFuture(asyncio.Future[R]):
    """An operation that has already started. Await it for its result, with anything that takes an asyncio.Future.

    Cancelling it, or the task that awaits it, gives up the result and nothing else: the operation takes its course.
    A failure that nobody awaited is logged once, when the future is forgotten.

    what: names the operation in messages, such as "map 'users'.put".
    decode: makes the result from what was sent; None leaves it as it is.
    deadline: when to give up, in seconds on the loop's clock; infinity for never.
    """

    # One is made per operation, so there is no `__init__`: whoever makes one sets these.
    __slots__ = ("deadline", "decode", "what")

    what: str
    decode: Callable[[Any], Any] | None
    deadline: float

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.what} was used as true or false without await; write: if await ...")

    def __del__(self) -> None:
        if not self._log_traceback:  # asyncio's own mark of a failure that nobody has looked at
            return
        self._log_traceback = False
        error = self.exception()
        outcome = getattr(error, "outcome", Outcome.UNKNOWN).value
        _log.error(
            "%s failed and nobody awaited it: %s: %s (outcome: %s)",
            self.what,
            type(error).__name__,
            error,
            outcome,
            extra={"operation": self.what, "outcome": outcome},
        )
