"""One machine with a log of its own, and whether it can be put into a snapshot."""

from collections.abc import Callable
from typing import Any

import pytest

from copycat.errors import SnapshotError
from copycat.io.serializer import Serializer
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.single import SingleMachine
from copycat.raft.machine.snapshot import capture
from copycat.raft.protocol.state_machine import StateMachine
from copycat.testing.replicas import Replica, ReplicatedLog


def log_of(make: Callable[[], StateMachine]) -> ReplicatedLog[Replica]:
    def replica() -> Replica:
        clockwork = Clockwork()
        return Replica(clockwork, SingleMachine(make(), clockwork, Serializer()))

    return ReplicatedLog(replica)


def machine_of(replica: Replica) -> Any:
    return replica.executor.machines.hosts[0].machine


def refusal(make: Callable[[], StateMachine]) -> str:
    """Why a machine cannot be put into a snapshot."""
    with pytest.raises(SnapshotError) as caught:
        list(capture(log_of(make).make().executor))
    return str(caught.value)
