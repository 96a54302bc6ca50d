"""Session hooks that fail: every replica passes over what they raise, alike; what says it is unwell gets out."""

import pytest

from copycat.raft.machine.executor import Ended, Registered
from copycat.raft.protocol.entries import End, ItemKind
from copycat.raft.protocol.state_machine import Executor, Session, StateMachine
from tests.raft.machine.replica import Replica, internal, register


class Clumsy(StateMachine):
    """Every hook fails."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.error: type[Exception] = RuntimeError

    def configure(self, executor: Executor) -> None:
        pass

    def register(self, session: Session) -> None:
        self.called.append("register")
        raise self.error("of the hook")

    def expire(self, session: Session) -> None:
        self.called.append("expire")
        raise self.error("of the hook")

    def close(self, session: Session) -> None:
        self.called.append("close")
        raise self.error("of the hook")


def test_what_a_hook_raises_is_passed_over() -> None:
    machine = Clumsy()
    replica = Replica(lambda: machine)
    (registered,) = replica.apply(register("one"))
    assert isinstance(registered, Registered)

    outcomes = replica.apply(internal(ItemKind.EXPIRE, 1, ack=1 << 60))

    assert outcomes == [Ended(1, End.EXPIRED)]
    assert machine.called == ["register", "expire", "close"]
    assert replica.apply(internal(ItemKind.TICK)) == []


def test_a_hook_that_says_the_process_is_unwell_halts_it() -> None:
    machine = Clumsy()
    machine.error = MemoryError
    with pytest.raises(MemoryError):
        Replica(lambda: machine).apply(register("one"))
