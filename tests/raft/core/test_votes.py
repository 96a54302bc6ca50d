"""Polls, votes and terms, event by event. Member `a`; the others are `b`, `c` and so on."""

import pytest

from copycat.raft.core.candidate import Candidate
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import Effect, Persist, Send
from copycat.raft.core.events import Flushed, Persisted, Unreachable
from copycat.raft.protocol.messages import PollRequest, PollResponse, VoteRequest, VoteResponse
from tests.raft.core.cluster import CoreCluster
from tests.raft.core.member import START, Member, answers, append_to, blocks_of, messages, roles


def poll(term: int = 3, *, last_index: int = 2, last_term: int = 2) -> PollRequest:
    return PollRequest(term=term, last_index=last_index, last_term=last_term)


def ask(term: int = 2, *, last_index: int = 2, last_term: int = 2) -> VoteRequest:
    return VoteRequest(term=term, last_index=last_index, last_term=last_term)


def granted(effects: list[Effect]) -> bool:
    """The one answer to a poll or to a request for a vote."""
    ((_, message),) = messages(effects)
    assert isinstance(message, PollResponse | VoteResponse)
    return message.granted


def idle() -> Member:
    """A follower in term 2 with two entries, past its promises and without a leader."""
    member = Member(blocks_of(1, 2), term=2)
    member.step(after=250)
    return member


# -- being asked -----------------------------------------------------------------------------------------------------


def test_a_poll_is_answered_with_the_term_here_and_the_term_proposed_and_changes_nothing() -> None:
    member = idle()
    before = (member.raft.term, member.raft.vote, member.raft.deadline_ms)
    effects = member.hear("b", poll(term=7))
    assert effects == [Send("b", PollResponse(term=2, proposed=7, granted=True))]
    assert (member.raft.term, member.raft.vote, member.raft.deadline_ms) == before


def test_a_poll_is_granted_only_for_a_later_term() -> None:
    assert granted(idle().hear("b", poll(term=3)))
    assert not granted(idle().hear("b", poll(term=2)))
    assert not granted(idle().hear("b", poll(term=1)))


@pytest.mark.parametrize(
    ("last_index", "last_term", "fresh"), [(2, 2, True), (3, 2, True), (1, 2, False), (1, 3, True), (9, 1, False)]
)
def test_neither_a_poll_nor_a_vote_is_granted_to_an_older_log(last_index: int, last_term: int, fresh: bool) -> None:
    assert granted(idle().hear("b", poll(last_index=last_index, last_term=last_term))) is fresh
    member = idle()
    effects = member.hear("b", ask(last_index=last_index, last_term=last_term))
    assert (effects == [Persist(2, "b")]) is fresh
    assert fresh or not granted(effects)


def test_a_vote_leaves_once_it_is_durable_and_again_when_asked_again() -> None:
    member = idle()
    member.random = 0.2
    effects = member.hear("b", ask(), after=40)
    assert effects == [Persist(2, "b")]
    assert (member.raft.vote, member.raft.deadline_ms) == ("b", member.now + 600)
    assert messages(member.hear("b", ask())) == []
    assert messages(member.persist()) == [("b", VoteResponse(term=2, granted=True))]
    assert member.hear("b", ask()) == [Send("b", VoteResponse(term=2, granted=True))]


def test_a_member_votes_once_a_term() -> None:
    member = idle()
    member.hear("b", ask())
    member.persist()
    assert member.hear("c", ask()) == [Send("c", VoteResponse(term=2, granted=False))]
    assert member.raft.vote == "b"


def test_a_vote_given_before_a_restart_binds() -> None:
    member = Member(blocks_of(1, 2), term=2, vote="b")
    member.step(after=250)
    assert not granted(member.hear("c", ask()))
    assert granted(member.hear("b", ask()))


def test_a_candidate_of_a_later_term_is_given_that_term_and_then_the_vote() -> None:
    member = idle()
    effects = member.hear("b", ask(term=5))
    assert [effect for effect in effects if isinstance(effect, Persist)] == [Persist(5, ""), Persist(5, "b")]
    assert roles(effects) == [("follower", 5, None)]
    assert messages(member.step(Persisted(5, ""))) == []
    assert messages(member.step(Persisted(5, "b"))) == [("b", VoteResponse(term=5, granted=True))]


def test_a_later_term_is_taken_over_even_where_the_vote_is_refused() -> None:
    member = idle()
    effects = member.hear("b", ask(term=5, last_index=1, last_term=1))
    assert messages(effects) == [("b", VoteResponse(term=5, granted=False))]
    assert (member.raft.term, member.raft.vote) == (5, "")


def test_a_candidate_of_an_earlier_term_is_told_of_this_one() -> None:
    effects = idle().hear("b", ask(term=1))
    assert messages(effects) == [("b", VoteResponse(term=2, granted=False))]


def test_what_became_durable_for_an_earlier_term_says_nothing_in_this_one() -> None:
    member = idle()
    member.hear("b", ask())
    member.hear("c", append_to((), term=6))
    assert messages(member.step(Persisted(2, "b"))) == []
    assert (member.raft.persisted_term, member.raft.persisted_vote) == (2, "b")


# -- promises and evidence -------------------------------------------------------------------------------------------


def following(*, lease_ms: int = 250) -> Member:
    """A follower of `b` in term 2, just heard."""
    member = idle()
    member.follow("b", lease_ms=lease_ms)
    return member


def test_within_its_promise_a_member_votes_for_nobody_and_takes_over_no_term() -> None:
    member = following()
    member.step(Unreachable("b", refused=True), after=249)
    assert not granted(member.hear("c", poll()))
    assert not granted(member.hear("c", ask(term=9)))
    assert member.raft.term == 2


def test_after_its_promise_a_member_votes_early_only_with_evidence_that_the_leader_is_dead() -> None:
    member = following()
    member.step(after=250)
    assert not granted(member.hear("c", poll()))
    assert not granted(member.hear("c", ask(term=9)))
    assert member.raft.term == 2
    member.random = 0.9
    member.step(Unreachable("b", refused=True))
    assert granted(member.hear("c", poll()))


def test_after_the_timeout_no_evidence_is_needed() -> None:
    member = following()
    member.random = 0.9
    member.hear("b", append_to((), term=2), after=1)
    assert not granted(member.hear("c", poll(), after=499))
    assert granted(member.hear("c", poll(), after=1))


def test_the_leader_itself_may_ask_for_another_term() -> None:
    member = following()
    assert granted(member.hear("b", poll(), after=250))


def test_a_leader_agrees_to_an_election_once_its_majority_is_out_of_contact_for_a_lease() -> None:
    member = Member(blocks_of(1, 2), term=2)
    member.lead()
    member.answer("b")
    stronger = poll(term=9, last_index=9, last_term=9)
    assert not granted(member.hear("c", stronger, after=249))
    assert granted(member.hear("c", stronger, after=1))
    assert member.raft.is_leader


# -- asking ----------------------------------------------------------------------------------------------------------


def candidate_of(member: Member) -> Candidate:
    assert isinstance(member.raft.role, Candidate)
    return member.raft.role


def polling(size: int = 5) -> Member:
    member = Member(blocks_of(1, 2), term=2, size=size)
    member.step(after=500)
    return member


def test_a_poll_won_leads_to_a_vote_for_oneself_and_requests_once_it_is_durable() -> None:
    member = polling(size=3)
    member.random = 0.4
    effects = member.hear("c", PollResponse(term=2, proposed=3, granted=True), after=5)
    assert [effect for effect in effects if isinstance(effect, Persist)] == [Persist(3, "a")]
    assert (messages(effects), roles(effects)) == ([], [("candidate", 3, None)])
    assert member.raft.deadline_ms == member.now + 700
    request = VoteRequest(term=3, last_index=2, last_term=2)
    assert messages(member.persist()) == [("b", request), ("c", request)]
    assert roles(member.hear("b", VoteResponse(term=3, granted=True))) == [("leader", 3, "a")]


def test_a_poll_counts_each_member_once_and_only_answers_to_this_very_poll() -> None:
    member = polling()
    yes = PollResponse(term=2, proposed=3, granted=True)
    for name, response in (
        ("b", yes),
        ("b", yes),
        ("c", PollResponse(term=2, proposed=3, granted=False)),
        ("c", PollResponse(term=2, proposed=2, granted=True)),
        ("c", PollResponse(term=2, proposed=4, granted=True)),
        ("z", yes),
        ("a", yes),
    ):
        assert member.hear(name, response) == []
    assert candidate_of(member).granted == {"a", "b"}
    assert Persist(3, "a") in member.hear("d", yes)


def test_votes_are_counted_once_a_member_and_only_of_this_term() -> None:
    member = Member(term=2, size=5)
    member.campaign()
    member.persist()
    yes = VoteResponse(term=3, granted=True)
    for name, response in (
        ("b", yes),
        ("b", yes),
        ("c", VoteResponse(term=3, granted=False)),
        ("c", VoteResponse(term=2, granted=True)),
        ("z", yes),
    ):
        assert member.hear(name, response) == []
    assert candidate_of(member).granted == {"a", "b"}
    assert roles(member.hear("c", yes)) == [("leader", 3, "a")]


def test_where_votes_are_split_the_next_poll_comes_one_to_two_heartbeats_later() -> None:
    member = Member(term=2, size=3)
    member.follow("c")
    member.step(Unreachable("c", refused=True), after=250)
    member.campaign()
    member.persist()
    member.random = 0.5
    member.hear("b", VoteResponse(term=3, granted=False))
    assert member.raft.deadline_ms == member.now + 150
    member.random = 0.0
    member.hear("b", VoteResponse(term=3, granted=False), after=10)
    assert member.raft.deadline_ms == member.now + 140
    effects = member.step(after=140)
    assert [message for _, message in messages(effects)] == [PollRequest(term=4, last_index=0, last_term=0)] * 2


@pytest.mark.parametrize(
    ("refusals", "is_lost"),
    [
        ([("b", 3), ("c", 3)], False),
        ([("b", 3), ("b", 3), ("b", 3)], False),
        ([("b", 3), ("c", 3), ("d", 2)], False),
        ([("b", 3), ("c", 3), ("z", 3)], False),
        ([("b", 3), ("c", 3), ("d", 3)], True),
    ],
)
def test_an_election_is_lost_when_a_majority_can_no_longer_be_had(
    refusals: list[tuple[str, int]], is_lost: bool
) -> None:
    member = Member(term=2, size=5)
    member.campaign()
    member.persist()
    deadline = member.raft.deadline_ms
    for name, term in refusals:
        member.hear(name, VoteResponse(term=term, granted=False))
    assert candidate_of(member).is_lost is is_lost
    assert (member.raft.deadline_ms < deadline) is is_lost


def test_rivals_for_a_dead_leaders_place_agree_before_an_election_timeout_has_passed_on_top() -> None:
    """Among so many seeds are some where both campaign in the same moment, and each votes for itself."""
    terms, timeout_ms = set(), RaftConfig().election_timeout_ms
    for seed in range(100):
        cluster = CoreCluster(3, seed=seed)
        cluster.delay_ms = (1, 2)
        dead = cluster.elect()
        cluster.run(1_000)
        before = cluster.nodes[dead].raft.term  # type: ignore[union-attr]  # alive
        cluster.kill(dead)
        cluster.tell_dead(dead)
        cluster.run(RaftConfig().lease_ms + timeout_ms - 1)
        leader = cluster.leader()
        assert leader is not None, f"seed {seed}"
        terms.add(cluster.nodes[leader].raft.term - before)  # type: ignore[union-attr]  # alive
    assert max(terms) > 1, "no seed split the votes"


def test_a_vote_answers_no_poll_and_a_poll_no_vote() -> None:
    member = polling(size=3)
    assert member.hear("b", VoteResponse(term=2, granted=True)) == []
    member.hear("b", PollResponse(term=2, proposed=3, granted=True))
    member.persist()
    assert member.hear("c", PollResponse(term=3, proposed=4, granted=True)) == []
    assert not member.raft.is_leader


def test_nobody_leads_before_the_own_vote_is_durable_whatever_the_others_say() -> None:
    member = Member(term=2, size=3)
    member.campaign()
    for name in ("b", "c"):
        member.hear(name, VoteResponse(term=3, granted=True))
    assert not member.raft.is_leader
    assert member.step(Persisted(3, "")) == []
    assert roles(member.persist()) == [("leader", 3, "a")]


def test_the_news_that_an_older_term_is_durable_starts_no_requests_during_a_poll() -> None:
    member = Member(term=2, vote="a", size=3)
    member.step(after=500)
    assert member.step(Persisted(2, "a")) == []


def test_an_election_not_decided_in_time_begins_with_another_poll_in_the_same_term() -> None:
    member = Member(term=2, size=3)
    member.campaign()
    member.persist()
    effects = member.step(after=500)
    assert [message for _, message in messages(effects)] == [PollRequest(term=4, last_index=0, last_term=0)] * 2
    assert (member.raft.term, candidate_of(member).polling, candidate_of(member).granted) == (3, True, {"a"})


def test_an_election_waits_for_a_slow_disk_and_gives_the_others_their_time_afterwards() -> None:
    member = Member(term=2, size=3)
    member.campaign()
    for _ in range(5):
        assert member.step(after=1000) == []
    member.random = 0.2
    effects = member.persist()
    assert [name for name, _ in messages(effects)] == ["b", "c"]
    assert (member.raft.term, member.raft.deadline_ms) == (3, member.now + 600)
    assert roles(member.hear("b", VoteResponse(term=3, granted=True))) == [("leader", 3, "a")]


def test_a_single_member_leads_although_its_disk_is_slower_than_its_timeout() -> None:
    member = Member(size=1)
    effects = member.step()
    for _ in range(5):
        effects += member.step(after=1000)
    assert [effect for effect in effects if isinstance(effect, Persist)] == [Persist(1, "a")]
    assert roles(member.persist()) == [("leader", 1, "a")]


def test_a_candidate_follows_whoever_leads_its_term_and_answers() -> None:
    member = Member(term=2, size=3)
    member.campaign()
    member.persist()
    effects = member.hear("b", append_to((), blocks_of(3), term=3, round=4, confirm=True))
    assert roles(effects)[-1] == ("follower", 3, "b")
    assert [(answer.round, answer.accepted) for answer in answers(effects)] == [(4, True)]
    assert member.raft.log.last_index == 1


def test_a_candidate_tells_a_leader_of_an_earlier_term_of_its_own() -> None:
    member = Member(blocks_of(1), term=2, size=3)
    member.campaign()
    member.persist()
    (answer,) = answers(member.hear("b", append_to((), term=2, round=6)))
    assert (answer.term, answer.round, answer.accepted, answer.hint_index) == (3, 6, False, 1)
    assert candidate_of(member).polling is False


def test_a_candidate_in_its_own_term_votes_for_nobody_else() -> None:
    member = Member(term=2, size=3)
    member.campaign()
    assert not granted(member.hear("b", ask(term=3)))


def test_a_vote_for_another_is_not_repeated_to_oneself() -> None:
    member = Member(term=2, vote="a", size=3)
    assert member.persist() == []


def test_flushes_and_broken_links_do_not_move_a_candidate() -> None:
    blocks = blocks_of(1)
    member = Member(term=1, size=3)
    member.hear("b", append_to((), blocks, term=1))
    member.step(after=500)
    deadline = member.raft.deadline_ms
    assert member.step(Flushed(1, 1), Unreachable("b", refused=True)) == []
    assert (member.raft.durable_index, member.raft.deadline_ms) == (1, deadline)


def test_a_single_member_waits_for_nobody() -> None:
    member = Member(size=1)
    assert member.raft.deadline_ms == START
    effects = member.step()
    assert Persist(1, "a") in effects
    assert messages(effects) == []
    assert roles(member.persist()) == [("leader", 1, "a")]
    member.flush()
    assert member.raft.commit_index == 1


def test_a_single_member_whose_disk_stands_still_has_nobody_to_leave_the_lead_to() -> None:
    member = Member(size=1)
    member.step()
    member.persist()
    assert roles(member.step(after=501)) == [("follower", 1, None)]
    assert roles(member.step(after=500))[0] == ("candidate", 1, None)
