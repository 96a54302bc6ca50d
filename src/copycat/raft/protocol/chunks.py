"""The records of a snapshot as bytes: chunks of some size, each a MessagePack array that is read by itself.

A record that is larger than a chunk should be travels in pieces: [PIECE, bytes, whether more follow].

Source: protocol §8.4, §10.11.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import UNREADABLE
from copycat.raft.protocol.wire import encode_msgpack, join_array

CHUNK_BYTES: Final = 64 << 10
"""A chunk ends when it is larger: some hundred microseconds of work, so that it can be made between two turns."""

PIECE_BYTES: Final = 256 << 10
"""What a record may be, or else is cut to: so no chunk is larger than both together, and a little."""

PIECE: Final = 0  # in the place of a record's kind

_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode
_decode_record = msgspec.msgpack.Decoder(list[Any]).decode


def encode_chunks(records: Iterable[list[Any]], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Chunks of `chunk_bytes` to 256 KiB more, the last one of 1 byte or more; each is made when it is asked for."""
    waiting: list[bytes] = []
    size = 0
    for record in records:
        for encoded in _encode(record):
            waiting.append(encoded)
            size += len(encoded)
            if size >= chunk_bytes:
                yield join_array(waiting)
                waiting, size = [], 0
    if waiting:
        yield join_array(waiting)


def decode_chunks(chunks: Iterable[bytes]) -> Iterator[list[Any]]:
    """The records of these chunks, as they come. Raises ProtocolError."""
    pieces: list[bytes] = []
    for chunk in chunks:
        for record in _read(_decode, chunk):
            if record[:1] != [PIECE]:
                if pieces:
                    raise ProtocolError("a record of a snapshot lacks its last piece")
                yield record
                continue
            if len(record) != 3 or type(record[1]) is not bytes or type(record[2]) is not bool:
                raise ProtocolError("a piece of a snapshot's record is not bytes and whether more follow")
            pieces.append(record[1])
            if not record[2]:
                whole, pieces = b"".join(pieces), []
                yield _read(_decode_record, whole)
    if pieces:
        raise ProtocolError("the last record of a snapshot lacks its last piece")


def _encode(record: list[Any]) -> Iterator[bytes]:
    """One record, whole or in pieces."""
    encoded = encode_msgpack(record)
    if len(encoded) <= PIECE_BYTES:
        yield encoded
        return
    for start in range(0, len(encoded), PIECE_BYTES):
        end = start + PIECE_BYTES
        yield encode_msgpack([PIECE, encoded[start:end], end < len(encoded)])


def _read(decode: Any, data: bytes) -> list[Any]:
    try:
        read: list[Any] = decode(data)
    except UNREADABLE as error:
        raise ProtocolError(f"{len(data)} bytes of a snapshot cannot be read: {error}") from None
    return read
