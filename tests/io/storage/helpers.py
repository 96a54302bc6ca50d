"""What the storage tests share: blocks that follow one another and a log on a faulty disk."""

import zlib
from collections.abc import Sequence

from copycat.io.storage import Block, Log
from copycat.io.storage.base import BaseLog, LogBase
from copycat.io.storage.snapshot_file import SnapshotEncoder, SnapshotFile, SnapshotHeader
from copycat.io.storage.snapshots import Snapshots
from copycat.testing.disk import FaultyDisk, FaultyFile

DIRECTORY = "data"
WALL_MS = 1_700_000_000_000


def make_disk() -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_directory(DIRECTORY)
    return disk


class WatchedDisk(FaultyDisk):
    """Remembers the files that were opened and the paths that were removed."""

    def __init__(self) -> None:
        super().__init__()
        self.make_directory(DIRECTORY)
        self.opened: list[FaultyFile] = []
        self.removed: list[str] = []

    def open(self, path: str, *, create: bool = False) -> FaultyFile:
        file = super().open(path, create=create)
        self.opened.append(file)
        return file

    def remove(self, path: str) -> None:
        super().remove(path)
        self.removed.append(path)

    def all_closed(self) -> bool:
        return all(file._closed for file in self.opened)


def open_log(
    disk: FaultyDisk,
    *,
    segment: int = 1 << 20,
    cache: int = 1 << 20,
    cluster_id: bytes = b"",
    base: LogBase | None = None,
) -> Log:
    return Log.open(disk, DIRECTORY, cluster_id=cluster_id, base=base, max_segment_size=segment, cache_size=cache)


def next_block(log: BaseLog, body: bytes = b"body", *, count: int = 1, term: int | None = None) -> Block:
    """A block that follows the last of `log`."""
    return Block(
        log.last_index + 1,
        count,
        max(log.last_term, 1) if term is None else term,
        1,
        log.last_time + 5,
        WALL_MS + log.last_index,
        log.last_chain,
        zlib.crc32(body, log.last_chain),
        body,
    )


def append(log: BaseLog, body: bytes = b"body", *, count: int = 1, term: int | None = None) -> Block:
    block = next_block(log, body, count=count, term=term)
    log.append(block)
    return block


def flush(log: BaseLog) -> tuple[int, int]:
    job = log.take_flush()
    assert job is not None
    job.run()
    return log.flushed(job)


def all_blocks(log: BaseLog) -> list[Block]:
    return log.read(log.first_index, log.last_index, 1 << 40)


def newest_segment(disk: FaultyDisk) -> str:
    return f"{DIRECTORY}/{[name for name in disk.list(DIRECTORY) if name.endswith('.log')][-1]}"


def base_after(block: Block) -> LogBase:
    """Where a log goes on behind `block`."""
    return LogBase(block.last_index, block.term, block.chain, block.time)


# -- snapshots ---------------------------------------------------------------------------------------------------------

CLUSTER = b"c" * 16
CHUNKS = [b"one", bytes(range(256)) * 20, b"x"]


def snapshot_header(index: int, *, term: int = 1, cluster_id: bytes = CLUSTER) -> SnapshotHeader:
    return header_at(LogBase(index, term, index * 7919 % 2**32, index * 5), cluster_id=cluster_id)


def header_at(base: LogBase, *, cluster_id: bytes = CLUSTER) -> SnapshotHeader:
    """The header of a snapshot that ends at `base`."""
    return SnapshotHeader(base.index, base.term, base.chain, base.time, cluster_id, b"members", base.index // 2)


def snapshot_bytes(header: SnapshotHeader, chunks: Sequence[bytes] = CHUNKS) -> bytes:
    """The file of a snapshot."""
    encoder = SnapshotEncoder(header)
    return b"".join([encoder.chunk(chunk) for chunk in chunks]) + encoder.end()


def open_snapshots(disk: FaultyDisk, *, cluster_id: bytes = CLUSTER) -> Snapshots:
    return Snapshots.open(disk, DIRECTORY, cluster_id=cluster_id)


def take(snapshots: Snapshots, header: SnapshotHeader, chunks: Sequence[bytes] = CHUNKS) -> SnapshotFile:
    """Write a whole snapshot."""
    writer = snapshots.begin(header)
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish()


def put_file(disk: FaultyDisk, path: str, data: bytes) -> None:
    """A file with this content, durable."""
    file = disk.open(path, create=True)
    file.write_at(0, data)
    file.sync()
    file.close()
    disk.sync_directory(DIRECTORY)
