"""Replicated values that change in one step."""

from copycat.atomic.value import DistributedAtomicValue, ValueChange

__all__ = ["DistributedAtomicValue", "ValueChange"]
