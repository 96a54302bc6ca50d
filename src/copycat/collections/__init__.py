"""Replicated collections."""

from copycat.collections.map import DistributedMap

__all__ = ["DistributedMap"]
