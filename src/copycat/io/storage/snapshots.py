"""The snapshots of one log: taken here or received from a leader, two of them kept.

A snapshot is written under a name aside, synced, renamed and its directory synced, so one under its real name is whole
or has rotted. Two are kept: if the newest has rotted, the one before it and the log behind that are as good. So the
log is discarded up to what the *older* one covers, never further, and older ones are removed only when two newer are
durable.

None of this touches what the log or its flushes touch: a snapshot may be written on one thread and received on
another, while the log is flushed on a third.

Source: protocol §1.8; reliability §4 "Recovery table".
"""

import logging
import threading
from collections.abc import Iterable

from copycat.errors import CorruptionError, ForeignDirectoryError, LogError, ProtocolError, check
from copycat.io.storage.base import LogBase
from copycat.io.storage.disk import Disk, File
from copycat.io.storage.snapshot_file import (
    FILE_BYTES_MIN,
    SnapshotEncoder,
    SnapshotFile,
    SnapshotHeader,
    open_snapshot,
    parse_snapshot_file_name,
    snapshot_file_name,
)

logger = logging.getLogger(__name__)

KEPT = 2
SYNC_BYTES = 8 << 20  # synced bit by bit: a flush of the log beside it must not wait for gigabytes on their way
WRITTEN_SUFFIX = ".tmp"
RECEIVED_SUFFIX = ".received"
BAD_SUFFIX = ".bad"
DIVERGED_SUFFIX = ".diverged"


class Snapshots:
    """The snapshots of the log `name` in a directory that exists and is locked. Opened with `Snapshots.open`."""

    def __init__(self, disk: Disk, directory: str, name: str, cluster_id: bytes) -> None:
        self.directory = directory
        self.name = name
        self.cluster_id = cluster_id  # may be set once the cluster is formed
        self._disk = disk
        self._kept: list[SnapshotFile] = []  # newest first; replaced, never changed
        self._bad: dict[str, str] = {}  # path of one with a damaged header, and what is wrong with it
        self._lock = threading.Lock()  # held while files get or lose their names
        self._writer: SnapshotWriter | None = None
        self._reception: Reception | None = None

    @classmethod
    def open(cls, disk: Disk, directory: str, *, name: str = "copycat", cluster_id: bytes = b"") -> "Snapshots":
        """Find the snapshots by their headers, and remove what was left unfinished.

        Raises: ForeignDirectoryError for another cluster's snapshot or an unknown format version; OSError.
        """
        snapshots = cls(disk, directory, name, cluster_id)
        snapshots._find()
        return snapshots

    @property
    def files(self) -> tuple[SnapshotFile, ...]:
        """Those kept, oldest first. Only their headers are known to be sound."""
        return tuple(reversed(self._kept))

    @property
    def bases(self) -> tuple[LogBase, ...]:
        """Where those kept end, oldest first."""
        return tuple(file.header.base for file in reversed(self._kept))

    @property
    def indices(self) -> tuple[int, ...]:
        """The last indices of those kept, oldest first."""
        return tuple(file.header.index for file in reversed(self._kept))

    @property
    def newest_size(self) -> int:
        """Of the newest file kept, in bytes; 0 without one."""
        kept = self._kept
        return kept[0].size if kept else 0

    @property
    def discardable_index(self) -> int:
        """All of the log up to here is covered twice and may be discarded; 0 while there are not two snapshots."""
        kept = self._kept
        return kept[KEPT - 1].header.index if len(kept) >= KEPT else 0

    def newest(self) -> SnapshotFile | None:
        """The newest snapshot, all of it verified; None if there is none.

        One that has rotted is set aside with a warning, and the one before it is taken; older ones than the two that
        are kept then are removed. Raises: CorruptionError if there are some and none is sound, which leaves them.
        """
        bad = dict(self._bad)
        for file in self._kept:
            try:
                file.verify()
            except CorruptionError as error:
                bad[file.path] = str(error)
                continue
            if bad:
                self._set_aside(bad, file)
            with self._lock:
                self._prune()
            return file
        if bad:
            raise CorruptionError(
                f"{self.directory}: no snapshot is sound: {'; '.join(bad.values())}. A member of several is given one "
                "by its leader; a single one needs a backup (`copycat restore`)"
            )
        return None

    def set_aside(self) -> None:
        """Put all away, none of which is sound, so that those to come need not be newer."""
        bad = {**{file.path: "it is not sound" for file in self._kept}, **self._bad}
        self._set_aside(bad, None)

    def begin(self, header: SnapshotHeader) -> "SnapshotWriter":
        """A writer for a snapshot of this member's own; one at a time.

        Raises: LogError if there is a newer one already.
        """
        check(self._writer is None or self._writer.ended, "one snapshot is written at a time")
        self._require_newest(header.index)
        writer = SnapshotWriter(self, header, self._aside(header.index, header.term, WRITTEN_SUFFIX))
        self._writer = writer
        return writer

    def receive(self, index: int, term: int, size: int) -> "Reception":
        """Take in the file of a snapshot that a leader announces, of `size` bytes; the reception before it ends.

        Raises: LogError if there is a newer one already; ProtocolError if nothing can be that small.
        """
        if index < 1 or term < 1 or size < FILE_BYTES_MIN:
            raise ProtocolError(f"a peer announced a snapshot at index {index} of term {term} with {size} bytes")
        if self._reception is not None:
            self._reception.discard()
        self._require_newest(index)
        self._reception = Reception(self, index, term, size, self._aside(index, term, RECEIVED_SUFFIX))
        return self._reception

    def evidence_path(self, header: SnapshotHeader) -> str:
        """Where `put_aside` puts a state."""
        return self._path(header.index, header.term) + DIVERGED_SUFFIX

    def put_aside(self, header: SnapshotHeader, chunks: Iterable[bytes]) -> None:
        """Write a whole state for a person to look at; no start will believe in it. Raises: OSError, and what `chunks`
        raises, and then there is no such file."""
        encoder = SnapshotEncoder(header)
        written = self._aside(header.index, header.term, DIVERGED_SUFFIX + WRITTEN_SUFFIX)
        try:
            for chunk in chunks:
                written.append(encoder.chunk(chunk))
            written.append(encoder.end())
            written.finish()
            self._disk.rename(written.path, self.evidence_path(header))
            self._disk.sync_directory(self.directory)
        except BaseException:
            written.remove()
            raise

    def publish(self, aside: "Aside", header: SnapshotHeader) -> SnapshotFile:
        """Give a file that is whole and synced its name, durably, then remove what is older than the two newest.

        Raises: LogError, with the file removed, if two newer ones were completed meanwhile; OSError.
        """
        path = self._path(header.index, header.term)
        with self._lock:
            others = [file for file in self._kept if file.header.index != header.index]
            if sum(file.header.index > header.index for file in others) >= KEPT:
                aside.remove()
                raise LogError(f"{path}: {KEPT} newer snapshots were completed before this one")
            same = [file.path for file in self._kept if file.header.index == header.index]
            check(same in ([], [path]), "an index that is covered by snapshots has one term", path, same)
            self._disk.rename(aside.path, path)
            self._disk.sync_directory(self.directory)
            self._bad.pop(path, None)
            kept = [*others, SnapshotFile(self._disk, path, header, aside.size)]
            self._kept = sorted(kept, key=lambda file: file.header.index, reverse=True)
            found = self._kept[[file.path for file in self._kept].index(path)]
            self._prune()
            return found

    def _find(self) -> None:
        self._disk.sync_directory(self.directory)  # a name that only the cache knows must not be counted on
        kept: list[SnapshotFile] = []
        for file_name in self._disk.list(self.directory):
            path = f"{self.directory}/{file_name}"
            for suffix in (DIVERGED_SUFFIX + WRITTEN_SUFFIX, WRITTEN_SUFFIX, RECEIVED_SUFFIX):
                if parse_snapshot_file_name(self.name, file_name.removesuffix(suffix)) and file_name.endswith(suffix):
                    self._disk.remove(path)
            parsed = parse_snapshot_file_name(self.name, file_name)
            if parsed is None:
                continue
            try:
                kept.append(self._open(path, parsed))
            except CorruptionError as error:
                self._bad[path] = str(error)
        self._kept = sorted(kept, key=lambda file: file.header.index, reverse=True)

    def _open(self, path: str, named: tuple[int, int]) -> SnapshotFile:
        file = open_snapshot(self._disk, path)
        if (file.header.index, file.header.term) != named:
            raise CorruptionError(f"{path} at byte 0: the header is that of index {file.header.index}")
        theirs = file.header.cluster_id
        if self.cluster_id and theirs and theirs != self.cluster_id:
            raise ForeignDirectoryError(
                f"{path} belongs to cluster {theirs.hex()}, this member to {self.cluster_id.hex()}; "
                "choose another directory"
            )
        return file

    def open_received(self, aside: "Aside", index: int, term: int) -> SnapshotFile:
        """The file received, all of it verified. Raises: ProtocolError if it is not sound or not what was announced."""
        try:
            file = self._open(aside.path, (index, term))
            file.verify()
        except (CorruptionError, ForeignDirectoryError) as error:
            raise ProtocolError(f"a peer sent a snapshot that is not what it announced: {error}") from error
        return file

    def _set_aside(self, bad: dict[str, str], good: SnapshotFile | None) -> None:
        """Put away those that are bad, now that there is a sound one, or that it is known that there is none."""
        used = good.path if good is not None else "none"
        for path, what in bad.items():
            logger.warning(
                "a snapshot has rotted and was set aside as %s; %s is used instead: %s",
                path + BAD_SUFFIX,
                used,
                what,
                extra={"path": path, "used": used},
            )
        with self._lock:
            for path in bad:
                self._disk.rename(path, path + BAD_SUFFIX)
            self._disk.sync_directory(self.directory)
            self._bad.clear()
            self._kept = [file for file in self._kept if file.path not in bad]

    def _prune(self) -> None:
        """Remove all but the two newest, oldest first."""
        surplus = self._kept[KEPT:]
        self._kept = self._kept[:KEPT]
        for file in reversed(surplus):
            self._disk.remove(file.path)
        if surplus:
            self._disk.sync_directory(self.directory)

    def _require_newest(self, index: int) -> None:
        kept = self._kept
        if kept and kept[0].header.index > index:
            raise LogError(f"{kept[0].path} is newer than a snapshot at index {index}")

    def _path(self, index: int, term: int) -> str:
        return f"{self.directory}/{snapshot_file_name(self.name, index, term)}"

    def _aside(self, index: int, term: int, suffix: str) -> "Aside":
        return Aside(self._disk, self._path(index, term) + suffix)


class SnapshotWriter:
    """Writes one snapshot, on any one thread. Whatever it raises, the file aside is gone and no snapshot was touched.

    An OSError of a sync means what it means everywhere: the disk has failed, end the process.
    """

    def __init__(self, snapshots: Snapshots, header: SnapshotHeader, aside: "Aside") -> None:
        self.ended = False
        self._snapshots = snapshots
        self._header = header
        self._encoder = SnapshotEncoder(header)
        self._aside = aside

    def write(self, chunk: bytes) -> None:
        """Add a chunk of 1 byte to 1 MiB. Raises: OSError, LogError once it has ended."""
        self._append(self._encoder.chunk(chunk))

    def finish(self) -> SnapshotFile:
        """Make it durable under its name. Raises: OSError; LogError if newer ones were completed meanwhile."""
        self._append(self._encoder.end())
        self.ended = True
        try:
            self._aside.finish()
            return self._snapshots.publish(self._aside, self._header)
        except BaseException:
            self._aside.remove()
            raise

    def abort(self) -> None:
        """Leave nothing of it. May be called at any time, also after it has ended."""
        if not self.ended:
            self.ended = True
            self._aside.remove()

    def _append(self, data: bytes) -> None:
        if self.ended:
            raise LogError(f"{self._aside.path}: the snapshot was finished or given up")
        try:
            self._aside.append(data)
        except BaseException:
            self.abort()
            raise


class Reception:
    """Takes in the file of a snapshot from a leader, in order. Used on one thread at a time, as `Snapshots.receive` is.

    Whatever it raises but for a wrong offset, it has ended, the file aside is gone and no snapshot was touched.
    """

    def __init__(self, snapshots: Snapshots, index: int, term: int, size: int, aside: "Aside") -> None:
        self.index = index
        self.term = term
        self.size = size
        self.ended = False
        self._snapshots = snapshots
        self._aside = aside

    @property
    def offset(self) -> int:
        """How many bytes have come, which is where the next must begin."""
        return self._aside.size

    def write(self, offset: int, data: bytes) -> int:
        """Add what was sent from `offset` on; returns the next offset.

        Raises: ProtocolError if that is not where the last ended, which changes nothing, or if it is more than was
        announced; OSError; LogError once it has ended.
        """
        self._require_going()
        if offset != self.offset:
            raise ProtocolError(f"a peer sent a snapshot from byte {offset} on, wanted was {self.offset}")
        try:
            if len(data) > self.size - offset:
                raise ProtocolError(f"a peer sent more of a snapshot than the {self.size} bytes it announced")
            self._aside.append(data)
        except BaseException:
            self.discard()
            raise
        return self.offset

    def finish(self) -> SnapshotFile:
        """Verify all of it and make it durable under its name.

        Raises: ProtocolError if it is not sound or not what was announced; OSError; LogError if newer ones were
        completed meanwhile, or it has ended.
        """
        self._require_going()
        try:
            if self.offset != self.size:
                raise ProtocolError(f"a peer sent {self.offset} of the {self.size} bytes of a snapshot")
            self._aside.finish()
            received = self._snapshots.open_received(self._aside, self.index, self.term)
            found = self._snapshots.publish(self._aside, received.header)
        except BaseException:
            self.discard()
            raise
        self.ended = True
        return found

    def discard(self) -> None:
        """Leave nothing of it. May be called at any time, also after it has ended."""
        if not self.ended:
            self.ended = True
            self._aside.remove()

    def _require_going(self) -> None:
        if self.ended:
            raise LogError(f"{self._aside.path}: the reception has ended")


class Aside:
    """A file that is written from its start to its end under a name that no opening believes in."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = path
        self.size = 0
        self._disk = disk
        self._file: File | None = None
        self._synced = 0

    def append(self, data: bytes) -> None:
        if self._file is None:
            check(self.size == 0, "a file aside is written once", self.path)
            if self._disk.exists(self.path):
                self._disk.remove(self.path)
            self._file = self._disk.open(self.path, create=True)
        self._file.write_at(self.size, data)
        self.size += len(data)
        if self.size - self._synced >= SYNC_BYTES:
            self._file.sync()
            self._synced = self.size

    def finish(self) -> None:
        """Make what was written durable, and close it."""
        check(self._file is not None, "a file aside has something to be finished", self.path)
        if self._file is not None:
            self._file.sync()
            self._close()

    def remove(self) -> None:
        """Close and remove it, if it is there."""
        self._close()
        if self._disk.exists(self.path):
            self._disk.remove(self.path)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
