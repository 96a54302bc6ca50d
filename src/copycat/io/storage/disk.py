"""The small file interface: everything Copycat ever does to a disk.

Product code reaches files only through `Disk`, so that tests can put a disk beneath it that tears pages, forgets
directory entries and fails to sync.

Source: protocol §1.5; reliability §4.
"""

import contextlib
import errno
import fcntl
import os
import sys
import time
from pathlib import Path
from typing import Protocol

from copycat.errors import DirectoryInUseError


def is_full(error: BaseException) -> bool:
    """Whether a disk refused for want of room, which passes, rather than because it is broken."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class File(Protocol):
    """An open file, read and written at given offsets. `read` returns fewer bytes only at the end of the file."""

    def write_at(self, offset: int, data: bytes) -> None: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def sync(self) -> None:
        """Make all written data durable. After an error the file must never be written or synced again."""

    def size(self) -> int: ...
    def close(self) -> None: ...


class LockHandle(Protocol):
    """A directory lock, held until `close`."""

    def close(self) -> None: ...


class Disk(Protocol):
    """Files and directories by path. Names become durable with `sync_directory`, not before."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing. `create` makes a missing file. Raises: FileNotFoundError."""

    def make_directory(self, path: str) -> None:
        """Make the directory and its parents unless there; only the owner may enter it."""

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def exists(self, path: str) -> bool: ...
    def rename(self, source: str, target: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None: ...
    def free_space(self, path: str) -> int:
        """How many bytes more this process may write into the directory at `path`, as far as the disk can tell."""

    def lock(self, path: str) -> LockHandle:
        """Lock the file at `path` against other processes. Raises: DirectoryInUseError naming the holder."""


class OsFile:
    """A file of the operating system. `read` and `write_at` are safe on two threads at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)[written:]
        while rest:
            written = os.pwrite(self._descriptor, rest, offset + len(data) - len(rest))
            rest = rest[written:]

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def sync(self) -> None:
        if sys.platform == "darwin":
            # Plain fsync there stops at the drive's own cache.
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class OsDisk:
    """The disk of the operating system. Files are 0600 and directories 0700: logs hold users' data."""

    def open(self, path: str, *, create: bool = False) -> File:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return OsFile(os.open(path, flags, 0o600))

    def make_directory(self, path: str) -> None:
        missing = Path(path)
        created: list[Path] = []
        while not missing.exists():
            created.append(missing)
            missing = missing.parent
        for directory in reversed(created):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            self.sync_directory(str(directory.parent))
        if not Path(path).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_space(self, path: str) -> int:
        system = os.statvfs(path)
        return system.f_bavail * system.f_frsize

    def lock(self, path: str) -> LockHandle:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip() or "an unknown process"
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise DirectoryInUseError(
                f"{os.path.dirname(path) or '.'} is in use by {holder}; stop it or choose another directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _describe_process().encode(), 0)
        return OsFile(descriptor)


def _describe_process() -> str:
    """This process for a person: pid, name and start time."""
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else os.path.basename(sys.executable)
    return f"pid {os.getpid()} ({name}), started {_process_start()}\n"


def _process_start() -> str:
    """When this process started; where the system does not tell, now."""
    started = time.time()
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Field 22 of stat, counted after the name, which may itself hold spaces and parentheses.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        started = boot + ticks / os.sysconf("SC_CLK_TCK")
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
