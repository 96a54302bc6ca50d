"""A member whose log has a hole: it keeps the log, votes for nobody, and votes again once refilled. protocol §1.2."""

import pytest

from copycat.raft.core.effects import ClearFault
from copycat.raft.core.events import FaultCleared, Flushed, Outdated, Persisted, Unreachable
from copycat.raft.core.passive import NEVER, Passive
from copycat.raft.protocol.messages import PollRequest, PollResponse, VoteRequest, VoteResponse
from tests.raft.core.member import START, Member, answers, append_to, blocks_of, messages, roles

HISTORY = blocks_of(1, 1, 1, 1)


@pytest.fixture
def hurt() -> Member:
    """Knows the first of four blocks and follows `b` in term 2."""
    member = Member(HISTORY[:1], term=2, voting=False)
    member.follow("b")
    return member


def passive(member: Member) -> Passive:
    assert isinstance(member.raft.role, Passive)
    return member.raft.role


def test_it_never_campaigns(hurt: Member) -> None:
    assert hurt.raft.deadline_ms == NEVER > 1 << 60
    assert hurt.step(after=1_000_000) == []
    assert hurt.step(Unreachable("b", refused=True)) == []
    assert hurt.step(after=NEVER) == []
    assert hurt.raft.deadline_ms == NEVER


def test_it_votes_for_nobody_and_takes_over_terms(hurt: Member) -> None:
    hurt.step(after=600)
    effects = hurt.hear("c", PollRequest(term=9, last_index=99, last_term=9))
    assert messages(effects) == [("c", PollResponse(term=2, proposed=9, granted=False))]
    effects = hurt.hear("c", VoteRequest(term=9, last_index=99, last_term=9))
    assert messages(effects) == [("c", VoteResponse(term=9, granted=False))]
    assert roles(effects) == [("passive", 9, None)]
    assert hurt.raft.role.name == "passive"


def test_it_says_with_every_answer_that_it_is_being_refilled(hurt: Member) -> None:
    (accepted,) = answers(hurt.hear("b", append_to(HISTORY[:1], term=2, round=3, confirm=True)))
    (refused,) = answers(hurt.hear("b", append_to(HISTORY, term=2, round=4)))
    assert (accepted.accepted, accepted.refilling) == (True, True)
    assert (refused.accepted, refused.refilling, refused.hint_index) == (False, True, 1)


def test_it_votes_again_once_it_holds_durably_what_its_leader_had_when_it_committed(hurt: Member) -> None:
    hurt.hear("b", append_to(HISTORY[:1], HISTORY[1:3], term=2, last_index=4))
    assert ClearFault() not in hurt.flush()
    hurt.hear("b", append_to(HISTORY[:3], term=2, settled=True, last_index=4))
    hurt.hear("b", append_to(HISTORY[:3], HISTORY[3:], term=2, settled=True, last_index=9))
    assert passive(hurt).target_index == 4
    effects = hurt.flush()
    assert ClearFault() in effects
    assert ClearFault() not in hurt.step()
    (answer,) = answers(effects)
    assert answer.match_index == 4
    effects = hurt.step(FaultCleared(), after=5)
    assert roles(effects) == [("follower", 2, "b")]
    assert answers(effects) == []
    assert hurt.raft.deadline_ms == hurt.now + 500
    (answer,) = answers(hurt.hear("b", append_to(HISTORY, term=2, round=0, confirm=True)))
    assert (answer.match_index, answer.round, answer.refilling) == (4, 1, False)


def test_what_the_leader_has_not_verified_does_not_count_as_refilled() -> None:
    member = Member(HISTORY, term=2, voting=False)
    member.follow("b")
    assert ClearFault() not in member.hear("b", append_to(HISTORY[:2], term=2, settled=True, last_index=4))
    assert ClearFault() in member.hear("b", append_to(HISTORY, term=2, settled=True, last_index=4))


def test_a_leader_that_has_not_committed_in_its_term_sets_no_target(hurt: Member) -> None:
    hurt.hear("b", append_to(HISTORY[:1], term=2, settled=False, last_index=1))
    assert passive(hurt).target_index is None


def test_a_leader_of_an_earlier_term_sets_no_target(hurt: Member) -> None:
    hurt.hear("c", append_to(HISTORY[:1], term=1, settled=True, last_index=1))
    assert passive(hurt).target_index is None
    assert hurt.raft.leader == "b"


def test_a_new_leader_sets_a_new_target_and_verifies_anew(hurt: Member) -> None:
    hurt.hear("b", append_to(HISTORY[:1], HISTORY[1:], term=2, round=7, settled=True, last_index=9))
    hurt.flush()
    hurt.hear("c", append_to(HISTORY[:1], term=3, round=1, settled=False))
    role = passive(hurt)
    assert (role.target_index, role.target_term) == (None, 3)
    assert (role.verified_index, role.told_match, role.round) == (1, 0, 1)
    (answer,) = answers(hurt.step(Persisted(3, "")))
    assert (answer.term, answer.match_index, answer.round) == (3, 1, 1)


def test_a_target_of_a_leader_gone_by_is_not_enough() -> None:
    member = Member(HISTORY[:1], term=2, voting=False)
    member.follow("b")
    member.hear("b", append_to(HISTORY[:1], HISTORY[1:], term=2, settled=True, last_index=4))
    member.hear("c", VoteRequest(term=3, last_index=9, last_term=9), after=600)
    assert member.raft.term == 3
    assert ClearFault() not in member.step(Flushed(4, 1))


def test_it_promises_like_a_follower(hurt: Member) -> None:
    hurt.hear("b", append_to(HISTORY[:1], term=2, lease_ms=300))
    assert hurt.raft.promised_until == START + 300
    assert hurt.raft.deadline_ms == NEVER


# -- an older copy -----------------------------------------------------------------------------------------------------


def test_one_that_turns_out_to_be_older_than_its_word_votes_no_more_in_the_term_it_has_forgotten() -> None:
    member = Member(HISTORY[:2], term=2)
    member.step(after=300)
    effects = member.step(Outdated(4))
    assert (member.raft.term, member.raft.vote) == (4, "a")
    assert roles(effects)[-1] == ("passive", 4, None)
    assert messages(member.step(Persisted(4, "a"))) == []
    effects = member.hear("c", VoteRequest(term=4, last_index=99, last_term=3))
    assert messages(effects) == [("c", VoteResponse(term=4, granted=False))]


def test_a_vote_that_waits_for_the_disk_is_not_given_by_one_that_is_older_than_its_word() -> None:
    member = Member(HISTORY[:2], term=2)
    member.step(after=300)
    member.hear("c", VoteRequest(term=3, last_index=9, last_term=2))
    assert member.raft.vote == "c"
    assert messages(member.step(Outdated(0), Persisted(3, "c"))) == []


def test_one_being_refilled_that_hears_of_more_begins_anew(hurt: Member) -> None:
    hurt.hear("b", append_to(HISTORY[:1], HISTORY[1:], term=2, settled=True))
    assert ClearFault() in hurt.flush()
    hurt.step(Outdated(2))
    hurt.step(FaultCleared())  # of what was wanted before
    assert hurt.raft.role.name == "passive"
