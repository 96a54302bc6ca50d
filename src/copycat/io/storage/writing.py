"""The jobs of a log that touch its files: flushes, zeros ahead, and removing what was discarded.

They run on threads beside the loop, one of each kind at a time. A flush makes the files agree with what was planned;
the others keep away from the bytes it writes.

Source: protocol §1; docs/decisions/0008-flushing-beside-the-loop.md.
"""

from dataclasses import dataclass, field

from copycat.errors import LogError, check
from copycat.io.storage.base import Flush
from copycat.io.storage.disk import Disk
from copycat.io.storage.segment import Segment

FAULTY_SUFFIX = ".faulty"


@dataclass(slots=True, kw_only=True)
class Part:
    """Planned bytes of one segment, and the paths it supersedes once it is durable.

    `hidden` are removed; `aside` are renamed, for they may hold what a repair needs.
    """

    segment: Segment
    offset: int
    chunks: list[bytes] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)


class Writer:
    """The files as they are, touched only by the one flush that runs."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self.disk = disk
        self.directory = directory
        self.active: Segment | None = None
        self.failed = False

    def write(self, parts: list[Part]) -> None:
        if self.failed:
            raise LogError(f"{self.directory}: an earlier flush failed, and a failed sync is never retried")
        self.failed = True
        for part in parts:
            data = b"".join(part.chunks)
            if part.segment is not self.active:
                self._begin(part)
            if data:
                part.segment.write(part.offset, data)
        check(self.active is not None, "a flush has a segment to write")
        if self.active is not None:
            self.active.sync()
        self.failed = False

    def _begin(self, part: Part) -> None:
        if self.active is not None:
            self.active.sync()
            self.active.close()
        part.segment.create()
        self.active = part.segment
        remove_newest_first(self.disk, part.hidden)
        set_aside(self.disk, part.aside)


class DiskFlush(Flush):
    """Pending bytes on their way to the disk."""

    def __init__(self, last_index: int, size_bytes: int, parts: list[Part], writer: Writer) -> None:
        super().__init__(last_index, size_bytes)
        self._parts = parts
        self._writer = writer

    def run(self) -> None:
        self._writer.write(self._parts)


class Prewrite:
    """Zeros to be written ahead of the records, on any thread, also while a flush runs; then `Log.prewritten`."""

    def __init__(self, segment: Segment, target: int) -> None:
        self._segment = segment
        self._target = target

    def run(self) -> None:
        self._segment.prewrite(self._target)


class Discard:
    """Files of discarded segments to be removed, on any thread, also while a flush runs; then `Log.discarded`."""

    def __init__(self, disk: Disk, directory: str, paths: list[str]) -> None:
        self._disk = disk
        self._directory = directory
        self._paths = paths

    def run(self) -> None:
        """Remove them, oldest first and each for certain before the next, so that what a crash leaves has no gap."""
        for path in self._paths:
            if self._disk.exists(path):
                self._disk.remove(path)
                self._disk.sync_directory(self._directory)


def remove_newest_first(disk: Disk, paths: list[str]) -> None:
    """Remove what there is of them. Newest first, so that what is left after a crash is a prefix of what was hidden."""
    for path in reversed(paths):
        if disk.exists(path):
            disk.remove(path)


def set_aside(disk: Disk, paths: list[str]) -> None:
    """Rename what there is of them, newest first, so that no opening takes them for segments."""
    for path in reversed(paths):
        if disk.exists(path):
            disk.rename(path, path + FAULTY_SUFFIX)
