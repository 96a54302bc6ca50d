"""Reading a log back: what is there, what was torn by a crash, what was lost.

Segments are ordered by generation and first index; each hides everything older from its first index on. What remains
is a row of segments, each covering the indices up to the next. A segment was synced before its successor was born,
so only the last can be torn. There a bad record is torn if no header proves it durable (W, the highest
`synced_index` found, also beyond the hole), and lost if one does. Torn bytes are saved aside and cut by moving on to
a new generation. Lost ones are never cut: the log ends before them, says so, and writes nothing until it is refilled.

A fault outlives restarts: headers born during repair carry it until `Log.clear_fault`.

A snapshot stands in for the log up to where it ends. So a log may begin behind index 1, and damage below the end of the
snapshot costs nothing where a sound segment begins before that end. Where none does, or the log ends before, or holds
another history there, nothing of the log is of use and it stands on the snapshot alone. (Another history has another
term at that index: a lower one or, from a leader that nobody followed, a higher one.) That is no fault when a crash
alone explains it: the snapshot came from a leader, or covers what this disk had not synced. With damage it is one, for
nobody knows what else was lost above.

Residual gaps: rot of the very last flushed batch looks torn, and a missing last file is not missed; peers contradict.

Source: protocol §1.2, §1.3, §1.7; reliability §4 "Recovery table".
"""

from collections.abc import Callable
from dataclasses import dataclass

from copycat.errors import CorruptionError, ForeignDirectoryError
from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.disk import Disk
from copycat.io.storage.record import (
    ALIGNMENT_BYTES,
    BODY_BYTES_MAX,
    MAGIC_BYTES,
    Header,
    RecordError,
    decode_header,
    record_bytes,
    verify_record,
)
from copycat.io.storage.segment import (
    SEGMENT_HEADER_BYTES,
    TEMPORARY_SUFFIX,
    SegmentHeader,
    decode_segment_header,
    parse_segment_file_name,
)


@dataclass(slots=True, kw_only=True)
class Found:
    """One segment file. `header` is None if it is damaged; then only the file's name speaks for it."""

    path: str
    generation: int
    first_index: int
    header: SegmentHeader | None


@dataclass(slots=True, kw_only=True)
class Inventory:
    """The segments of a log: those in force, in order of index, and those hidden by newer ones."""

    view: list[Found]
    hidden: list[str]
    generation: int  # the highest seen, 0 for none


@dataclass(slots=True, kw_only=True)
class Position:
    """Where reading has come to."""

    last_index: int = 0
    term: int = 0
    chain: int = 0


@dataclass(slots=True, kw_only=True)
class Tail:
    """How the last segment ends. `records` lie between `synced_index` and the cut; `torn` begins at the cut."""

    synced_index: int
    records: list[tuple[Header, bytes]]
    torn: bytes
    faulty_from: int | None


@dataclass(slots=True, kw_only=True)
class Reading:
    """What reading a log came to. `stands`: what was accepted goes on from the snapshot; otherwise it is void."""

    tail: Tail
    stands: bool
    faulty_from: int | None
    why: str = "blocks that were durable are damaged or missing"
    hidden: list[str]  # of no use any more
    aside: list[str]  # damaged, or behind the damage


Accept = Callable[[Header, int, bytes], None]  # header, position in its segment, record


def take_inventory(disk: Disk, directory: str, name: str, cluster_id: bytes) -> Inventory:
    """Find the segments in force. Syncs every file first: what the cache shows may not be on the disk.

    Raises: ForeignDirectoryError for another cluster's log or an unknown format version.
    """
    disk.sync_directory(directory)
    segments: list[Found] = []
    for file_name in disk.list(directory):
        path = f"{directory}/{file_name}"
        parsed = parse_segment_file_name(name, file_name)
        if parsed is not None:
            segments.append(_read_header(disk, path, parsed, cluster_id))
        elif file_name.endswith(TEMPORARY_SUFFIX) and parse_segment_file_name(
            name, file_name.removesuffix(TEMPORARY_SUFFIX)
        ):
            disk.remove(path)  # born halfway, so nothing in it was ever acknowledged
    segments.sort(key=lambda segment: (segment.generation, segment.first_index))
    view: list[Found] = []
    hidden: list[str] = []
    for segment in segments:
        if segment.header is not None and segment.header.voids_older:
            hidden += [older.path for older in view]
            view.clear()
        while view and view[-1].first_index >= segment.first_index:
            hidden.append(view.pop().path)
        view.append(segment)
    return Inventory(view=view, hidden=hidden, generation=segments[-1].generation if segments else 0)


def _read_header(disk: Disk, path: str, parsed: tuple[int, int], cluster_id: bytes) -> Found:
    file = disk.open(path)
    try:
        file.sync()
        data = file.read(0, SEGMENT_HEADER_BYTES)
    finally:
        file.close()
    found = Found(path=path, generation=parsed[0], first_index=parsed[1], header=None)
    try:
        header = decode_segment_header(data, path)
    except CorruptionError:
        return found
    if (header.generation, header.first_index) != parsed:
        return found
    if cluster_id and header.cluster_id and header.cluster_id != cluster_id:
        raise ForeignDirectoryError(
            f"{path} belongs to cluster {header.cluster_id.hex()}, this member to {cluster_id.hex()}; "
            "choose another directory"
        )
    found.header = header
    return found


def read_log(
    disk: Disk,
    inventory: Inventory,
    snapshot: LogBase,
    *,
    restart: Callable[[LogBase], None],
    begin: Callable[[Found], None],
    accept: Accept,
) -> Reading:
    """Read the segments in force and judge what they and the snapshot that ends at `snapshot` make together.

    `begin` is told of each segment, `accept` of its sound records that are proven durable, and `restart` that all of
    before counts for nothing and the log begins at another base. Raises: CorruptionError if both contradict each other.
    """
    view = inventory.view
    hidden, aside = inventory.hidden, list[str]()
    tail = Tail(synced_index=0, records=[], torn=b"", faulty_from=None)
    if not view or view[0].first_index > snapshot.index + 1:
        # Every log has a segment before it has a snapshot, so files are missing: segments, or a snapshot.
        begins = f"begins at {view[0].first_index}" if view else "has no files"
        return Reading(
            tail=tail,
            stands=False,
            faulty_from=snapshot.index + 1 if view or snapshot.index else None,
            why=f"it {begins}, and the newest sound snapshot ends at {snapshot.index}",
            hidden=hidden,
            aside=[segment.path for segment in view],
        )
    start = 0
    while True:
        reader = _Reader(disk, view[start:], snapshot, begin, accept)
        restart(reader.base)
        tail = reader.read()
        fault, after = tail.faulty_from, start + reader.read_count
        if fault is None or fault > snapshot.index:
            break
        if after == len(view) or view[after].first_index > snapshot.index + 1:
            break
        aside += [segment.path for segment in view[start:after]]
        start = after
    sound_to = snapshot.index if fault is None else fault - 1
    stands = sound_to >= snapshot.index and reader.goes_on_from_snapshot()
    if fault is not None:
        aside += [segment.path for segment in (view[after:] if stands else view[start:])]
        fault = fault if stands else snapshot.index + 1
    elif not stands:
        hidden = hidden + [segment.path for segment in view[start:]]
        tail.records.clear()
    return Reading(tail=tail, stands=stands, faulty_from=fault, hidden=hidden, aside=aside)


class _Reader:
    """Reads a row of segments to its end or to the first damage, and sees what it holds where a snapshot ends."""

    def __init__(
        self, disk: Disk, segments: list[Found], snapshot: LogBase, begin: Callable[[Found], None], accept: Accept
    ) -> None:
        header = segments[0].header
        # Of a segment with a damaged header nothing is read, so its base is never stood on.
        self.base = header.base if header is not None and header.first_index > 1 else ORIGIN
        self.read_count = 0  # segments, the damaged one included
        self._disk = disk
        self._segments = segments
        self._snapshot = snapshot
        self._begin = begin
        self._accept = accept
        self._held: Header | None = None  # the block that holds the snapshot's last index

    def read(self) -> Tail:
        first = self._segments[0].first_index
        position = Position(last_index=first - 1, term=self.base.term, chain=self.base.chain)
        for order, segment in enumerate(self._segments):
            self.read_count += 1
            self._begin(segment)
            if order + 1 == len(self._segments):
                break
            stop = self._segments[order + 1].first_index - 1
            if not read_sealed(self._disk, segment, position, stop, self._note):
                return Tail(synced_index=0, records=[], torn=b"", faulty_from=position.last_index + 1)
        tail = read_last(self._disk, segment, position, self._note)
        for header, _ in tail.records:
            self._look(header)
        return tail

    def goes_on_from_snapshot(self) -> bool:
        """Whether the history read has the snapshot's last block. Raises: CorruptionError if both contradict."""
        snapshot, held = self._snapshot, self._held
        if self._segments[0].header is None:
            return False
        if snapshot.index == self.base.index:
            found = self.base.term, self.base.chain
            agrees = found == (snapshot.term, snapshot.chain)
            conflict = not agrees  # a log begins only behind what was committed
        elif held is None:
            return False
        else:
            found = held.term, held.chain
            agrees = found == (snapshot.term, snapshot.chain) and held.last_index == snapshot.index
            conflict = not agrees and held.term == snapshot.term
        if conflict:
            raise CorruptionError(
                f"the log that begins in {self._segments[0].path} has term {found[0]} and chain {found[1]:#010x} at "
                f"index {snapshot.index}, but the snapshot that ends there has term {snapshot.term} and chain "
                f"{snapshot.chain:#010x}: they do not belong together. Look for files that were moved here; or remove "
                "this member and join again under a new id with an empty directory"
            )
        return agrees

    def _note(self, header: Header, position: int, record: bytes) -> None:
        self._look(header)
        self._accept(header, position, record)

    def _look(self, header: Header) -> None:
        if header.first_index <= self._snapshot.index <= header.last_index:
            self._held = header


def read_sealed(disk: Disk, segment: Found, position: Position, stop_index: int, accept: Accept) -> bool:
    """Read a segment that has a successor, up to `stop_index`; whether all of it was there and sound."""
    data = _read(disk, segment)
    if data is None or not _continues(segment, position):
        return False
    offset = SEGMENT_HEADER_BYTES
    while position.last_index < stop_index:
        header = _next_record(data, offset, position)
        if header is None or header.last_index > stop_index:
            return False
        accept(header, offset, data[offset : offset + header.record_bytes])
        _advance(position, header)
        offset += header.record_bytes
    return True


def read_last(disk: Disk, segment: Found, position: Position, accept: Accept) -> Tail:
    """Read the last segment: accept what is proven durable, return the rest as a tail.

    `accept` gets all sound records if the segment is faulty, for a hole proves those before it durable.
    """
    data = _read(disk, segment)
    if data is None or segment.header is None or not _continues(segment, position):
        return Tail(synced_index=0, records=[], torn=b"", faulty_from=position.last_index + 1)
    synced_index = segment.header.synced_index
    sound: list[tuple[Header, int]] = []
    offset = SEGMENT_HEADER_BYTES
    while (header := _next_record(data, offset, position)) is not None:
        sound.append((header, offset))
        synced_index = max(synced_index, header.synced_index)
        _advance(position, header)
        offset += header.record_bytes
    rest = data[offset:].rstrip(b"\0")
    synced_index = max(synced_index, highest_watermark(data, offset, offset + len(rest), position.last_index))
    faulty_from = position.last_index + 1 if synced_index > position.last_index else None
    tail: list[tuple[Header, bytes]] = []
    for header, start in sound:
        record = data[start : start + header.record_bytes]
        if tail or header.last_index > synced_index:
            tail.append((header, record))
        else:
            accept(header, start, record)
    return Tail(synced_index=synced_index, records=tail, torn=rest, faulty_from=faulty_from)


def save_torn(disk: Disk, directory: str, segment: Found, torn: bytes) -> str:
    """Keep bytes about to be cut, for a person to look at; returns the path."""
    path = segment.path.removesuffix(".log") + ".torn"
    if disk.exists(path):
        disk.remove(path)  # left by an opening that crashed before it had cut
    file = disk.open(path, create=True)
    try:
        file.write_at(0, torn)
        file.sync()
    finally:
        file.close()
    disk.sync_directory(directory)
    return path


def _read(disk: Disk, segment: Found) -> bytes | None:
    """The whole file, one segment at a time; None if its header is damaged."""
    if segment.header is None:
        return None
    file = disk.open(segment.path)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _continues(segment: Found, position: Position) -> bool:
    header = segment.header
    return (
        header is not None
        and header.first_index == position.last_index + 1
        and header.chain == position.chain
        and header.previous_term == position.term
    )


def _next_record(data: bytes, offset: int, position: Position) -> Header | None:
    """The sound record at `offset` if it follows `position`. Raises: RecordVersionError."""
    try:
        header = verify_record(data, offset, BODY_BYTES_MAX)
    except RecordError:
        return None
    follows = (
        header.first_index == position.last_index + 1
        and header.chain_before == position.chain
        and header.term >= position.term
    )
    return header if follows else None


def _advance(position: Position, header: Header) -> None:
    position.last_index = header.last_index
    position.term = header.term
    position.chain = header.chain


def highest_watermark(data: bytes, offset: int, end: int, last_index: int) -> int:
    """The highest `synced_index` in sound records between `offset` and `end`, beyond a hole.

    Bodies under a sound header are stepped over, so that a value that looks like a record proves nothing.
    """
    highest = 0
    while (offset := data.find(MAGIC_BYTES, offset, end)) >= 0:
        if offset % ALIGNMENT_BYTES:
            offset += 1
            continue
        try:
            header = decode_header(data, offset, BODY_BYTES_MAX)
        except RecordError:
            offset += ALIGNMENT_BYTES
            continue
        if header.first_index > last_index:
            highest = max(highest, header.synced_index)
        offset += record_bytes(header.body_bytes)
    return highest
