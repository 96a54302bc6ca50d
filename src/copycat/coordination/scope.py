"""`async with` for a claim: the body runs while it is held, and is cancelled when it is lost.

Cancelling counts as `asyncio.timeout` counts: what this scope asked for ends here as the error of the loss; what others
asked for goes on.

Source: protocol §5.6.
"""

import asyncio
import logging
from asyncio import CancelledError, Future, Handle, Task
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from copycat.coordination.claims import Claimant, ClaimFuture, forget
from copycat.coordination.grant import Grant
from copycat.errors import CopycatError, UsageError

_log = logging.getLogger(__name__)


G = TypeVar("G", bound=Grant)


class Holding(Generic[G]):
    """A scope that holds what `claim` is granted, and gives it back when it is left.

    was_lost: whether it was lost before the body came to its end.
    """

    def __init__(self, claimant: Claimant, claim: Callable[[], ClaimFuture]) -> None:
        self._claimant = claimant
        self._claim = claim
        self._grant: G
        self._task: Task[Any] | None = None
        self._is_entered = False
        self._is_cancelled = False  # the task, by this scope
        self._cancelling = 0  # requests to cancel the task that are not of this scope
        self._later: Handle | None = None
        self.was_lost = False

    async def __aenter__(self) -> G:
        if self._is_entered:
            raise UsageError(f"{self._claimant.thing} {self._claimant.path!r}: a scope is entered once; make another")
        self._is_entered = True
        grant: G = await self._claim()
        grant.check()  # it may have been lost while this task was about to go on
        self._grant, self._task = grant, asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        grant.watch(self._interrupt)
        return grant

    def _interrupt(self) -> None:
        """The grant has ended, and so does the body."""
        if asyncio.current_task() is not self._task:
            self._cancel()
        elif not self._grant.is_given_back:
            # The body closed the handle, say. A task that cancels itself would be cancelled behind this scope, should
            # it leave before it waits for anything.
            self._later = asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._is_cancelled = True
            self._task.cancel(f"{self._claimant.thing} {self._claimant.path!r} was lost")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grant, task = self._grant, self._task
        grant.watch(None)
        if self._later is not None:
            self._later.cancel()
        is_ours = self._is_cancelled and task is not None and task.uncancel() <= self._cancelling
        if grant.is_given_back and not self._is_cancelled:
            return  # by the body itself
        self.was_lost = grant.lost
        if self.was_lost:
            if error is None or (is_ours and isinstance(error, CancelledError)):
                raise grant.error() from error
        elif not await self._give_back(grant) and error is None:
            raise grant.error()

    async def _give_back(self, grant: G) -> bool:
        """Whether it was held until now, as far as is known when there is no answer in time."""
        claimant = self._claimant
        try:
            released: Future[bool] = claimant.release(grant)
            released.add_done_callback(forget)
            async with asyncio.timeout(claimant.default_timeout):
                was_held = await asyncio.shield(released)
        except TimeoutError:
            _log.warning("%s %r: not known to be given back yet", claimant.thing, claimant.path)
        except CopycatError as failure:  # the session ended meanwhile, and so did what it held
            _log.debug("%s %r: given back by the end of the session: %s", claimant.thing, claimant.path, failure)
        else:
            if not was_held:
                grant.why_lost, grant.is_given_back = "it was held no longer when it was to be given back", False
            return was_held
        return True
