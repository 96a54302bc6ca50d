"""What a leader does, event by event. Member `a` leads; `b` and `c` are the others."""

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.effects import ProposalRefused, ReadReady, ReadRefused, Replicate, Store
from copycat.raft.core.events import Applied, Flushed, Proposed, ReadRequested, Unreachable
from copycat.raft.core.leader import contact_ms, lease_until
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.messages import AppendResponse
from tests.raft.core.member import (
    CONFIGURATION,
    HISTORY,
    Member,
    answers,
    append_to,
    appends,
    committed,
    elected,
    propose,
    ranges,
    ready,
    roles,
)


def rounds(member: Member) -> list[tuple[int, int]]:
    return list(member.leading.sent)


# -- the first entry -------------------------------------------------------------------------------------------------


def test_a_leader_begins_with_an_entry_of_its_own_and_sends_it_to_everyone_at_once() -> None:
    member = Member(HISTORY, term=2)
    effects = member.lead()
    (stored,) = [effect for effect in effects if isinstance(effect, Store)]
    assert (stored.first_index, stored.count, stored.term) == (3, 1, 3)
    assert (stored.kind, stored.body) == (BlockKind.INITIALIZE, CONFIGURATION)
    assert stored.chain_before == HISTORY[-1].chain
    assert member.raft.log.chain_at(3) == stored.chain
    assert appends(effects) == [
        Replicate(
            member=name,
            term=3,
            previous_index=2,
            previous_term=2,
            previous_chain=HISTORY[-1].chain,
            first_index=3,
            last_index=3,
            commit_index=0,
            log_index=3,
            round=1,
            lease_ms=250,
            echo_ms=0,
            confirm=True,
            settled=False,
        )
        for name in ("b", "c")
    ]
    assert rounds(member) == [(1, member.now)]
    assert member.raft.deadline_ms == member.now + 100


def test_a_leader_counts_the_silence_before_it_into_log_time_which_then_runs_with_its_clock() -> None:
    member = Member(HISTORY, term=2)
    assert member.raft.log_time == 20
    (first,) = [effect for effect in member.lead() if isinstance(effect, Store)]
    assert first.time == 20 + 500
    member.flush()
    member.answer("b")
    member.step(Applied(3))
    (second,) = [e for e in member.step(Proposed(count=1, body=b"x"), after=30) if isinstance(e, Store)]
    assert second.time == 20 + 530
    member.raft.log_time = 9_000
    (third,) = [e for e in member.step(Proposed(count=1, body=b"x"), after=5) if isinstance(e, Store)]
    assert third.time == 9_000


def test_a_leader_knows_the_members_whose_link_is_down_when_it_begins() -> None:
    member = Member(HISTORY, term=2)
    member.step(Unreachable("c", refused=True))
    effects = member.lead()
    assert [append.member for append in appends(effects)] == ["b"]


def test_older_entries_are_committed_with_the_first_own_one_and_not_before() -> None:
    member = elected()
    assert committed(member.answer("b", match=2)) == []
    assert committed(member.answer("c", match=2)) == []
    member.flush()
    assert committed(member.answer("b", match=3)) == [3]
    assert member.raft.commit_index == 3


def test_before_its_first_entry_is_applied_a_leader_takes_neither_commands_nor_reads() -> None:
    member = elected()
    member.flush()
    member.answer("b")
    effects = member.step(Proposed(count=1, body=b"early"), ReadRequested("r"))
    assert effects[:2] == [ProposalRefused([b"early"]), ReadRefused(["r"])]
    member.step(Applied(2))
    assert ProposalRefused([b"still"]) in member.step(Proposed(count=1, body=b"still"))
    member.step(Applied(3))
    assert member.raft.is_ready
    assert not any(isinstance(e, ProposalRefused) for e in member.step(Proposed(count=1, body=b"now")))


@pytest.mark.parametrize("index", [2, 4])
def test_what_is_applied_lies_between_what_was_and_what_is_committed(index: int) -> None:
    member = elected()
    member.flush()
    member.answer("b")
    member.step(Applied(3))
    with pytest.raises(InvariantError, match="applied beyond"):
        member.step(Applied(index))


# -- committing ------------------------------------------------------------------------------------------------------


def test_a_majority_of_durable_copies_commits_the_leaders_own_among_them_once_it_is_durable() -> None:
    member = ready()
    propose(member)
    assert committed(member.answer("b")) == []
    assert committed(member.flush()) == [4]
    propose(member)
    assert committed(member.answer("b")) == []
    assert committed(member.answer("c")) == [5]


def test_a_flush_of_blocks_of_another_term_proves_nothing() -> None:
    member = ready()
    propose(member)
    member.answer("b")
    assert committed(member.step(Flushed(4, 2))) == []
    assert member.raft.durable_index == 3
    assert committed(member.step(Flushed(4, 3))) == [4]
    assert committed(member.step(Flushed(3, 3))) == []
    assert member.raft.durable_index == 4


def test_a_block_of_many_commands_is_committed_as_one() -> None:
    member = ready()
    (append, _) = propose(member, b"abc", count=5)
    assert (append.first_index, append.last_index, append.log_index) == (4, 8, 8)
    member.flush()
    assert committed(member.answer("b")) == [8]


def test_the_news_of_a_commit_is_sent_once() -> None:
    member = ready()
    propose(member)
    member.flush()
    effects = member.answer("b")
    assert ranges(effects, "b") == [(5, 4)]
    assert ranges(effects, "c") == [(5, 4)]
    assert {(a.commit_index, a.confirm, a.settled) for a in appends(effects)} == {(4, False, True)}
    assert member.step() == []


# -- rounds, heartbeats and contact ----------------------------------------------------------------------------------


def test_an_idle_leader_speaks_once_a_heartbeat_and_asks_to_be_confirmed() -> None:
    member = ready()
    member.step(after=100)
    assert member.raft.deadline_ms == member.now + 100
    assert appends(member.step(after=99)) == []
    effects = member.step(after=1)
    assert [(a.member, a.confirm, a.first_index, a.last_index) for a in appends(effects)] == [
        ("b", True, 4, 3),
        ("c", True, 4, 3),
    ]
    assert member.raft.deadline_ms == member.now + 100


def test_commands_alone_ask_nobody_to_confirm() -> None:
    member = ready()
    assert {append.confirm for append in propose(member)} == {False}


def test_each_turn_that_sends_is_a_round_of_its_own() -> None:
    member = ready()
    before = member.leading.round
    assert {append.round for append in propose(member, after=1)} == {before + 1}
    assert member.step() == []
    assert member.leading.round == before + 1
    assert rounds(member)[-1] == (before + 1, member.now)


def test_contact_is_when_the_answered_round_was_sent_not_when_the_answer_came() -> None:
    member = ready()
    member.step(after=100)
    sent = member.now
    number = member.leading.round
    member.step(after=100)
    member.answer("b", round=number, after=40)
    assert contact_ms(member.raft, member.leading) == sent
    assert lease_until(member.raft, member.leading) == sent + 200
    member.answer("c", round=number - 1)
    assert contact_ms(member.raft, member.leading) == sent
    member.answer("b", round=number + 1)
    assert contact_ms(member.raft, member.leading) == sent + 100
    member.answer("b", round=number)
    assert contact_ms(member.raft, member.leading) == sent + 100


def test_a_lease_counts_only_part_of_the_promise() -> None:
    member = ready(lease_ms=400)
    assert lease_until(member.raft, member.leading) == contact_ms(member.raft, member.leading) + 320


def test_an_answer_to_a_round_whose_time_is_forgotten_moves_no_contact() -> None:
    member = ready()
    begun = contact_ms(member.raft, member.leading)
    for _ in range(7):
        member.answer("b", after=100)
        member.step()
    assert rounds(member)[0][1] == member.now - 500
    assert contact_ms(member.raft, member.leading) > begun
    member.leading.members["c"].acknowledged_round = 0
    member.leading.members["c"].contact_ms = begun
    member.answer("c", round=1)
    assert member.leading.members["c"].contact_ms == begun


def test_a_leader_steps_down_when_the_timeout_has_passed_without_a_majority() -> None:
    member = ready()
    for _ in range(4):
        member.step(after=100)
    member.step(after=100)
    assert member.raft.is_leader
    assert member.raft.deadline_ms == member.now + 1
    effects = member.step(after=1)
    assert roles(effects) == [("follower", 3, None)]
    assert member.raft.heard_at == member.now
    assert member.raft.deadline_ms == member.now + 500


def test_one_member_of_two_in_contact_is_enough_to_stay() -> None:
    member = ready()
    for _ in range(8):
        member.step(after=100)
        member.answer("c")
    assert member.raft.is_leader


def test_a_leader_that_was_paused_past_its_timeout_steps_down_before_it_reads_what_waited() -> None:
    member = ready()
    member.step(ReadRequested("r"))
    assert ReadRefused(["r"]) in member.answer("b", after=501)
    assert not member.raft.is_leader


def test_a_leader_whose_disk_stands_still_for_the_timeout_steps_down() -> None:
    member = ready()
    propose(member, after=50)
    stuck = member.now
    for _ in range(5):
        member.answer("b", match=3)
        member.step(after=100)
    assert member.now == stuck + 500
    assert member.raft.is_leader
    member.answer("b", match=3)
    assert member.raft.deadline_ms == stuck + 501
    assert roles(member.step(after=1)) == [("follower", 3, None)]


def test_a_leader_of_this_very_term_elsewhere_is_impossible_and_an_older_one_is_told() -> None:
    member = ready()
    (answer,) = answers(member.hear("b", append_to((), term=2, round=5)))
    assert (answer.term, answer.round, answer.accepted, answer.hint_index) == (3, 5, False, 3)
    assert member.raft.is_leader
    with pytest.raises(InvariantError, match="two leaders in one term"):
        member.hear("b", append_to((), term=3))


def test_a_later_term_ends_leadership_and_refuses_all_waiting_reads() -> None:
    member = ready()
    member.step(ReadRequested("sent"))
    response = AppendResponse(term=8, round=1, accepted=False, match_index=0, hint_index=0, sent_ms=0)
    member.raft.role.reads.append("unsent")  # type: ignore[attr-defined]  # it leads
    effects = member.hear("c", response)
    assert ReadRefused(["unsent", "sent"]) in effects
    assert roles(effects) == [("follower", 8, None)]


def test_without_reads_there_is_nothing_to_refuse() -> None:
    member = ready()
    response = AppendResponse(term=8, round=1, accepted=False, match_index=0, hint_index=0, sent_ms=0)
    assert not any(isinstance(effect, ReadRefused) for effect in member.hear("c", response))


# -- reads -----------------------------------------------------------------------------------------------------------


def test_reads_of_a_turn_are_released_together_by_the_round_sent_after_they_came() -> None:
    member = ready()
    propose(member)
    member.flush()
    effects = member.step(ReadRequested("one"), ReadRequested("two"))
    assert [(a.member, a.confirm) for a in appends(effects)] == [("b", True), ("c", True)]
    number = member.leading.round
    assert not any(isinstance(e, ReadReady) for e in member.answer("b", round=number - 1))
    assert ReadReady(["one", "two"], 3) in member.answer("c", round=number)
    assert member.leading.reads == []
    assert not member.leading.waiting


def test_a_read_waits_for_what_was_committed_when_it_came() -> None:
    member = ready()
    member.step(ReadRequested("early"))
    propose(member)
    member.flush()
    effects = member.answer("b", round=member.leading.round - 2)
    assert committed(effects) == [4]
    assert [e for e in member.answer("b") if isinstance(e, ReadReady)] == [ReadReady(["early"], 3)]


def test_later_reads_wait_for_later_rounds() -> None:
    member = ready()
    member.step(ReadRequested("one"))
    first = member.leading.round
    member.step(ReadRequested("two"))
    assert [e for e in member.answer("b", round=first) if isinstance(e, ReadReady)] == [ReadReady(["one"], 3)]
    assert [e for e in member.answer("b") if isinstance(e, ReadReady)] == [ReadReady(["two"], 3)]


def test_a_single_member_answers_reads_at_once() -> None:
    member = Member(size=1)
    member.lead()
    member.flush()
    member.step(Applied(1))
    assert ReadReady(["r"], 1) in member.step(ReadRequested("r"))
