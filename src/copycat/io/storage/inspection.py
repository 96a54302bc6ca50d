"""What is in a data directory, whether it is sound, and what a start would make of it: read, never changed.

Every checksum is verified. The verdict on the log is that of the very code that opens logs (`recovery.read_log`); what
is added here is where a damage lies, what it costs, and what a person can do.

A directory that is in use changes while it is read. A file may go, and what is being written looks damaged: so it is
looked at again, and only what is damaged each time is called so.

Source: protocol §1.2, §1.3, §1.7, §1.8, §10.1.
"""

import re
from collections.abc import Iterator

from copycat.errors import CorruptionError
from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.disk import Disk
from copycat.io.storage.findings import Damage, Inspection, SegmentReport, SnapshotReport, advise
from copycat.io.storage.metadata import read_copies
from copycat.io.storage.record import BODY_BYTES_MAX, Block, Header, RecordError, decode_record, verify_record
from copycat.io.storage.recovery import Found, Inventory, highest_watermark, read_log, take_inventory
from copycat.io.storage.segment import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    parse_segment_file_name,
)
from copycat.io.storage.snapshot_file import open_snapshot, parse_snapshot_file_name

LOOKS_MAX = 5  # at a directory in use
LEFTOVERS = {
    ".torn": "the torn end that a start cut off a segment",
    ".faulty": "a segment set aside, for it or one before it was damaged",
    ".bad": "a snapshot that has rotted and was set aside",
    ".diverged": "the state of this member when it was found not to be the others': look into this file by its name",
    ".tmp": "half written; the next start removes it",
    ".received": "a snapshot that was not received to its end; the next start removes it",
}
_PLACE = re.compile(r"(?P<path>\S.*?) at byte (?P<offset>\d+): (?P<what>.*)", re.DOTALL)


def inspect_directory(disk: Disk, directory: str, *, in_use_by: str | None = None) -> Inspection:
    """Read all of a data directory. `in_use_by` says who has it open, None: nobody.

    Raises: ForeignDirectoryError for a format of a newer release; OSError.
    """
    looks = 1 if in_use_by is None else LOOKS_MAX
    while True:
        looks -= 1
        try:
            found = _look(disk, directory, in_use_by)
        except FileNotFoundError:
            if not looks:
                raise
            continue
        if not looks or not found.damages:
            break
    if in_use_by is not None:
        found.notes.insert(0, f"in use by {in_use_by}: what is being written may look as if it were cut short")
    return found


def inspect_file(disk: Disk, path: str) -> Inspection:
    """Read all of one snapshot or backup. Raises: as `inspect_directory`."""
    found = Inspection(where=path)
    report = _snapshot(disk, path, None, found)
    if report is not None:
        found.snapshots.append(report)
        found.first_index, found.last_index = report.index + 1, report.index
    for damage in found.damages:
        damage.advice = "this file cannot be restored: take another backup, or use an older one"
    return found


def blocks_of(disk: Disk, found: Inspection, first_index: int) -> Iterator[Block]:
    """The blocks of the sound log, from the one that holds `first_index` on. Raises: RecordError, OSError.

    A directory in use may lose a file meanwhile: FileNotFoundError.
    """
    reports = [each for each in found.segments if each.state in ("in force", "written", "damaged") and each.records]
    for order, report in enumerate(reports):
        stop = reports[order + 1].first_index - 1 if order + 1 < len(reports) else found.last_index
        stop = min(stop, found.last_index)
        if stop < first_index or report.first_index > found.last_index:
            continue
        data = read_whole(disk, report.path)
        offset = SEGMENT_HEADER_BYTES
        while offset < report.end:
            header = verify_record(data, offset, BODY_BYTES_MAX)
            if header.first_index > stop:
                break
            if header.last_index >= first_index:
                yield decode_record(data, offset, BODY_BYTES_MAX)
            offset += header.record_bytes


def read_whole(disk: Disk, path: str) -> bytes:
    """All of a file."""
    file = disk.open(path)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _look(disk: Disk, directory: str, in_use_by: str | None) -> Inspection:
    found = Inspection(where=directory, in_use_by=in_use_by)
    _look_at_metadata(disk, directory, found)
    for name in disk.list(directory):
        path = f"{directory}/{name}"
        named = parse_snapshot_file_name("copycat", name)
        if named is not None:
            report = _snapshot(disk, path, named, found)
            if report is not None:
                found.snapshots.append(report)
        suffix = next((suffix for suffix in LEFTOVERS if name.endswith(suffix)), None)
        if suffix is not None:
            found.leftovers[path] = LEFTOVERS[suffix]
    found.snapshots.sort(key=lambda report: report.index)
    newest = found.newest
    inventory = take_inventory(disk, directory, "copycat", b"")
    ends = _look_at_segments(disk, directory, inventory, found)
    _judge(disk, inventory, newest.header.base if newest is not None else ORIGIN, ends, found)
    return found


def _look_at_metadata(disk: Disk, directory: str, found: Inspection) -> None:
    copies = read_copies(disk, directory)
    sound = [copy for copy in copies.values() if copy is not None]
    found.metadata = max(sound, key=lambda copy: copy.sequence, default=None)
    if found.metadata is not None and found.metadata.diverged_at:
        found.notes.append(
            f"at index {found.metadata.diverged_at} the state of this member was found not to be the others': it does "
            "not start again, unless nobody compares states there"
        )
    for path, copy in copies.items():
        if copy is None:
            found.damages.append(
                Damage(
                    path=path,
                    offset=0,
                    what="this copy of the metadata is damaged",
                    advice=(
                        "nothing to do: the other copy serves, and the next start writes both"
                        if sound
                        else "the member's vote is forgotten and it cannot start: a member of several is removed and "
                        "joins again under a new id with an empty directory; of a single one, bring what its log holds "
                        "into a backup with `copycat repair`"
                    ),
                )
            )


def _snapshot(disk: Disk, path: str, named: tuple[int, int] | None, found: Inspection) -> SnapshotReport | None:
    """What is in a snapshot file; notes its damage. None if not even its header can be read."""
    report: SnapshotReport | None = None
    try:
        file = open_snapshot(disk, path)
        header = file.header
        report = SnapshotReport(
            path=path,
            index=header.index,
            term=header.term,
            time=header.time,
            size=file.size,
            chunks=0,
            is_sound=False,
            cluster_id=header.cluster_id,
            configuration=header.configuration,
            file=file,
        )
        if named is not None and named != (header.index, header.term):
            raise CorruptionError(f"{path} at byte 0: the header is that of index {header.index}")
        for _ in file.chunks():
            report.chunks += 1
        report.is_sound = True
    except CorruptionError as error:
        place = _PLACE.fullmatch(str(error))
        found.damages.append(
            Damage(
                path=path,
                offset=int(place["offset"]) if place else None,
                what=place["what"] if place else str(error),
                advice="",
            )
        )
    return report


def _look_at_segments(disk: Disk, directory: str, inventory: Inventory, found: Inspection) -> dict[str, str]:
    """Report every segment; by path, why the sound records of those in force end before they should."""
    problems: dict[str, str] = {}
    in_force = {segment.path for segment in inventory.view}
    for order, segment in enumerate(inventory.view):
        stop = inventory.view[order + 1].first_index - 1 if order + 1 < len(inventory.view) else None
        report = _read_segment(disk, segment, stop, problems)
        found.segments.append(report)
        if stop is None and segment.path not in problems:
            _look_at_end(disk, report, found, problems)
    for name in disk.list(directory):
        parsed, path = parse_segment_file_name("copycat", name), f"{directory}/{name}"
        if parsed is not None and path not in in_force:
            hidden = Found(path=path, generation=parsed[0], first_index=parsed[1], header=None)
            report = _report(hidden, len(read_whole(disk, path)))
            report.state = "hidden"
            found.segments.append(report)
    return problems


def _read_segment(disk: Disk, segment: Found, stop: int | None, problems: dict[str, str]) -> SegmentReport:
    """Read the records of one segment, up to `stop`; None: as far as they go."""
    data = read_whole(disk, segment.path)
    report = _report(segment, len(data))
    if segment.header is None:
        try:
            decode_segment_header(data, segment.path)
            problems[segment.path] = "the segment header is not that of the file's name"
        except CorruptionError as error:
            problems[segment.path] = str(error).removeprefix(f"{segment.path}: ")
        report.state, report.end = "damaged", 0
        return report
    while stop is None or report.last_index < stop:
        try:
            header = verify_record(data, report.end, BODY_BYTES_MAX)
        except RecordError as error:
            if stop is not None:
                problems[segment.path] = str(error).partition(": ")[2]
            break
        if not _follows(header, report):
            problems[segment.path] = f"block {header.first_index} does not follow index {report.last_index}"
            break
        report.records += 1
        report.last_index, report.term, report.chain = header.last_index, header.term, header.chain
        report.end += header.record_bytes
    report.state = "damaged" if segment.path in problems else "written" if stop is None else "in force"
    return report


def _follows(header: Header, report: SegmentReport) -> bool:
    return (
        header.first_index == report.last_index + 1
        and header.chain_before == report.chain
        and header.term >= report.term
    )


def _look_at_end(disk: Disk, report: SegmentReport, found: Inspection, problems: dict[str, str]) -> None:
    """The last segment: is what lies behind its sound records torn, or was it durable?"""
    data = read_whole(disk, report.path)
    rest = data[report.end :].rstrip(b"\0")
    watermark = max(_watermark(data, report), highest_watermark(data, report.end, report.end + len(rest), 0))
    if watermark > report.last_index:
        report.state = "damaged"
        try:
            verify_record(data, report.end, BODY_BYTES_MAX)
            problems[report.path] = f"what lies here does not follow index {report.last_index}"
        except RecordError as error:
            problems[report.path] = str(error).partition(": ")[2]
        found.lost_to = watermark
    elif rest:
        found.notes.append(
            f"{report.path} at byte {report.end}: {len(rest)} bytes of a record that was not written to its end; the "
            "next start saves them aside and cuts them off. None of it was acknowledged"
        )


def _watermark(data: bytes, report: SegmentReport) -> int:
    """The highest index that the segment's header and its sound records say was durable."""
    highest = decode_segment_header(data, report.path).synced_index
    offset = SEGMENT_HEADER_BYTES
    while offset < report.end:
        header = verify_record(data, offset, BODY_BYTES_MAX)
        highest = max(highest, header.synced_index)
        offset += header.record_bytes
    return highest


def _report(segment: Found, size: int) -> SegmentReport:
    header = segment.header or SegmentHeader(segment.generation, segment.first_index, 0, 0, 0)
    return SegmentReport(
        path=segment.path,
        generation=segment.generation,
        first_index=segment.first_index,
        last_index=segment.first_index - 1,
        records=0,
        size=size,
        end=SEGMENT_HEADER_BYTES,
        term=header.previous_term,
        chain=header.chain,
        faulty_from=header.faulty_from,
        state="in force",
    )


def _judge(disk: Disk, inventory: Inventory, base: LogBase, problems: dict[str, str], found: Inspection) -> None:
    """What the log and the newest sound snapshot make together, and what that means for each damage."""
    start, last = [base], [base.index]

    def restart(at: LogBase) -> None:
        start[0], last[0] = at, at.index

    def accept(header: Header, _position: int, _record: bytes) -> None:
        last[0] = header.last_index

    why = ""
    try:
        reading = read_log(disk, inventory, base, restart=restart, begin=_nothing, accept=accept)
    except CorruptionError as error:
        found.damages.append(Damage(path=found.where, offset=None, what=str(error), advice="see there"))
        found.first_index, found.last_index, found.base = base.index + 1, base.index, base
        return
    for header, _ in reading.tail.records:
        last[0] = header.last_index
    if reading.stands:
        found.base, found.first_index, found.last_index = start[0], start[0].index + 1, max(last[0], base.index)
    else:
        found.base, found.first_index, found.last_index = base, base.index + 1, base.index
    newest = inventory.view[-1].header if inventory.view else None
    carried = (newest.faulty_from or None) if newest is not None else None
    faults = [fault for fault in (reading.faulty_from, carried) if fault is not None]
    is_bare = not found.segments and not found.snapshots
    if faults and not is_bare:
        found.faulty_from = min(faults)
        known = [report.last_index for report in found.segments if report.state != "hidden"]
        found.lost_to = max([found.faulty_from, found.lost_to or 0, *known])
        why = reading.why
    else:
        found.lost_to = None
    advise(base, problems, why, found)


def _nothing(_segment: Found) -> None:
    """Which segment is read next says nothing here."""
