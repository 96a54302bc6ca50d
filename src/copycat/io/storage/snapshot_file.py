"""Snapshot files: a header, the chunks of a snapshot, and an end mark that vouches for all of it.

    magic | format version | payload length | payload: a MessagePack map | crc32 of the header
    for each chunk: length | crc32 | bytes
    end mark: a length of zero | number of chunks | size of the file | BLAKE2b-128 of everything before it

A chunk's own checksum names the damage, and lets a reader use a chunk before it has read the rest. It cannot see that
sound chunks are missing, or stand in another order; the end mark can. Its digest is BLAKE2b and not a longer CRC-32: a
snapshot stands in for the whole log and may have gigabytes, for which one mistake in four thousand million unnoticed is
too many, and it costs little (2 ms a MiB, beside the loop).

What chunks hold is not this file's business. Everything is read in bounded slices, and every length is checked against
its limit and against what remains before memory is taken.

Source: protocol §1.8, §10.12; reliability §4 "Recovery table".
"""

import errno
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator

import msgspec

from copycat.errors import CorruptionError, ForeignDirectoryError, LogError, check
from copycat.io.msgpack import UNREADABLE
from copycat.io.storage.base import LogBase
from copycat.io.storage.disk import Disk, File

MAGIC = b"COPYCATS"
FORMAT_VERSION = 1
PAYLOAD_BYTES_MAX = 1 << 20  # a configuration of thousands of members; keeps a rotten length from asking for gigabytes
CHUNK_BYTES_MAX = 1 << 20  # three times the largest that is written

_HEADER = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
_CHUNK = struct.Struct("<II")
_END = struct.Struct("<IQQ")
_DIGEST_BYTES = 16
END_BYTES = _END.size + _DIGEST_BYTES
FILE_BYTES_MIN = _HEADER.size + _CHECKSUM.size + END_BYTES


class SnapshotHeader(msgspec.Struct, frozen=True):
    """What a snapshot says of itself: where in the log it stands, and the configuration in force there.

    `index`, `term`, `chain` and `time` (log time in milliseconds) belong to the last entry it covers, which ends a
    block. `cluster_id` has 16 bytes, or none. `configuration` is not looked into; it was appended at
    `configuration_index`, 0 if it was never in the log.
    """

    index: int
    term: int
    chain: int
    time: int
    cluster_id: bytes
    configuration: bytes
    configuration_index: int

    @property
    def base(self) -> LogBase:
        """Where a log goes on from here."""
        return LogBase(self.index, self.term, self.chain, self.time)

    def encode(self) -> bytes:
        problem = _problem(self)
        check(problem is None, "a snapshot's header is in its ranges", problem)
        payload = msgspec.msgpack.encode(self)
        check(len(payload) <= PAYLOAD_BYTES_MAX, "a snapshot's header is small", len(payload))
        checked = _HEADER.pack(MAGIC, FORMAT_VERSION, len(payload)) + payload
        return checked + _CHECKSUM.pack(zlib.crc32(checked))


class SnapshotFile:
    """A snapshot on disk, whose header is sound. It is opened for each call, so it may be used on any thread.

    `size` counts the bytes of the file. Once two newer snapshots are durable it is removed, but for its readers.
    """

    def __init__(self, disk: Disk, path: str, header: SnapshotHeader, size: int) -> None:
        self.path = path
        self.header = header
        self.size = size
        self._disk = disk

    def chunks(self) -> Iterator[bytes]:
        """The chunks in order, each verified. Only when the last has come is it certain that none is missing.

        Raises: CorruptionError that names the file and where; LogError if the file was removed for newer ones.
        """
        file = self._open()
        try:
            size = file.size()
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            header = _read_header(file, self.path, size)
            digest.update(header)
            offset = len(header)
            count = 0
            while True:
                frame = _read(file, self.path, offset, min(_CHUNK.size, size - offset))
                if len(frame) < _CHUNK.size:
                    raise CorruptionError(f"{self.path} at byte {offset}: the snapshot is cut short")
                length, checksum = _CHUNK.unpack(frame)
                if length == 0:
                    break
                if length > min(CHUNK_BYTES_MAX, size - offset - _CHUNK.size):
                    raise CorruptionError(f"{self.path} at byte {offset}: a chunk of {length} bytes cannot be")
                chunk = _read(file, self.path, offset + _CHUNK.size, length)
                if len(chunk) < length or zlib.crc32(chunk) != checksum:
                    raise CorruptionError(f"{self.path} at byte {offset}: the checksum of chunk {count} differs")
                digest.update(frame)
                digest.update(chunk)
                yield chunk
                offset += _CHUNK.size + length
                count += 1
            self._check_end(_read(file, self.path, offset, min(END_BYTES, size - offset)), offset, size, count, digest)
        finally:
            file.close()

    def verify(self) -> None:
        """Read all of it. Raises: as `chunks`."""
        for _ in self.chunks():
            pass

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file as they are; fewer only at its end. Raises: as `chunks`."""
        reader = self.reader()
        try:
            return reader.read(offset, length)
        finally:
            reader.close()

    def reader(self) -> "SnapshotReader":
        """The file held open, to be sent piece by piece. Raises: LogError if the file was removed for newer ones."""
        return SnapshotReader(self.path, self._open(), self.size)

    def _open(self) -> File:
        try:
            return self._disk.open(self.path)
        except FileNotFoundError as error:
            raise LogError(f"{self.path} was removed, for there are newer ones: begin again with the newest") from error

    def _check_end(self, mark: bytes, offset: int, size: int, count: int, digest: "hashlib.blake2b") -> None:
        if len(mark) < END_BYTES:
            raise CorruptionError(f"{self.path} at byte {offset}: the end mark is cut short")
        digest.update(mark[: _END.size])
        _, said_count, said_size = _END.unpack_from(mark)
        if (said_count, said_size) != (count, size) or offset + END_BYTES != size:
            raise CorruptionError(
                f"{self.path} at byte {offset}: the end mark speaks of {said_count} chunks in {said_size} bytes; there "
                f"are {count} in {size}"
            )
        if digest.digest() != mark[_END.size :]:
            raise CorruptionError(f"{self.path} at byte {offset}: the digest of the whole snapshot differs")


class SnapshotReader:
    """A snapshot's file held open: it can be read to its end although newer ones take its place. Close it.

    Used on one thread at a time.
    """

    def __init__(self, path: str, file: File, size: int) -> None:
        self.size = size
        self._path = path
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file as they are; fewer only at its end. Raises: CorruptionError where the disk cannot read."""
        check(offset >= 0 and length >= 0, "a file is read within itself", offset, length)
        return _read(self._file, self._path, offset, max(0, min(length, self.size - offset)))

    def close(self) -> None:
        self._file.close()


class SnapshotEncoder:
    """The bytes of a snapshot file, piece by piece. `size` counts those made so far."""

    def __init__(self, header: SnapshotHeader) -> None:
        self.size = 0
        self._header: bytes | None = header.encode()
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def chunk(self, data: bytes) -> bytes:
        """What to write for a chunk of 1 byte to CHUNK_BYTES_MAX."""
        check(0 < len(data) <= CHUNK_BYTES_MAX, "a chunk of a snapshot is bounded, and not empty", len(data))
        self._count += 1
        return self._counted(self._begun() + _CHUNK.pack(len(data), zlib.crc32(data)) + data)

    def end(self) -> bytes:
        """What to write behind the last chunk."""
        begun = self._begun()
        mark = _END.pack(0, self._count, self.size + len(begun) + END_BYTES)
        counted = self._counted(begun + mark)
        self.size += _DIGEST_BYTES
        return counted + self._digest.digest()

    def _begun(self) -> bytes:
        header, self._header = self._header, None
        return header or b""

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size += len(data)
        return data


def open_snapshot(disk: Disk, path: str) -> SnapshotFile:
    """The snapshot at `path`, of which only the header is read. Raises: CorruptionError; ForeignDirectoryError."""
    file = disk.open(path)
    try:
        size = file.size()
        data = _read_header(file, path, size)
    finally:
        file.close()
    try:
        header = msgspec.msgpack.decode(data[_HEADER.size : -_CHECKSUM.size], type=SnapshotHeader)
    except UNREADABLE as error:
        raise CorruptionError(f"{path} at byte {_HEADER.size}: the header cannot be read: {error}") from None
    if problem := _problem(header):
        raise CorruptionError(f"{path} at byte {_HEADER.size}: the header is impossible: {problem}")
    return SnapshotFile(disk, path, header, size)


def snapshot_file_name(name: str, index: int, term: int) -> str:
    return f"{name}-{index:020}-{term}.snapshot"


def parse_snapshot_file_name(name: str, file_name: str) -> tuple[int, int] | None:
    """Index and term, or None if the file is not a snapshot of the log `name`."""
    match = re.fullmatch(re.escape(name) + r"-(\d{20})-(\d{1,20})\.snapshot", file_name)
    return (int(match[1]), int(match[2])) if match else None


def _read_header(file: File, path: str, size: int) -> bytes:
    """The header, whose checksum is right. Raises: CorruptionError, ForeignDirectoryError."""
    head = _read(file, path, 0, min(size, _HEADER.size))
    if len(head) < _HEADER.size:
        raise CorruptionError(f"{path} at byte 0: the header is cut short")
    magic, version, payload_bytes = _HEADER.unpack(head)
    if magic != MAGIC:
        raise CorruptionError(f"{path} at byte 0: this is not a snapshot")
    rest_bytes = payload_bytes + _CHECKSUM.size
    if payload_bytes > PAYLOAD_BYTES_MAX or rest_bytes > size - len(head):
        raise CorruptionError(f"{path} at byte 0: a header of {payload_bytes} bytes cannot be")
    header = head + _read(file, path, len(head), rest_bytes)
    checked = len(head) + payload_bytes
    if len(header) < checked + _CHECKSUM.size:
        raise CorruptionError(f"{path} at byte 0: the header is cut short")
    if zlib.crc32(header[:checked]) != _CHECKSUM.unpack_from(header, checked)[0]:
        raise CorruptionError(f"{path} at byte 0: the checksum of the header differs")
    if version != FORMAT_VERSION:
        raise ForeignDirectoryError(
            f"{path}: format version {version}; this release knows {FORMAT_VERSION}: start the release that wrote it"
        )
    return header


def _problem(header: SnapshotHeader) -> str | None:
    """Which field of a header is out of its range."""
    if not 1 <= header.index < 2**63:
        return f"index {header.index}"
    if not 1 <= header.term < 2**63:
        return f"term {header.term}"
    if not 0 <= header.chain < 2**32:
        return f"chain {header.chain}"
    if not 0 <= header.time < 2**63:
        return f"time {header.time}"
    if len(header.cluster_id) not in (0, 16):
        return f"a cluster id of {len(header.cluster_id)} bytes"
    if not 0 <= header.configuration_index <= header.index:
        return f"configuration index {header.configuration_index}"
    return None


def _read(file: File, path: str, offset: int, length: int) -> bytes:
    """Bytes of a file. A place that the disk cannot read is as bad as one that has rotted."""
    try:
        return file.read(offset, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptionError(f"{path} at byte {offset}: the disk cannot read it") from error
