"""DistributedLock: one holder at a time, in the order of asking, with a token that only grows.

Who asks stands in line on the servers; see `claims` for the line, and for what happens when a holder is lost.

Source: protocol §5.6; ARCHITECTURE.md "First-class resources".
"""

from asyncio import Future
from typing import Any

from copycat.coordination.claims import Claimant
from copycat.coordination.grant import Grant
from copycat.coordination.line import TOKEN, ClaimMachine
from copycat.coordination.scope import Holding
from copycat.errors import LockLostError, NotHeldError
from copycat.resource import ConsistencyLevel, ResourceContext, Timeout


class LockMachine(ClaimMachine, name="copycat.lock", version=1):
    """The lock on a server."""


class HeldLock(Grant):
    """What `hold` gives: `token`, `in_doubt`, `lost`, `check()`."""


class DistributedLock(Claimant, machine=LockMachine):
    """A lock shared by path. `await cc.create("invoices", DistributedLock)`.

    Every handle is a participant of its own; each of its calls stands in line for itself, so it is not reentrant. Locks
    are granted in the order of asking, and released when the session of the holder ends. `token` grows from holder to
    holder: pass it on with what you write, and let the store refuse an older one, for a holder that was stopped may
    wake up after another was granted the lock.

        async with lock.hold(timeout=5) as held:
            await store(report, fence=held.token)

    Keep one handle rather than make one per use. Calls raise at once ClosedError after `close()`, ConfigurationError
    for a timeout that makes no sense. Futures raise what `Resource` says; a claim that did not get that far raises
    SessionExpiredError when the session ended, ClosedError when the handle or the client was closed, and
    UnknownResourceError when the lock was deleted.
    """

    thing = "lock"
    lost_error_type = LockLostError
    grant_type = HeldLock

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._kept: list[Grant] = []  # by `lock` and `try_lock`: what `unlock` is for, and losses it has not told yet

    def lock(self, *, timeout: float | None = None) -> Future[int]:
        """Wait for the lock, at most `timeout` seconds; 0: not at all; None: for ever. The result is the token.

        The lock is held until `unlock`, the end of the session, or its loss; prefer `hold`. Whoever stops waiting gives
        the claim up. Raises LockTimeoutError when the time is up.
        """
        return self._claim_kept("lock", timeout)

    def try_lock(self, *, timeout: float = 0.0) -> Future[int | None]:
        """As `lock`, but the result is None when the lock is not granted within `timeout` seconds.

        With 0, LockTimeoutError says that nobody answered within the handle's timeout.
        """
        return self._claim_kept("try_lock", timeout, is_optional=True)

    def hold(self, *, timeout: float | None = None) -> Holding[HeldLock]:
        """A scope that holds the lock: `async with lock.hold(timeout=5) as held`, where `held` is a HeldLock.

        Entering waits as `lock` does. When the lock is lost the body is cancelled, and LockLostError is raised. Leaving
        releases the lock.
        """
        return Holding(self, lambda: self.claim("hold", timeout, lambda grant: grant))

    def unlock(self, token: int | None = None) -> Future[None]:
        """Release the lock that `lock` or `try_lock` granted to this handle; a scope is left instead.

        token: only the lock with that token, where several tasks share a handle. None: whichever this handle has.
        The release takes its course, whether or not anybody waits for it.

        Raises at once NotHeldError when there is none, LockLostError when it was lost; the future raises LockLostError
        when the cluster had ended it before.
        """
        self.check_open()
        kept = [grant for grant in self._kept if not grant.is_given_back and token in (None, grant.token)]
        if not kept:
            which = f" by token {token}" if token is not None else ""
            raise NotHeldError(f"lock {self.path!r} is not held by this handle{which}, so there is nothing to unlock")
        grant = kept[0]
        if grant.lost:
            self._kept.remove(grant)
            raise grant.error()
        released = self.release(grant, what="unlock", decode=lambda held: self._told(grant, held))
        self._kept.remove(grant)
        return released

    def is_locked(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[bool]:
        """Whether anybody holds it."""
        return self.query(TOKEN, consistency=consistency, timeout=timeout, decode=bool, what="is_locked")

    def _claim_kept(self, what: str, timeout: float | None, *, is_optional: bool = False) -> Future[Any]:
        claim = self.claim(what, timeout, self._keep, is_optional=is_optional)
        # Whoever asks again knows of the loss, or does not care.
        self._kept[:] = [grant for grant in self._kept if not grant.lost]
        return claim

    def _keep(self, grant: Grant) -> int:
        self._kept.append(grant)
        return grant.token

    def _told(self, grant: Grant, held: bool) -> None:
        if not held:
            grant.why_lost, grant.is_given_back = "it was held no longer when it was to be released", False
            raise grant.error()
