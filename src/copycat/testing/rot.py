"""A disk that loses what it has kept: where a member's files can be damaged so that it is able to notice.

Of the end of a log it cannot be told whether it was ever durable: a record that is damaged there looks like a write
that a loss of power has torn. So damage is done below what the file vouches for, in its header or in a later record.

Source: reliability §4 "Recovery table".
"""

from copycat.errors import CorruptionError
from copycat.io.storage.record import BODY_BYTES_MAX, RecordError, verify_record
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES, decode_segment_header
from copycat.testing.disk import FaultyDisk

NOTHING = "nothing: there is too little"
SECTOR_BYTES = 512
SNAPSHOT_SUFFIX = ".snapshot"
HEADER_SHARE = 0.05  # of the places, at which a bit of the segment's header is hit
HEADER_BITS_BYTES = 64  # of its header, in which every bit counts


def damage(disk: FaultyDisk, directory: str, kind: str, place: float) -> str:
    """Rot somewhere in a member's files; see `Node.rot`. Returns the path and where."""
    names = disk.list(directory) if disk.exists(directory) else []
    if not names:
        return NOTHING  # since it was wiped
    if kind in ("metadata", "snapshot"):
        chosen = next((name for name in names if name.startswith("metadata")), "")
        if kind == "snapshot":  # the newest
            chosen = max((name for name in names if name.endswith(SNAPSHOT_SUFFIX)), default="")
        if not chosen:
            return NOTHING
        path = f"{directory}/{chosen}"
        offset = int(place * (len(disk.contents(path)) - 1))
        disk.flip_bit(path, offset, bit=offset % 8)
        return f"{path} at {offset}"
    ends = [
        (proven_end(disk.contents(path)), path) for path in (f"{directory}/{name}" for name in names if _is_log(name))
    ]
    end, path = max(ends, default=(0, ""))
    sectors = (end - SEGMENT_HEADER_BYTES) // SECTOR_BYTES
    if sectors < 2:
        return NOTHING
    if kind == "bit":
        if place < HEADER_SHARE:
            offset = int(place / HEADER_SHARE * HEADER_BITS_BYTES)
        else:
            offset = SEGMENT_HEADER_BYTES + int(place * (end - SEGMENT_HEADER_BYTES - 1))
        disk.flip_bit(path, offset, bit=offset % 8)
        return f"{path} at {offset}"
    number = int(place * (sectors - 1))
    offset, other = (SEGMENT_HEADER_BYTES + each * SECTOR_BYTES for each in (number, sectors - 1 - number))
    data = disk.contents(path)[other : other + SECTOR_BYTES] if kind == "misdirected" else bytes(SECTOR_BYTES)
    disk.overwrite(path, offset, data)
    return f"{path} at {offset}"


def proven_end(data: bytes) -> int:
    """Where, in these bytes of a segment, the last record ends that the header or a later record calls durable; 0 for a
    segment that is damaged already."""
    try:
        header = decode_segment_header(data, "")
    except CorruptionError:
        return 0
    synced_index = header.synced_index
    ends: list[tuple[int, int]] = []  # last index of each record, and where it ends
    offset = SEGMENT_HEADER_BYTES
    while True:
        try:
            record = verify_record(data, offset, BODY_BYTES_MAX)
        except RecordError:
            break
        offset += record.record_bytes
        ends.append((record.last_index, offset))
        synced_index = max(synced_index, record.synced_index)
    return max((end for last_index, end in ends if last_index <= synced_index), default=0)


def _is_log(name: str) -> bool:
    return name.endswith(".log")
