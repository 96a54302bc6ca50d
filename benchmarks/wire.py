"""What frames and batches cost: operations, results, appends."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.micro import Timer, micro, time_with_pyperf
from copycat.collections.map_machine import PUT
from copycat.io.serializer import encode_key, encode_value
from copycat.io.transport.frame import PREAMBLE, FrameDecoder, encode_frame, encode_frames
from copycat.raft.protocol.message_wire import decode_append, encode_append
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    Tag,
    decode_operations,
    decode_results,
    encode_operations,
    encode_results,
    unpack,
)

MANY = 256
PREVIOUS = bytes(100)


def puts(count: int) -> list[list[Any]]:
    """The operations of so many puts of 100 B, as they travel."""
    return [[7, 1, PUT, encode_key(f"user-{number}"), encode_value(PREVIOUS), 0, 0] for number in range(count)]


def batch(count: int) -> bytes:
    """A frame of so many puts."""
    return HEADER_BATCH.pack(Tag.BATCH, 1, 1, 0, count) + encode_operations(puts(count))


def feed(payloads: list[bytes]) -> Timer:
    """All that arrives at once."""

    def make() -> Callable[[], Any]:
        data = encode_frames(payloads)
        decoder = FrameDecoder()
        decoder.feed(PREAMBLE + encode_frame(b"hello"))
        return lambda: decoder.feed(data)

    return Timer(make, len(payloads))


APPEND_FIELDS = (3, 4711, 3, 1 << 31, 4700, 4711, 815, 250, 1 << 40, False, True)
"""The fields of an append in their order: term, previous index, term and chain, commit index, and so on."""

TIMERS = {
    "frame of 100 B": Timer(lambda: partial(encode_frame, bytes(100))),
    f"read a frame, {MANY} at once": feed([bytes(100)] * MANY),
    "read a frame, alone": feed([bytes(100)]),
    "header of a batch": Timer(lambda: partial(unpack, HEADER_BATCH, batch(1))),
    "encode 1 put": Timer(lambda: partial(encode_operations, puts(1))),
    f"encode 1 of {MANY} puts": Timer(lambda: partial(encode_operations, puts(MANY)), MANY),
    "decode 1 put": Timer(lambda: partial(decode_operations, encode_operations(puts(1)))),
    f"decode 1 of {MANY} puts": Timer(lambda: partial(decode_operations, encode_operations(puts(MANY))), MANY),
    f"encode 1 of {MANY} results": Timer(lambda: partial(encode_results, [PREVIOUS] * MANY), MANY),
    f"decode 1 of {MANY} results": Timer(lambda: partial(decode_results, encode_results([PREVIOUS] * MANY)), MANY),
    "encode an append": Timer(lambda: partial(encode_append, APPEND_FIELDS, bytes(4096))),
    "decode an append": Timer(lambda: partial(decode_append, encode_append(APPEND_FIELDS, bytes(4096)))),
}

BENCHMARK = micro("wire", "Microseconds for one frame, operation or result.", TIMERS)

if __name__ == "__main__":
    time_with_pyperf("benchmarks.wire", TIMERS)
