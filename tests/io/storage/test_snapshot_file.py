"""The bytes of a snapshot file, and what a reader makes of any others."""

import errno
import hashlib
import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest

from copycat.errors import CorruptionError, ForeignDirectoryError, InvariantError, LogError
from copycat.io.storage.base import LogBase
from copycat.io.storage.snapshot_file import (
    CHUNK_BYTES_MAX,
    END_BYTES,
    FILE_BYTES_MIN,
    PAYLOAD_BYTES_MAX,
    SnapshotEncoder,
    SnapshotFile,
    open_snapshot,
    parse_snapshot_file_name,
    snapshot_file_name,
)
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    CHUNKS,
    DIRECTORY,
    WatchedDisk,
    make_disk,
    put_file,
    snapshot_bytes,
    snapshot_header,
)

PATH = f"{DIRECTORY}/snapshot"
HEADER = snapshot_header(41, term=3)


def opened(data: bytes) -> SnapshotFile:
    disk = make_disk()
    put_file(disk, PATH, data)
    return open_snapshot(disk, PATH)


def read(data: bytes) -> list[bytes]:
    return list(opened(data).chunks())


# -- layout ------------------------------------------------------------------------------------------------------------


def test_a_file_has_the_layout_of_the_reference() -> None:
    payload = msgspec.msgpack.encode(
        {
            "index": 41,
            "term": 3,
            "chain": HEADER.chain,
            "time": HEADER.time,
            "cluster_id": HEADER.cluster_id,
            "configuration": HEADER.configuration,
            "configuration_index": HEADER.configuration_index,
        }
    )
    data = struct.pack("<8sII", b"COPYCATS", 1, len(payload)) + payload
    data += struct.pack("<I", zlib.crc32(data))
    for chunk in CHUNKS:
        data += struct.pack("<II", len(chunk), zlib.crc32(chunk)) + chunk
    data += struct.pack("<IQQ", 0, len(CHUNKS), len(data) + 36)
    data += hashlib.blake2b(data, digest_size=16).digest()
    assert snapshot_bytes(HEADER) == data
    assert (END_BYTES, FILE_BYTES_MIN, CHUNK_BYTES_MAX, PAYLOAD_BYTES_MAX) == (36, 56, 1 << 20, 1 << 20)


def test_what_was_written_is_read() -> None:
    for chunks in (CHUNKS, [], [b"x"], [bytes(CHUNK_BYTES_MAX)]):
        data = snapshot_bytes(HEADER, chunks)
        file = opened(data)
        assert (file.path, file.header, file.size) == (PATH, HEADER, len(data))
        assert list(file.chunks()) == chunks
        file.verify()
    assert HEADER.base == LogBase(41, 3, HEADER.chain, HEADER.time)


def test_a_file_is_sent_as_it_is_by_offset() -> None:
    data = snapshot_bytes(HEADER)
    file = opened(data)
    assert b"".join(file.read(offset, 100) for offset in range(0, len(data), 100)) == data
    assert (file.read(len(data) - 3, 100), file.read(len(data), 5), file.read(len(data) + 9, 5)) == (
        data[-3:],
        b"",
        b"",
    )
    with pytest.raises(InvariantError, match="a file is read within itself"):
        file.read(-1, 5)


def test_a_file_that_was_removed_says_where_to_go_on() -> None:
    disk = make_disk()
    put_file(disk, PATH, snapshot_bytes(HEADER))
    file = open_snapshot(disk, PATH)
    disk.remove(PATH)
    for read_it in (file.verify, file.reader, lambda: file.read(0, 1)):
        with pytest.raises(LogError, match="was removed, for there are newer ones: begin again with the newest"):
            read_it()


def test_a_file_that_is_being_sent_can_be_read_to_its_end_although_it_was_removed() -> None:
    disk = WatchedDisk()
    data = snapshot_bytes(HEADER)
    put_file(disk, PATH, data)
    reader = open_snapshot(disk, PATH).reader()
    sent = reader.read(0, 100)
    disk.remove(PATH)
    assert sent + reader.read(100, reader.size) == data
    reader.close()
    assert disk.all_closed()


def test_the_encoder_counts_what_it_made_and_refuses_what_no_reader_takes() -> None:
    encoder = SnapshotEncoder(HEADER)
    made = encoder.chunk(b"one") + encoder.chunk(b"two")
    assert encoder.size == len(made)
    made += encoder.end()
    assert encoder.size == len(made)
    assert made == snapshot_bytes(HEADER, [b"one", b"two"])
    for chunk in (b"", bytes(CHUNK_BYTES_MAX + 1)):
        with pytest.raises(InvariantError, match="a chunk of a snapshot is bounded"):
            SnapshotEncoder(HEADER).chunk(chunk)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 0},
        {"index": 2**63},
        {"term": 0},
        {"term": 2**63},
        {"chain": -1},
        {"chain": 2**32},
        {"time": -1},
        {"time": 2**63},
        {"cluster_id": bytes(15)},
        {"configuration_index": -1},
        {"configuration_index": 42},
    ],
)
def test_a_header_out_of_its_ranges_is_neither_written_nor_read(change: dict[str, object]) -> None:
    header = msgspec.structs.replace(HEADER, **change)
    with pytest.raises(InvariantError, match="a snapshot's header is in its ranges"):
        header.encode()
    payload = msgspec.msgpack.encode(header)
    with pytest.raises(CorruptionError, match=f"{PATH} at byte 16: the header is impossible: "):
        opened(sealed(payload))


def sealed(payload: bytes, *, magic: bytes = b"COPYCATS", version: int = 1) -> bytes:
    """A header whose checksum is right, whatever it says."""
    head = struct.pack("<8sII", magic, version, len(payload)) + payload
    return head + struct.pack("<I", zlib.crc32(head))


def test_a_configuration_has_its_limit() -> None:
    with pytest.raises(InvariantError, match="a snapshot's header is small"):
        msgspec.structs.replace(HEADER, configuration=bytes(PAYLOAD_BYTES_MAX)).encode()


def test_file_names_tell_index_and_term() -> None:
    name = snapshot_file_name("my.log", 41, 3)
    assert name == "my.log-00000000000000000041-3.snapshot"
    assert parse_snapshot_file_name("my.log", name) == (41, 3)
    for other in ("my.log", "log", "my-log"):
        assert (parse_snapshot_file_name(other, name) is None) == (other != "my.log")
    for wrong in (name + ".tmp", name.replace("-3", ""), name.replace("00041", "41"), "x" + name):
        assert parse_snapshot_file_name("my.log", wrong) is None


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_bit_flipped_anywhere_is_damage_with_a_place() -> None:
    data = snapshot_bytes(HEADER, [b"one", b"a second chunk"])
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(
            (CorruptionError, ForeignDirectoryError), match=PATH + (" at byte" if position != 8 else "")
        ):
            read(bytes(changed))


def test_a_file_cut_anywhere_or_continued_is_damage() -> None:
    data = snapshot_bytes(HEADER, [b"one", b"a second chunk"])
    for end in range(len(data)):
        with pytest.raises(CorruptionError, match=f"{PATH} at byte"):
            read(data[:end])
    with pytest.raises(CorruptionError, match="the end mark speaks of"):
        read(data + b"\0")


@pytest.mark.parametrize(
    "change", [lambda chunks: chunks[::-1], lambda chunks: chunks[1:], lambda chunks: [*chunks, chunks[-1]]]
)
def test_sound_chunks_in_another_order_missing_or_repeated_are_damage(
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    frames = [struct.pack("<II", len(chunk), zlib.crc32(chunk)) + chunk for chunk in (b"one", b"two", b"six")]
    data = snapshot_bytes(HEADER, [b"one", b"two", b"six"])
    head, mark = len(HEADER.encode()), data[-END_BYTES:]
    with pytest.raises(CorruptionError, match=r"the end mark speaks of|the digest of the whole snapshot differs"):
        read(data[:head] + b"".join(change(frames)) + mark)


def test_an_announced_length_asks_for_no_memory() -> None:
    head = HEADER.encode()
    for length in (CHUNK_BYTES_MAX + 1, 2**32 - 1, 5):
        with pytest.raises(CorruptionError, match=f"a chunk of {length} bytes cannot be"):
            read(head + struct.pack("<II", length, 0) + b"four")
    for length in (PAYLOAD_BYTES_MAX + 1, 2**32 - 1, 200):
        with pytest.raises(CorruptionError, match=f"a header of {length} bytes cannot be"):
            opened(struct.pack("<8sII", b"COPYCATS", 1, length) + bytes(100))


def test_a_header_that_says_nothing_known_is_damage_and_a_later_format_foreign() -> None:
    with pytest.raises(CorruptionError, match="this is not a snapshot"):
        opened(sealed(b"", magic=b"COPYCATL"))
    with pytest.raises(CorruptionError, match="the header cannot be read"):
        opened(sealed(b"\xc1"))
    with pytest.raises(ForeignDirectoryError, match="format version 2; this release knows 1"):
        opened(sealed(b"", version=2))


def test_a_place_that_the_disk_cannot_read_is_damage_and_other_errors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = make_disk()
    put_file(disk, PATH, snapshot_bytes(HEADER))
    file = open_snapshot(disk, PATH)
    for code, expected in ((errno.EIO, CorruptionError), (errno.ESTALE, OSError)):

        def fail(self: object, offset: int, size: int, code: int = code) -> bytes:
            raise OSError(code, "no")

        monkeypatch.setattr(type(disk.open(PATH)), "read", fail)
        with pytest.raises(expected):
            file.verify()


def test_a_file_that_shrinks_while_it_is_read_is_damage() -> None:
    """Only under another's hands, but then too."""

    class Shrinking(FaultyDisk):
        def open(self, path: str, *, create: bool = False):  # type: ignore[no-untyped-def]  # a file that lies
            file = super().open(path, create=create)
            file.size = lambda: len(data)  # type: ignore[method-assign]  # which is the lie
            return file

    data = snapshot_bytes(HEADER)
    for end in range(len(data)):
        disk = Shrinking()
        disk.make_directory(DIRECTORY)
        put_file(disk, PATH, data[:end])
        with pytest.raises(CorruptionError, match=f"{PATH} at byte"):
            open_snapshot(disk, PATH).verify()
