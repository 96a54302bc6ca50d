"""Results that are too much for one answer: every replica says so alike, and nothing else is lost with them."""

from typing import Any

from copycat.raft.machine.executor import Results
from copycat.raft.protocol.entries import RESULTS_BYTES_MAX
from copycat.raft.protocol.operations import RESULT_TOO_LARGE, Failure
from copycat.raft.protocol.state_machine import Commit, Executor, StateMachine
from copycat.raft.protocol.wire import decode_results, encode_operations
from tests.raft.machine.replica import Replica, commands

MAKE, READ = 1, 2


class Factory(StateMachine, name="test.factory"):
    """Makes bytes of any number, and counts how often."""

    made = 0

    def configure(self, executor: Executor) -> None:
        executor.register_command(MAKE, self.make)
        executor.register_query(READ, lambda commit, size: bytes(size))

    def make(self, commit: Commit, size: int) -> bytes:
        self.made += 1
        return bytes(size)


def run(replica: Replica, *sizes: int) -> list[Any]:
    session = replica.session()
    (outcome,) = replica.apply(commands(session.id, 1, *([MAKE, size] for size in sizes)))
    assert isinstance(outcome, Results)
    assert len(outcome.data) <= RESULTS_BYTES_MAX
    return decode_results(outcome.data)


def ask(replica: Replica, *sizes: int) -> list[Any] | None:
    data = replica.executor.query(None, encode_operations([[0, 0, READ, size] for size in sizes]), len(sizes))
    return None if data is None else decode_results(data)


def test_results_up_to_the_limit_are_sent_as_they_are() -> None:
    half = RESULTS_BYTES_MAX // 2 - 16

    assert run(Replica(Factory), half, half) == [bytes(half), bytes(half)]


def test_of_results_that_are_too_much_together_the_small_ones_are_sent_and_all_commands_applied() -> None:
    replica = Replica(Factory)
    large = RESULTS_BYTES_MAX - 1000

    small, *failures = run(replica, 10, large, large)

    assert small == bytes(10)
    assert [type(failure) for failure in failures] == [Failure, Failure]
    assert {failure.kind for failure in failures} == {RESULT_TOO_LARGE}
    assert isinstance(replica.machine, Factory)
    assert replica.machine.made == 3


def test_one_result_that_is_too_large_is_a_failure() -> None:
    (failure,) = run(Replica(Factory), RESULTS_BYTES_MAX + 1)

    assert failure.kind == RESULT_TOO_LARGE
    assert "results in an answer" in failure.message


def test_queries_whose_results_are_too_much_together_are_to_be_asked_in_smaller_groups() -> None:
    replica = Replica(Factory)
    half = RESULTS_BYTES_MAX // 2

    assert ask(replica, half, half, half) is None
    assert ask(replica, half, 10) == [bytes(half), bytes(10)]
    (failure,) = ask(replica, RESULTS_BYTES_MAX + 1) or []
    assert failure.kind == RESULT_TOO_LARGE
