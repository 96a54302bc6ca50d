"""The log on disk: blocks readable at once, durable later.

The loop's thread decides *where* every record goes when it is appended: `Part`s of planned bytes, each for one
segment. A flush takes the parts and makes the files agree, in order, so rolling over and truncating are only parts
that begin a new segment. A new segment is begun after the one before it was synced. Nothing is changed in place: a
truncation begins a segment of the next generation, which hides everything older from its first index on; a reset one
that hides everything older whole.

Source: protocol §1; docs/decisions/0008-flushing-beside-the-loop.md.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterator

import msgspec

from copycat.errors import CorruptionError, check
from copycat.io.storage.base import ORIGIN, BaseLog, Flush, LogBase
from copycat.io.storage.disk import Disk, File
from copycat.io.storage.index import SPARSE_BYTES, SparseIndex
from copycat.io.storage.record import BODY_BYTES_MAX, HEADER_BYTES, Header, decode_header, verify_record
from copycat.io.storage.recovery import Found, Inventory, Reading, read_log, save_torn, take_inventory
from copycat.io.storage.segment import (
    PREWRITE_HIGH_BYTES,
    PREWRITE_LOW_BYTES,
    SEGMENT_HEADER_BYTES,
    Segment,
    SegmentHeader,
)
from copycat.io.storage.writing import Discard, DiskFlush, Part, Prewrite, Writer, set_aside

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 32 << 20
CACHE_BYTES = 16 << 20


class Log(BaseLog):
    """The log `name` in a directory that exists and is locked. Opened with `Log.open`."""

    def __init__(
        self, disk: Disk, directory: str, name: str, cluster_id: bytes, max_segment_size: int, cache_size: int
    ) -> None:
        super().__init__(cache_bytes=cache_size, base=ORIGIN)
        self.directory = directory
        self.name = name
        self.cluster_id = cluster_id  # may be set once the cluster is formed; later segments carry it
        self.max_segment_size = max_segment_size
        self.torn_path: str | None = None  # where torn bytes were saved by this opening
        self._disk = disk
        self._segments: list[Segment] = []  # in force, in order of index; the last one is appended to
        self._index = SparseIndex()
        self._generation = 0
        self._parts: list[Part] = []
        self._writer = Writer(disk, directory)
        self._prewrite: Prewrite | None = None
        self._forgotten: list[str] = []  # files of discarded segments, oldest first
        self._discard: Discard | None = None
        self._reader: tuple[str, File] | None = None

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        name: str = "copycat",
        cluster_id: bytes = b"",
        base: LogBase | None = None,
        max_segment_size: int = SEGMENT_BYTES,
        cache_size: int = CACHE_BYTES,
    ) -> "Log":
        """Recover the log and make all of it durable; see recovery.py for what that means.

        `base` is that of the newest sound snapshot, None if there is none. A log that holds it is kept whole, with the
        blocks before it; one that ends before it, or holds another term there, is void and begins anew on it.
        A faulty log leaves the directory as it was until the first flush. Raises: CorruptionError if log and snapshot
        contradict each other; ForeignDirectoryError; OSError.
        """
        log = cls(disk, directory, name, cluster_id, max_segment_size, cache_size)
        log._recover(base or ORIGIN)
        return log

    def take_prewrite(self) -> Prewrite | None:
        """Zeros wanted ahead of the records; None if there is room enough or a prewrite is outstanding."""
        segment = self._segments[-1]
        room = segment.room_ahead()
        if self._prewrite is not None or room is None or room >= PREWRITE_LOW_BYTES:
            return None
        target = min(segment.end + PREWRITE_HIGH_BYTES, self.max_segment_size)
        if target <= segment.end + room:
            return None
        self._prewrite = Prewrite(segment, target)
        return self._prewrite

    def prewritten(self, prewrite: Prewrite) -> None:
        check(prewrite is self._prewrite, "the prewrite that ends is the one outstanding")
        self._prewrite = None

    def take_discard(self) -> Discard | None:
        """The files of discarded segments, to be removed; None if there are none or a job is outstanding."""
        if self._discard is not None or not self._forgotten:
            return None
        self._discard = Discard(self._disk, self.directory, self._forgotten)
        self._forgotten = []
        return self._discard

    def discarded(self, discard: Discard) -> None:
        check(discard is self._discard, "the discard that ends is the one outstanding")
        self._discard = None

    def clear_fault(self) -> None:
        """The log again holds all the leader had: forget the fault, durably with the next flush."""
        if self.faulty_from is not None:
            self.faulty_from = None
            self._begin_segment(self.last_index, new_generation=True)
            self._must_flush = True

    def close(self) -> None:
        check(self._flush is None, "no flush is outstanding when a log is closed")
        for segment in self._segments:
            segment.close()
        if self._writer.active is not None:
            self._writer.active.close()
        self._close_reader()

    # Planning, on the loop's thread.

    def _place(self, first_index: int, record: bytes) -> None:
        segment = self._segments[-1]
        if segment.end + len(record) > self.max_segment_size and segment.end > SEGMENT_HEADER_BYTES:
            segment = self._begin_segment(self.last_index, new_generation=False)
        if not self._parts:
            self._parts.append(Part(segment=segment, offset=segment.end))
        self._parts[-1].chunks.append(record)
        self._note(segment, first_index, record)

    def _note(self, segment: Segment, first_index: int, record: bytes) -> None:
        self._index.push(
            first_index, segment.end, segment_first=segment.first_index, segment_start=SEGMENT_HEADER_BYTES
        )
        segment.end += len(record)

    def _cut(self, index: int) -> None:
        self._index.truncate_after(index)
        self._close_reader()
        self._begin_segment(index, new_generation=True)
        self._must_flush = True

    def _drop(self, index: int) -> LogBase:
        """Whole segments, while the next one is there to go on with; never the one that is appended to."""
        kept = bisect_right(self._segments, index, key=lambda segment: segment.first_index) - 1
        while kept > 0 and not self._segments[kept].born:  # born in order, so all before it are too
            kept -= 1
        if kept <= 0:
            return self.base
        self._close_reader()
        self._forgotten += [segment.path for segment in self._segments[:kept]]
        del self._segments[:kept]
        self._index.discard_before(self._segments[0].first_index)
        return self._segments[0].header.base

    def _void(self) -> None:
        self._index.clear()
        self._close_reader()
        hidden = [path for part in self._parts for path in part.hidden]
        aside = [path for part in self._parts for path in part.aside]
        hidden += [segment.path for segment in self._segments]
        self._segments.clear()
        self._parts.clear()
        self._begin_segment(self.last_index, new_generation=True)
        self._parts[-1].hidden, self._parts[-1].aside = hidden, aside
        self._must_flush = True

    def _begin_segment(self, index: int, *, new_generation: bool) -> Segment:
        """Plan a segment behind `index`, which is the last index of the log or becomes so now."""
        hidden: list[str] = []
        while self._segments and self._segments[-1].first_index > index:
            hidden.append(self._segments.pop().path)
        hidden.reverse()
        segment = self._plan_segment(index, new_generation=new_generation)
        self._parts.append(Part(segment=segment, offset=SEGMENT_HEADER_BYTES, hidden=hidden))
        return segment

    def _plan_segment(self, index: int, *, new_generation: bool) -> Segment:
        if new_generation:
            self._generation += 1
        header = SegmentHeader(
            generation=self._generation,
            first_index=index + 1,
            previous_term=self.last_term,
            chain=self.last_chain,
            synced_index=index,
            faulty_from=self.faulty_from or 0,
            cluster_id=self.cluster_id,
            previous_time=self.last_time,
            voids_older=index == self.base.index > 0,
        )
        segment = Segment(self._disk, self.directory, self.name, header, SEGMENT_HEADER_BYTES)
        self._segments.append(segment)
        return segment

    def _make_flush(self) -> Flush:
        parts, self._parts = self._parts, []
        self._must_flush = False
        return DiskFlush(self.last_index, self.pending_bytes, parts, self._writer)

    # Reading what is no longer cached.

    def _stored_records(self, index: int, stop_index: int) -> Iterator[bytes]:
        while index < stop_index:
            position = bisect_right(self._segments, index, key=lambda segment: segment.first_index) - 1
            segment = self._segments[position]
            later = self._segments[position + 1].first_index if position + 1 < len(self._segments) else stop_index
            offset = self._index.position_before(
                index, segment_first=segment.first_index, segment_start=SEGMENT_HEADER_BYTES
            )
            for header, record in _walk(self._read_handle(segment.path), segment.path, offset, min(later, stop_index)):
                if header.last_index >= index:
                    yield record
                    index = header.last_index + 1

    def _read_handle(self, path: str) -> File:
        """A handle of the reader's own: those of the writer are closed by the flush thread."""
        if self._reader is None or self._reader[0] != path:
            self._close_reader()
            self._reader = (path, self._disk.open(path))
        return self._reader[1]

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None

    # Opening.

    def _recover(self, snapshot: LogBase) -> None:
        inventory = take_inventory(self._disk, self.directory, self.name, self.cluster_id)
        self._generation = inventory.generation
        found = read_log(self._disk, inventory, snapshot, restart=self._restart, begin=self._adopt, accept=self._accept)
        if not found.stands:
            self._restart(snapshot)
        self.durable_index = self.last_index
        self.protect(snapshot.index)
        newest = inventory.view[-1].header if inventory.view else None
        carried = newest.faulty_from or None if newest is not None else None
        faults = [fault for fault in (carried, found.faulty_from) if fault is not None]
        if faults:
            self.faulty_from = min(faults) if found.stands else max(min(faults), self.first_index)
        if found.faulty_from is not None:
            self._open_faulty(found)
        else:
            self._open_sound(inventory, found)

    def _restart(self, base: LogBase) -> None:
        self._stand_on(base)
        self._segments.clear()
        self._index.clear()

    def _adopt(self, found: Found) -> None:
        header = found.header or SegmentHeader(found.generation, found.first_index, 0, 0, 0)
        segment = Segment(self._disk, self.directory, self.name, header, SEGMENT_HEADER_BYTES)
        segment.born = True
        self._segments.append(segment)

    def _accept(self, header: Header, position: int, record: bytes) -> None:
        segment = self._segments[-1]
        check(position == segment.end, "recovered records follow one another", position)
        self.durable_index = header.last_index
        self._take(segment, header, record)

    def _open_faulty(self, found: Reading) -> None:
        """Blocks are lost. Plan the segment that refilling begins, but write nothing until there is something."""
        check(not found.tail.records, "a fault proves everything before it durable")
        logger.error(
            "%s: the log is faulty from %d on: %s; a member of several is refilled by its leader, a single one needs a "
            "backup, or `copycat repair`",
            self.directory,
            self.faulty_from,
            found.why,
            extra={
                "directory": self.directory,
                "faulty_from": self.faulty_from,
                "synced_index": found.tail.synced_index,
                "first_index": self.first_index,
            },
        )
        self._begin_segment(self.last_index, new_generation=True)
        part = self._parts[-1]
        part.hidden, part.aside = [], found.hidden + found.aside + part.hidden

    def _open_sound(self, inventory: Inventory, found: Reading) -> None:
        """Move on to a new generation that holds, durably, the tail that was not proven durable."""
        tail = found.tail
        if tail.torn:
            last = inventory.view[-1]
            self.torn_path = save_torn(self._disk, self.directory, last, tail.torn)
            logger.warning(
                "cut a torn end off the log; its bytes were saved aside",
                extra={"path": self.torn_path, "size_bytes": len(tail.torn), "last_index": self.last_index},
            )
        hidden = found.hidden
        while self._segments and self._segments[-1].first_index > self.last_index:
            hidden = [*hidden, self._segments.pop().path]
        segment = self._plan_segment(self.last_index, new_generation=True)
        for header, record in tail.records:
            self._take(segment, header, record)
        # The tail is synced together with the header, before the file gets its name, so the header may vouch for it.
        segment.header = msgspec.structs.replace(segment.header, synced_index=self.last_index)
        segment.create(b"".join(record for _, record in tail.records))
        self._writer.active = segment
        self.durable_index = self.last_index
        for path in hidden:
            self._disk.remove(path)
        if found.aside:
            set_aside(self._disk, found.aside)
            logger.warning(
                "set damaged segments aside; the snapshot holds what they held",
                extra={"paths": found.aside, "first_index": self.first_index},
            )
        self._cache.evict(self.durable_index)

    def _take(self, segment: Segment, header: Header, record: bytes) -> None:
        self._note(segment, header.first_index, record)
        self._remember(header, record)


def _walk(file: File, path: str, offset: int, stop_index: int) -> Iterator[tuple[Header, bytes]]:
    """The records of a file from `offset` up to `stop_index`, exclusive. Raises: CorruptionError."""
    data = b""
    start = offset  # where `data` begins in the file
    while True:
        if offset + HEADER_BYTES > start + len(data):
            start, data = offset, file.read(offset, SPARSE_BYTES)
        header = decode_header(data, offset - start, BODY_BYTES_MAX)
        if offset + header.record_bytes > start + len(data):
            start, data = offset, file.read(offset, max(SPARSE_BYTES, header.record_bytes))
        header = verify_record(data, offset - start, BODY_BYTES_MAX)
        if header.first_index >= stop_index:
            raise CorruptionError(f"{path}: block {header.first_index} is not where it was written")
        yield header, data[offset - start : offset - start + header.record_bytes]
        offset += header.record_bytes
        if header.last_index + 1 >= stop_index:
            return
