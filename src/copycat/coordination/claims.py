"""What a lock and an election have in common in programs: claims to hold something, and what becomes of them.

A `Claimant` has the claims of one handle; a `Grant` is what one of them holds. A claim that nobody waits for any more
is withdrawn, whatever became of it: granted, in line, on its way, or its answer lost.

What is held is *in doubt* while the session is suspended, and *lost* when the session may have ended by the client's
own clock. That is before the cluster can have granted it to another. What was lost is given back, never retaken.

Source: protocol §5.5, §5.6, §6.
"""

import asyncio
import logging
from asyncio import CancelledError, Future
from collections.abc import Callable, Generator
from functools import partial
from itertools import count
from math import inf
from types import TracebackType
from typing import Any, Final

from copycat.coordination.line import CLAIM, GRANTED, REFUSED, RELEASE, TIMED_OUT, WAITING, WITHDRAW
from copycat.errors import (
    ClosedError,
    ConfigurationError,
    CopycatError,
    LockTimeoutError,
    LostError,
    NotHeldError,
    SessionExpiredError,
)
from copycat.resource import CopycatFuture, Loss, Resource, ResourceContext

_log = logging.getLogger(__name__)

WAIT_SECONDS_MAX: Final = 100 * 366 * 86_400  # a century: longer is a mistake of units


class ClaimFuture(CopycatFuture[Any]):
    """The future of a claim. Whoever stops waiting for it, even after it was granted, gives it up.

    answered: done when the cluster has taken in the claim, granted or not.
    show: makes the result from the grant. is_optional: whether the result is None when time is up; else it raises.
    """

    __slots__ = ("answered", "is_optional", "on_abandoned", "show")

    answered: Future[Any]
    on_abandoned: Callable[[], object]
    show: Callable[["Grant"], Any]
    is_optional: bool

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except CancelledError:
            self.on_abandoned()  # it may be done: then nobody else will see what it was granted
            raise

    __iter__ = __await__


class Grant:
    """What a claim holds.

    token: grows from each grant to the next, so that whoever keeps the highest it was shown can refuse an older one.
    """

    def __init__(self, claimant: "Claimant", request: int, token: int) -> None:
        self.token = token
        self.request = request
        self.why_lost: str | None = None
        self.is_given_back = False
        self._claimant = claimant
        self._on_loss: Callable[[], object] | None = None

    def __repr__(self) -> str:
        state = "lost" if self.lost else "in doubt" if self.in_doubt else "held"
        return f"<{type(self).__name__} {self._claimant.path!r} token={self.token} {state}>"

    @property
    def lost(self) -> bool:
        """Whether another may hold it now."""
        if self.why_lost is None and self._claimant.session.is_lost:
            self.lose("the session may have ended")
        return self.why_lost is not None

    @property
    def in_doubt(self) -> bool:
        """Whether the cluster is out of contact, so that this may be lost soon."""
        return self.lost or not self._claimant.session.is_connected

    def check(self) -> None:
        """Raise LockLostError, or LeadershipLostError, if it is lost."""
        if self.lost:
            raise self.error()

    def error(self) -> LostError:
        """What to raise for its loss."""
        claimant = self._claimant
        return claimant.lost_error_type(
            f"{claimant.thing} {claimant.path!r} (token {self.token}) was lost: {self.why_lost}; another may have it "
            "now. Check what was done last, unless it carried the token",
            token=self.token,
        )

    def lose(self, why: str) -> None:
        """It is lost, from now on."""
        if self.why_lost is None:
            self.why_lost = why
            if self._on_loss is not None:
                self._on_loss()

    def watch(self, on_loss: Callable[[], object] | None) -> None:
        """Call `on_loss` when it is lost, and nobody else; None: nobody."""
        self._on_loss = on_loss


class Claimant(Resource):
    """A handle's claims. For subclasses: what is claimed is named by `thing`, its loss by `lost_error_type`."""

    thing = "claim"
    lost_error_type: type[LostError] = LostError
    grant_type: type[Grant] = Grant

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._requests = count(1)
        self._claims: dict[int, ClaimFuture] = {}  # by request; those not granted yet
        self._grants: dict[int, Grant] = {}  # by request; those not lost and not given back
        self._loss = self.session.on_loss(self._on_loss)
        self.on_event(GRANTED, self._on_granted)
        self.on_event(TIMED_OUT, self._on_timed_out)

    async def close(self) -> None:
        """Let go of this handle, of what it holds and of its place in line; idempotent. The resource stays."""
        if not self._is_twin and not self.is_closed:
            for request, claim in list(self._claims.items()):
                self._settle(request, ClosedError(f"{claim.what}: the handle was closed"))
                self._withdraw(request)
            for request, grant in list(self._grants.items()):
                grant.lose("the handle was closed")
                self._withdraw(request)
            self._loss.close()
        await super().close()

    # -- claiming ------------------------------------------------------------------------------------------------------

    def claim(
        self, what: str, wait: float | None, show: Callable[[Any], Any], *, is_optional: bool = False
    ) -> ClaimFuture:
        """Start a claim, to wait in line for so many seconds; 0: not at all; None: for ever.

        The result is what `show` makes of the grant; None if `wait` is 0 and it is held. When time is up the future
        raises LockTimeoutError, or its result is None if that `is_optional`. It also raises what became of the session.

        Raises at once ConfigurationError for a wait that cannot be, and what is wrong with the handle.
        """
        wait_ms = _milliseconds(wait)
        request = next(self._requests)
        command: Future[int] = self.command(CLAIM, request, wait_ms, timeout=None, what=what)
        loop = asyncio.get_running_loop()
        claim = ClaimFuture(loop=loop)
        claim.what, claim.decode, claim.deadline = f"{what} on {self.path!r}", None, inf
        claim.answered, claim.show, claim.is_optional = command, show, is_optional
        claim.on_abandoned = partial(self._abandon, request)
        self._claims[request] = claim
        command.add_done_callback(partial(self._on_answer, request))
        claim.add_done_callback(partial(self._on_done, request))
        patience = self._timeout if wait == 0 else wait
        if patience is not None:
            timer = loop.call_later(patience, self._run_out, request, patience)
            claim.add_done_callback(lambda _: timer.cancel())
        return claim

    def release(self, grant: Grant, what: str = "release", decode: Callable[[bool], Any] = bool) -> Future[Any]:
        """Give back what was granted. The result is whether it was held until then, or what `decode` makes of that."""
        self._grants.pop(grant.request, None)
        grant.is_given_back = True
        grant.watch(None)
        return self.command(RELEASE, grant.token, timeout=None, decode=decode, what=what)

    def _on_answer(self, request: int, command: Future[Any]) -> None:
        """The cluster took in the claim, or it is certain that it will not, or nobody knows."""
        if command.cancelled():
            return
        error = command.exception()
        if error is not None:
            self._settle(request, error)
        elif command.result() == REFUSED:
            self._settle(request, None)
        elif command.result() != WAITING:
            self._on_granted(0, request, command.result())

    def _on_granted(self, _index: int, request: int, token: int) -> None:
        claim = self._claims.get(request)
        if claim is None:
            return  # it was withdrawn, behind the claim and so after this
        if self.session.is_lost:
            # It may be the end of the session that comes next: a grant as old as this must not be believed.
            self._settle(request, SessionExpiredError(f"{claim.what}: granted, but the session may have ended"))
            self._withdraw(request)
            return
        del self._claims[request]
        if claim.done():
            self._withdraw(request)  # cancelled just now
            return
        grant = self._grants[request] = self.grant_type(self, request, token)
        claim.set_result(claim.show(grant))

    def _on_timed_out(self, _index: int, request: int) -> None:
        claim = self._claims.get(request)
        if claim is not None:
            self._settle_late(request, claim, "not granted in time; nothing is held for it")

    def _run_out(self, request: int, patience: float) -> None:
        """By this client's own clock time is up, whatever the cluster makes of it."""
        claim = self._claims.get(request)
        if claim is not None:
            self._settle_late(
                request, claim, f"not granted within {patience:g} s; the claim is withdrawn, so nothing is held for it"
            )
            self._withdraw(request)

    def _settle_late(self, request: int, claim: ClaimFuture, message: str) -> None:
        self._settle(request, None if claim.is_optional else LockTimeoutError(f"{claim.what}: {message}"))

    def _settle(self, request: int, outcome: BaseException | None) -> None:
        """The claim will not be granted."""
        claim = self._claims.pop(request, None)
        if claim is None or claim.done():
            return
        if outcome is None:
            claim.set_result(None)
        else:
            claim.set_exception(outcome)

    # -- giving up -----------------------------------------------------------------------------------------------------

    def _on_done(self, request: int, claim: Future[Any]) -> None:
        if claim.cancelled():
            self._abandon(request)

    def _abandon(self, request: int) -> None:
        """Nobody waits for this claim any more, or will learn that it was granted."""
        claim, grant = self._claims.pop(request, None), self._grants.pop(request, None)
        if grant is not None:
            grant.lose("it was given up")
        if claim is not None or grant is not None:
            self._withdraw(request)

    def _withdraw(self, request: int) -> None:
        """Tell the cluster, which keeps the order of calls: so the claim is gone wherever it stands."""
        try:
            withdrawn: Future[None] = self.command(WITHDRAW, request, timeout=None, what="withdraw")
        except CopycatError as error:
            _log.debug("%s %r: nothing to withdraw: %s", self.thing, self.path, error)
        else:
            withdrawn.add_done_callback(forget)

    def _on_loss(self, loss: Loss) -> None:
        """What is held is lost, and given back should the session live. When it is over, so are its claims."""
        grants = list(self._grants.items())
        self._grants.clear()
        for request, grant in grants:
            grant.lose(loss.why)
            if not loss.is_over:
                self._withdraw(request)
        if loss.is_over:
            for request, claim in list(self._claims.items()):
                if claim.answered.done():  # else its own command says what became of it
                    self._settle(request, SessionExpiredError(f"{claim.what}: left the line; {loss.why}"))


class Holding:
    """`async with` for a claim. The body is cancelled when what it holds is lost, and then the loss is raised."""

    def __init__(self, claimant: Claimant, claim: Callable[[], ClaimFuture]) -> None:
        self._claimant = claimant
        self._claim = claim
        self._grant: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0  # requests to cancel the task that are not of this scope
        self.is_cancelled = False  # by this scope, because of a loss

    async def __aenter__(self) -> Any:
        if self._grant is not None:
            raise NotHeldError(
                f"{self._claimant.thing} {self._claimant.path!r}: one scope is entered once; make another"
            )
        self._grant = await self._claim()
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._grant.watch(self._cancel)
        return self._grant

    def _cancel(self) -> None:
        if self._task is not None:
            self.is_cancelled = True
            self._task.cancel(f"{self._claimant.thing} {self._claimant.path!r} was lost")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grant, task = self._grant, self._task
        grant.watch(None)
        is_ours = self.is_cancelled and task is not None and task.uncancel() <= self._cancelling
        if grant.is_given_back:
            return
        if grant.lost:
            if error is None or (is_ours and isinstance(error, CancelledError)):
                raise grant.error() from error
        elif not await self._give_back(grant) and error is None:
            grant.lose("it was held no longer when it was to be given back")
            raise grant.error()

    async def _give_back(self, grant: Grant) -> bool:
        """Whether it was held until now, as far as is known when there is no answer in time."""
        claimant = self._claimant
        try:
            released = claimant.release(grant)
            released.add_done_callback(forget)
            async with asyncio.timeout(claimant.default_timeout):
                return await asyncio.shield(released)
        except TimeoutError:
            _log.warning("%s %r: not known to be given back yet", claimant.thing, claimant.path)
        except CopycatError as failure:  # the session ended meanwhile, and so did what it held
            _log.debug("%s %r: given back by the end of the session: %s", claimant.thing, claimant.path, failure)
        return True


def forget(done: Future[Any]) -> None:
    """What could not be given back ends with its session; nobody waits to hear of it."""
    if not done.cancelled() and done.exception() is not None:
        _log.debug("not given back: %s", done.exception())


def _milliseconds(wait: Any) -> int:
    if wait is None:
        return -1
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= WAIT_SECONDS_MAX:
        raise ConfigurationError(f"a time to wait is in seconds, 0 for not at all, or None for ever; not {wait!r}")
    return max(1, round(wait * 1000)) if wait else 0
