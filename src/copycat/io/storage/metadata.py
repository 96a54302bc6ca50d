"""Term, vote and identity: the few bytes a member must never forget.

Two files hold the same checksummed record. A save writes one, syncs it, writes the other, syncs it; a crash can tear
one of them at most. The copy that is bad or older is always written *first*, for overwriting the only good copy
would leave a moment with none. Each file is born by rename, so a bad file is never an unfinished first save.

Source: protocol §1.4, §10.5; reliability §4 "Metadata".
"""

import struct
import zlib
from typing import Protocol

import msgspec

from copycat.errors import CorruptionError, ForeignDirectoryError, LogError, check
from copycat.io.msgpack import UNREADABLE
from copycat.io.storage.disk import Disk

MAGIC = b"COPYCATM"
FORMAT_VERSION = 1
FILE_NAMES = ("metadata-a", "metadata-b")
PAYLOAD_BYTES_MAX = 1 << 20  # hundreds of members; only keeps a rotten length from asking for gigabytes

_HEADER = struct.Struct("<8sII")  # magic, version, payload length; then payload, then crc32 over both
_CHECKSUM = struct.Struct("<I")


class Metadata(msgspec.Struct, frozen=True):
    """What a member persists apart from its log.

    `vote` is "" for none in `term`; `cluster_id` is b"" until the cluster is formed, and then `incarnations` names
    every member's; `members` are text forms, `passive` those without a vote; `sequence` counts saves and is set by the
    store. `begins_with` is the digest of the state that a restored member began with, b"" for one that began with
    nothing. `diverged_at` is the index at which its state was found not to be that of the others, 0 for none. `lives`:
    the number and the mark of the latest start of each member that is known here, this one's own among them.
    `outdated`: this is an older copy, which has no vote until it is refilled. `awaits_vote`: it has joined, and has not
    been given the vote yet that it is to have.
    """

    term: int
    vote: str
    member_id: str
    incarnation: bytes
    cluster_id: bytes = b""
    members: list[str] = []
    incarnations: dict[str, bytes] = {}
    sequence: int = 0
    begins_with: bytes = b""
    passive: list[str] = []
    diverged_at: int = 0
    lives: dict[str, tuple[int, bytes]] = {}
    outdated: bool = False
    awaits_vote: bool = False


class MetadataKeeper(Protocol):
    """Where metadata is kept: on disk, or for `StorageLevel.MEMORY` nowhere."""

    def load(self) -> Metadata | None: ...
    def save(self, metadata: Metadata) -> Metadata: ...


class MetadataStore:
    """The two metadata files of one data directory, which exists. Not safe on two threads at once."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._paths = [f"{directory}/{name}" for name in FILE_NAMES]
        self._sequences = [0, 0]  # 0: missing or bad, so written first
        self._loaded = False
        self._failed = False

    def load(self) -> Metadata | None:
        """The newest sound copy, written anew to both files; None if nothing was ever saved.

        Written anew, because after a failed sync a restarted process reads from the cache what no later sync
        will bring to the disk; a vote must not rest on that.
        Raises: CorruptionError if files exist and none is sound; ForeignDirectoryError on an unknown version.
        """
        found = read_copies(self._disk, self._directory)
        copies = [found.get(path) for path in self._paths]
        self._sequences = [0 if copy is None else copy.sequence for copy in copies]
        sound = [copy for copy in copies if copy is not None]
        if found and not sound:
            raise CorruptionError(
                f"{self._directory}: no copy of the metadata is sound, so this member's vote is forgotten; "
                "remove the member and join again under a new id with an empty directory; of a single one, save what "
                "its log holds with `copycat repair`"
            )
        self._loaded = True
        if not sound:
            return None
        newest = max(sound, key=lambda copy: copy.sequence)
        self._write_both(newest)
        return newest

    def save(self, metadata: Metadata) -> Metadata:
        """Make `metadata` durable and return it with its sequence number; call `load` first.

        Raises: OSError, after which the store refuses everything: a failed sync is never retried.
        """
        check(self._loaded, "metadata is loaded before it is saved")
        check(len(metadata.incarnation) == 16, "an incarnation has 16 bytes", metadata.incarnation)
        if self._failed:
            raise LogError(f"{self._directory}: an earlier save of the metadata failed")
        saved = msgspec.structs.replace(metadata, sequence=max(self._sequences) + 1)
        self._write_both(saved)
        return saved

    def _write_both(self, metadata: Metadata) -> None:
        record = _encode(metadata)
        self._failed = True
        for position in sorted((0, 1), key=self._sequences.__getitem__):
            self._write(self._paths[position], record)
            self._sequences[position] = metadata.sequence
        self._failed = False

    def _write(self, path: str, record: bytes) -> None:
        born = self._disk.exists(path)
        target = path if born else path + ".tmp"
        file = self._disk.open(target, create=not born)
        try:
            file.write_at(0, record)
            file.sync()
        finally:
            file.close()
        if not born:
            self._disk.rename(target, path)
            self._disk.sync_directory(self._directory)


def read_copies(disk: Disk, directory: str) -> dict[str, Metadata | None]:
    """The copies that are there, by path; None for one that is bad. Raises: ForeignDirectoryError, OSError."""
    copies: dict[str, Metadata | None] = {}
    for name in FILE_NAMES:
        path = f"{directory}/{name}"
        if not disk.exists(path):
            continue
        file = disk.open(path)
        try:
            data = file.read(0, min(file.size(), _HEADER.size + PAYLOAD_BYTES_MAX + _CHECKSUM.size))
        finally:
            file.close()
        copies[path] = _decode(data, path)
    return copies


class MemoryMetadataStore:
    """Metadata that dies with the process, for `StorageLevel.MEMORY`."""

    def __init__(self) -> None:
        self._metadata: Metadata | None = None

    def load(self) -> Metadata | None:
        return self._metadata

    def save(self, metadata: Metadata) -> Metadata:
        sequence = 1 if self._metadata is None else self._metadata.sequence + 1
        self._metadata = msgspec.structs.replace(metadata, sequence=sequence)
        return self._metadata


def _encode(metadata: Metadata) -> bytes:
    payload = msgspec.msgpack.encode(metadata)
    check(len(payload) <= PAYLOAD_BYTES_MAX, "metadata is small", len(payload))
    checked = _HEADER.pack(MAGIC, FORMAT_VERSION, len(payload)) + payload
    return checked + _CHECKSUM.pack(zlib.crc32(checked))


def _decode(data: bytes, path: str) -> Metadata | None:
    """The record in `data`, or None if it is bad. Raises: ForeignDirectoryError."""
    if len(data) < _HEADER.size:
        return None
    magic, version, payload_bytes = _HEADER.unpack_from(data)
    end = _HEADER.size + payload_bytes
    if magic != MAGIC or payload_bytes > PAYLOAD_BYTES_MAX or end + _CHECKSUM.size > len(data):
        return None
    if zlib.crc32(data[:end]) != _CHECKSUM.unpack_from(data, end)[0]:
        return None
    if version != FORMAT_VERSION:
        raise ForeignDirectoryError(
            f"{path}: format version {version}; this release knows {FORMAT_VERSION}: start the release that wrote it"
        )
    try:
        return msgspec.msgpack.decode(data[_HEADER.size : end], type=Metadata)
    except UNREADABLE:
        return None
