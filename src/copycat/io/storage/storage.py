"""Where and how a member keeps its data.

Source: protocol §1.5, §2.6.
"""

import enum
import errno
import os
from pathlib import Path

from copycat.errors import ConfigurationError, StorageError
from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.disk import Disk, LockHandle, OsDisk, is_full
from copycat.io.storage.log import CACHE_BYTES, SEGMENT_BYTES, Log
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.memory_disk import MemoryDisk
from copycat.io.storage.metadata import MemoryMetadataStore, MetadataStore
from copycat.io.storage.snapshots import Snapshots
from copycat.util.builder import Buildable

LOCK_FILE = "lock"
KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30

FREE_SPACE_MIN = 4 * SEGMENT_BYTES
"""What may come before a look at the disk has told: commands that wait, 64 MiB at most, a segment behind them, and what
is written ahead of both."""


class StorageLevel(enum.Enum):
    """DISK survives the process and the power; MEMORY neither: for tests and single embedded members."""

    DISK = "disk"
    MEMORY = "memory"


class Storage(Buildable):
    """How a member stores its log and metadata. Immutable; opens nothing until asked to.

    `directory` is made if missing. Sizes are in bytes. Raises: ConfigurationError on a value out of range.

    cache_size: how much of the newest log is also kept in memory, for members that are a little behind; what they need
        from further back is read from the disk.
    snapshot_log_size: a snapshot is taken whenever the log has grown by this since the last one, or by up to a quarter
        less, and the log before the last but one goes. Smaller: less disk and a faster start; larger: less work.
    snapshot_interval: and at least so often, in seconds, if anything was applied since; None: never by time.
    free_space_min: while the disk has less room than this, and than this and one more snapshot take, a leader refuses
        commands and does everything else; 0: never.
    """

    __slots__ = (
        "_held",
        "cache_size",
        "directory",
        "disk",
        "free_space_min",
        "level",
        "max_entry_size",
        "max_segment_size",
        "snapshot_interval",
        "snapshot_log_size",
    )

    directory: str
    level: StorageLevel
    max_segment_size: int
    max_entry_size: int
    cache_size: int
    snapshot_log_size: int
    snapshot_interval: float | None
    free_space_min: int
    disk: Disk

    def __init__(
        self,
        directory: str | Path = ".",
        *,
        level: StorageLevel = StorageLevel.DISK,
        max_segment_size: int = SEGMENT_BYTES,
        max_entry_size: int = MEBIBYTE,
        cache_size: int = CACHE_BYTES,
        snapshot_log_size: int = SEGMENT_BYTES,
        snapshot_interval: float | None = 3600.0,
        free_space_min: int = FREE_SPACE_MIN,
        disk: Disk | None = None,
    ) -> None:
        if not isinstance(level, StorageLevel):
            raise ConfigurationError(f"level is {level!r}; it must be StorageLevel.DISK or StorageLevel.MEMORY")
        _require_range("max_segment_size", max_segment_size, MEBIBYTE, GIBIBYTE)
        _require_range("max_entry_size", max_entry_size, KIBIBYTE, 32 * MEBIBYTE)
        _require_range("cache_size", cache_size, MEBIBYTE, 64 * GIBIBYTE)
        _require_range("snapshot_log_size", snapshot_log_size, KIBIBYTE, 64 * GIBIBYTE)
        _require_range("free_space_min", free_space_min, 0, 1024 * GIBIBYTE)
        if snapshot_interval is not None and not 1 <= snapshot_interval <= 366 * 86400:
            raise ConfigurationError(
                f"snapshot_interval is {snapshot_interval!r}; it must be 1 second to 366 days, in seconds, or None"
            )
        if max_entry_size > max_segment_size:
            raise ConfigurationError(
                f"max_entry_size is {max_entry_size}; it must not exceed max_segment_size, {max_segment_size}"
            )
        if not str(directory):
            raise ConfigurationError("directory is empty; use '.' for the working directory")
        values: dict[str, object] = {
            "directory": str(directory),
            "level": level,
            "max_segment_size": max_segment_size,
            "max_entry_size": max_entry_size,
            "cache_size": cache_size,
            "snapshot_log_size": snapshot_log_size,
            "snapshot_interval": snapshot_interval,
            "free_space_min": free_space_min,
            "disk": OsDisk() if disk is None else disk,
            "_held": [],
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Storage is immutable; make a new one to change {name}")

    def __repr__(self) -> str:
        return f"Storage({self.directory!r}, level={self.level})"

    def lock(self) -> LockHandle:
        """Make the directory and lock it, until the handle or this storage is closed.

        Raises: DirectoryInUseError naming the process that holds it; StorageError if it cannot be written.
        """
        if self.level is StorageLevel.MEMORY:
            return _NoLock()
        try:
            self.disk.make_directory(self.directory)
            handle = self.disk.lock(f"{self.directory}/{LOCK_FILE}")
        except OSError as error:
            raise explain(self.directory, error) from error
        self._locks().append(handle)
        return handle

    def open_log(
        self, name: str = "copycat", *, cluster_id: bytes = b"", base: LogBase | None = None
    ) -> Log | MemoryLog:
        """Recover the log `name`. Lock the directory first. Raises: StorageError and its kinds.

        `base` is that of the newest sound snapshot, None if there is none; see `Log.open`.
        """
        if self.level is StorageLevel.MEMORY:
            return MemoryLog(cluster_id, base or ORIGIN)
        try:
            self.disk.make_directory(self.directory)
            return Log.open(
                self.disk,
                self.directory,
                name=name,
                cluster_id=cluster_id,
                base=base,
                max_segment_size=self.max_segment_size,
                cache_size=self.cache_size,
            )
        except OSError as error:
            raise explain(self.directory, error) from error

    def open_snapshots(self, name: str = "copycat", *, cluster_id: bytes = b"") -> Snapshots:
        """The snapshots of the log `name`, found by their headers. Lock the directory first.

        Open them before the log, which is told the base of the newest. Raises: StorageError and its kinds.
        """
        disk = MemoryDisk() if self.level is StorageLevel.MEMORY else self.disk
        try:
            disk.make_directory(self.directory)
            return Snapshots.open(disk, self.directory, name=name, cluster_id=cluster_id)
        except OSError as error:
            raise explain(self.directory, error) from error

    def open_metadata(self) -> MetadataStore | MemoryMetadataStore:
        """The metadata of the directory; nothing is read until `load`."""
        if self.level is StorageLevel.MEMORY:
            return MemoryMetadataStore()
        try:
            self.disk.make_directory(self.directory)
        except OSError as error:
            raise explain(self.directory, error) from error
        return MetadataStore(self.disk, self.directory)

    def close(self) -> None:
        """Release every lock taken through this storage. May be called twice."""
        locks = self._locks()
        while locks:
            locks.pop().close()

    def _locks(self) -> list[LockHandle]:
        held: list[LockHandle] = object.__getattribute__(self, "_held")
        return held


class _NoLock:
    """Memory is nobody else's."""

    def close(self) -> None:
        pass


def _require_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"{name} is {value!r}; it must be an int from {low} to {high} bytes")


def explain(directory: str, error: OSError) -> StorageError:
    """What failed, where, and what to do next."""
    where = error.filename or directory
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        advice = "a file is in the place of the directory: remove it or choose another directory"
    elif error.errno in (errno.EACCES, errno.EPERM):
        advice = f"user {os.geteuid()} may not write there: change its owner or choose another directory"
    elif error.errno == errno.EROFS:
        advice = "the file system is mounted read-only: choose another directory"
    elif is_full(error):
        advice = "the disk is full: free some space and start again"
    else:
        advice = "check the disk and the system's log before starting again"
    return StorageError(f"cannot use {directory} for data ({where}: {error.strerror or error}); {advice}")
