"""A log in memory, for tests and single embedded members: it dies with the process.

It keeps the shape of flushing, so that the driver and the core meet one kind of log, but a flush has nothing to do.

Source: protocol §2.6.
"""

from copycat.io.storage.base import ORIGIN, BaseLog, LogBase, header_of


class MemoryLog(BaseLog):
    """The log of `StorageLevel.MEMORY`. Its flushes return at once; run them inline."""

    def __init__(self, cluster_id: bytes = b"", base: LogBase = ORIGIN) -> None:
        super().__init__(cache_bytes=None, base=base)
        self.cluster_id = cluster_id

    def take_prewrite(self) -> None:
        """Nothing is ever written ahead."""

    def take_discard(self) -> None:
        """What is discarded is gone at once."""

    def clear_fault(self) -> None:
        """Memory has no faults to clear."""

    def _drop(self, index: int) -> LogBase:
        """Blocks are stored apart; the last one stays, as the last segment does on disk."""
        base = self.base
        for record in self._records_from(self.first_index):
            header = header_of(record)
            if header.last_index >= min(index, self.last_index):
                break
            base = LogBase(header.last_index, header.term, header.chain, header.time)
        return base
