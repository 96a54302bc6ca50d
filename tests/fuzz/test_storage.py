"""Whatever a disk gives back: what was written or less of it, or a documented error; and the next opening agrees."""

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import CorruptionError, ForeignDirectoryError
from copycat.io.storage import Block
from copycat.io.storage.base import ORIGIN, LogBase
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
from copycat.io.storage.snapshot_file import SnapshotHeader, open_snapshot
from copycat.raft.protocol.wire import encode_msgpack
from tests.fuzz.support import DOCUMENTS, TIMEOUT, damaged, fuzz, judge
from tests.fuzz.targets import IDENTITY, SNAPSHOT_PATHS, framed, put, read_snapshot, sealed_snapshot
from tests.io.storage.helpers import (
    DIRECTORY,
    WALL_MS,
    all_blocks,
    append,
    flush,
    make_disk,
    open_log,
    open_snapshots,
    snapshot_bytes,
    snapshot_header,
)

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
    lambda generation, first, term, chain, synced, faulty, time, voids: SegmentHeader(
        generation, first, term, chain, synced, faulty, b"c" * 16, time, voids
    ).encode(),
    *(st.integers(0, 2**bits - 1) for bits in (64, 64, 64, 32, 64, 64, 64)),
    st.booleans(),
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


PLACES = st.none() | st.integers(0, 7)


@fuzz
@given(data=st.data(), blocks=LOGS, covered=PLACES, discarded=PLACES, reset=st.booleans(), reopened=st.booleans())
def test_a_log_and_its_snapshot_on_a_rotten_disk_open_with_a_run_of_what_was_written_and_stay_so(
    data: st.DataObject,
    blocks: list[tuple[bytes, bool]],
    covered: int | None,
    discarded: int | None,
    reset: bool,
    reopened: bool,
) -> None:
    """As above, with a base: of a snapshot below the end or beyond it, and with segments discarded or void."""
    disk = make_disk()
    log = open_log(disk, segment=4096 + 200)
    base = ORIGIN
    for place, (body, flushed) in enumerate(blocks):
        append(log, body)
        if flushed:
            flush(log)
        if place == covered:
            base = LogBase(log.last_index, log.last_term, log.last_chain, log.last_time)
        if place == discarded:
            log.discard_before(base.index + 1)
            if (job := log.take_discard()) is not None:
                job.run()
                log.discarded(job)
    if reset:
        base = LogBase(100, 3, 4711, 500)
        log.reset(base)
        append(log, b"behind")
        flush(log)
    was = {block.first_index: block for block in all_blocks(log)}
    if reopened:
        disk.end_process()
        open_log(disk, base=base)
    disk.end_process()
    paths = [f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY) if name.endswith(".log")]
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=2) if paths else st.just([])):
        rot = damaged(st.just(disk.contents(path))) | damaged(RECORDS) | st.binary(max_size=80)
        put(disk, path, data.draw(rot))
    size = sum(len(disk.contents(f"{DIRECTORY}/{name}")) for name in disk.list(DIRECTORY))

    found = judge(lambda: open_log(disk, cache=1 << 16, base=base), size + 4096, CorruptionError, ForeignDirectoryError)

    if found is None:
        return
    blocks_found = all_blocks(found)
    assert blocks_found == [was[block.first_index] for block in blocks_found]
    assert found.base.index <= base.index <= found.last_index
    assert [block.first_index for block in blocks_found] == list(range(found.first_index, found.last_index + 1))
    if not found.is_faulty:
        blocks_found.append(append(found, b"more", term=5))
        flush(found)
    disk.end_process()
    again = open_log(disk, base=base)
    assert (all_blocks(again), again.base) == (blocks_found, found.base)
    assert (again.is_faulty, again.faulty_from) == (found.is_faulty, found.faulty_from)


# -- snapshots ---------------------------------------------------------------------------------------------------------

HEADERS = st.builds(
    SnapshotHeader,
    index=st.integers(1, 2**63 - 1),
    term=st.integers(1, 2**63 - 1),
    chain=st.integers(0, 2**32 - 1),
    time=st.integers(0, 2**63 - 1),
    cluster_id=st.just(b"") | st.just(b"c" * 16),
    configuration=st.binary(max_size=40),
    configuration_index=st.just(0) | st.just(1),
)
SNAPSHOTS = st.builds(snapshot_bytes, HEADERS, st.lists(st.binary(min_size=1, max_size=40), max_size=5))


@fuzz
@given(header=HEADERS, chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_a_snapshot_comes_back_as_it_was(header: SnapshotHeader, chunks: list[bytes]) -> None:
    data = snapshot_bytes(header, chunks)
    assert read_snapshot(data) == chunks
    disk = make_disk()
    put(disk, f"{DIRECTORY}/snapshot", data)
    assert open_snapshot(disk, f"{DIRECTORY}/snapshot").header == header


@fuzz
@given(data=st.data(), sound=SNAPSHOTS)
def test_a_snapshot_is_read_as_it_was_written_or_said_to_be_damaged(data: st.DataObject, sound: bytes) -> None:
    rotten = data.draw(damaged(st.just(sound)) | st.binary(max_size=80))
    found = judge(lambda: read_snapshot(rotten), len(rotten), CorruptionError, ForeignDirectoryError)
    assert (found is not None) == (rotten == sound)


@fuzz
@given(payload=DOCUMENTS | damaged(HEADERS.map(encode_msgpack)))
def test_a_snapshot_that_says_something_strange_of_itself_is_said_to_be_damaged(payload: bytes) -> None:
    data = sealed_snapshot(payload)
    judge(lambda: read_snapshot(data), len(data), CorruptionError, ForeignDirectoryError)


@fuzz
@given(data=st.data())
def test_the_newest_of_snapshots_on_a_rotten_disk_is_sound_or_they_are_refused_and_so_it_stays(
    data: st.DataObject,
) -> None:
    disk = make_disk()
    files = [snapshot_bytes(snapshot_header(index), [bytes([index])]) for index in (5, 9)]
    for path, file in zip(SNAPSHOT_PATHS, files, strict=True):
        put(disk, path, data.draw(st.just(file) | damaged(st.just(file)) | SNAPSHOTS))
    size = sum(len(disk.contents(path)) for path in SNAPSHOT_PATHS)

    found = judge(lambda: open_snapshots(disk).newest(), size, CorruptionError, ForeignDirectoryError)

    disk.end_process()
    if found is not None:
        assert disk.contents(found.path) in files
        again = open_snapshots(disk).newest()
        assert again is not None
        assert again.header == found.header


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
