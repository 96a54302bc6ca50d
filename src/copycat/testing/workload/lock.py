"""A lock, by its tokens: see `claims`."""

from copycat.coordination import DistributedLock, HeldLock
from copycat.coordination.scope import Holding
from copycat.testing.workload.claims import ClaimWork


class LockWork(ClaimWork):
    """Everybody wants the lock."""

    path = "lock"
    kind = DistributedLock
    rule = "21"
    grants = "lock grants"
    uses = (1, 2, 10, 40)

    def scope(self, claimant: DistributedLock, timeout: float) -> Holding[HeldLock]:
        return claimant.hold(timeout=timeout)
