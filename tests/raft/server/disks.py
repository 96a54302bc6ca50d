"""A disk between a member and the real one, that can be slow to sync, stand still, fail, and be full."""

import errno
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from copycat.io.storage.disk import Disk, File, LockHandle, OsDisk
from copycat.testing.disk import FaultyDisk

T = TypeVar("T")

GATE_SECONDS_MAX = 30.0  # a test that forgets to open the gate must not hang for ever


class SpoiltDisk:
    """Passes everything on to `inner`; used from the threads of one member.

    sync_delay_s: how long each sync of a file takes longer. sync_error: the errno with which each fails from now on.
    is_full: whether writes fail with ENOSPC. `hold_syncs` lets none begin until `release_syncs`.
    """

    def __init__(self, inner: Disk | None = None) -> None:
        self.inner = inner if inner is not None else OsDisk()
        self.sync_delay_s = 0.0
        self.sync_error = 0
        self.is_full = False
        self.syncs = 0  # completed
        self.held = 0  # waiting at the gate
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.RLock()  # a FaultyDisk is for one thread

    def hold_syncs(self) -> None:
        self._gate.clear()

    def release_syncs(self) -> None:
        self._gate.set()

    def heal(self) -> None:
        """Be an ordinary disk again."""
        self.sync_delay_s, self.sync_error, self.is_full = 0.0, 0, False
        self.release_syncs()

    def crash(self, chooser: random.Random, *, kept: float | None = None) -> None:
        """Lose power: see FaultyDisk."""
        assert isinstance(self.inner, FaultyDisk)
        with self._lock:
            self.inner.crash(chooser, kept=kept)

    def before_sync(self) -> None:
        if not self._gate.is_set():
            assert threading.current_thread() is not threading.main_thread(), "a sync on the loop would hold everyone"
            self.held += 1
            assert self._gate.wait(GATE_SECONDS_MAX), "the test never released the syncs"
            self.held -= 1
        if self.sync_delay_s:
            time.sleep(self.sync_delay_s)
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))

    def before_write(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- the interface of Disk -----------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> File:
        return SpoiltFile(self, self.locked(lambda: self.inner.open(path, create=create)))

    def make_directory(self, path: str) -> None:
        self.locked(lambda: self.inner.make_directory(path))

    def list(self, path: str) -> list[str]:
        return self.locked(lambda: self.inner.list(path))

    def exists(self, path: str) -> bool:
        return self.locked(lambda: self.inner.exists(path))

    def rename(self, source: str, target: str) -> None:
        self.locked(lambda: self.inner.rename(source, target))

    def remove(self, path: str) -> None:
        self.locked(lambda: self.inner.remove(path))

    def sync_directory(self, path: str) -> None:
        self.locked(lambda: self.inner.sync_directory(path))

    def free_space(self, path: str) -> int:
        return self.locked(lambda: self.inner.free_space(path))

    def lock(self, path: str) -> LockHandle:
        return self.inner.lock(path)

    def locked(self, work: Callable[[], T]) -> T:
        with self._lock:
            return work()


class SpoiltFile:
    """A file of a SpoiltDisk."""

    def __init__(self, disk: SpoiltDisk, inner: File) -> None:
        self._disk = disk
        self._inner = inner

    def write_at(self, offset: int, data: bytes) -> None:
        self._disk.before_write()
        self._disk.locked(lambda: self._inner.write_at(offset, data))

    def read(self, offset: int, size: int) -> bytes:
        return self._disk.locked(lambda: self._inner.read(offset, size))

    def sync(self) -> None:
        self._disk.before_sync()
        self._disk.locked(self._inner.sync)
        self._disk.syncs += 1

    def size(self) -> int:
        return self._inner.size()

    def close(self) -> None:
        self._inner.close()
