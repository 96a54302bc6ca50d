"""A disk in memory that is as bad as real ones: see `FaultyDisk`."""

import errno
import os
import random
import sys
from collections.abc import Callable

from copycat.errors import DirectoryInUseError

PAGE_BYTES = 4096


class PowerFailure(BaseException):
    """The machine stopped here. Not an Exception, so no product code can catch it by accident."""


class _Inode:
    """One file: what programs see, and what the platter holds. `dirty` are the pages that may differ."""

    def __init__(self) -> None:
        self.cached = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()


class FaultyDisk:
    """A page cache over a platter, implementing the disk interface of `copycat.io.storage.disk`.

    `crash(random)` keeps any subset of unsynced 4 KiB pages and of unsynced directory changes. Faults to set:
    `fail_syncs` (EIO), `free_bytes` (ENOSPC after that many more), `stop_after` (PowerFailure at that operation),
    `delay` (called with the operation's name before each), `flip_bit`. Use from one thread.

    Source: reliability §3 "Simulator".
    """

    def __init__(self) -> None:
        self.fail_syncs = False
        self.free_bytes: int | None = None
        self.stop_after: int | None = None
        self.delay: Callable[[str], None] | None = None
        self.operations = 0
        self._directories: set[str] = {"", ".", "/"}
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        # Each change is atomic: a rename is one change with a name gone and a name come.
        self._changes: list[tuple[str | None, str | None, _Inode]] = []
        self._locks: set[str] = set()
        self._epoch = 0

    def open(self, path: str, *, create: bool = False) -> "FaultyFile":
        self.step("open")
        if path not in self._names:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = self._names[path] = _Inode()
            self._changes.append((None, path, inode))
        return FaultyFile(self, self._names[path], self._epoch)

    def make_directory(self, path: str) -> None:
        self._directories.add(path)

    def list(self, path: str) -> list[str]:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return sorted(os.path.basename(name) for name in self._names if os.path.dirname(name) == path)

    def exists(self, path: str) -> bool:
        return path in self._names or path in self._directories

    def rename(self, source: str, target: str) -> None:
        self.step("rename")
        inode = self._names.pop(source)
        self._names[target] = inode
        self._changes.append((source, target, inode))

    def remove(self, path: str) -> None:
        self.step("remove")
        inode = self._names.pop(path)
        self._changes.append((path, None, inode))

    def sync_directory(self, path: str) -> None:
        self.step("sync_directory")
        self._refuse_sync()
        kept = []
        for change in self._changes:
            name = change[1] or change[0] or ""
            if os.path.dirname(name) == path:
                self._persist(change)
            else:
                kept.append(change)
        self._changes = kept

    def free_space(self, path: str) -> int:
        return sys.maxsize if self.free_bytes is None else self.free_bytes

    def lock(self, path: str) -> "FaultyLock":
        if path in self._locks:
            raise DirectoryInUseError(f"{os.path.dirname(path)} is in use by this process")
        self._locks.add(path)
        return FaultyLock(self._locks, path)

    def end_process(self) -> None:
        """The process that used it has ended; the system lives and keeps what was written. Faults end, too."""
        self._locks = set()  # another: what the old process lets go of later must not free the new one's
        self._epoch += 1
        self.stop_after = None
        self.fail_syncs = False
        self.free_bytes = None

    def crash(self, chooser: random.Random, *, kept: float | None = None) -> None:
        """Lose power: unsynced pages and names survive or vanish one by one, as `chooser` draws.

        `kept` is the chance of survival; None draws it, so that all-or-nothing happens often too.
        """
        chance = chooser.choice((0.0, 0.5, 0.9, 1.0)) if kept is None else kept
        for change in self._changes:
            if chooser.random() < chance:
                self._persist(change)
        for inode in dict.fromkeys(self._durable_names.values()):
            for page in sorted(inode.dirty):
                if chooser.random() < chance:
                    self._write_back(inode, page)
            inode.cached = bytearray(inode.durable)
            inode.dirty.clear()
        self._names = dict(self._durable_names)
        self._changes.clear()
        self.end_process()

    def heal(self) -> None:
        """Fail no more."""
        self.fail_syncs, self.free_bytes = False, None

    def contents(self, path: str) -> bytes:
        """What a program would read now."""
        return bytes(self._names[path].cached)

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Rot: change bytes in the cache and on the platter at once."""
        inode = self._names[path]
        for copy in (inode.cached, inode.durable):
            copy[offset : offset + len(data)] = data

    def flip_bit(self, path: str, offset: int, bit: int = 0) -> None:
        """Rot of a single bit."""
        self.overwrite(path, offset, bytes([self._names[path].cached[offset] ^ (1 << bit)]))

    def step(self, operation: str) -> None:
        """Count one operation; stop or dawdle here if told to."""
        self.operations += 1
        if self.stop_after is not None:
            self.stop_after -= 1
            if self.stop_after < 0:
                raise PowerFailure(operation)
        if self.delay is not None:
            self.delay(operation)

    def write(self, inode: _Inode, offset: int, data: bytes, epoch: int) -> None:
        self.require_epoch(epoch)
        self.step("write")
        if self.free_bytes is not None:
            if len(data) > self.free_bytes:
                data, short = data[: self.free_bytes], True
            else:
                short = False
            self.free_bytes -= len(data)
        else:
            short = False
        if len(inode.cached) < offset:
            inode.cached.extend(bytes(offset - len(inode.cached)))
        inode.cached[offset : offset + len(data)] = data
        if data:
            inode.dirty.update(range(offset // PAGE_BYTES, (offset + len(data) - 1) // PAGE_BYTES + 1))
        if short:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self, inode: _Inode, epoch: int) -> None:
        self.require_epoch(epoch)
        self.step("sync")
        try:
            self._refuse_sync()
        except OSError:
            # As Linux does: the pages stay readable and are marked clean although they never arrived.
            inode.dirty.clear()
            raise
        for page in inode.dirty:
            self._write_back(inode, page)
        inode.dirty.clear()

    def require_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise AssertionError("a file opened before the crash was used after it")

    def _refuse_sync(self) -> None:
        if self.fail_syncs:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _persist(self, change: tuple[str | None, str | None, _Inode]) -> None:
        gone, come, inode = change
        if gone is not None:
            self._durable_names.pop(gone, None)
        if come is not None:
            self._durable_names[come] = inode

    def _write_back(self, inode: _Inode, page: int) -> None:
        start = page * PAGE_BYTES
        data = inode.cached[start : start + PAGE_BYTES]
        if len(inode.durable) < start:
            inode.durable.extend(bytes(start - len(inode.durable)))
        inode.durable[start : start + len(data)] = data


class FaultyFile:
    """An open file of a FaultyDisk."""

    def __init__(self, disk: FaultyDisk, inode: _Inode, epoch: int) -> None:
        self._disk = disk
        self._inode = inode
        self._epoch = epoch
        self._closed = False
        self._failed = False  # of this handle: a process started afterwards knows nothing of it

    def write_at(self, offset: int, data: bytes) -> None:
        self._require_open()
        if self._failed:
            raise AssertionError("a file was written again after its sync failed")
        self._disk.write(self._inode, offset, data, self._epoch)

    def read(self, offset: int, size: int) -> bytes:
        self._require_open()
        return bytes(memoryview(self._inode.cached)[offset : offset + size])

    def sync(self) -> None:
        self._require_open()
        if self._failed:
            raise AssertionError("a file was synced again after its sync failed")
        try:
            self._disk.sync(self._inode, self._epoch)
        except OSError:
            self._failed = True
            raise

    def size(self) -> int:
        return len(self._inode.cached)

    def close(self) -> None:
        self._closed = True

    def _require_open(self) -> None:
        self._disk.require_epoch(self._epoch)
        if self._closed:
            raise AssertionError("a closed file was used")


class FaultyLock:
    """A held lock of a FaultyDisk."""

    def __init__(self, locks: set[str], path: str) -> None:
        self._locks = locks
        self._path = path

    def close(self) -> None:
        self._locks.discard(self._path)
