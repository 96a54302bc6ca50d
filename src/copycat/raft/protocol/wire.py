"""The bytes of every frame: one tag byte, then what the tag says. Tags are never reused.

Consensus messages travel between members (`message_wire`); client frames between a client and any server; FORWARD and
RELAY carry a client's frame from a follower to its leader and the answer back, unread. Frames that are sent once per
command batch have fixed headers (struct) so that a forwarder reads a few integers and copies the rest; the others are
msgpack.

Every decoder raises ProtocolError, and nothing else, for bytes it cannot read.

Source: protocol §5.1, §5.8, §10.8, §10.9.
"""

import enum
import struct
from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, Protocol

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import FLAT, UNREADABLE
from copycat.raft.protocol.operations import Failure


class Tag(enum.IntEnum):
    """The first byte of a frame."""

    POLL_REQUEST = 1
    POLL_RESPONSE = 2
    VOTE_REQUEST = 3
    VOTE_RESPONSE = 4
    APPEND = 5
    APPEND_RESPONSE = 6
    FORWARD = 7  # route u64, then the client's frame
    RELAY = 8  # route u64, then the frame for that client
    IDENTITY = 9  # a hello again, because the sender's cluster has formed since
    INSTALL = 10
    INSTALL_RESPONSE = 11
    TIMEOUT_NOW = 12
    STATE_REPORT = 13
    STATE_VERDICT = 14
    FORWARD_MANY = 15  # clients' frames of one size, each behind its route u64
    RELAY_MANY = 64  # likewise, frames for clients
    # a client to any server
    REGISTER = 16
    BATCH = 18
    KEEP_ALIVE = 19
    UNREGISTER = 20
    QUERY = 21
    STATUS = 22
    EVENTS_AFTER = 23
    CHANGE_MEMBERS = 24
    BACKUP = 28
    BACKUP_READ = 29
    # a server to a client
    REGISTERED = 32
    RESULTS = 34
    REJECTED = 35
    KEPT = 36
    ENDED = 37
    ANSWER = 38
    QUERY_REFUSED = 39
    STATUS_ANSWER = 40
    LEADER = 41
    REGISTER_REFUSED = 42
    EVENTS = 43
    MEMBERS_CHANGED = 44
    BACKUP_READY = 48
    BACKUP_PIECE = 49
    BACKUP_REFUSED = 50


class Reason(enum.IntEnum):
    """Why a server refused before anything was appended. Ids are never reused."""

    NO_LEADER = 1  # wait for LEADER, or try another server
    GAP = 2  # send again from the sequence named
    OVERLOADED = 3  # send again from the sequence named, later
    UNKNOWN_SESSION = 4  # the session has ended
    TOO_LARGE = 5
    MALFORMED = 6
    STALE = 7  # a query's server cannot answer at this freshness
    UNAVAILABLE = 8  # this server cannot do it, and the detail says why
    NO_SPACE = 9  # send this very batch again, or others in its place, when the leader's disk has room


HEADER_BATCH = Struct("<BQQQI")  # tag, session, first sequence, ack, count; then the blob
HEADER_RESULTS = Struct("<BQQIQQ")  # tag, session, first sequence, count, index of the last, event index; then results
HEADER_REJECTED = Struct("<BQQB")  # tag, session, sequence to go on from, reason; then UTF-8 detail
HEADER_QUERY = Struct("<BQQQQBI")  # tag, request, session, sequence, floor, consistency, count; then the blob
HEADER_ANSWER = Struct("<BQQQ")  # tag, request, index, event index; then results
HEADER_QUERY_REFUSED = Struct("<BQB")  # tag, request, reason; then UTF-8 detail
HEADER_FORWARD = Struct("<BQ")  # tag, route; then a frame
HEADER_RELAY = HEADER_FORWARD
HEADER_MANY = Struct("<BI")  # tag, size; then so often a route u64 and a frame of that size
HEADER_REGISTER = Struct("<B16sI")  # tag, nonce, timeout in milliseconds
HEADER_REGISTERED = Struct("<B16sQ16sI")  # tag, nonce, session, secret, timeout in milliseconds
HEADER_REGISTER_REFUSED = Struct("<B16sB")  # tag, nonce, reason; then UTF-8 detail
HEADER_KEEP_ALIVE = Struct("<BI")  # tag, count; then so many KEPT_ALIVE
KEPT_ALIVE = Struct("<Q16sQQQ")  # session, secret, ack, event ack, stamp
HEADER_UNREGISTER = Struct("<BQ16s")  # tag, session, secret
HEADER_KEPT = Struct("<BI")  # tag, count; then so many KEPT_SESSION
KEPT_SESSION = Struct("<QQ")  # session, the newest stamp that came with a keep-alive of its
HEADER_ENDED = Struct("<BQB")  # tag, session, why
HEADER_EVENTS_AFTER = Struct("<BQQ")  # tag, session, index of the last event delivered
HEADER_EVENTS = Struct("<BQQ")  # tag, session, index of the batch before the first; then batches of events
HEADER_STATUS = Struct("<BQ")  # tag, request
HEADER_CHANGE = HEADER_STATUS  # tag, request; then a map
HEADER_BACKUP = Struct("<BQ")  # tag, request
HEADER_BACKUP_READ = Struct("<BQQI")  # tag, request, offset, length
HEADER_BACKUP_READY = Struct("<BQQQ")  # tag, request, index, size in bytes
HEADER_BACKUP_PIECE = Struct("<BQQ")  # tag, request, offset; then the bytes
HEADER_BACKUP_REFUSED = Struct("<BQB")  # tag, request, reason; then UTF-8 detail

_ROUTE = Struct("<Q")
MANY_BYTES_MAX = 256 * 1024  # that travel in one frame, or a single one that is larger

encode_msgpack = msgspec.msgpack.Encoder().encode
_decode_operations = msgspec.msgpack.Decoder(list[list[Any]]).decode
_decode_plain_operations = msgspec.msgpack.Decoder(list[list[bytes | int | float | bool | None]]).decode
_decode_results = msgspec.msgpack.Decoder(list[Any]).decode


def unpack(header: Struct, frame: bytes) -> tuple[Any, ...]:
    """The fields of a fixed header, the tag included. Raises ProtocolError when the frame is shorter."""
    try:
        return header.unpack_from(frame)
    except struct.error:
        name = next((tag.name for tag in Tag if frame[:1] == bytes([tag])), "unknown")
        raise ProtocolError(f"a {name} frame needs {header.size} bytes, {len(frame)} came") from None


def keep_alives_of(frame: bytes) -> bytes:
    """What a KEEP_ALIVE frame says: a KEPT_ALIVE of each session. Raises ProtocolError if they are not as many."""
    _, count = unpack(HEADER_KEEP_ALIVE, frame)
    if len(frame) != HEADER_KEEP_ALIVE.size + count * KEPT_ALIVE.size:
        raise ProtocolError(f"a keep-alive of {len(frame)} bytes cannot hold {count} sessions")
    return frame[HEADER_KEEP_ALIVE.size :]


def encode_many(tag: Tag, frames: list[tuple[int, bytes]]) -> list[bytes]:
    """Frames for or from many clients, each with its route, as few frames between members: those of one size as one."""
    sizes: dict[int, list[bytes]] = {}
    for route, frame in frames:
        sizes.setdefault(len(frame), []).append(_ROUTE.pack(route) + frame)
    many: list[bytes] = []
    for size, packed in sizes.items():
        count = MANY_BYTES_MAX // (_ROUTE.size + size) or 1
        head = HEADER_MANY.pack(tag, size)
        many += [head + b"".join(packed[at : at + count]) for at in range(0, len(packed), count)]
    return many


def decode_many(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """The routes and the frames. Raises ProtocolError, before the first."""
    _, size = unpack(HEADER_MANY, frame)
    try:
        return Struct(f"<Q{size}s").iter_unpack(memoryview(frame)[HEADER_MANY.size :])
    except struct.error:
        raise ProtocolError(f"a frame of {len(frame)} bytes does not divide into frames of {size}") from None


def join_array(items: list[bytes]) -> bytes:
    """The MessagePack array of elements encoded before: the very bytes encoding them together would have made."""
    count = len(items)
    if count < 16:
        head = bytes((0x90 | count,))
    else:
        head = b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(items)


# -- batches of operations and of results ------------------------------------------------------------------------------

DEPTH_MAX = 64
"""How deep the arguments of an operation may be nested. A number of our own: where an interpreter gives up depends on
its version and on its stack, and replicas must agree on what is a batch."""

_TOO_DEEP = f"a batch holds an operation whose arguments are nested deeper than {DEPTH_MAX}"

ERROR_EXTENSION = 1  # in results: an operation raised; the data is msgpack [kind, message]


def _encode_failure(value: Any) -> msgspec.msgpack.Ext:
    if isinstance(value, Failure):
        return msgspec.msgpack.Ext(ERROR_EXTENSION, encode_msgpack((value.kind, value.message)))
    raise TypeError(f"a result of type {type(value).__name__} cannot be sent")


def _decode_failure(code: int, data: memoryview) -> Failure:
    if code != ERROR_EXTENSION:
        raise ValueError(f"unknown extension {code} in results")
    kind, message = msgspec.msgpack.decode(data, type=tuple[str, str])
    return Failure(kind, message)


_result_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_failure)
_result_decoder = msgspec.msgpack.Decoder(list[Any], ext_hook=_decode_failure)
encode_operations: Callable[[list[Any]], bytes] = encode_msgpack


def decode_operations(blob: bytes) -> list[list[Any]]:
    """The operations of a batch: one decode call for all. Raises ProtocolError, on every replica alike."""
    try:
        return _decode_plain_operations(blob)  # what cannot be too deep: so are those of the shipped resources
    except UNREADABLE:
        pass
    try:
        operations = _decode_operations(blob)
    except RecursionError:
        raise ProtocolError(_TOO_DEEP) from None
    except UNREADABLE as error:
        raise ProtocolError(f"a batch of operations cannot be read: {error}") from None
    for operation in operations:
        if not FLAT.issuperset(map(type, operation)) and _is_deeper(operation, DEPTH_MAX):
            raise ProtocolError(_TOO_DEEP)
    return operations


def _is_deeper(values: list[Any], levels: int) -> bool:
    """Whether arrays and maps within `values` are nested deeper than `levels`."""
    for _ in range(levels + 1):
        nested: list[Any] = [each for each in values if type(each) in (list, tuple, dict)]
        if not nested:
            return False
        values = [member for each in nested for member in each]  # the keys of a map, which may be arrays
        values += [member for each in nested if type(each) is dict for member in each.values()]
    return True


def encode_results(results: list[Any]) -> bytes:
    """The results of a batch, one encode call for all; one that cannot be encoded becomes a Failure in its place."""
    try:
        return _result_encoder.encode(results)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _result_encoder.encode([_encodable(result) for result in results])


def _encodable(result: Any) -> Any:
    try:
        _result_encoder.encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Failure("SerializationError", f"the result cannot be sent: {error}")
    return result


def decode_results(data: bytes) -> list[Any]:
    """The results of a batch, Failures among them. Raises ProtocolError."""
    try:
        return _result_decoder.decode(data)
    except (*UNREADABLE, ValueError) as error:
        raise ProtocolError(f"a batch of results cannot be read: {error}") from None


# -- events ------------------------------------------------------------------------------------------------------------


class Events(Protocol):
    """What a session is sent of one index: `machine.event_queues.EventBatch`."""

    index: int
    events: list[bytes]


def encode_events(session: int, previous: int, batches: Iterable[Events]) -> bytes:
    """An EVENTS frame. Each batch is an array: its index, then its events, which were encoded when published."""
    packed = [join_array([encode_msgpack(batch.index), *batch.events]) for batch in batches]
    return HEADER_EVENTS.pack(Tag.EVENTS, session, previous) + join_array(packed)


def decode_events(frame: bytes) -> list[list[Any]]:
    """The batches of an EVENTS frame: [index, [target, instance, event id, *arguments], ...]. Raises ProtocolError."""
    try:
        batches = _decode_operations(frame[HEADER_EVENTS.size :])
    except UNREADABLE as error:
        raise ProtocolError(f"events cannot be read: {error}") from None
    for batch in batches:
        if (
            not batch
            or type(batch[0]) is not int
            or not all(type(each) is list and len(each) >= 3 for each in batch[1:])
        ):
            raise ProtocolError("a batch of events is not an index and events")
    return batches
