"""The replicated half of a server, new: a state to begin with, to read a snapshot into, or to replay a log into."""

from collections.abc import Callable

from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.executor import Executor, Machines
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.wire import decode_operations, encode_msgpack, encode_results

MakeMachines = Callable[[Clockwork, ValueCodec], Machines]
"""Makes the state machines of a replica: one, or a manager of many."""


def new_executor(make_machines: MakeMachines, codec: ValueCodec) -> Executor:
    """An executor at index 0."""
    clockwork = Clockwork()
    return Executor(
        clockwork=clockwork,
        machines=make_machines(clockwork, codec),
        decode_operations=decode_operations,
        encode_results=encode_results,
        encode_event=encode_msgpack,
    )
