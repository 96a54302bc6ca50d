"""A log in memory, for tests and single embedded members: it dies with the process.

It keeps the shape of flushing, so that the driver and the core meet one kind of log, but a flush has nothing to do.

Source: protocol §2.6.
"""

from copycat.io.storage.base import BaseLog


class MemoryLog(BaseLog):
    """The log of `StorageLevel.MEMORY`. Its flushes return at once; run them inline."""

    def __init__(self, cluster_id: bytes = b"") -> None:
        super().__init__(cache_bytes=None)
        self.cluster_id = cluster_id

    def take_prewrite(self) -> None:
        """Nothing is ever written ahead."""

    def clear_fault(self) -> None:
        """Memory has no faults to clear."""
