"""The frame codec: however the stream is cut, the same frames; whatever the stream is, ProtocolError or frames."""

import contextlib
import itertools
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import ProtocolError
from copycat.io.transport.frame import (
    HEADER,
    MAX_GREETING,
    PREAMBLE,
    FrameDecoder,
    encode_frame,
    encode_frames,
)


def reason_of(data: bytes, max_frame: int = 1024) -> str:
    with pytest.raises(ProtocolError) as caught:
        FrameDecoder(max_frame).feed(data)
    return str(caught.value)


@given(payloads=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(0, 4000)))
def test_any_chunking_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    stream = PREAMBLE + encode_frames(payloads)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    decoder = FrameDecoder()
    frames = [frame for begin, end in itertools.pairwise(places) for frame in decoder.feed(stream[begin:end])]
    assert frames == payloads
    assert not decoder.is_partial


@given(payloads=st.lists(st.binary(max_size=40), max_size=5))
def test_one_byte_at_a_time(payloads: list[bytes]) -> None:
    decoder = FrameDecoder()
    stream = PREAMBLE + encode_frames(payloads)
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == payloads


@given(garbage=st.binary(max_size=400), valid_start=st.booleans(), chunk=st.integers(1, 50))
def test_garbage_raises_only_protocol_error(garbage: bytes, valid_start: bool, chunk: int) -> None:
    decoder = FrameDecoder(64)
    stream = (PREAMBLE if valid_start else b"") + garbage
    with contextlib.suppress(ProtocolError):
        for begin in range(0, len(stream), chunk):
            for frame in decoder.feed(stream[begin : begin + chunk]):
                assert len(frame) <= 64


@given(payloads=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), data=st.data())
def test_a_flipped_bit_never_yields_another_frame(payloads: list[bytes], data: st.DataObject) -> None:
    """Goal: what comes out is a prefix of what went in, whichever bit was flipped."""
    stream = bytearray(PREAMBLE + encode_frames(payloads))
    bit = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[bit // 8] ^= 1 << bit % 8
    decoder = FrameDecoder()
    frames: list[bytes] = []
    try:
        for byte in bytes(stream):
            frames += decoder.feed(bytes([byte]))
    except ProtocolError:
        pass
    assert frames == payloads[: len(frames)]
    assert len(frames) < len(payloads)


@pytest.mark.parametrize("cut", [8, 1, 3])
@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP, not Copycat"),
        (b"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP, not Copycat"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "speaks HTTP, not Copycat"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "speaks TLS; this side has no ssl_context"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "speaks TLS; this side has no ssl_context"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "speaks SSH, not Copycat"),
        (b"\x00" * 20, r"does not speak Copycat: it began with b'\x00\x00\x00\x00\x00\x00\x00'"),
        (b"CPYCAT\x00\x07", "speaks version 7 of the wire format; this side speaks 1"),
        (PREAMBLE + HEADER.pack(1025, 0), "sent a frame of 1025 bytes; the limit is 1024"),
        (PREAMBLE + HEADER.pack(2, 7) + b"hi", "sent a frame of 2 bytes whose checksum does not match"),
    ],
)
def test_a_stranger_is_named_however_its_bytes_arrive(stream: bytes, reason: str, cut: int) -> None:
    decoder = FrameDecoder(1024)

    def feed_all() -> None:
        for begin in range(0, len(stream), cut):
            decoder.feed(stream[begin : begin + cut])

    with pytest.raises(ProtocolError) as caught:
        feed_all()
    assert str(caught.value) == reason


def test_peer_version_is_known_when_it_is_refused() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ProtocolError):
        decoder.feed(b"CPYCAT\x00\x07")
    assert decoder.peer_version == 7


def test_the_first_frame_has_a_smaller_limit_and_later_ones_do_not() -> None:
    big = b"x" * (MAX_GREETING + 1)
    assert str(MAX_GREETING) in reason_of(PREAMBLE + encode_frame(big), max_frame=10**6)
    assert FrameDecoder().feed(PREAMBLE + encode_frames([b"hello", big])) == [b"hello", big]
    decoder = FrameDecoder()
    assert decoder.feed(PREAMBLE + encode_frame(b"hello")) == [b"hello"]
    assert decoder.feed(encode_frame(big)) == [big]


def test_an_announced_length_allocates_nothing() -> None:
    decoder = FrameDecoder()
    decoder.feed(PREAMBLE + encode_frame(b"hello"))
    decoder.feed(HEADER.pack(16 * 1024 * 1024, 0) + b"abc")
    assert decoder.is_partial
    assert len(decoder._pending) == 11


def test_a_truncated_stream_is_partial() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(PREAMBLE + encode_frame(b"hello")[:-1]) == []
    assert decoder.is_partial


def test_the_format_on_the_wire() -> None:
    """Goal: a change of these bytes is a change of VERSION."""
    assert PREAMBLE == b"CPYCAT\x00\x01"
    assert encode_frame(b"abc") == struct.pack(">II", 3, zlib.crc32(b"abc")) + b"abc"
    assert encode_frames([b"abc", b""]) == encode_frame(b"abc") + bytes(8)
