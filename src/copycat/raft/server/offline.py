"""What a data directory holds for those who know the protocol: its configuration, and its state at an index.

Nothing here changes a directory or needs a server. The state is made as a server makes it at its start: the newest
snapshot that is old enough, and then the log.

A directory alone cannot tell which of its last entries were committed. What is not may be replaced by others later; a
replay takes all of it.

Source: protocol §1.8, §8.4.
"""

from collections.abc import Iterator

from copycat.errors import LogError, ProtocolError
from copycat.io.storage.disk import Disk
from copycat.io.storage.findings import Inspection
from copycat.io.storage.inspection import blocks_of
from copycat.io.storage.record import Block
from copycat.io.storage.snapshot_file import SnapshotFile
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import restore
from copycat.raft.protocol.chunks import decode_chunks
from copycat.raft.protocol.configuration import Configuration, decode_configuration
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.server.executors import MakeMachines, new_executor


def configuration_of(disk: Disk, found: Inspection) -> tuple[Configuration | None, int]:
    """The newest configuration that the sound log, a snapshot or the metadata tells, and its index; 0: of forming."""
    newest: tuple[Configuration | None, int] = None, 0
    for block in blocks_of(disk, found, found.first_index):
        if block.kind != BlockKind.ITEMS:
            newest = _decode(block.body) or newest[0], block.first_index
    if newest[0] is not None:
        return newest
    file = found.newest
    if file is not None and (known := _decode(file.header.configuration)) is not None:
        return known, file.header.configuration_index
    metadata = found.metadata
    if metadata is not None and metadata.members:
        return Configuration(cluster_id=metadata.cluster_id, members=metadata.members), 0
    return None, 0


def replay(
    disk: Disk, found: Inspection, make_machines: MakeMachines, codec: ValueCodec, index: int | None = None
) -> Executor:
    """The state at `index`; None: at the end of the sound log. A block takes effect whole, so it may be a little later:
    see `Executor.applied_index`.

    Raises: LogError if the state there cannot be made any more, saying where it can; what halts a member: a missing
    type, a state that cannot be restored.
    """
    wanted = found.last_index if index is None else index
    begin = _beginning(found, wanted)
    executor = new_executor(make_machines, codec)
    if begin is not None:
        restore(executor, decode_chunks(begin.chunks()))
    if executor.applied_index < wanted:
        for block in blocks_of(disk, found, executor.applied_index + 1):
            executor.apply(block)
            executor.take_published()
            if executor.applied_index >= wanted:
                break
    if executor.applied_index < wanted:
        raise LogError(f"{found.where}: index {wanted} is not there; {where_there_are_states(found)}")
    return executor


def where_there_are_states(found: Inspection) -> str:
    """At which indices a state can be made, for people."""
    sound = sorted(report.index for report in found.snapshots if report.is_sound)
    starts = [each for each in ([0] if found.first_index == 1 else []) + sound if each >= found.first_index - 1]
    alone = [str(each) for each in sound if not starts or each < starts[0]]
    ranges = [f"from {max(starts[0], 1)} to {max(found.last_index, *starts)}"] if starts and found.last_index else []
    if not alone and not ranges:
        return "there is no index of which the state can be made: neither a sound snapshot nor a log from index 1"
    return f"the state can be made at these: {', '.join(alone + ranges)}"


def records_of(disk: Disk, found: Inspection, first: int, last: int | None) -> Iterator[Block]:
    """The blocks that hold the indices from `first` to `last`; None: to the end.

    Raises: LogError if the log does not hold them, saying which it holds.
    """
    if found.last_index < found.first_index:
        raise LogError(f"{found.where}: the log holds no records: it begins behind index {found.last_index}")
    if first < found.first_index or first > found.last_index:
        raise LogError(
            f"{found.where}: index {first} is not in the log, which holds {found.first_index} to {found.last_index}"
        )
    for block in blocks_of(disk, found, first):
        if last is not None and block.first_index > last:
            return
        yield block


def _beginning(found: Inspection, wanted: int) -> SnapshotFile | None:
    """The newest sound snapshot at or before `wanted` from which the log goes on. None: the log alone will do."""
    fitting = [
        report
        for report in found.snapshots
        if report.is_sound
        and report.index <= wanted
        and (report.index == wanted or report.index >= found.first_index - 1)
    ]
    if fitting:
        return fitting[-1].file
    if found.first_index > 1 or not 0 < wanted <= found.last_index:
        raise LogError(f"{found.where}: the state at index {wanted} cannot be made; {where_there_are_states(found)}")
    return None


def _decode(configuration: bytes) -> Configuration | None:
    try:
        return decode_configuration(configuration)
    except ProtocolError:
        return None
