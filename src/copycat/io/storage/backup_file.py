"""A backup being written: under a name aside, then synced, verified whole, and renamed. What has the name is a backup.

Source: protocol §8.7.
"""

import os

from copycat.errors import ConfigurationError, CorruptionError
from copycat.io.storage.disk import Disk
from copycat.io.storage.snapshot_file import SnapshotFile, open_snapshot
from copycat.io.storage.snapshots import Aside

PART_SUFFIX = ".part"


class BackupFile:
    """Becomes the file at `path`, which is a new one unless `force`. Used on one thread at a time.

    Raises: ConfigurationError if there is such a file, or no directory for it.
    """

    def __init__(self, disk: Disk, path: str, *, force: bool) -> None:
        self.path = path
        self._disk = disk
        self._force = force
        self._directory = os.path.dirname(path) or "."
        self._require_free()
        self._aside = Aside(disk, path + PART_SUFFIX)

    @property
    def size(self) -> int:
        """The bytes written so far."""
        return self._aside.size

    def append(self, data: bytes) -> None:
        """Write behind what was written. Raises: OSError."""
        self._aside.append(data)

    def finish(self, index: int) -> SnapshotFile:
        """Verify the whole, which must be of this index, and give it its name, durably.

        Raises: CorruptionError; ConfigurationError if there is such a file by now; OSError.
        """
        self._aside.finish()
        file = open_snapshot(self._disk, self._aside.path)
        file.verify()
        if file.header.index != index:
            raise CorruptionError(f"{self._aside.path}: index {file.header.index} came, index {index} was announced")
        self._require_free()
        self._disk.rename(self._aside.path, self.path)
        self._disk.sync_directory(self._directory)
        return SnapshotFile(self._disk, self.path, file.header, file.size)

    def remove(self) -> None:
        """Leave nothing of it; harmless when it was finished."""
        self._aside.remove()

    def _require_free(self) -> None:
        if os.path.isdir(self.path):
            raise ConfigurationError(f"{self.path} is a directory: name the file to write")
        if not self._disk.exists(self._directory):
            raise ConfigurationError(f"there is no directory {self._directory}: make it first")
        if not self._force and self._disk.exists(self.path):
            raise ConfigurationError(f"{self.path} is there already: choose another name, or give --force")
