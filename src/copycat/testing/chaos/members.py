"""Are the members equal? Their logs are read from disk, once they are stopped, and applied anew."""

from collections.abc import Mapping
from pathlib import Path

from copycat.errors import CopycatError
from copycat.io.serializer import Serializer
from copycat.io.storage.storage import Storage
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.wire import decode_operations, encode_msgpack, encode_results
from copycat.replica import machines_for
from copycat.testing.chaos.judge import Check
from copycat.testing.portrait import Picture, picture, picture_differences
from copycat.testing.workload import LedgerMachine

READ_BYTES = 1 << 20

State = tuple[int, Picture]  # the chain, which stands for every block up to here; and the state they lead to


def compare_members(directories: Mapping[str, Path], index: int) -> Check:
    """4, 6, 27, 30: all logs are the same up to `index`, which all said to have applied, and lead to the same state."""
    states: dict[str, State] = {}
    breaches = []
    for name, directory in directories.items():
        try:
            states[name] = _state_at(directory, index)
        except CopycatError as error:
            breaches.append(f"{name}: {error}")
    for name, (chain, state) in list(states.items())[1:]:
        first = next(iter(states))
        known_chain, known_state = states[first]
        if chain != known_chain:
            breaches.append(f"the logs of {first} and {name} differ at {index} or before")
        elif state != known_state:
            apart = picture_differences(known_state, state)
            breaches.append(f"{first} and {name} differ at {index}: {apart}")
    return Check(name="members: equal", checked=index, parts=len(states), breaches=tuple(breaches))


def _state_at(directory: Path, index: int) -> State:
    """What a member that starts with this data has at `index`. Raises CopycatError, also when it is not there."""
    storage = Storage(directory)
    storage.lock()
    try:
        metadata = storage.open_metadata().load()
        log = storage.open_log(cluster_id=b"" if metadata is None else metadata.cluster_id)
        if log.last_index < index:
            raise CopycatError(f"the log ends at {log.last_index}, and {index} was applied")
        clockwork = Clockwork()
        executor = Executor(
            clockwork=clockwork,
            machines=machines_for([LedgerMachine])(clockwork, Serializer()),
            decode_operations=decode_operations,
            encode_results=encode_results,
            encode_event=encode_msgpack,
        )
        while executor.applied_index < index:
            for block in log.read(executor.applied_index + 1, index, READ_BYTES):
                executor.apply(block)
        chain = log.chain_at(index)
        log.close()
        return chain, picture(executor)
    finally:
        storage.close()
