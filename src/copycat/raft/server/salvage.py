"""What can be saved from the directories of a cluster that cannot go on, and what is lost with it.

An entry that was acknowledged is on a majority of the members. So among the logs of a majority that are whole, the one
that would win an election, of the highest last term and then the highest last index, has all of them: nothing is lost.
With fewer, or with damage, nobody can tell; then it is for a person to decide whether what is there is good enough.

What is saved is a backup: it becomes a new cluster, for in the old one members may have voted, acknowledged and seen
what is lost here.

Source: protocol §8.9; Raft dissertation §3.6.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from copycat.errors import ConfigurationError, LogError, StorageError, check
from copycat.io.storage.backup_file import BackupFile
from copycat.io.storage.base import LogBase
from copycat.io.storage.disk import Disk
from copycat.io.storage.findings import Inspection
from copycat.io.storage.inspection import blocks_of
from copycat.io.storage.snapshot_file import SnapshotEncoder, SnapshotFile, SnapshotHeader, parse_snapshot_file_name
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.snapshot import capture
from copycat.raft.protocol.chunks import encode_chunks
from copycat.raft.protocol.configuration import Configuration
from copycat.raft.protocol.members import Member
from copycat.raft.server.executors import MakeMachines
from copycat.raft.server.offline import configuration_of, replay, where_there_are_states


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One directory: where its sound log ends, and whether all that it ever vouched for is in it."""

    found: Inspection
    end: LogBase
    configuration: Configuration
    configuration_index: int
    cluster_id: bytes
    is_whole: bool

    @property
    def member(self) -> str | None:
        """Whose directory it is; None if that cannot be read."""
        return self.found.metadata.member_id if self.found.metadata is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """The directory that has the most, and what is lost with it, in sentences; none: nothing is."""

    best: Candidate
    losses: list[str]


def survey(disk: Disk, inspections: Sequence[Inspection]) -> Salvage:
    """Which of these directories, of stopped members of one cluster, has the most.

    Raises: ConfigurationError if they are not of one cluster, or of none yet; LogError if no state can be made.
    """
    candidates: list[Candidate] = []
    useless: list[str] = []
    for found in inspections:
        candidate = _candidate(disk, found)
        if candidate is None:
            useless.append(f"{found.where}: {where_there_are_states(found)}")
        else:
            candidates.append(candidate)
    if not candidates:
        raise LogError(f"nothing can be saved. {'; '.join(useless)}. Restore a backup: `copycat restore`")
    clusters = sorted({each.cluster_id.hex()[:8] for each in candidates if each.cluster_id})
    if len(clusters) > 1:
        raise ConfigurationError(f"these directories belong to several clusters: {', '.join(clusters)}")
    best = max(candidates, key=lambda each: (each.end.term, each.end.index))
    return Salvage(best=best, losses=_losses(best, candidates, inspections) + useless)


def write_backup(
    disk: Disk, salvage: Salvage, make_machines: MakeMachines, codec: ValueCodec, target: BackupFile
) -> SnapshotFile:
    """Replay the best log and write its state as a backup, whole and verified, or nothing.

    Raises: what a replay raises (a missing type, see `replay`); StorageError if it cannot be written.
    """
    best = salvage.best
    executor = replay(disk, best.found, make_machines, codec)
    check(executor.applied_index == best.end.index, "a replay comes to the end of the log", executor.applied_index)
    encoder = SnapshotEncoder(
        SnapshotHeader(
            index=best.end.index,
            term=best.end.term,
            chain=best.end.chain,
            time=executor.clockwork.time,
            cluster_id=best.cluster_id,
            configuration=best.configuration.encode(),
            configuration_index=best.configuration_index,
        )
    )
    try:
        for chunk in encode_chunks(capture(executor)):
            target.append(encoder.chunk(chunk))
        target.append(encoder.end())
        return target.finish(best.end.index)
    except OSError as error:
        raise StorageError(f"{target.path} cannot be written: {error.strerror or error}; nothing is left") from error
    finally:
        target.remove()


def _candidate(disk: Disk, found: Inspection) -> Candidate | None:
    """None if no state can be made of it. Raises: ConfigurationError if it belongs to no cluster."""
    if not found.last_index:
        return None
    newest = found.newest
    if found.first_index > 1 and (newest is None or newest.header.index < found.first_index - 1):
        return None
    configuration, index = configuration_of(disk, found)
    if configuration is None:
        raise ConfigurationError(f"{found.where}: nothing in it says who the members are; it cannot be repaired")
    known = [found.metadata.cluster_id if found.metadata is not None else b"", configuration.cluster_id]
    return Candidate(
        found=found,
        end=_end(disk, found),
        configuration=configuration,
        configuration_index=index,
        cluster_id=next((each for each in known if each), b""),
        is_whole=found.faulty_from is None and not _lacks_a_snapshot(found),
    )


def _lacks_a_snapshot(found: Inspection) -> bool:
    """Whether one that has rotted went further than all that is sound: the member may have vouched for it."""
    names = [parse_snapshot_file_name("copycat", damage.path.rpartition("/")[2]) for damage in found.damages]
    return any(named is not None and named[0] > found.last_index for named in names)


def _end(disk: Disk, found: Inspection) -> LogBase:
    """Where the sound log ends."""
    end = found.base
    newest = found.newest
    if newest is not None and newest.header.index == found.last_index:
        return newest.header.base
    for block in blocks_of(disk, found, found.first_index):
        end = LogBase(block.last_index, block.term, block.chain, block.time)
    check(end.index == found.last_index, "the sound log ends where its last block does", end.index, found.last_index)
    return end


def _losses(best: Candidate, candidates: Sequence[Candidate], inspections: Sequence[Inspection]) -> list[str]:
    newest = max(candidates, key=lambda each: each.configuration_index).configuration
    voters = [Member.parse(text).id for text in newest.members]
    whole = {each.member for each in candidates if each.is_whole and each.member in voters}
    if len(voters) == 1:
        whole |= {voters[0] for each in candidates if each.is_whole}  # whose else could it be
    needed = len(voters) // 2 + 1
    if len(whole) >= needed:
        return []
    losses = [
        f"{each.where}: indices {max(each.faulty_from, best.end.index + 1)} to {each.lost_to} at least were durable "
        "and are damaged or missing"
        for each in inspections
        if each.faulty_from is not None and each.lost_to is not None and each.lost_to > best.end.index
    ]
    if len(voters) > 1:
        losses.append(
            f"{len(voters)} members have a vote and {needed} whole directories of theirs are needed to have all that "
            f"was acknowledged; here are {len(whole)}. What the others acknowledged behind index {best.end.index} is "
            "lost, and nobody can tell how much that is"
        )
    elif not losses:
        losses.append(f"{best.found.where}: what was durable behind index {best.end.index} is damaged or missing")
    return losses
