"""Replicated collections."""

from copycat.collections.map import DistributedMap, MapChange
from copycat.collections.set import DistributedSet

__all__ = ["DistributedMap", "DistributedSet", "MapChange"]
