"""A backup becomes the beginning of a new cluster: the same state, of which nobody holds anything any more.

All that could clash with the cluster it comes from is another: the cluster's id, drawn when it forms, as always; the
members' incarnations; and the indices, which begin 2**32 behind the backup's. The old cluster may have gone on after
the backup, and handed out fencing tokens, versions and session ids up to its last index: those of the new one are above
all of them, as long as it was fewer than four thousand million entries.

The same backup, restored by the same classes, makes the same bytes everywhere. Their digest is what members compare
before they form.

Source: protocol §8.3, §8.8.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from copycat.errors import ConfigurationError, CopycatError, CorruptionError, StorageError
from copycat.io.storage.base import LogBase
from copycat.io.storage.disk import Disk
from copycat.io.storage.metadata import Metadata
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES, Segment, SegmentHeader
from copycat.io.storage.snapshot_file import SnapshotHeader, open_snapshot
from copycat.io.storage.storage import LOCK_FILE, Storage, explain
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import capture, restore
from copycat.raft.protocol.chunks import decode_chunks, encode_chunks
from copycat.raft.protocol.configuration import Configuration
from copycat.raft.protocol.members import Member
from copycat.raft.server.beginning import digest_of
from copycat.raft.server.executors import MakeMachines, new_executor

INDEX_DISTANCE = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The state of a backup, as a new cluster begins with it. `backup` is the header of the file."""

    backup: SnapshotHeader
    base: LogBase
    digest: bytes
    executor: Executor


def read_backup(disk: Disk, path: str, make_machines: MakeMachines, codec: ValueCodec) -> Restored:
    """Verify all of a backup, and make its state that of a new cluster. Nothing is written.

    Raises: CorruptionError, saying where it is damaged; what halts a member: a missing type, a state that cannot be
    restored; StorageError if it cannot be read.
    """
    try:
        file = open_snapshot(disk, path)
        file.verify()
        executor = new_executor(make_machines, codec)
        restore(executor, decode_chunks(file.chunks()))
    except CorruptionError as error:
        raise CorruptionError(
            f"{error}. The backup cannot be restored, and nothing was written: use another"
        ) from error
    except CopycatError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    header = file.header
    executor.begin_anew(header.index + INDEX_DISTANCE)
    base = LogBase(executor.applied_index, header.term, header.chain, executor.clockwork.time)
    digest = digest_of(base, encode_chunks(capture(executor)))
    return Restored(backup=header, base=base, digest=digest, executor=executor)


def write_directory(
    storage: Storage, restored: Restored, member: Member, members: Sequence[Member], chance: random.Random
) -> None:
    """Make a new data directory for `member`, one of `members`, that begins with this state; durable when it returns.

    Raises: ConfigurationError if the directory is not empty; DirectoryInUseError; StorageError. Nothing is left in it
    then.
    """
    disk, directory = storage.disk, storage.directory
    require_empty(storage)
    storage.lock()
    try:
        _write(storage, restored, member, members, chance)
    except BaseException as error:
        for name in disk.list(directory):
            if name != LOCK_FILE:
                disk.remove(f"{directory}/{name}")
        if isinstance(error, OSError) and not isinstance(error, CopycatError):
            raise explain(directory, error) from error
        raise
    finally:
        storage.close()


def require_empty(storage: Storage) -> None:
    """Raises ConfigurationError if there is anything in the directory."""
    disk, directory = storage.disk, storage.directory
    try:
        there = [name for name in disk.list(directory) if name != LOCK_FILE] if disk.exists(directory) else []
    except OSError as error:
        raise explain(directory, error) from error
    if there:
        raise ConfigurationError(
            f"{directory} is not empty, it holds {there[0]}: restore into a new directory; nothing was written"
        )


def _write(
    storage: Storage, restored: Restored, member: Member, members: Sequence[Member], chance: random.Random
) -> None:
    disk, directory, base = storage.disk, storage.directory, restored.base
    incarnation = chance.getrandbits(128).to_bytes(16, "big")
    keeper = storage.open_metadata()
    keeper.load()
    keeper.save(Metadata(base.term, "", member.id, incarnation, begins_with=restored.digest))
    header = SegmentHeader(
        generation=1,
        first_index=base.index + 1,
        previous_term=base.term,
        chain=base.chain,
        synced_index=base.index,
        previous_time=base.time,
        voids_older=True,
    )
    segment = Segment(disk, directory, "copycat", header, SEGMENT_HEADER_BYTES)
    segment.create()
    segment.close()
    configuration = Configuration(cluster_id=b"", members=[str(each) for each in members])
    writer = storage.open_snapshots().begin(
        SnapshotHeader(
            index=base.index,
            term=base.term,
            chain=base.chain,
            time=base.time,
            cluster_id=b"",
            configuration=configuration.encode(),
            configuration_index=0,
        )
    )
    for chunk in encode_chunks(capture(restored.executor)):
        writer.write(chunk)
    writer.finish()
