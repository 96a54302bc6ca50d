"""Framing without I/O: bytes in, whole frames out.

On the wire, in each direction:

    preamble   magic b"CPYCAT", version u16            once
    frame      length u32, crc32 u32, payload          again and again

Integers are big-endian; `length` and `crc32` speak of the payload alone. The first frame each way is a
greeting: the dialler's is its hello, the listener's is one status byte (ACCEPTED or REFUSED) and then its hello
or the text of its refusal. Everything after that is opaque to this room.

What arrives is not trusted. A length is believed only up to a limit, which is small until the greeting is over,
and memory grows with the bytes that came, never with the bytes announced. Whoever does not speak Copycat is told
apart by its first bytes, because "speaks HTTP, not Copycat" saves an hour that "bad magic" costs.

Source: protocol §10.6.
"""

import struct
import zlib
from typing import Final

from copycat.errors import ProtocolError

MAGIC: Final = b"CPYCAT"
VERSION: Final = 1
PREAMBLE: Final = MAGIC + struct.pack(">H", VERSION)

ACCEPTED: Final = b"\x00"
REFUSED: Final = b"\x01"

MAX_FRAME: Final = 16 * 1024 * 1024
# A stranger may make us hold this much before it has said who it is; a hello is a few hundred bytes.
MAX_GREETING: Final = 64 * 1024

HEADER: Final = struct.Struct(">II")  # length, checksum
HEADER_SIZE: Final = HEADER.size

# A TLS alert is seven bytes and the shortest thing worth recognising: with fewer than seven, wait for more.
_RECOGNISABLE: Final = 7
_HTTP: Final = (
    *(b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS", b"CONNECT", b"TRACE ", b"PRI * "),
    b"HTTP/",
)
_TLS: Final = (b"\x16\x03", b"\x15\x03")  # handshake record (ClientHello), alert record


def encode_frame(payload: bytes) -> bytes:
    """One frame: header and payload. The caller checks the size limit."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def encode_frames(payloads: list[bytes]) -> bytes:
    """All frames in order, joined once, ready for a single write."""
    if len(payloads) == 1:
        return encode_frame(payloads[0])
    pack, crc32 = HEADER.pack, zlib.crc32
    parts: list[bytes] = []
    append = parts.append
    for payload in payloads:
        append(pack(len(payload), crc32(payload)))
        append(payload)
    return b"".join(parts)


class FrameDecoder:
    """Turns one direction of a connection into frames, however its bytes were cut.

    `max_frame` bounds a payload in bytes; the first frame, the greeting, is bounded by the smaller of that and
    MAX_GREETING. After `feed` has raised, the decoder is spent: drop the connection.
    """

    __slots__ = ("_greeted", "_max_frame", "_needed", "_pending", "_started", "peer_version")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self.peer_version: int | None = None  # known once the magic was right, even if the version is refused
        self._max_frame = max_frame
        self._pending = bytearray()  # a bytearray, so that a peer sending two bytes at a time cannot bloat us
        self._needed = _RECOGNISABLE  # bytes from which `_pending` is worth looking at again
        self._started = False
        self._greeted = False

    @property
    def is_partial(self) -> bool:
        """True in the middle of a preamble or frame: an end of stream here is a truncation."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """All frames that `data` completes, in order; each is one slice of what arrived.

        Raises: ProtocolError, with a reason that follows the peer's name in a sentence ("speaks HTTP, not
        Copycat"). Frames completed by the same bytes before the offence are dropped with the connection.
        """
        pending = self._pending
        if not pending and self._greeted and len(data) > HEADER_SIZE:
            length, checksum = HEADER.unpack_from(data)
            if length == len(data) - HEADER_SIZE <= self._max_frame:  # one frame and no more, as nearly always
                payload = data[HEADER_SIZE:]
                if zlib.crc32(payload) == checksum:
                    return [payload]
        if pending:
            pending += data
            if len(pending) < self._needed:
                return []
            data = bytes(pending)
            pending.clear()
        offset = 0
        if not self._started:
            offset = self._start(data)
            if not self._started:
                pending += data
                return []
        size = len(data)
        limit = self._max_frame if self._greeted else min(self._max_frame, MAX_GREETING)
        unpack_from, crc32 = HEADER.unpack_from, zlib.crc32
        needed = HEADER_SIZE
        frames: list[bytes] = []
        append = frames.append
        while size - offset >= HEADER_SIZE:
            length, checksum = unpack_from(data, offset)
            if length > limit:
                if frames:
                    limit = self._max_frame  # the greeting was among these very frames
                if length > limit:
                    raise ProtocolError(f"sent a frame of {length} bytes; the limit is {limit}")
            begin = offset + HEADER_SIZE
            end = begin + length
            if end > size:
                needed = end - offset
                break
            payload = data[begin:end]
            if crc32(payload) != checksum:
                raise ProtocolError(f"sent a frame of {length} bytes whose checksum does not match")
            append(payload)
            offset = end
        self._needed = needed
        if offset < size:
            pending += memoryview(data)[offset:] if offset else data
        if frames:
            self._greeted = True
        return frames

    def _start(self, data: bytes) -> int:
        """Read the preamble; the offset behind it, or 0 with `_started` still False when it is incomplete."""
        if len(data) < _RECOGNISABLE:
            return 0
        if not data.startswith(MAGIC):
            raise ProtocolError(_describe_stranger(data))
        if len(data) < len(PREAMBLE):
            self._needed = len(PREAMBLE)
            return 0
        self.peer_version = int.from_bytes(data[len(MAGIC) : len(PREAMBLE)])
        if self.peer_version != VERSION:
            raise ProtocolError(f"speaks version {self.peer_version} of the wire format; this side speaks {VERSION}")
        self._started = True
        return len(PREAMBLE)


def _describe_stranger(data: bytes) -> str:
    # Only the first seven bytes are looked at, so the answer does not depend on how the stream was cut.
    data = data[:_RECOGNISABLE]
    if data.startswith(_HTTP):
        return "speaks HTTP, not Copycat"
    if data.startswith(_TLS):
        return "speaks TLS; this side has no ssl_context"
    if data.startswith(b"SSH-"):
        return "speaks SSH, not Copycat"
    return f"does not speak Copycat: it began with {data!r}"
