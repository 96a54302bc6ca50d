"""DistributedLock: one holder at a time, in the order of asking, with a token that only grows.

Who asks stands in line on the servers; see `claims` for the line, and for what happens when a holder is lost.

Source: protocol §5.6; ARCHITECTURE.md "First-class resources".
"""

from asyncio import Future

from copycat.coordination.claims import Claimant, Grant, Holding
from copycat.coordination.line import TOKEN, ClaimMachine
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

    Calls raise at once ClosedError after `close()`, ConfigurationError for a timeout that makes no sense. Futures raise
    what `Resource` says, and SessionExpiredError when the session ended before the lock was granted.
    """

    thing = "lock"
    lost_error_type = LockLostError
    grant_type = HeldLock

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._lost: list[Grant] = []  # by `lock` and `try_lock`, until `unlock` has told

    def lock(self, *, timeout: float | None = None) -> Future[int]:
        """Wait for the lock, at most `timeout` seconds; None: for ever. The result is the token.

        The lock is held until `unlock`, the end of the session, or its loss; prefer `hold`. Cancelling the wait gives
        the claim up. Raises LockTimeoutError when the time is up.
        """
        return self.claim("lock", timeout, self._keep)

    def try_lock(self, *, timeout: float = 0.0) -> Future[int | None]:
        """As `lock`, but the result is None when the lock is not granted within `timeout` seconds; 0: at once.

        Raises LockTimeoutError only when nobody answers.
        """
        return self.claim("try_lock", timeout, self._keep, is_optional=timeout != 0)

    def hold(self, *, timeout: float | None = None) -> Holding:
        """A scope that holds the lock: `async with lock.hold(timeout=5) as held`, where `held` is a HeldLock.

        Entering waits as `lock` does. When the lock is lost the body is cancelled, and LockLostError is raised. Leaving
        releases the lock.
        """
        return Holding(self, lambda: self.claim("hold", timeout, lambda grant: grant))

    def unlock(self) -> Future[None]:
        """Release the lock that `lock` or `try_lock` granted to this handle.

        Raises at once NotHeldError when there is none, LockLostError when it was lost; the future raises LockLostError
        when the cluster had ended it before.
        """
        grant = next(iter(self._grants.values()), None)
        if grant is None or grant.lost:
            lost = self._lost.pop() if self._lost else grant
            if lost is not None:
                raise lost.error()
            raise NotHeldError(f"lock {self.path!r} is not held by this handle, so there is nothing to unlock")
        self._lost.clear()
        return self.release(grant, what="unlock", decode=lambda held: self._told(grant, held))

    def is_locked(self, *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...) -> Future[bool]:
        """Whether anybody holds it."""
        return self.query(TOKEN, consistency=consistency, timeout=timeout, decode=bool, what="is_locked")

    def _keep(self, grant: Grant) -> int:
        self._lost.clear()
        grant.watch(lambda: self._lost.append(grant))
        return grant.token

    def _told(self, grant: Grant, held: bool) -> None:
        if not held:
            grant.lose("it was held no longer when it was to be released")
            raise grant.error()
