"""Storage: the log, snapshots, term and vote of a member, on disk or in memory."""

from copycat.io.storage.base import LogBase
from copycat.io.storage.log import Log
from copycat.io.storage.record import Block
from copycat.io.storage.snapshot_file import SnapshotFile, SnapshotHeader
from copycat.io.storage.snapshots import Snapshots
from copycat.io.storage.storage import Storage, StorageLevel

__all__ = ["Block", "Log", "LogBase", "SnapshotFile", "SnapshotHeader", "Snapshots", "Storage", "StorageLevel"]
