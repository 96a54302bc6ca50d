"""Segment files: their headers, names, birth, and the zeros written ahead."""

import errno
import random
import struct
import zlib

import pytest

from copycat.errors import CorruptionError, ForeignDirectoryError, InvariantError
from copycat.io.storage.segment import (
    FORMAT_VERSION,
    MAGIC,
    PREWRITE_HIGH_BYTES,
    PREWRITE_LOW_BYTES,
    PREWRITE_STEP_BYTES,
    SEGMENT_HEADER_BYTES,
    Segment,
    SegmentHeader,
    decode_segment_header,
    parse_segment_file_name,
    segment_file_name,
)
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import DIRECTORY, WatchedDisk, make_disk

HEADER = SegmentHeader(
    generation=3,
    first_index=8,
    previous_term=5,
    chain=77,
    synced_index=7,
    faulty_from=6,
    cluster_id=b"c" * 16,
    previous_time=9,
    voids_older=True,
)


def segment_on(disk: FaultyDisk) -> Segment:
    return Segment(disk, DIRECTORY, "log", HEADER, SEGMENT_HEADER_BYTES)


def created(disk: FaultyDisk, records: bytes = b"") -> Segment:
    segment = segment_on(disk)
    segment.create(records)
    return segment


# -- headers and names -----------------------------------------------------------------------------------------------


def test_a_header_has_the_layout_of_the_reference_and_fills_a_page() -> None:
    head = struct.pack("<8sIIQQQQQ16sQI", b"COPYCATL", 1, 77, 3, 8, 5, 7, 6, b"c" * 16, 9, 1)
    data = HEADER.encode()
    assert (MAGIC, FORMAT_VERSION, SEGMENT_HEADER_BYTES) == (b"COPYCATL", 1, 4096)
    assert data == (head + struct.pack("<I", zlib.crc32(head))).ljust(4096, b"\0")
    assert decode_segment_header(data, "path") == HEADER


def test_a_header_before_the_cluster_is_formed_and_of_a_sound_log_says_so() -> None:
    header = SegmentHeader(generation=1, first_index=1, previous_term=0, chain=0, synced_index=0)
    found = decode_segment_header(header.encode(), "path")
    assert found == header
    assert (found.faulty_from, found.cluster_id) == (0, b"")


@pytest.mark.parametrize("size", [1, 15, 17])
def test_a_cluster_id_has_16_bytes_or_none(size: int) -> None:
    header = SegmentHeader(
        generation=1, first_index=1, previous_term=0, chain=0, synced_index=0, cluster_id=bytes(size)
    )
    with pytest.raises(InvariantError, match="a cluster id has 16 bytes"):
        header.encode()


def test_a_header_that_is_short_or_changed_anywhere_is_damaged() -> None:
    data = HEADER.encode()
    with pytest.raises(CorruptionError, match="path: the segment header is cut short"):
        decode_segment_header(data[:-1], "path")
    for position in range(88):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(CorruptionError, match="path: the segment header is damaged"):
            decode_segment_header(bytes(changed), "path")


@pytest.mark.parametrize("version", [0, 2])
def test_a_sound_header_of_another_version_is_foreign(version: int) -> None:
    head = struct.pack("<8sIIQQQQQ16sQI", MAGIC, version, 77, 3, 8, 5, 7, 6, b"c" * 16, 9, 1)
    data = (head + struct.pack("<I", zlib.crc32(head))).ljust(4096, b"\0")
    with pytest.raises(ForeignDirectoryError, match=f"path: format version {version}"):
        decode_segment_header(data, "path")


def test_a_sound_header_of_another_kind_of_file_is_damaged() -> None:
    head = struct.pack("<8sIIQQQQQ16sQI", b"COPYCATM", 1, 77, 3, 8, 5, 7, 6, b"c" * 16, 9, 1)
    data = (head + struct.pack("<I", zlib.crc32(head))).ljust(4096, b"\0")
    with pytest.raises(CorruptionError, match="damaged"):
        decode_segment_header(data, "path")


def test_a_file_name_tells_generation_and_first_index() -> None:
    name = segment_file_name("my.log", 3, 8)
    assert name == "my.log-00000003-00000000000000000008.log"
    assert parse_segment_file_name("my.log", name) == (3, 8)
    assert parse_segment_file_name("my.log", segment_file_name("my.log", 10**9, 1)) == (10**9, 1)


@pytest.mark.parametrize(
    "name",
    [
        "myxlog-00000003-00000000000000000008.log",
        "my.log-00000003-00000000000000000008.log.tmp",
        "my.log-00000003-00000000000000000008.torn",
        "my.log-0000003-00000000000000000008.log",
        "my.log-00000003-8.log",
        "other-00000003-00000000000000000008.log",
    ],
)
def test_other_file_names_are_none_of_the_logs(name: str) -> None:
    assert parse_segment_file_name("my.log", name) is None


# -- birth -----------------------------------------------------------------------------------------------------------


def test_a_segment_is_under_its_name_only_once_all_of_it_is_durable() -> None:
    for stop in range(5):
        disk = make_disk()
        segment = segment_on(disk)
        disk.stop_after = stop
        with pytest.raises(PowerFailure):
            segment.create(b"records")
        disk.crash(random.Random(stop), kept=1.0)
        if disk.exists(segment.path):
            assert disk.contents(segment.path) == HEADER.encode() + b"records"
    disk = make_disk()
    segment = created(disk, b"records")
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(segment.path) == HEADER.encode() + b"records"
    assert disk.list(DIRECTORY) == [segment_file_name("log", 3, 8)]


def test_a_segment_that_could_not_be_born_is_closed_and_cannot_be_used() -> None:
    disk = WatchedDisk()
    segment = segment_on(disk)
    disk.fail_syncs = True
    with pytest.raises(OSError, match="Input/output"):
        segment.create()
    assert len(disk.opened) == 1
    assert disk.all_closed()
    with pytest.raises(InvariantError, match="written before it was created"):
        segment.write(SEGMENT_HEADER_BYTES, b"x")
    with pytest.raises(InvariantError, match="synced before it was created"):
        segment.sync()


# -- writing and zeros -----------------------------------------------------------------------------------------------


def test_records_are_written_where_they_are_planned_and_durable_once_synced() -> None:
    disk = make_disk()
    segment = created(disk)
    segment.write(SEGMENT_HEADER_BYTES, b"abc")
    segment.sync()
    segment.write(SEGMENT_HEADER_BYTES + 3, b"lost")
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(segment.path)[SEGMENT_HEADER_BYTES:] == b"abc"


def test_the_room_ahead_is_counted_from_the_planned_end() -> None:
    disk = make_disk()
    segment = segment_on(disk)
    assert segment.room_ahead() is None
    segment.create(b"12345")
    assert segment.room_ahead() == 5
    segment.end += 5
    assert segment.room_ahead() == 0
    segment.write(segment.end, b"678")
    segment.end += 3
    assert segment.room_ahead() == 0
    segment.prewrite(segment.end + 1000)
    assert segment.room_ahead() == 1000
    segment.write(segment.end, bytes(100))
    assert segment.room_ahead() == 1000
    segment.end += 100
    assert segment.room_ahead() == 900
    segment.close()
    assert segment.room_ahead() is None


def test_zeros_are_real_writes_in_steps_each_synced_before_the_next() -> None:
    assert (PREWRITE_LOW_BYTES, PREWRITE_STEP_BYTES, PREWRITE_HIGH_BYTES) == (1 << 20, 1 << 20, 4 << 20)
    disk = make_disk()
    segment = created(disk)
    done: list[str] = []
    disk.delay = done.append
    segment.prewrite(SEGMENT_HEADER_BYTES + 2 * PREWRITE_STEP_BYTES + 5)
    assert done == ["open", *["write", "sync"] * 3]
    assert len(disk.contents(segment.path)) == SEGMENT_HEADER_BYTES + 2 * PREWRITE_STEP_BYTES + 5
    disk.crash(random.Random(0), kept=0.0)
    assert disk.contents(segment.path)[SEGMENT_HEADER_BYTES:] == bytes(2 * PREWRITE_STEP_BYTES + 5)


def test_zeros_go_behind_what_was_written_meanwhile() -> None:
    disk = make_disk()
    segment = created(disk)
    segment.write(SEGMENT_HEADER_BYTES, b"abc")
    segment.prewrite(SEGMENT_HEADER_BYTES + 2)
    segment.prewrite(SEGMENT_HEADER_BYTES + 3)
    segment.prewrite(SEGMENT_HEADER_BYTES + 6)
    assert disk.contents(segment.path)[SEGMENT_HEADER_BYTES:] == b"abc\0\0\0"


def test_a_full_disk_ends_a_prewrite_quietly_and_a_broken_one_does_not() -> None:
    disk = make_disk()
    segment = created(disk)
    disk.free_bytes = 100
    segment.prewrite(SEGMENT_HEADER_BYTES + 1000)
    assert segment.room_ahead() == 0
    disk.free_bytes = None
    disk.fail_syncs = True
    with pytest.raises(OSError) as caught:
        segment.prewrite(SEGMENT_HEADER_BYTES + 1000)
    assert caught.value.errno == errno.EIO
    disk.fail_syncs = False
    segment.write(SEGMENT_HEADER_BYTES, b"the flush's own handle knows nothing of it")
    segment.sync()


def test_a_prewrite_has_a_handle_of_its_own_and_closes_it() -> None:
    disk = WatchedDisk()
    segment = created(disk)
    disk.opened.clear()
    segment.prewrite(SEGMENT_HEADER_BYTES + 10)
    disk.fail_syncs = True
    with pytest.raises(OSError, match="Input/output"):
        segment.prewrite(SEGMENT_HEADER_BYTES + 20)
    assert len(disk.opened) == 2
    assert disk.all_closed()


def test_a_segment_not_yet_born_or_closed_is_not_prewritten() -> None:
    disk = make_disk()
    segment = segment_on(disk)
    before = disk.operations
    segment.prewrite(SEGMENT_HEADER_BYTES + 10)
    assert disk.operations == before
    segment.create()
    segment.close()
    segment.close()
    before = disk.operations
    segment.prewrite(SEGMENT_HEADER_BYTES + 10)
    assert disk.operations == before


def test_a_segment_closed_in_the_middle_of_a_prewrite_ends_it() -> None:
    disk = make_disk()
    segment = created(disk)
    done: list[str] = []
    disk.delay = done.append
    file = disk.open(segment.path)
    assert segment._prewrite_step(file, SEGMENT_HEADER_BYTES + 2 * PREWRITE_STEP_BYTES)
    segment.close()
    assert not segment._prewrite_step(file, SEGMENT_HEADER_BYTES + 2 * PREWRITE_STEP_BYTES)
    assert done == ["open", "write", "sync"]
