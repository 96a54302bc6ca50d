"""What clients are promised, as chapter 6 of the dissertation has it: sessions, and reads without the log.

One test a rule, in the paper's words. The finer points are in tests/raft; docs/reference/paper.md lists all.
"""

import pytest

from copycat.raft.core.effects import ProposalRefused, ReadReady, ReadRefused
from copycat.raft.core.events import Applied, Proposed, ReadRequested
from copycat.raft.core.leader import lease_until
from copycat.raft.machine.executor import Ended, Refused, Results
from copycat.raft.protocol.entries import End, ItemKind
from copycat.raft.protocol.state_machine import Commit, Executor, StateMachine
from copycat.raft.protocol.wire import decode_results
from tests.raft.core.member import Member, append_to, appends, elected, ready
from tests.raft.machine.replica import Replica, commands, internal, keep_alive

INCREMENT = 1


class Counter(StateMachine, name="test.paper"):
    """Counts how often it was told to."""

    def __init__(self) -> None:
        self.count = 0

    def configure(self, executor: Executor) -> None:
        executor.register_command(INCREMENT, self.increment)

    def increment(self, commit: Commit) -> int:
        self.count += 1
        return self.count


@pytest.fixture
def replica() -> Replica:
    return Replica(Counter)


def results(replica: Replica, batch: tuple[int, bytes]) -> list[object]:
    (outcome,) = replica.apply(batch)
    assert isinstance(outcome, Results)
    return decode_results(outcome.data)


def count(replica: Replica) -> int:
    assert isinstance(replica.machine, Counter)
    return replica.machine.count


# -- §6.2 routing requests to the leader -------------------------------------------------------------------------------


@pytest.mark.paper("6.2")
def test_a_follower_refuses_requests_and_knows_where_to_send_them() -> None:
    member = Member()
    member.hear("b", append_to((), term=1))
    effects = member.step(Proposed(count=1, body=b"x"), ReadRequested("q"))
    assert effects == [ProposalRefused([b"x"]), ReadRefused(["q"])]
    assert member.raft.leader == "b"


# -- §6.3 linearizable semantics ---------------------------------------------------------------------------------------


@pytest.mark.paper("6.3")
def test_a_command_that_comes_again_is_answered_as_before_and_not_executed_again(replica: Replica) -> None:
    session = replica.session()
    batch = commands(session.id, 1, [INCREMENT])
    assert results(replica, batch) == results(replica, batch) == [1]
    assert count(replica) == 1


@pytest.mark.paper("6.3")
def test_answers_are_kept_until_the_client_says_that_it_has_them(replica: Replica) -> None:
    session = replica.session()
    first = commands(session.id, 1, [INCREMENT])
    replica.apply(first)
    replica.apply(keep_alive((session.id, 1)))
    assert replica.apply(first) == [Refused(session.id, 1, known=True)]
    assert count(replica) == 1


@pytest.mark.paper("6.3")
def test_concurrent_commands_of_a_session_are_each_kept_apart(replica: Replica) -> None:
    session = replica.session()
    first, second = commands(session.id, 1, [INCREMENT]), commands(session.id, 2, [INCREMENT])
    assert [results(replica, batch) for batch in (first, second, first, second)] == [[1], [2], [1], [2]]


@pytest.mark.paper("6.3")
def test_a_command_of_a_session_that_has_ended_is_not_executed(replica: Replica) -> None:
    session = replica.session()
    replica.apply(internal(ItemKind.UNREGISTER, session.id))
    assert replica.apply(commands(session.id, 1, [INCREMENT])) == [Refused(session.id, 1, known=False)]
    assert count(replica) == 0


@pytest.mark.paper("6.3")
def test_servers_agree_on_when_a_session_expires_for_the_log_says_so(replica: Replica) -> None:
    session = replica.session()
    replica.apply(internal(ItemKind.TICK), time=10_000_000)  # time alone ends nothing
    assert session.is_open
    assert replica.apply(internal(ItemKind.EXPIRE, session.id, ack=session.activity_index)) == [
        Ended(session.id, End.EXPIRED)
    ]


# -- §6.4 read-only queries --------------------------------------------------------------------------------------------


@pytest.mark.paper("6.4")
def test_a_leader_serves_no_read_before_an_entry_of_its_own_term_is_committed() -> None:
    member = elected()
    assert ReadRefused(["early"]) in member.step(ReadRequested("early"))
    member.flush()
    member.answer("b")
    member.step(Applied(3))
    assert ReadRefused(["late"]) not in member.step(ReadRequested("late"))


@pytest.mark.paper("6.4")
def test_a_read_waits_for_a_round_of_heartbeats_that_began_after_it_came() -> None:
    member = ready()
    before = member.leading.round
    assert appends(member.step(ReadRequested("q"))) != []
    assert member.answer("b", round=before) == []
    assert ReadReady(["q"], 3) in member.answer("b")


@pytest.mark.paper("6.4")
def test_a_read_is_answered_at_the_commit_index_it_found_when_it_came() -> None:
    member = ready()
    member.step(Proposed(count=1, body=b"x"))
    member.step(ReadRequested("q"))
    member.flush()
    assert ReadReady(["q"], 3) in member.answer("b")
    assert member.raft.commit_index == 4


@pytest.mark.paper("6.4")
def test_one_round_serves_any_number_of_reads() -> None:
    member = ready()
    before = member.leading.round
    member.step(*(ReadRequested(number) for number in range(100)))
    assert member.leading.round == before + 1
    assert ReadReady(list(range(100)), 3) in member.answer("c")


@pytest.mark.paper("6.4")
def test_a_deposed_leader_answers_no_read() -> None:
    member = ready()
    member.step(ReadRequested("q"))
    assert ReadRefused(["q"]) in member.hear("b", append_to((), term=9))


@pytest.mark.paper("6.4.1")
def test_a_lease_begins_when_the_round_was_sent_that_a_majority_has_answered() -> None:
    member = ready()
    member.step(after=100)
    sent = member.now
    member.answer("b", after=90)
    assert lease_until(member.raft, member.leading) == sent + 200


@pytest.mark.paper("6.4.1")
def test_a_lease_is_shorter_than_what_followers_promise_by_what_clocks_may_drift() -> None:
    leader, follower = ready(), Member()
    follower.hear("b", append_to((), term=1, lease_ms=leader.raft.config.lease_ms))
    lease = lease_until(leader.raft, leader.leading) - leader.now
    assert lease == 0.8 * (follower.raft.promised_until - follower.now)
