"""Whatever comes over a connection: each reader gives what it found or its documented error, for work and memory in
proportion to what came."""

import contextlib
import itertools
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import HandshakeError, ProtocolError
from copycat.io.transport.frame import MAX_GREETING, PREAMBLE, FrameDecoder, encode_frame
from copycat.raft.protocol import message_wire, wire
from copycat.raft.protocol.handshake import Hello, agree_version, decode_hello
from copycat.raft.protocol.messages import (
    AppendResponse,
    Install,
    InstallResponse,
    Message,
    PollRequest,
    PollResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from copycat.raft.protocol.wire import Tag
from tests.fuzz.support import DOCUMENTS, TIMEOUT, damaged, fuzz, judge
from tests.fuzz.targets import TARGETS, TO_CLIENTS, WIRE, waiting_client

pytestmark = pytest.mark.timeout(TIMEOUT)

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 9)


@pytest.mark.parametrize("name", WIRE)
@fuzz
@given(data=st.data())
def test_a_reader_gives_what_it_found_or_a_protocol_error(name: str, data: st.DataObject) -> None:
    read, sound, documented = WIRE[name].read, WIRE[name].sound, WIRE[name].documented
    heads = st.sampled_from(sorted({each[:1] for each in sound}))  # so that what follows a tag is looked at
    packed = st.tuples(heads, DOCUMENTS).map(b"".join)
    strange = data.draw(damaged(st.sampled_from(sound)) | DOCUMENTS | packed | st.binary(max_size=100))

    judge(lambda: read(strange), len(strange), *documented)


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_what_is_sound(name: str) -> None:
    assert all(TARGETS[name].read(each) is not None for each in TARGETS[name].sound)


@fuzz
@given(document=DOCUMENTS, field=st.sampled_from(Hello.__struct_fields__))
def test_a_hello_with_anything_in_any_field_is_read_or_refused(document: bytes, field: str) -> None:
    packed = b"\x83\xa4role\xa6member" + wire.encode_msgpack(field) + document + b"\xa7unknown" + document

    hello = judge(lambda: decode_hello(packed), len(packed), ProtocolError)

    if hello is not None:
        with contextlib.suppress(HandshakeError):
            assert agree_version((1, 1), hello.versions) == 1


# -- the messages of consensus, and back -------------------------------------------------------------------------------

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(PollRequest, term=NUMBERS, last_index=NUMBERS, last_term=NUMBERS),
    st.builds(PollResponse, term=NUMBERS, proposed=NUMBERS, granted=st.booleans()),
    st.builds(VoteRequest, term=NUMBERS, last_index=NUMBERS, last_term=NUMBERS, transfer=st.booleans()),
    st.builds(VoteResponse, term=NUMBERS, granted=st.booleans()),
    st.builds(
        AppendResponse,
        term=NUMBERS,
        round=NUMBERS,
        accepted=st.booleans(),
        match_index=NUMBERS,
        hint_index=NUMBERS,
        sent_ms=NUMBERS,
        refilling=st.booleans(),
    ),
    st.builds(
        Install,
        term=NUMBERS,
        index=NUMBERS,
        last_term=NUMBERS,
        chain=NUMBERS,
        time=NUMBERS,
        size=NUMBERS,
        serial=NUMBERS,
        offset=NUMBERS,
        data=st.binary(max_size=100),
    ),
    st.builds(TimeoutNow, term=NUMBERS),
    st.builds(InstallResponse, term=NUMBERS, index=NUMBERS, serial=NUMBERS, offset=NUMBERS),
)


@fuzz
@given(message=MESSAGES)
def test_a_message_comes_back_as_it_was_and_nothing_shorter_or_longer_is_one(message: Message) -> None:
    frame = message_wire.encode_message(message)

    assert message_wire.decode_message(frame) == message
    for other in (*(frame[:end] for end in range(len(frame))), frame + b"\x00"):
        with pytest.raises(ProtocolError):
            message_wire.decode_message(other)


# -- frames ------------------------------------------------------------------------------------------------------------

LIES = st.builds(
    lambda length, checksum, rest: struct.pack(">II", length, checksum) + rest,
    st.integers(0, 2**32 - 1) | st.integers(0, 80),
    st.sampled_from([0, zlib.crc32(b""), 2**32 - 1]),
    st.binary(max_size=40),
)
PIECES = st.lists(st.binary(max_size=60).map(encode_frame) | LIES, max_size=6).map(b"".join)


@fuzz
@given(stream=damaged(PIECES.map(PREAMBLE.__add__)), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_frames_that_lie_about_themselves_cost_the_connection_and_no_more(stream: bytes, cuts: list[int]) -> None:
    """However the stream is cut: the same frames before the same words."""

    def feed(*places: int) -> tuple[list[bytes], str]:
        decoder, found = FrameDecoder(64), []
        try:
            for begin, end in itertools.pairwise(places):
                found += decoder.feed(stream[begin:end])
        except ProtocolError as error:
            return found, str(error)
        assert decoder.is_partial or not stream[len(PREAMBLE) + sum(8 + len(each) for each in found) :]
        return found, ""

    byte_by_byte = judge(lambda: feed(*range(len(stream) + 1)), len(stream))
    in_pieces = feed(0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream))

    assert byte_by_byte is not None
    assert in_pieces[1] == byte_by_byte[1]
    assert byte_by_byte[0][: len(in_pieces[0])] == in_pieces[0]  # frames completed together with an offence are dropped
    assert all(len(each) <= 64 for each in byte_by_byte[0])


@fuzz
@given(length=st.integers(0, 2**32 - 1), came=st.integers(0, 200))
def test_memory_grows_with_the_bytes_that_came_and_not_with_those_announced(length: int, came: int) -> None:
    stream = PREAMBLE + struct.pack(">II", length, 0) + bytes(came)

    found = judge(lambda: FrameDecoder().feed(stream), len(stream), ProtocolError)

    assert not found or length <= came
    assert found is None or length <= MAX_GREETING


# -- those who read them -----------------------------------------------------------------------------------------------


HEADS = [
    bytes([Tag.LEADER]),
    bytes([Tag.LEADER]) + b"\x84\xa4term\x01\xa6leader\xa1a\xa7members\x80\xa1x",  # one field more than is known
    wire.HEADER_RESULTS.pack(Tag.RESULTS, 7, 1, 2, 2, 0),
    wire.HEADER_ANSWER.pack(Tag.ANSWER, 1, 1, 0),
    wire.HEADER_EVENTS.pack(Tag.EVENTS, 7, 0),
    wire.HEADER_REJECTED.pack(Tag.REJECTED, 7, 1, 6),
]
FRAMES = st.tuples(st.sampled_from(HEADS), DOCUMENTS).map(b"".join)


@fuzz
@given(strange=st.lists(damaged(st.sampled_from(TO_CLIENTS)) | FRAMES))
def test_nothing_a_server_sends_makes_a_client_raise_more_than_a_protocol_error(strange: list[bytes]) -> None:
    client = waiting_client()
    with contextlib.suppress(ProtocolError):
        for frame in strange:
            client.hear(frame)
    client.frames()  # it still knows what to send
