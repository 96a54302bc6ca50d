"""Replicated coordination: locks, elections and topics."""

from copycat.coordination.election import DistributedLeaderElection, Term
from copycat.coordination.lock import DistributedLock, HeldLock
from copycat.coordination.topic import DistributedTopic

__all__ = ["DistributedLeaderElection", "DistributedLock", "DistributedTopic", "HeldLock", "Term"]
