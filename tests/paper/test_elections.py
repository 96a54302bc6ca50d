"""Terms, elections and votes as the dissertation has them: §3.3, §3.4, §3.8, §3.9, §4, §9.6.

One test a rule, in the paper's words. The finer points are in tests/raft/core; docs/reference/paper.md lists all.
"""

import pytest

from copycat.errors import ConfigurationError
from copycat.raft.core.candidate import Candidate
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import Persist
from copycat.raft.core.follower import Follower
from copycat.raft.protocol.messages import PollRequest, PollResponse, VoteRequest, VoteResponse
from tests.raft.core.cluster import CoreCluster
from tests.raft.core.member import Member, answers, append_to, appends, blocks_of, messages, ready, roles

HELD = blocks_of(1, 2)


def vote_request(term: int, *, last_index: int = 2, last_term: int = 2) -> VoteRequest:
    return VoteRequest(term=term, last_index=last_index, last_term=last_term)


def voter() -> Member:
    """A follower of term 2 that has promised nobody anything any more."""
    member = Member(HELD, term=2)
    member.step(after=250)
    return member


# -- §3.3 terms --------------------------------------------------------------------------------------------------------


@pytest.mark.paper("3.3")
def test_a_server_whose_term_is_smaller_takes_over_the_larger_one() -> None:
    member = voter()
    member.hear("b", append_to(HELD, term=5))
    assert member.raft.term == 5


@pytest.mark.paper("3.3")
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "candidate"])
def test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_a_follower_at_once(leads: bool) -> None:
    member = ready() if leads else voter()
    if not leads:
        member.campaign()
    member.hear("b", VoteResponse(term=9, granted=False))
    assert (type(member.raft.role), member.raft.term) == (Follower, 9)


@pytest.mark.paper("3.3")
def test_a_request_with_a_stale_term_is_rejected() -> None:
    member = Member(HELD, term=5)
    (answer,) = answers(member.hear("b", append_to(HELD, term=4)))
    assert (answer.accepted, answer.term) == (False, 5)
    assert messages(member.hear("b", vote_request(4))) == [("b", VoteResponse(term=5, granted=False))]


# -- §3.4 leader election ----------------------------------------------------------------------------------------------


@pytest.mark.paper("3.4")
def test_a_server_begins_as_a_follower() -> None:
    assert type(Member().raft.role) is Follower


@pytest.mark.paper("3.4")
def test_a_leader_sends_heartbeats_that_keep_the_others_followers() -> None:
    cluster = CoreCluster(5, seed=1)
    leader = cluster.elect()
    terms = {node.raft.term for node in cluster.nodes.values() if node.raft}
    cluster.run(20_000)
    assert cluster.leader() == leader
    assert {node.raft.term for node in cluster.nodes.values() if node.raft} == terms


@pytest.mark.paper("3.4")
def test_a_follower_that_hears_nothing_for_an_election_timeout_begins_an_election() -> None:
    member = voter()
    member.follow("b")
    assert roles(member.step(after=499)) == []
    assert roles(member.step(after=1)) == [("candidate", 2, None)]


@pytest.mark.paper("3.4")
def test_a_candidate_goes_to_the_next_term_and_votes_for_itself() -> None:
    member = voter()
    assert Persist(3, "a") in member.campaign()
    assert (member.raft.term, member.raft.vote) == (3, "a")


@pytest.mark.paper("3.4")
def test_a_candidate_asks_all_others_in_parallel() -> None:
    member = Member(HELD, term=2, size=5)
    member.campaign()
    assert messages(member.persist()) == [(other, vote_request(3)) for other in "bcde"]


@pytest.mark.paper("3.4")
@pytest.mark.parametrize(("size", "votes"), [(3, 1), (4, 2), (5, 2)])
def test_a_candidate_wins_with_the_votes_of_a_majority_and_no_fewer(size: int, votes: int) -> None:
    member = Member(HELD, term=2, size=size)
    member.campaign()
    member.persist()
    for other in member.raft.others[:votes]:
        assert not member.raft.is_leader
        member.hear(other, VoteResponse(term=3, granted=True))
    assert member.raft.is_leader


@pytest.mark.paper("3.4")
def test_a_server_votes_for_at_most_one_candidate_in_a_term_the_first_to_ask() -> None:
    member = voter()
    assert Persist(2, "b") in member.hear("b", vote_request(2))
    member.persist()
    assert messages(member.hear("c", vote_request(2))) == [("c", VoteResponse(term=2, granted=False))]


@pytest.mark.paper("3.4")
def test_a_candidate_that_hears_a_leader_of_its_term_or_a_later_one_follows_it() -> None:
    for term in (3, 4):
        member = voter()
        member.campaign()
        member.hear("b", append_to(HELD, term=term))
        assert (type(member.raft.role), member.raft.leader) == (Follower, "b")


@pytest.mark.paper("3.4")
def test_a_candidate_rejects_a_leader_of_an_earlier_term_and_stays_a_candidate() -> None:
    member = voter()
    member.campaign()
    (answer,) = answers(member.hear("b", append_to(HELD, term=2)))
    assert (answer.accepted, type(member.raft.role)) == (False, Candidate)


@pytest.mark.paper("3.4")
def test_a_candidate_that_neither_wins_nor_loses_begins_a_new_election_after_another_timeout() -> None:
    member = voter()
    member.campaign()
    member.persist()
    again = member.step(after=member.raft.deadline_ms - member.now)
    assert ("b", PollRequest(term=4, last_index=2, last_term=2)) in messages(again)


@pytest.mark.paper("3.4")
def test_election_timeouts_are_drawn_at_random_from_an_interval() -> None:
    waits = []
    for draw in (0.0, 0.5, 0.999):
        member = Member(HELD, term=2, random=draw)
        waits.append(member.raft.deadline_ms - member.now)
    assert waits == [500, 750, 999]


@pytest.mark.paper("3.4")
@pytest.mark.parametrize("seed", range(8))
def test_split_votes_are_resolved_because_timeouts_are_random(seed: int) -> None:
    """Four members, so that votes can split evenly, and every follower is woken at the same moment."""
    cluster = CoreCluster(4, seed=seed)
    for name in cluster.names:
        raft = cluster.nodes[name].raft
        assert raft is not None
        raft.role.deadline_ms = cluster.now + 300
        cluster.wake(name)
    assert cluster.elect(limit_ms=3_000)


# -- §3.6.1 election restriction ---------------------------------------------------------------------------------------


@pytest.mark.paper("3.6.1")
@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(1, 3, True), (9, 1, False), (2, 2, True), (3, 2, True), (1, 2, False)],
    ids=["later term, shorter", "earlier term, longer", "equal", "same term, longer", "same term, shorter"],
)
def test_a_voter_denies_its_vote_when_its_own_log_is_more_up_to_date(
    last_index: int, last_term: int, granted: bool
) -> None:
    member = voter()
    member.hear("b", vote_request(3, last_index=last_index, last_term=last_term))
    assert (member.raft.vote == "b") is granted


# -- §3.8 persisted state, §3.9 timing ---------------------------------------------------------------------------------


@pytest.mark.paper("3.8")
def test_a_vote_is_durable_before_it_is_sent() -> None:
    member = voter()
    assert messages(member.hear("b", vote_request(3))) == []
    assert messages(member.persist()) == [("b", VoteResponse(term=3, granted=True))]


@pytest.mark.paper("3.8")
def test_a_candidate_s_own_vote_is_durable_before_it_asks_for_others() -> None:
    member = voter()
    assert messages(member.campaign()) == []
    assert len(messages(member.persist())) == 2


@pytest.mark.paper("3.8")
def test_a_restarted_server_neither_goes_back_in_terms_nor_votes_again() -> None:
    member = Member(HELD, term=6, vote="c")
    member.step(after=250)
    assert messages(member.hear("b", vote_request(6))) == [("b", VoteResponse(term=6, granted=False))]
    assert messages(member.hear("c", vote_request(6))) == [("c", VoteResponse(term=6, granted=True))]


@pytest.mark.paper("3.9")
def test_the_heartbeat_must_be_shorter_than_the_election_timeout() -> None:
    with pytest.raises(ConfigurationError, match="below the election timeout"):
        RaftConfig(heartbeat_ms=500, election_timeout_ms=500)


# -- §4 and §9.6: who may disturb --------------------------------------------------------------------------------------


@pytest.mark.paper("4.1")
def test_a_server_votes_for_a_candidate_that_its_configuration_does_not_name() -> None:
    member = voter()
    member.hear("stranger", vote_request(3))
    assert messages(member.persist()) == [("stranger", VoteResponse(term=3, granted=True))]


@pytest.mark.paper("4.2.3")
def test_a_server_that_hears_from_a_leader_neither_votes_nor_takes_over_the_candidate_s_term() -> None:
    member = voter()
    member.follow("b", lease_ms=250)
    for after in (249, 250):  # by its promise, and then because the election timeout has not passed
        effects = member.hear("c", vote_request(9), after=after)
        assert messages(effects) == [("c", VoteResponse(term=2, granted=False))]
        assert member.raft.term == 2


@pytest.mark.paper("4.2.3")
def test_a_leader_that_a_majority_answers_is_not_deposed_by_a_candidate() -> None:
    member = ready()
    member.hear("c", vote_request(9, last_index=9, last_term=9))
    assert member.raft.is_leader


@pytest.mark.paper("9.6")
def test_a_candidate_raises_its_term_only_after_a_majority_would_vote_for_it() -> None:
    member = Member(HELD, term=2, size=5)
    member.step(after=member.raft.deadline_ms - member.now)
    yes = PollResponse(term=2, proposed=3, granted=True)
    member.hear("b", yes)
    member.hear("b", yes)
    assert member.raft.term == 2
    member.hear("c", yes)
    assert member.raft.term == 3


@pytest.mark.paper("9.6")
def test_a_server_that_was_cut_off_deposes_nobody_when_it_returns() -> None:
    cluster = CoreCluster(3, seed=2)
    leader = cluster.elect()
    other = next(name for name in cluster.names if name != leader)
    before = cluster.nodes[leader].raft
    assert before is not None
    term = before.term
    cluster.isolate(other)
    cluster.run(30_000)
    cluster.heal()
    cluster.run(3_000)
    assert (cluster.leader(), before.term) == (leader, term)


@pytest.mark.paper("6.2")
def test_a_leader_steps_down_when_an_election_timeout_passes_without_a_round_to_a_majority() -> None:
    member = ready(size=5)
    member.answer("b", after=100)
    member.step(after=401)
    assert not member.raft.is_leader


@pytest.mark.paper("3.4")
def test_a_new_leader_establishes_itself_at_once() -> None:
    assert {effect.member for effect in appends(Member(HELD, term=2).lead())} == {"b", "c"}
