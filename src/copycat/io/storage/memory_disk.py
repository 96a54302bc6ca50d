"""A disk that is only memory: what snapshots of `StorageLevel.MEMORY` are written to, by the same code as others.

Source: protocol §2.6.
"""

import errno
import os
import sys

from copycat.io.storage.disk import File, LockHandle


class MemoryDisk:
    """Implements the disk interface. Everything is durable as long as the process lives. Files have one writer each."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            return MemoryFile(self._files.setdefault(path, bytearray()))
        return MemoryFile(self._of(path))

    def make_directory(self, path: str) -> None:
        """Directories are there when they are named."""

    def list(self, path: str) -> list[str]:
        return sorted(os.path.basename(name) for name in self._files if os.path.dirname(name) == path)

    def exists(self, path: str) -> bool:
        return path in self._files

    def rename(self, source: str, target: str) -> None:
        self._files[target] = self._of(source)
        del self._files[source]

    def remove(self, path: str) -> None:
        self._of(path)
        del self._files[path]

    def sync_directory(self, path: str) -> None:
        """There is nothing more durable than this."""

    def free_space(self, path: str) -> int:
        """Of memory nobody says how much there is."""
        return sys.maxsize

    def lock(self, path: str) -> LockHandle:
        """Memory is nobody else's."""
        return MemoryFile(bytearray())

    def _of(self, path: str) -> bytearray:
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._files[path]


class MemoryFile:
    """An open file of a MemoryDisk."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write_at(self, offset: int, data: bytes) -> None:
        if len(self._content) < offset:
            self._content.extend(bytes(offset - len(self._content)))
        self._content[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])

    def sync(self) -> None:
        """There is nothing more durable than this."""

    def size(self) -> int:
        return len(self._content)

    def close(self) -> None:
        """Nothing is held open."""
