"""Records: a block to bytes and back, and every way in which bytes are not a record."""

import struct
import zlib
from collections.abc import Callable

import pytest

from copycat.errors import CorruptionError, ForeignDirectoryError, InvariantError, ProtocolError
from copycat.io.storage import Block
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import (
    BODY_BYTES_MAX,
    HEADER_BYTES,
    RecordError,
    RecordVersionError,
    decode_header,
    decode_record,
    decode_records,
    encode_record,
    record_bytes,
    verify_record,
)
from tests.io.storage.helpers import append, next_block

LIMIT = 1000
# Places in the header, and their layouts.
VERSION, FIRST_INDEX, COUNT, SYNCED_INDEX = (2, "<B"), (8, "<Q"), (16, "<I"), (44, "<Q")


def block_of(body: bytes = b"body", *, first_index: int = 7, count: int = 3, chain_before: int = 99) -> Block:
    block = next_block(MemoryLog(), body, count=count, term=5)
    block.first_index, block.chain_before = first_index, chain_before
    block.chain = zlib.crc32(body, chain_before)
    return block


def reheaded(record: bytes, place: tuple[int, str], value: int) -> bytes:
    """A record with one field of its header changed and the header's checksum made right again."""
    changed = bytearray(record)
    struct.pack_into(place[1], changed, place[0], value)
    struct.pack_into("<I", changed, HEADER_BYTES - 4, zlib.crc32(changed[: HEADER_BYTES - 4]))
    return bytes(changed)


@pytest.mark.parametrize("size", range(10))
def test_a_record_is_padded_to_eight_bytes_with_zeros_and_comes_back_whole(size: int) -> None:
    block = block_of(b"\xff" * size)
    record = encode_record(block, 4)
    end = HEADER_BYTES + size + 4
    assert len(record) == record_bytes(size) == (end + 7) // 8 * 8
    assert record[end:] == bytes(len(record) - end)
    assert decode_record(record, 0, LIMIT) == block
    assert decode_record(memoryview(b"12345" + record), 5, LIMIT) == block


def test_a_header_names_the_block_and_its_chain_only_once_the_body_is_verified() -> None:
    block = block_of(b"x" * 30)
    record = encode_record(block, 6)
    header = decode_header(record, 0, LIMIT)
    assert (header.first_index, header.last_index, header.count, header.term) == (7, 9, 3, 5)
    assert (header.kind, header.time, header.wall_ms) == (block.kind, block.time, block.wall_ms)
    assert (header.body_bytes, header.record_bytes, header.synced_index) == (30, len(record), 6)
    assert (header.chain_before, header.chain) == (99, 0)
    assert verify_record(record, 0, LIMIT).chain == block.chain


def test_a_block_has_the_size_of_its_body_and_ends_with_its_last_index() -> None:
    assert (block_of(b"12345").size, block_of(count=1).last_index, block_of(count=4).last_index) == (5, 7, 10)


@pytest.mark.parametrize(
    ("first_index", "count", "synced", "message"),
    [
        (0, 1, 0, "at least one index"),
        (7, 0, 0, "at least one index"),
        (7, 1, 7, "durable before it is written"),
        (7, 1, -1, "durable before it is written"),
    ],
)
def test_an_impossible_block_is_never_written(first_index: int, count: int, synced: int, message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        encode_record(block_of(first_index=first_index, count=count), synced)


def test_a_block_may_begin_the_log_and_everything_before_it_be_durable() -> None:
    block = block_of(first_index=1, count=1)
    assert decode_record(encode_record(block, 0), 0, LIMIT) == block
    assert decode_header(encode_record(block_of(first_index=7), 6), 0, LIMIT).synced_index == 6


def test_a_body_beyond_the_limit_is_never_written() -> None:
    assert BODY_BYTES_MAX == 64 * 1024 * 1024
    with pytest.raises(InvariantError, match="a block body is bounded"):
        encode_record(block_of(bytes(BODY_BYTES_MAX + 1)), 0)
    assert len(encode_record(block_of(bytes(BODY_BYTES_MAX)), 0)) == record_bytes(BODY_BYTES_MAX)


def test_a_body_up_to_the_readers_limit_is_read() -> None:
    record = encode_record(block_of(b"x" * 20), 0)
    assert decode_header(record, 0, 20).body_bytes == 20
    with pytest.raises(RecordError, match="exceeds the limit of 19"):
        decode_header(record, 0, 19)


@pytest.mark.parametrize(("place", "value"), [(FIRST_INDEX, 0), (COUNT, 0), (SYNCED_INDEX, 7), (SYNCED_INDEX, 8)])
def test_impossible_indices_are_no_record_although_the_checksum_is_right(place: tuple[int, str], value: int) -> None:
    with pytest.raises(RecordError, match="impossible indices"):
        decode_header(reheaded(encode_record(block_of(), 3), place, value), 0, LIMIT)


def test_a_sound_record_of_a_later_version_says_so() -> None:
    record = reheaded(encode_record(block_of(), 3), VERSION, 2)
    with pytest.raises(RecordVersionError, match="format version 2"):
        decode_header(record, 0, LIMIT)
    with pytest.raises(ProtocolError, match="format version 2"):
        decode_records(record, LIMIT)
    assert issubclass(RecordVersionError, ForeignDirectoryError)
    assert issubclass(RecordError, CorruptionError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record[: HEADER_BYTES - 1], "the header is cut short"),
        (lambda record: b"no" + record[2:], "no record begins here"),
        (lambda record: record[:20] + b"\xff" + record[21:], "the header checksum differs"),
        (lambda record: record[:-1], "the body is cut short"),
        (lambda record: record[:HEADER_BYTES] + b"x" + record[HEADER_BYTES + 1 :], "the checksum of block 7 differs"),
        (lambda record: record[:-1] + b"\x01", "the padding of block 7 is not zero"),
    ],
)
def test_what_is_wrong_with_a_record_is_told(change: Callable[[bytes], bytes], message: str) -> None:
    record = encode_record(block_of(b"12345"), 3)
    with pytest.raises(RecordError, match=f"record at byte 0: .*{message}"):
        verify_record(change(record), 0, LIMIT)


def test_the_first_byte_of_the_padding_counts_too() -> None:
    record = bytearray(encode_record(block_of(b"12345"), 3))
    record[HEADER_BYTES + 5 + 4] = 1
    with pytest.raises(RecordError, match="padding"):
        verify_record(bytes(record), 0, LIMIT)


def test_a_header_may_end_the_bytes() -> None:
    assert decode_header(encode_record(block_of(), 3)[:HEADER_BYTES], 0, LIMIT).first_index == 7


# -- runs from peers -------------------------------------------------------------------------------------------------


def run_of(*changes: tuple[str, int]) -> bytes:
    """Two blocks that follow one another but for a change of the second."""
    log = MemoryLog()
    first = append(log, b"one", count=2, term=3)
    second = next_block(log, b"two")
    for name, value in changes:
        setattr(second, name, value)
    second.chain = zlib.crc32(second.body, second.chain_before)
    return encode_record(first, 0) + encode_record(second, 0)


def test_a_run_of_blocks_that_follow_is_read_whole() -> None:
    assert [block.body for block in decode_records(run_of(), LIMIT)] == [b"one", b"two"]
    assert [block.term for block in decode_records(run_of(("term", 4)), LIMIT)] == [3, 4]
    assert decode_records(b"", LIMIT) == []


@pytest.mark.parametrize("change", [("first_index", 2), ("first_index", 4), ("chain_before", 1), ("term", 2)])
def test_a_run_whose_blocks_do_not_follow_is_refused(change: tuple[str, int]) -> None:
    with pytest.raises(ProtocolError, match="does not follow its predecessor"):
        decode_records(run_of(change), LIMIT)


def test_any_changed_byte_of_a_run_from_a_peer_is_refused() -> None:
    log = MemoryLog()
    blocks = [append(log, b"one"), append(log, b"twotwo")]
    run, _ = log.read_records(1, 2, 1 << 20)
    assert decode_records(run, 100) == blocks
    assert decode_records(memoryview(run), 100) == blocks
    for position in range(len(run)):
        changed = bytearray(run)
        changed[position] ^= 0x10
        with pytest.raises(ProtocolError):
            decode_records(bytes(changed), 100)
        if position:
            with pytest.raises(ProtocolError):
                decode_records(run[: position if position != record_bytes(3) else position - 1], 100)
    with pytest.raises(ProtocolError):
        decode_records(run, 4)
