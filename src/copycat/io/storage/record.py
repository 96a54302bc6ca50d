"""Blocks and the records that carry them on disk and on the wire.

A *block* is the commands of one turn: one term, one log time, one checksum, `count` consecutive indices. A *record*
is its frame. Two checksums tell two stories: a sound header over a bad body still names the block that was lost.

    header  magic u16 | version u8 | kind u8 | body length u32 | first index u64 | count u32 | term u64 | time u64
            | wall time u64 | synced index u64 | chain before u32 | header crc32 u32      (little endian, 60 bytes)
    body
    chain after u32, then zeros up to a multiple of 8

`chain` is zlib.crc32 continued over all bodies of the log, so equal chains at an index mean equal logs below it.
`synced_index` is the highest index its writer knew durable; it belongs to the writer's disk and means nothing
to a peer.

Source: protocol §1.1, §1.2, §10.3.
"""

import struct
import zlib

import msgspec

from copycat.errors import CorruptionError, ForeignDirectoryError, ProtocolError, broken

MAGIC = 0xC7CA
MAGIC_BYTES = MAGIC.to_bytes(2, "little")
FORMAT_VERSION = 1
ALIGNMENT_BYTES = 8
BODY_BYTES_MAX = 64 << 20  # far above any block; only keeps a rotten length from asking for gigabytes

_HEADER = struct.Struct("<HBBIQIQQQQII")
_CHAIN = struct.Struct("<I")
_CHECKED_BYTES = _HEADER.size - 4  # the header checksum covers everything before itself
HEADER_BYTES = _HEADER.size
_PADDING = [bytes(size) for size in range(ALIGNMENT_BYTES)]

Buffer = bytes | memoryview


class RecordError(CorruptionError):
    """The bytes at this place are not a whole, sound record."""


class RecordVersionError(ForeignDirectoryError):
    """A sound record of a format version this release does not know."""


class Block(msgspec.Struct, gc=False):
    """The commands of one turn, stored, replicated and truncated whole.

    `time` is log time in milliseconds; `wall_ms` what the leader's wall clock showed, in milliseconds since 1970, for
    people to read; `chain` is zlib.crc32(body, chain_before).
    """

    first_index: int
    count: int
    term: int
    kind: int
    time: int
    wall_ms: int
    chain_before: int
    chain: int
    body: bytes

    @property
    def last_index(self) -> int:
        return self.first_index + self.count - 1

    @property
    def size(self) -> int:
        """The bytes of the body."""
        return len(self.body)


class Header(msgspec.Struct, gc=False):
    """A decoded record header. `chain` is the chain after the body: 0 until the body has been verified."""

    kind: int
    body_bytes: int
    first_index: int
    count: int
    term: int
    time: int
    wall_ms: int
    synced_index: int
    chain_before: int
    chain: int = 0

    @property
    def last_index(self) -> int:
        return self.first_index + self.count - 1

    @property
    def record_bytes(self) -> int:
        """The size of the whole record, padding included."""
        return record_bytes(self.body_bytes)


def record_bytes(body_bytes: int) -> int:
    """The size of a record around a body of `body_bytes`."""
    return -(-(HEADER_BYTES + body_bytes + _CHAIN.size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def encode_record(block: Block, synced_index: int) -> bytes:
    """Frame `block`. `synced_index` is the highest index durable now; it lies below the block."""
    body = block.body
    if block.count < 1 or block.first_index < 1:
        raise broken("a block holds at least one index", block.first_index)
    if not 0 <= synced_index < block.first_index:
        raise broken("a block cannot be durable before it is written", synced_index)
    if len(body) > BODY_BYTES_MAX:
        raise broken("a block body is bounded", len(body))
    head = _HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        block.kind,
        len(body),
        block.first_index,
        block.count,
        block.term,
        block.time,
        block.wall_ms,
        synced_index,
        block.chain_before,
        0,
    )[:_CHECKED_BYTES]
    padding = _PADDING[-(HEADER_BYTES + len(body) + _CHAIN.size) % ALIGNMENT_BYTES]
    return b"".join((head, _CHAIN.pack(zlib.crc32(head)), body, _CHAIN.pack(block.chain), padding))


def decode_header(buffer: Buffer, offset: int, limit_bytes: int) -> Header:
    """Decode and verify the header at `offset`; the body is not looked at.

    `limit_bytes` bounds the body length. Raises: RecordError, or RecordVersionError for a sound later version.
    """
    if len(buffer) - offset < HEADER_BYTES:
        raise RecordError(f"record at byte {offset}: the header is cut short")
    magic, version, kind, body_bytes, first, count, term, time, wall_ms, synced, chain_before, checksum = (
        _HEADER.unpack_from(buffer, offset)
    )
    if magic != MAGIC:
        raise RecordError(f"record at byte {offset}: no record begins here")
    if zlib.crc32(buffer[offset : offset + _CHECKED_BYTES]) != checksum:
        raise RecordError(f"record at byte {offset}: the header checksum differs")
    if version != FORMAT_VERSION:
        raise RecordVersionError(f"record at byte {offset}: format version {version}, this release knows 1")
    if body_bytes > limit_bytes:
        raise RecordError(f"record at byte {offset}: a body of {body_bytes} bytes exceeds the limit of {limit_bytes}")
    if first < 1 or count < 1 or synced >= first:
        raise RecordError(f"record at byte {offset}: impossible indices {first}, {count}, {synced}")
    return Header(kind, body_bytes, first, count, term, time, wall_ms, synced, chain_before)


def verify_record(buffer: Buffer, offset: int, limit_bytes: int) -> Header:
    """Verify the whole record at `offset` without copying its body. Raises: as `decode_header`."""
    header = decode_header(buffer, offset, limit_bytes)
    size = record_bytes(header.body_bytes)
    if len(buffer) - offset < size:
        raise RecordError(f"record at byte {offset}: the body is cut short")
    body_end = offset + HEADER_BYTES + header.body_bytes
    with memoryview(buffer) as view, view[offset + HEADER_BYTES : body_end] as body:
        header.chain = zlib.crc32(body, header.chain_before)
    if _CHAIN.unpack_from(buffer, body_end)[0] != header.chain:
        raise RecordError(f"record at byte {offset}: the checksum of block {header.first_index} differs")
    if any(buffer[body_end + _CHAIN.size : offset + size]):
        raise RecordError(f"record at byte {offset}: the padding of block {header.first_index} is not zero")
    return header


def decode_record(buffer: Buffer, offset: int, limit_bytes: int) -> Block:
    """Decode and verify the record at `offset`. Raises: as `decode_header`."""
    header = verify_record(buffer, offset, limit_bytes)
    body = bytes(buffer[offset + HEADER_BYTES : offset + HEADER_BYTES + header.body_bytes])
    return Block(
        header.first_index,
        header.count,
        header.term,
        header.kind,
        header.time,
        header.wall_ms,
        header.chain_before,
        header.chain,
        body,
    )


def decode_records(buffer: Buffer, max_body: int) -> list[Block]:
    """Decode a contiguous run of records received from a peer; `max_body` bounds each body in bytes.

    Raises: ProtocolError if any byte is left over, or indices, terms or chains do not follow one another.
    """
    blocks: list[Block] = []
    offset = 0
    while offset < len(buffer):
        try:
            block = decode_record(buffer, offset, max_body)
        except (RecordError, RecordVersionError) as error:
            raise ProtocolError(f"a peer sent a bad run of records: {error}") from error
        if blocks:
            previous = blocks[-1]
            if (
                block.first_index != previous.last_index + 1
                or block.chain_before != previous.chain
                or block.term < previous.term
            ):
                raise ProtocolError(f"a peer sent block {block.first_index}, which does not follow its predecessor")
        blocks.append(block)
        offset += record_bytes(len(block.body))
    return blocks
