"""What reads bytes from outside: each reader by name, with what is sound for it and the errors it may raise.

The same for hypothesis (the tests beside this file) and for a fuzzer that watches which branches are taken
(`make fuzz`). WIRE is what comes over connections, DISK what disks give back.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from copycat.errors import CorruptionError, ForeignDirectoryError, ProtocolError
from copycat.io.storage import Block
from copycat.io.storage.metadata import FILE_NAMES, Metadata, MetadataStore
from copycat.io.storage.record import (
    RecordError,
    RecordVersionError,
    decode_header,
    decode_record,
    decode_records,
    encode_record,
    verify_record,
)
from copycat.io.storage.segment import SegmentHeader, decode_segment_header
from copycat.io.storage.snapshot_file import SnapshotFile, open_snapshot, snapshot_file_name
from copycat.io.storage.snapshots import Snapshots
from copycat.io.transport.frame import PREAMBLE, FrameDecoder, encode_frame
from copycat.raft.protocol import message_wire, wire
from copycat.raft.protocol.entries import ItemKind, iterate_items, pack_item, pack_types, unpack_types
from copycat.raft.protocol.handshake import Hello, decode_hello, encode_hello
from copycat.raft.protocol.hashes import Finding, StateReport, StateVerdict, decode_report, decode_verdict
from copycat.raft.protocol.messages import (
    AppendResponse,
    Install,
    InstallResponse,
    PollRequest,
    PollResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from copycat.raft.protocol.operations import ConsistencyLevel, Failure
from copycat.raft.protocol.wire import Tag, encode_msgpack
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    CHUNKS,
    DIRECTORY,
    WALL_MS,
    append,
    flush,
    make_disk,
    newest_segment,
    next_block,
    open_log,
    open_snapshots,
    snapshot_bytes,
    snapshot_header,
)
from tests.raft.client import frames
from tests.raft.client.sessions import Client


@dataclass(frozen=True, slots=True)
class Target:
    """read: what is tried, which gives something other than None for what is `sound`, and raises no other errors than
    `documented`."""

    read: Callable[[bytes], object]
    sound: list[bytes]
    documented: tuple[type[Exception], ...] = (ProtocolError,)


def put(disk: FaultyDisk, path: str, data: bytes) -> None:
    """Make `data` all there is in a file, durably."""
    if disk.exists(path):
        disk.remove(path)
    file = disk.open(path, create=True)
    file.write_at(0, data)
    file.sync()
    file.close()
    disk.sync_directory(DIRECTORY)


SNAPSHOT = snapshot_bytes(snapshot_header(9), [b"one", b"a longer chunk, with a text in it"])


# -- what comes over connections ---------------------------------------------------------------------------------------


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


def hear(frame: bytes) -> Client:
    """A client that was told this."""
    client = waiting_client()
    client.hear(frame)
    client.frames()
    return client


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


def receive_snapshot(data: bytes) -> SnapshotFile:
    """What comes of these bytes from a leader who announced the snapshot at index 9."""
    reception = Snapshots.open(make_disk(), DIRECTORY).receive(9, 1, len(data))
    for offset in range(0, len(data), 4096):
        reception.write(offset, data[offset : offset + 4096])
    return reception.finish()


WIRE: dict[str, Target] = {
    "message": Target(
        message_wire.decode_message,
        [
            message_wire.encode_message(PollRequest(term=1, last_index=2**64 - 1, last_term=0)),
            message_wire.encode_message(PollResponse(term=1, proposed=2, granted=True)),
            message_wire.encode_message(VoteRequest(term=300, last_index=70_000, last_term=299)),
            message_wire.encode_message(VoteResponse(term=1, granted=False)),
            message_wire.encode_message(
                AppendResponse(term=1, round=1, accepted=True, match_index=1, hint_index=0, sent_ms=2**40)
            ),
            message_wire.encode_message(
                Install(
                    term=2, index=9, last_term=1, chain=7, time=80, size=2**33, serial=3, offset=2**20, data=b"piece"
                )
            ),
            message_wire.encode_message(TimeoutNow(term=7)),
            message_wire.encode_message(InstallResponse(term=2, index=9, serial=3, offset=2**20 + 5)),
        ],
    ),
    "state-report": Target(decode_report, [wire.encode_msgpack(StateReport(9, 1, [(-1, b"d" * 16), (0, b"")]))]),
    "state-verdict": Target(
        decode_verdict, [wire.encode_msgpack(StateVerdict(9, Finding.DIFFERS, [(7, b"d" * 16)], "a, b"))]
    ),
    "append": Target(
        message_wire.decode_append, [message_wire.encode_append((1, 2, 1, 0, 2, 3, 4, 250, 0, True, False), records())]
    ),
    "records": Target(lambda data: decode_records(data, 1 << 20), [records()]),
    "operations": Target(
        wire.decode_operations, [wire.encode_operations([[0, 0, 1, "one", b"two"], [3, 7, 2, [1, {}]]])]
    ),
    "results": Target(wire.decode_results, [wire.encode_results([None, b"one", Failure("ValueError", "two"), [3]])]),
    "events": Target(
        wire.decode_events,
        [wire.HEADER_EVENTS.pack(Tag.EVENTS, 7, 0) + wire.encode_msgpack([[9, [1, 2, 3, b"x"]], [10, [1, 2, 3]]])],
    ),
    "many": Target(
        lambda frame: list(wire.decode_many(frame)),
        wire.encode_many(Tag.RELAY_MANY, [(1, b"for one"), (2**64 - 1, b"another")]),
    ),
    "header": Target(unpack_any, [bytes([tag]) + bytes(60) for tag in Tag]),
    "types": Target(unpack_types, [pack_types([("copycat.map", 1), ("ü", 65535)])]),
    "items": Target(
        lambda body: list(iterate_items(body)),
        [pack_item(ItemKind.COMMANDS, 1, 1, 0, 1, b"blob") + pack_item(ItemKind.TICK, 0, 0, 0, 1, b"")],
    ),
    "hello": Target(
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
    "client": Target(hear, TO_CLIENTS),
    "snapshot-received": Target(receive_snapshot, [SNAPSHOT]),
    "frames": Target(
        lambda data: FrameDecoder(1 << 16).feed(PREAMBLE + data), [encode_frame(b"one") + encode_frame(b"two")]
    ),
    "frames-sealed": Target(lambda data: FrameDecoder(1 << 16).feed(PREAMBLE + encode_frame(data) + data), [b"one"]),
}


# -- what disks give back ----------------------------------------------------------------------------------------------

RECORD_ERRORS = (RecordError, RecordVersionError)
STORAGE_ERRORS = (CorruptionError, ForeignDirectoryError)
RECORD_BYTES_MAX = 1 << 20
RECORD = encode_record(Block(1, 1, 1, 2, 5, WALL_MS, 0, zlib.crc32(b"body"), b"body"), 0)
RECORD_CHECKSUM_AT = 56
IDENTITY = Metadata(term=3, vote="b", member_id="a", incarnation=b"i" * 16, members=["a=h:1", "b=h:2"], sequence=4)


def framed(payload: bytes, version: int = 1) -> bytes:
    """Metadata whose checksum is right, whatever it says."""
    checked = struct.pack("<8sII", b"COPYCATM", version, len(payload)) + payload
    return checked + struct.pack("<I", zlib.crc32(checked))


def with_checksum(data: bytes) -> bytes:
    """A record whose header has the right checksum, whatever it says."""
    head = data[:RECORD_CHECKSUM_AT]
    return head + struct.pack("<I", zlib.crc32(head)) + data[RECORD_CHECKSUM_AT + 4 :]


def load_metadata(copy: bytes) -> Metadata | None:
    """What a store makes of this copy."""
    disk = make_disk()
    put(disk, f"{DIRECTORY}/{FILE_NAMES[0]}", copy)
    return MetadataStore(disk, DIRECTORY).load()


def sealed_snapshot(payload: bytes) -> bytes:
    """A snapshot without chunks whose checksums are right, whatever its header says."""
    head = struct.pack("<8sII", b"COPYCATS", 1, len(payload)) + payload
    head += struct.pack("<I", zlib.crc32(head))
    head += struct.pack("<IQQ", 0, 0, len(head) + 36)
    return head + hashlib.blake2b(head, digest_size=16).digest()


def read_snapshot(data: bytes) -> list[bytes]:
    """The chunks of the snapshot that this file is."""
    disk = make_disk()
    put(disk, f"{DIRECTORY}/snapshot", data)
    return list(open_snapshot(disk, f"{DIRECTORY}/snapshot").chunks())


def newest_snapshot(data: bytes) -> object:
    """The newest of two snapshots, of which this one may be sound."""
    disk = make_disk()
    put(disk, SNAPSHOT_PATHS[0], snapshot_bytes(snapshot_header(5), CHUNKS[:1]))
    put(disk, SNAPSHOT_PATHS[1], data)
    found = open_snapshots(disk).newest()
    return found and found.header


SNAPSHOT_PATHS = [f"{DIRECTORY}/{snapshot_file_name('copycat', index, 1)}" for index in (5, 9)]


def segment() -> tuple[str, bytes]:
    """One of three records, flushed one by one."""
    disk = make_disk()
    log = open_log(disk)
    for body in (b"one", b"two", b"three"):
        append(log, body)
        flush(log)
    path = newest_segment(disk)
    return path, disk.contents(path).rstrip(b"\0")


SEGMENT_PATH, SEGMENT = segment()


def open_segment(data: bytes) -> object:
    """The log whose only segment this is."""
    disk = make_disk()
    put(disk, SEGMENT_PATH, data)
    return open_log(disk, cache=1 << 16)


DISK: dict[str, Target] = {
    "record": Target(lambda data: decode_record(data, 0, RECORD_BYTES_MAX), [RECORD], RECORD_ERRORS),
    "record-header": Target(lambda data: decode_header(data, 0, RECORD_BYTES_MAX), [RECORD], RECORD_ERRORS),
    "record-sealed": Target(
        lambda data: verify_record(with_checksum(data), 0, RECORD_BYTES_MAX), [RECORD], RECORD_ERRORS
    ),
    "segment-header": Target(
        lambda data: decode_segment_header(data, "path"),
        [SegmentHeader(1, 1, 0, 0, 0, 0, b"c" * 16).encode()],
        STORAGE_ERRORS,
    ),
    "segment": Target(open_segment, [SEGMENT], STORAGE_ERRORS),
    "snapshot": Target(read_snapshot, [SNAPSHOT], STORAGE_ERRORS),
    "snapshot-sealed": Target(
        lambda payload: read_snapshot(sealed_snapshot(payload)), [encode_msgpack(snapshot_header(9))], STORAGE_ERRORS
    ),
    "snapshots": Target(newest_snapshot, [SNAPSHOT], STORAGE_ERRORS),
    "metadata": Target(load_metadata, [framed(encode_msgpack(IDENTITY))], STORAGE_ERRORS),
    "metadata-sealed": Target(lambda data: load_metadata(framed(data)), [encode_msgpack(IDENTITY)], STORAGE_ERRORS),
}

TARGETS = {**WIRE, **DISK}
