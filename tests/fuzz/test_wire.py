"""Whatever comes over a connection: each reader gives what it found or its documented error, for work and memory in
proportion to what came."""

import contextlib
import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import HandshakeError, ProtocolError
from copycat.io.storage.record import decode_records, encode_record
from copycat.io.transport.frame import MAX_GREETING, PREAMBLE, FrameDecoder, encode_frame
from copycat.raft.protocol import wire
from copycat.raft.protocol.entries import ItemKind, iterate_items, pack_item, pack_types, unpack_types
from copycat.raft.protocol.handshake import Hello, agree_version, decode_hello, encode_hello
from copycat.raft.protocol.messages import AppendResponse, Message, PollRequest, PollResponse, VoteRequest, VoteResponse
from copycat.raft.protocol.operations import ConsistencyLevel, Failure
from copycat.raft.protocol.wire import Tag
from tests.fuzz.support import DOCUMENTS, TIMEOUT, damaged, fuzz, judge
from tests.io.storage.helpers import make_disk, next_block, open_log
from tests.raft.client import frames
from tests.raft.client.sessions import Client

pytestmark = pytest.mark.timeout(TIMEOUT)

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 9)


def unpack_any(frame: bytes) -> list[tuple[Any, ...]]:
    """Every fixed header, whatever the tag says."""
    headers = [each for each in vars(wire).values() if isinstance(each, struct.Struct)]
    assert len(headers) > 20
    return [wire.unpack(header, frame) for header in headers]


def records() -> bytes:
    """What an append carries: three blocks that follow one another."""
    log = open_log(make_disk())
    found = b""
    for body in (b"", b"seven b", b"a longer body, with a text in it"):
        block = next_block(log, body)
        log.append(block)
        found += encode_record(block, 0)
    return found


READERS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "message": (
        wire.decode_message,
        [
            wire.encode_message(PollRequest(term=1, last_index=2**64 - 1, last_term=0)),
            wire.encode_message(PollResponse(term=1, proposed=2, granted=True)),
            wire.encode_message(VoteRequest(term=300, last_index=70_000, last_term=299)),
            wire.encode_message(VoteResponse(term=1, granted=False)),
            wire.encode_message(
                AppendResponse(term=1, round=1, accepted=True, match_index=1, hint_index=0, sent_ms=2**40)
            ),
        ],
    ),
    "append": (wire.decode_append, [wire.encode_append((1, 2, 1, 0, 2, 3, 4, 250, 0, True, False), records())]),
    "records": (lambda data: decode_records(data, 1 << 20), [records()]),
    "operations": (wire.decode_operations, [wire.encode_operations([[0, 0, 1, "one", b"two"], [3, 7, 2, [1, {}]]])]),
    "results": (wire.decode_results, [wire.encode_results([None, b"one", Failure("ValueError", "two"), [3]])]),
    "events": (
        wire.decode_events,
        [wire.HEADER_EVENTS.pack(Tag.EVENTS, 7, 0) + wire.encode_msgpack([[9, [1, 2, 3, b"x"]], [10, [1, 2, 3]]])],
    ),
    "header": (unpack_any, [bytes([tag]) + bytes(60) for tag in Tag]),
    "types": (unpack_types, [pack_types([("copycat.map", 1), ("ü", 65535)])]),
    "items": (
        lambda body: list(iterate_items(body)),
        [pack_item(ItemKind.COMMANDS, 1, 1, 0, 1, b"blob") + pack_item(ItemKind.TICK, 0, 0, 0, 1, b"")],
    ),
    "hello": (
        decode_hello,
        [
            encode_hello(Hello(role="client")),
            encode_hello(
                Hello(
                    role="member",
                    cluster_id=b"c" * 16,
                    member_id="a",
                    incarnation=b"i" * 16,
                    incarnations={"a": b"i" * 16, "b": b"j" * 16},
                    members=("a", "b"),
                    types=(("copycat.map", 1),),
                )
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", READERS)
@fuzz
@given(data=st.data())
def test_a_reader_gives_what_it_found_or_a_protocol_error(name: str, data: st.DataObject) -> None:
    read, sound = READERS[name]
    heads = st.sampled_from(sorted({each[:1] for each in sound}))  # so that what follows a tag is looked at
    packed = st.tuples(heads, DOCUMENTS).map(b"".join)
    strange = data.draw(damaged(st.sampled_from(sound)) | DOCUMENTS | packed | st.binary(max_size=100))

    judge(lambda: read(strange), len(strange), ProtocolError)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_what_is_sound(name: str) -> None:
    read, sound = READERS[name]
    assert all(read(each) is not None for each in sound)


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
    st.builds(VoteRequest, term=NUMBERS, last_index=NUMBERS, last_term=NUMBERS),
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
)


@fuzz
@given(message=MESSAGES)
def test_a_message_comes_back_as_it_was_and_nothing_shorter_or_longer_is_one(message: Message) -> None:
    frame = wire.encode_message(message)

    assert wire.decode_message(frame) == message
    for other in (*(frame[:end] for end in range(len(frame))), frame + b"\x00"):
        with pytest.raises(ProtocolError):
            wire.decode_message(other)


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


def waiting_client() -> Client:
    """One that waits for results, for an answer, and for events."""
    client = Client()
    client.hear(frames.leader())
    client.register()
    client.call("a", "b")
    client.ask("q", ConsistencyLevel.SERIALIZABLE)
    client.frames()
    return client


TO_CLIENTS = [
    frames.leader("b", 2, {"a": "host:1"}),
    frames.registered(b"n" * 16),
    frames.register_refused(b"n" * 16, 3, "later"),
    frames.results(1, "A", "B"),
    frames.rejected(1, 2, "a gap"),
    frames.kept(7),
    frames.ended(),
    frames.answer(1, 1, "Q"),
    frames.query_refused(1, 7, "stale"),
    wire.HEADER_EVENTS.pack(Tag.EVENTS, 7, 0) + wire.encode_msgpack([[9, [1, 2, 3, b"x"]]]),
]
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
