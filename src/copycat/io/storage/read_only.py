"""Looking at a data directory without touching it: files are opened for reading only, and nothing is locked.

Source: docs/reference/command-line.md.
"""

import contextlib
import errno
import os
from pathlib import Path

from copycat.errors import DirectoryInUseError, InvariantError
from copycat.io.storage.disk import File, LockHandle, OsDisk, OsFile


class ReadOnlyDisk(OsDisk):
    """The disk of the operating system, for a reader: syncing and removing do nothing, writing is a mistake of ours."""

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            raise _refusal(path)
        return _ReadOnlyFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def make_directory(self, path: str) -> None:
        if not os.path.isdir(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def rename(self, source: str, target: str) -> None:
        raise _refusal(source)

    def remove(self, path: str) -> None:
        """What an opening would remove stays where it is."""

    def sync_directory(self, path: str) -> None:
        """What is read here vouches for nothing."""

    def lock(self, path: str) -> LockHandle:
        raise _refusal(path)


class _ReadOnlyFile(OsFile):
    """An open file that is only read."""

    def write_at(self, offset: int, data: bytes) -> None:
        raise _refusal(f"byte {offset}")

    def sync(self) -> None:
        """Nothing was written."""


def holder_of(lock_file: str) -> str | None:
    """Who has the directory of this lock file open, as it says there itself; None: nobody that can be seen from here.

    The lock is looked up and not tried, for a server that starts meanwhile must not find it taken. Where the system
    has no list of locks, the process named in the file counts as the holder while it runs.
    """
    try:
        text = Path(lock_file).read_text(encoding="utf-8", errors="replace").strip()
        inode = os.stat(lock_file).st_ino
    except OSError:
        return None
    with contextlib.suppress(OSError):
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
        is_held = any(field.endswith(f":{inode}") for line in locks for field in line.split() if "FLOCK" in line)
        return (text or "an unknown process") if is_held else None
    words = text.split()
    if len(words) < 2 or not words[1].isdigit():
        return None
    try:
        os.kill(int(words[1]), 0)
    except PermissionError:
        pass  # it is there, and another user's
    except OSError:
        return None
    return text


def require_stopped(directory: str, lock_file: str) -> None:
    """Raises DirectoryInUseError that names who has the directory open."""
    holder = holder_of(lock_file)
    if holder is not None:
        raise DirectoryInUseError(f"{directory} is in use by {holder}; stop it first")


def _refusal(what: str) -> InvariantError:
    return InvariantError(f"a disk that is only read was to be changed: {what}")
