"""Storage: the log, snapshots, term and vote of a member, on disk or in memory."""

from copycat.io.storage.log import Log
from copycat.io.storage.record import Block
from copycat.io.storage.storage import Storage, StorageLevel

__all__ = ["Block", "Log", "Storage", "StorageLevel"]
