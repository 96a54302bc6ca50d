"""What a lock and an election have in common in programs: claims to hold something, and what becomes of them.

A `Claimant` has the claims of one handle; a `Grant` is what one of them holds. A claim that nobody waits for any more
is withdrawn, whatever became of it: granted, in line, on its way, or its answer lost.

What is held is *in doubt* while the session is suspended, and *lost* when the session may have ended by the client's
own clock. That is before the cluster can have granted it to another. What was lost is given back, never retaken.

Source: protocol §5.5, §5.6, §6.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from copycat.coordination.grant import Grant
from copycat.coordination.line import CLAIM, DELETED, GRANTED, REFUSED, RELEASE, TIMED_OUT, WAITING, WITHDRAW
from copycat.errors import (
    ClosedError,
    ConfigurationError,
    CopycatError,
    LockTimeoutError,
    LostError,
    SessionExpiredError,
    UnknownResourceError,
)
from copycat.resource import HandoverFuture, Loss, Resource, ResourceContext

_log = logging.getLogger(__name__)

WAIT_SECONDS_MAX: Final = 100 * 366 * 86_400  # a century: longer is a mistake of units


class ClaimFuture(HandoverFuture[Any]):
    """The future of a claim. Whoever stops waiting for it, even after it was granted, gives it up.

    answered: done when the cluster has taken in the claim, granted or not.
    show: makes the result from the grant. is_optional: whether the result is None when time is up; else it raises.
    """

    __slots__ = ("answered", "is_optional", "show")

    answered: Future[Any]
    show: Callable[[Any], Any]
    is_optional: bool


class Claimant(Resource):
    """A handle's claims. For subclasses: what is claimed is named by `thing`, its loss by `lost_error_type`."""

    thing: str = "claim"
    lost_error_type: type[LostError] = LostError
    grant_type: type[Grant] = Grant

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._first = self  # of this handle and its twins: the one whose closing ends their claims
        self._requests = count(1)
        self._claims: dict[int, ClaimFuture] = {}  # by request; those not granted yet
        self._grants: dict[int, Grant] = {}  # by request; those not lost and not given back
        self._loss = self.session.on_loss(self._on_loss)
        self.on_event(GRANTED, self._on_granted)
        self.on_event(TIMED_OUT, self._on_timed_out)
        self.on_event(DELETED, self._on_deleted)

    async def close(self) -> None:
        """Let go of this handle, of what it holds and of its place in line; idempotent. The resource stays."""
        if self is self._first and not self.is_closed:
            for request, claim in list(self._claims.items()):
                self._settle(request, ClosedError(f"{claim.what}: the handle was closed"))
                self._withdraw(request)
            for grant in list(self._grants.values()):
                self.forfeit(grant, "the handle was closed")
            self._loss.close()
        await super().close()

    # -- claiming ------------------------------------------------------------------------------------------------------

    def claim(
        self, what: str, wait: float | None, show: Callable[[Any], Any], *, is_optional: bool = False
    ) -> ClaimFuture:
        """Start a claim, to wait in line for so many seconds; 0: not at all; None: for ever.

        The result is what `show` makes of the grant. When time is up the future raises LockTimeoutError, or its result
        is None if that `is_optional`; with 0 it also raises it when nobody answers within the handle's timeout. It
        raises SessionExpiredError, ClosedError or UnknownResourceError when the claim ended with those.

        Raises at once ConfigurationError for a wait that cannot be, and what is wrong with the handle.
        """
        self._first.check_open()  # a twin of a closed handle would hear of no grant
        wait_ms = _milliseconds(wait)
        request = next(self._requests)
        command: Future[int] = self.command(CLAIM, request, wait_ms, timeout=None, what=what)
        claim = ClaimFuture(f"{what} on {self.path!r}", partial(self._abandon, request))
        claim.answered, claim.show, claim.is_optional = command, show, is_optional
        self._claims[request] = claim
        command.add_done_callback(partial(self._on_answer, request))
        patience = self.default_timeout if wait == 0 else wait
        if patience is not None:
            timer = asyncio.get_running_loop().call_later(patience, self._run_out, request, patience, wait == 0)
            claim.add_done_callback(lambda _: timer.cancel())
        return claim

    def release(self, grant: Grant, what: str = "release", decode: Callable[[bool], Any] | None = None) -> Future[Any]:
        """Give back what was granted. The result is whether it was held until then, or what `decode` makes of that."""
        released: Future[Any] = self._first.command(RELEASE, grant.token, timeout=None, decode=decode, what=what)
        self._grants.pop(grant.request, None)
        grant.end("it was given back", is_given_back=True)
        return released

    def forfeit(self, grant: Grant, why: str) -> None:
        """What was granted is lost: tell whoever watches, and give it back should the session live."""
        if self._grants.pop(grant.request, None) is not None:
            self._withdraw(grant.request)
        grant.end(why)

    # -- what the cluster says -----------------------------------------------------------------------------------------

    def _on_answer(self, request: int, command: Future[Any]) -> None:
        """The cluster took in the claim, or it is certain that it will not, or nobody knows."""
        if command.cancelled():
            return
        error = command.exception()
        if error is not None:
            self._settle(request, error)
        elif command.result() == REFUSED:
            self._run_out_of_time(request, "it is held by another")
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
        grant = self._grants[request] = self.grant_type(self._first, request, token)
        claim.set_result(claim.show(grant))

    def _on_timed_out(self, _index: int, request: int) -> None:
        self._run_out_of_time(request, "not granted in time; nothing is held for it")

    def _on_deleted(self, _index: int) -> None:
        for request, claim in list(self._claims.items()):
            self._settle(request, UnknownResourceError(f"{claim.what}: it was deleted"))
        for request, grant in list(self._grants.items()):
            self._grants.pop(request, None)
            grant.end("it was deleted")

    def _run_out(self, request: int, patience: float, is_silence: bool) -> None:
        """By this client's own clock time is up, whatever the cluster makes of it."""
        claim = self._claims.get(request)
        if claim is None:
            return
        if is_silence:
            self._settle(request, LockTimeoutError(f"{claim.what}: no answer within {patience:g} s; it is withdrawn"))
        else:
            self._run_out_of_time(
                request, f"not granted within {patience:g} s; the claim is withdrawn, so nothing is held for it"
            )
        self._withdraw(request)

    def _run_out_of_time(self, request: int, message: str) -> None:
        claim = self._claims.get(request)
        if claim is not None:
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

    def _abandon(self, request: int) -> None:
        """Nobody waits for this claim any more, or will learn that it was granted."""
        claim, grant = self._claims.pop(request, None), self._grants.pop(request, None)
        if claim is not None or grant is not None:
            self._withdraw(request)
        if grant is not None:
            grant.end("it was given up", is_given_back=True)

    def _withdraw(self, request: int) -> None:
        """Tell the cluster, which keeps the order of calls: so the claim is gone wherever it stands."""
        try:
            withdrawn: Future[None] = self._first.command(WITHDRAW, request, timeout=None, what="withdraw")
        except CopycatError as error:
            _log.debug("%s %r: nothing to withdraw: %s", self.thing, self.path, error)
        else:
            withdrawn.add_done_callback(forget)

    def _on_loss(self, loss: Loss) -> None:
        """What is held is lost, and given back should the session live. When it is over, so are its claims."""
        if loss.is_over:
            kind = ClosedError if loss.is_last else SessionExpiredError
            for request, claim in list(self._claims.items()):
                if claim.answered.done():  # else it is the next session's
                    self._settle(request, kind(f"{claim.what}: left the line; {loss.why}"))
        for request, grant in list(self._grants.items()):
            if loss.is_over:
                self._grants.pop(request, None)
                grant.end(loss.why)
            else:
                self.forfeit(grant, loss.why)


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
