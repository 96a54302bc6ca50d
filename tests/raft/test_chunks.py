"""The bytes of a snapshot's records: chunks that are read by themselves, and records larger than a chunk."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import ProtocolError
from copycat.raft.protocol.chunks import CHUNK_BYTES, PIECE, PIECE_BYTES, decode_chunks, encode_chunks
from copycat.raft.protocol.wire import encode_msgpack

HEAD_BYTES = 16  # of a piece and of a chunk

sizes = st.sampled_from([0, 1, 5_000, CHUNK_BYTES - 8, CHUNK_BYTES, PIECE_BYTES - 8, PIECE_BYTES, 2 * PIECE_BYTES + 3])


@given(st.lists(sizes, max_size=8))
def test_records_of_any_size_come_back_from_chunks_of_bounded_size(lengths: list[int]) -> None:
    records: list[list[Any]] = [[number + 1, bytes(length), "text"] for number, length in enumerate(lengths)]
    chunks = list(encode_chunks(records))

    assert list(decode_chunks(chunks)) == records
    assert all(len(chunk) >= CHUNK_BYTES for chunk in chunks[:-1])
    assert all(0 < len(chunk) < CHUNK_BYTES + PIECE_BYTES + HEAD_BYTES for chunk in chunks)


def test_a_chunk_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []

    def records() -> Any:
        for number in range(1, 1000):
            made.append(number)
            yield [number, bytes(1000)]

    chunks = encode_chunks(records())
    assert made == []
    next(chunks)
    assert len(made) == CHUNK_BYTES // 1000 + 1


def test_a_chunk_can_be_read_without_those_before_it() -> None:
    chunks = list(encode_chunks([number, bytes(1000)] for number in range(1, 200)))

    (first, _), *_ = decode_chunks(chunks[1:])
    assert first == CHUNK_BYTES // 1000 + 2


@pytest.mark.parametrize(
    "records",
    [
        [[PIECE, b"\x91", True]],
        [[PIECE, b"\x91", True], [1, 2]],
        [[PIECE, b"\xc1", False]],
        [[PIECE, "text", False]],
        [[PIECE, b"\x90"]],
        [1],
        {"a": 1},
    ],
)
def test_chunks_that_cannot_be_read_are_protocol_errors(records: Any) -> None:
    with pytest.raises(ProtocolError):
        list(decode_chunks([encode_msgpack(records)]))


@given(st.binary(max_size=50))
def test_any_bytes_are_records_or_a_protocol_error(data: bytes) -> None:
    try:
        records = list(decode_chunks([data]))
    except ProtocolError:
        return
    assert all(type(record) is list for record in records)
