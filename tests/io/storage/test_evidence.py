"""A state put aside for a person to look at: whole or not there, and no start believes in it."""

from collections.abc import Iterator
from random import Random

import pytest

from copycat.io.storage.snapshot_file import SnapshotHeader, open_snapshot
from copycat.io.storage.snapshots import Snapshots
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import DIRECTORY

HEADER = SnapshotHeader(
    index=7, term=2, chain=3, time=4, cluster_id=b"c" * 16, configuration=b"", configuration_index=1
)
CHUNKS = [b"one", b"two" * 1000]


def opened(disk: FaultyDisk) -> Snapshots:
    disk.make_directory(DIRECTORY)
    return Snapshots.open(disk, DIRECTORY)


def test_it_reads_like_a_snapshot_and_is_none() -> None:
    disk = FaultyDisk()
    snapshots = opened(disk)
    snapshots.put_aside(HEADER, CHUNKS)
    disk.crash(Random(1), kept=0.0)
    again = opened(disk)
    assert again.files == ()
    assert again.newest() is None
    file = open_snapshot(disk, again.evidence_path(HEADER))
    file.verify()
    assert (file.header, list(file.chunks())) == (HEADER, CHUNKS)


@pytest.mark.parametrize("stop", range(8))
def test_a_crash_leaves_all_of_it_or_nothing_after_the_next_start(stop: int) -> None:
    disk = FaultyDisk()
    snapshots = opened(disk)
    disk.stop_after = stop
    try:
        snapshots.put_aside(HEADER, CHUNKS)
    except PowerFailure:
        pass
    disk.crash(Random(stop))
    opened(disk)
    for name in disk.list(DIRECTORY):
        open_snapshot(disk, f"{DIRECTORY}/{name}").verify()


def test_what_cannot_be_encoded_or_written_leaves_nothing() -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("no")

    disk = FaultyDisk()
    snapshots = opened(disk)
    with pytest.raises(ValueError, match="no"):
        snapshots.put_aside(HEADER, broken())
    disk.free_bytes = 1000
    with pytest.raises(OSError, match="No space"):
        snapshots.put_aside(HEADER, CHUNKS)
    assert disk.list(DIRECTORY) == []
