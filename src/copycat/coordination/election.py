"""DistributedLeaderElection: one of those who stand for it leads, and knows when it no longer does.

Who stands is in line on the servers, in log order; see `line`, and `claims` for what happens when a leader is lost.

Source: protocol §5.6; ARCHITECTURE.md "First-class resources".
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from copycat.coordination.claims import Claimant, ClaimFuture
from copycat.coordination.grant import Grant
from copycat.coordination.line import HOLDS, TOKEN, ClaimMachine
from copycat.coordination.scope import Holding
from copycat.errors import ClosedError, CopycatError, LeadershipLostError, NotHeldError, SessionExpiredError
from copycat.resource import ConsistencyLevel, HandoverFuture, ResourceContext, Timeout, hand_over
from copycat.util.listeners import Listener, Listeners

_log = logging.getLogger(__name__)

T = TypeVar("T")


class ElectionMachine(ClaimMachine, name="copycat.election", version=1):
    """The election on a server."""


class Term(Grant):
    """A leadership: `epoch`, `in_doubt`, `lost`, `check()`."""

    @property
    def epoch(self) -> int:
        """Grows from leader to leader: whoever keeps the highest it was shown can refuse an earlier leader."""
        return self.token


class DistributedLeaderElection(Claimant, machine=ElectionMachine):
    """An election shared by path. `await cc.create("scheduler", DistributedLeaderElection)`.

        async def lead(term: Term) -> None:  # cancelled when the leadership is lost
            while True:
                await report(fence=term.epoch)
                await asyncio.sleep(60)

        await election.run(lead)

    Whoever stands is in line, in the order of standing; the first leads. It leads until it resigns, closes its listener
    or handle, or its session ends; then the next in line is elected. A leader that was cut off counts its leadership as
    lost before another can be elected. One that was stopped may wake up after that: pass the epoch on with what you
    write, and let the store refuse an older one.

    Calls raise at once ClosedError after `close()`. Futures raise what `Resource` says.
    """

    thing = "leadership"
    lost_error_type = LeadershipLostError
    grant_type = Term

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._candidacy = _Candidacy(self)

    # -- standing ------------------------------------------------------------------------------------------------------

    async def run(self, function: Callable[[Term], Awaitable[T]]) -> T:
        """Stand, and run `function(term)` whenever elected, until it returns or raises; then resign.

        When the leadership is lost the function is cancelled, and this stands again, whatever the function made of it.
        Before that, what it returns or raises is returned or raised here. Cancelling this resigns. Raises ClosedError
        when the handle or the client is closed, UnknownResourceError when the election is deleted.
        """
        while True:
            scope = self.lead()
            term: Term | None = None
            results: list[T] = []
            try:
                async with scope as term:
                    results.append(await function(term))
            except LeadershipLostError as error:
                if term is not None and not scope.was_lost and not results:
                    raise  # the function's, of another election
                _log.info("%s", error)
            except SessionExpiredError as error:
                if term is not None:
                    raise  # the function's
                _log.info("%r: standing again with the next session: %s", self.path, error)
            if results and not scope.was_lost:
                return results[0]

    def lead(self, *, timeout: float | None = None) -> Holding[Term]:
        """A scope in which this handle leads: `async with election.lead() as term`, where `term` is a Term.

        Entering waits to be elected, at most `timeout` seconds; None: for ever; LockTimeoutError when they are over.
        When the leadership is lost the body is cancelled, and LeadershipLostError is raised. Leaving resigns.
        """
        return Holding(self, lambda: self.claim("lead", timeout, lambda term: term))

    def on_election(
        self, callback: Callable[[int], object], *, on_lost: Callable[[int], object] | None = None
    ) -> HandoverFuture[Listener[int]]:
        """Stand for as long as the listener is open; call `callback(epoch)` whenever elected.

        on_lost: called with the epoch when that leadership is over, lost or resigned, while the listener is open.
        Whatever a listener does rests on its own: `run` and `lead` stop what they started when the leadership ends.

        The result is the Listener, when this stands. The first listener of a handle stands, and closing the last one
        resigns; others are local, and hear at once of a leadership that is under way. A session that was lost took the
        candidacy with it: the next one stands again.
        """
        self.check_open()
        return self._candidacy.add(callback, on_lost)

    def resign(self, epoch: int | None = None) -> Future[bool]:
        """Let the next in line lead. The result is whether this handle led until then.

        What rests on the leadership ends as if it were lost: the body of `run` or `lead` is cancelled, unless it is the
        body that resigns; listeners hear of it; and both stand again, at the end of the line.

        epoch: only that leadership; None: whichever this handle has. Raises at once NotHeldError when it has none.
        """
        self.check_open()
        term = next((grant for grant in self._grants.values() if epoch in (None, grant.token)), None)
        if term is None:
            which = f" in epoch {epoch}" if epoch is not None else ""
            raise NotHeldError(f"election {self.path!r}: this handle does not lead{which}, so it cannot resign")
        return self.release(term, "resign")

    # -- asking --------------------------------------------------------------------------------------------------------

    def is_leader(self, epoch: int, *, timeout: Timeout = ...) -> Future[bool]:
        """Whether this session leads in that very epoch; always linearizable."""
        level = ConsistencyLevel.LINEARIZABLE
        return self.query(HOLDS, epoch, consistency=level, timeout=timeout, what="is_leader")

    def epoch(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[int]:
        """The epoch of whoever leads; 0 while nobody does."""
        return self.query(TOKEN, consistency=consistency, timeout=timeout, what="epoch")

    async def close(self) -> None:
        """Close every listener, resign, and let go of this handle; idempotent. The resource stays."""
        if self is self._first:
            self._candidacy.end()
        await super().close()
        if self is self._first:
            await self._candidacy.close()


class _Candidacy:
    """The listeners of one handle, with one claim behind all of them."""

    def __init__(self, election: DistributedLeaderElection) -> None:
        self._election = election
        self._listeners: Listeners[int] = Listeners("elections", on_close=self._closed)
        self._losses: Listeners[int] = Listeners("lost leaderships")
        self._pairs: dict[Listener[int], Listener[int] | None] = {}  # of an election's listener and a loss's
        self._claim: ClaimFuture | None = None  # of the candidacy under way; None while there are no listeners
        self._term: Term | None = None

    def add(
        self, callback: Callable[[int], object], on_lost: Callable[[int], object] | None
    ) -> HandoverFuture[Listener[int]]:
        for each in (callback, on_lost):
            if each is not None and not callable(each):
                raise TypeError(f"a listener must be callable, not {each!r}")
        claim = self._claim if self._claim is not None else self._stand()
        listener = self._listeners.add(callback)
        self._pairs[listener] = self._losses.add(on_lost) if on_lost is not None else None
        if self._term is not None:
            asyncio.get_running_loop().call_soon(self._tell, listener, self._term)
        added: HandoverFuture[Listener[int]] = HandoverFuture(claim.what, listener.close)
        claim.answered.add_done_callback(lambda answered: hand_over(answered, listener, added))
        return added

    def end(self) -> None:
        """Close every listener, and so resign."""
        for listener in list(self._pairs):
            listener.close()

    async def close(self) -> None:
        """End what coroutine callbacks still do."""
        await self._listeners.close()
        await self._losses.close()

    def _stand(self) -> ClaimFuture:
        self._claim = claim = self._election.claim("on_election", None, lambda term: term)
        claim.add_done_callback(self._elected)
        return claim

    def _elected(self, claim: Future[Any]) -> None:
        if claim.cancelled():
            return
        error = claim.exception()
        if claim is not self._claim:
            return
        if error is None:
            self._lead(claim.result())
        elif isinstance(error, SessionExpiredError):
            self._stand_again()
        else:
            self._claim = None
            if not isinstance(error, ClosedError):
                _log.error("%r: standing ended: %s", self._election.path, error)

    def _lead(self, term: Term) -> None:
        if term.lost:  # between the grant and this turn
            self._stand_again()
            return
        self._term = term
        term.watch(partial(self._deposed, term))
        for listener in list(self._pairs):
            self._tell(listener, term)

    def _tell(self, listener: Listener[int], term: Term) -> None:
        """An earlier listener may have resigned: then the others heard that it is over, and must not hear of it now."""
        if term is self._term:
            self._listeners.tell(listener, term.epoch)

    def _deposed(self, term: Term) -> None:
        claim, self._term = self._claim, None
        self._losses.notify(term.epoch)
        if claim is self._claim:
            self._stand_again()

    def _stand_again(self) -> None:
        self._claim = None
        if len(self._listeners) and not self._election.is_closed:
            try:
                self._stand()
            except CopycatError as error:
                _log.debug("%r: standing no longer: %s", self._election.path, error)

    def _closed(self, listener: Listener[int]) -> None:
        loss = self._pairs.pop(listener, None)
        if loss is not None:
            loss.close()
        if not len(self._listeners) and self._claim is not None:
            claim, self._claim, self._term = self._claim, None, None
            claim.cancel()
            claim.on_abandoned()  # it may be done
