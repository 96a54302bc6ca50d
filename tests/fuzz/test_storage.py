"""Whatever a disk gives back: what was written or less of it, or a documented error; and the next opening agrees."""

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import CorruptionError, ForeignDirectoryError
from copycat.io.storage import Block
from copycat.io.storage.metadata import FILE_NAMES, MetadataStore
from copycat.io.storage.record import (
    RecordError,
    RecordVersionError,
    decode_header,
    decode_record,
    encode_record,
    verify_record,
)
from copycat.io.storage.segment import SegmentHeader, decode_segment_header
from copycat.raft.protocol.wire import encode_msgpack
from tests.fuzz.support import DOCUMENTS, TIMEOUT, damaged, fuzz, judge
from tests.fuzz.targets import IDENTITY, framed, put
from tests.io.storage.helpers import DIRECTORY, WALL_MS, all_blocks, append, flush, make_disk, open_log

pytestmark = pytest.mark.timeout(TIMEOUT)


# -- records and segment headers ---------------------------------------------------------------------------------------

BODIES = st.binary(max_size=40)
RECORDS = st.builds(
    lambda first, count, term, body, chain: encode_record(
        Block(first, count, term, 2, 5, WALL_MS, chain, zlib.crc32(body, chain), body), first - 1
    ),
    st.integers(1, 2**63),
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    BODIES,
    st.integers(0, 2**32 - 1),
)
HEAD = struct.Struct("<HBBIQIQQQQI")  # a record's header without its checksum
SOUND_HEADS = st.builds(  # the checksum is right, whatever the fields say
    lambda version, kind, length, numbers, rest: (
        (head := HEAD.pack(0xC7CA, version, kind, length, *numbers)) + struct.pack("<I", zlib.crc32(head)) + rest
    ),
    st.just(1) | st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 60) | st.integers(0, 2**32 - 1),
    st.tuples(*(st.integers(0, 2**bits - 1) | st.integers(0, 3) for bits in (64, 32, 64, 64, 64, 64, 32))),
    BODIES,
)


@pytest.mark.parametrize("read", [decode_header, verify_record, decode_record], ids=lambda each: each.__name__)
@fuzz
@given(data=damaged(RECORDS | SOUND_HEADS) | st.binary(max_size=80), offset=st.integers(0, 9))
def test_a_record_is_read_or_said_to_be_none(
    read: Callable[[bytes, int, int], object], data: bytes, offset: int
) -> None:
    placed = bytes(offset) + data
    judge(lambda: read(placed, offset, 1 << 20), len(placed), RecordError, RecordVersionError)


@fuzz
@given(data=RECORDS)
def test_a_record_comes_back_as_it_was(data: bytes) -> None:
    block = decode_record(data, 0, 1 << 20)
    assert encode_record(block, block.first_index - 1) == data


SEGMENT_HEADERS = st.builds(
    lambda generation, first, term, chain, synced, faulty: SegmentHeader(
        generation, first, term, chain, synced, faulty, b"c" * 16
    ).encode(),
    *(st.integers(0, 2**bits - 1) for bits in (64, 64, 64, 32, 64, 64)),
)


@fuzz
@given(data=damaged(SEGMENT_HEADERS) | st.binary(max_size=80))
def test_a_segment_header_is_read_or_said_to_be_damaged(data: bytes) -> None:
    judge(lambda: decode_segment_header(data, "path"), len(data), CorruptionError, ForeignDirectoryError)


# -- recovery ----------------------------------------------------------------------------------------------------------

LOGS = st.lists(st.tuples(BODIES, st.booleans()), min_size=1, max_size=8)  # bodies, and whether a flush follows


@fuzz
@given(data=st.data(), blocks=LOGS, reopened=st.booleans())
def test_a_log_on_a_rotten_disk_opens_with_a_prefix_of_what_was_written_and_stays_so(
    data: st.DataObject, blocks: list[tuple[bytes, bool]], reopened: bool
) -> None:
    """Segments damaged anywhere, replaced by anything, or gone: never other blocks than were appended."""
    disk = make_disk()
    log = open_log(disk, segment=4096 + 400)
    for body, flushed in blocks:
        append(log, body)
        if flushed:
            flush(log)
    was = all_blocks(log)
    if reopened:
        disk.end_process()
        open_log(disk)
    disk.end_process()
    paths = [f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY) if name.endswith(".log")]
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=2) if paths else st.just([])):
        rot = damaged(st.just(disk.contents(path))) | damaged(RECORDS) | st.binary(max_size=80)
        put(disk, path, data.draw(rot))
    size = sum(len(disk.contents(f"{DIRECTORY}/{name}")) for name in disk.list(DIRECTORY))

    found = judge(lambda: open_log(disk, cache=1 << 16), size + 4096, CorruptionError, ForeignDirectoryError)

    if found is None:
        return
    blocks_found = all_blocks(found) if found.last_index else []
    assert blocks_found == was[: len(blocks_found)]
    if not found.is_faulty:
        blocks_found.append(append(found, b"more"))
        flush(found)
    disk.end_process()
    again = open_log(disk)
    assert (all_blocks(again) if again.last_index else []) == blocks_found
    assert (again.is_faulty, again.faulty_from) == (found.is_faulty, found.faulty_from)


# -- metadata ----------------------------------------------------------------------------------------------------------


def with_field(name: str, document: bytes) -> bytes:
    """The payload of metadata that says something strange of itself."""
    fields = {each: encode_msgpack(getattr(IDENTITY, each)) for each in IDENTITY.__struct_fields__}
    fields[name] = document
    return bytes([0x80 | len(fields)]) + b"".join(encode_msgpack(key) + value for key, value in fields.items())


NAMES = st.sampled_from([*IDENTITY.__struct_fields__, "unknown"])
PAYLOADS = DOCUMENTS | st.builds(with_field, NAMES, DOCUMENTS) | st.just(encode_msgpack(IDENTITY))
COPIES = st.none() | PAYLOADS.map(framed) | damaged(PAYLOADS.map(framed)) | st.binary(max_size=40)


@fuzz
@given(first=COPIES, second=COPIES, version=st.sampled_from([1, 1, 1, 2]))
def test_metadata_is_the_newest_sound_copy_or_refused_and_is_the_same_the_next_time(
    first: bytes | None, second: bytes | None, version: int
) -> None:
    disk = make_disk()
    for name, copy in zip(FILE_NAMES, (first, second), strict=True):
        if copy is not None:
            put(disk, f"{DIRECTORY}/{name}", copy if version == 1 else framed(copy, version))
    size = len(first or b"") + len(second or b"")

    found = judge(lambda: MetadataStore(disk, DIRECTORY).load(), size, CorruptionError, ForeignDirectoryError)

    if found is not None:
        disk.end_process()
        assert MetadataStore(disk, DIRECTORY).load() == found
