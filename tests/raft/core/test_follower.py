"""What a follower does, event by event. Member `a`; `b` and `c` are the others."""

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import Committed, StoreReceived, Truncate
from copycat.raft.core.events import Flushed, Persisted, Reachable, Unreachable
from copycat.raft.core.follower import Follower
from copycat.raft.core.log_view import LogView
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.messages import AppendResponse, PollRequest
from tests.raft.core.disk import read_list
from tests.raft.core.member import START, Member, answers, append_to, blocks_of, committed, messages, roles


def role_of(member: Member) -> Follower:
    assert type(member.raft.role) is Follower
    return member.raft.role


# -- silence ---------------------------------------------------------------------------------------------------------


def test_a_follower_asks_for_an_election_when_the_timeout_has_passed_and_not_before() -> None:
    member = Member(blocks_of(1, 2), term=2)
    assert member.raft.deadline_ms == START + 500
    assert member.step(after=499) == []
    effects = member.step(after=1)
    request = PollRequest(term=3, last_index=2, last_term=2)
    assert messages(effects) == [("b", request), ("c", request)]
    assert roles(effects) == [("candidate", 2, None)]


def test_the_timeout_is_drawn_between_one_and_two_times_the_setting() -> None:
    assert Member(random=0.0).raft.deadline_ms == START + 500
    assert Member(random=0.25).raft.deadline_ms == START + 625
    assert Member(random=0.999).raft.deadline_ms == START + 999


def test_each_append_of_the_leader_starts_the_timeout_anew() -> None:
    member = Member(term=1)
    member.hear("b", append_to((), term=1), after=400)
    assert member.raft.deadline_ms == member.now + 500
    assert member.raft.heard_at == member.now
    assert not messages(member.step(after=499))
    assert messages(member.step(after=1))


def test_a_promise_is_kept_to_its_end_even_past_the_timeout() -> None:
    member = Member(term=1)
    member.hear("b", append_to((), term=1, lease_ms=600))
    assert member.step(after=500) == []
    assert member.raft.deadline_ms == START + 600
    assert messages(member.step(after=100))


def test_a_later_promise_does_not_shorten_an_earlier_one() -> None:
    member = Member(term=1)
    member.hear("b", append_to((), term=1, lease_ms=400))
    member.hear("b", append_to((), term=1, lease_ms=50), after=10)
    assert member.raft.promised_until == START + 400
    assert member.raft.promised
    member.step(after=389)
    assert member.raft.promised
    member.step(after=1)
    assert not member.raft.promised


def test_a_member_that_starts_has_promised_whatever_it_may_have_promised_before() -> None:
    assert Member().raft.promised_until == START + 250
    assert not Member(size=1).raft.promised


def test_a_follower_whose_disk_stands_still_lets_another_lead() -> None:
    member = Member(term=1)
    blocks = blocks_of(1)
    member.hear("b", append_to((), blocks, term=1))
    member.hear("b", append_to(blocks, term=1), after=1)
    assert member.step(after=500) == []
    assert member.raft.deadline_ms == member.now + 500
    member.flush()
    assert messages(member.step(after=500))


def test_a_flush_that_took_the_timeout_exactly_is_no_stall() -> None:
    member = Member(term=1)
    member.hear("b", append_to((), blocks_of(1), term=1))
    assert not member.raft.disk_stalled
    member.step(after=499)
    assert messages(member.step(after=1))
    assert not member.raft.disk_stalled
    member.step(after=1)
    assert member.raft.disk_stalled


def test_a_flush_of_some_blocks_gives_the_others_the_timeout_from_then_on() -> None:
    member = Member(term=1)
    blocks = blocks_of(1, 1)
    member.hear("b", append_to((), blocks[:1], term=1))
    member.hear("b", append_to(blocks[:1], blocks[1:], term=1), after=10)
    assert member.raft.flush_since == START
    member.step(Flushed(1, 1), after=10)
    assert member.raft.flush_since == START + 20
    member.step(Flushed(2, 1), after=10)
    assert member.raft.flush_since is None


# -- whom to follow --------------------------------------------------------------------------------------------------


def test_the_first_append_of_a_term_names_the_leader_once() -> None:
    member = Member(term=1)
    assert roles(member.hear("b", append_to((), term=1))) == [("follower", 1, "b")]
    assert roles(member.hear("b", append_to((), term=1))) == []


def test_two_leaders_in_one_term_are_impossible() -> None:
    member = Member(term=1)
    member.follow("b")
    with pytest.raises(InvariantError, match="one leader a term"):
        member.hear("c", append_to((), term=1))


def test_a_leader_of_an_earlier_term_is_told_of_the_later_one_and_changes_nothing() -> None:
    blocks = blocks_of(1, 1)
    member = Member(blocks, term=3)
    effects = member.hear("b", append_to(blocks, blocks_of(1, after=blocks), term=2, round=9, lease_ms=900), after=7)
    expected = AppendResponse(
        term=3, round=9, accepted=False, match_index=0, hint_index=2, sent_ms=START + 7, refilling=False
    )
    assert messages(effects) == [("b", expected)]
    assert (member.raft.leader, member.raft.log.last_index) == (None, 2)
    assert (member.raft.promised_until, member.raft.deadline_ms) == (START + 250, START + 500)


def test_a_leader_of_a_later_term_is_followed_and_answered_once_the_term_is_durable() -> None:
    member = Member(term=1)
    effects = member.hear("b", append_to((), term=4, round=2, confirm=True))
    assert (member.raft.term, member.raft.vote, member.raft.leader) == (4, "", "b")
    assert messages(effects) == []
    (answer,) = answers(member.persist())
    assert (answer.term, answer.round, answer.accepted) == (4, 2, True)


# -- taking in blocks ------------------------------------------------------------------------------------------------


def test_blocks_that_follow_are_stored_as_they_came_and_vouched_for_once_durable() -> None:
    member = Member(term=1)
    member.follow()
    blocks = blocks_of(1, 1, count=2)
    effects = member.hear("b", append_to((), blocks, term=1, round=5))
    assert effects == [StoreReceived(blocks)]
    assert (member.raft.log.last_index, member.raft.log_time) == (4, blocks[-1].time)
    expected = AppendResponse(
        term=1, round=5, accepted=True, match_index=4, hint_index=0, sent_ms=START, refilling=False
    )
    assert messages(member.flush()) == [("b", expected)]
    assert messages(member.flush()) == []


def test_a_leader_that_asks_is_answered_at_once_with_what_is_durable_and_only_once() -> None:
    member = Member(term=1)
    member.follow()
    effects = member.hear("b", append_to((), blocks_of(1), term=1, round=8, confirm=True), after=3)
    (answer,) = answers(effects)
    assert (answer.round, answer.match_index, answer.sent_ms) == (8, 0, START + 3)
    assert member.step() == []


def test_an_answer_vouches_up_to_a_block_and_no_further_than_the_leader_has_verified() -> None:
    held = blocks_of(1, 1, 1, count=2)
    member = Member(held, term=2)
    member.follow("b", term=2)
    (answer,) = answers(member.hear("b", append_to(held[:2], term=2, round=3, confirm=True)))
    assert answer.match_index == 4
    (answer,) = answers(member.hear("b", append_to(held, term=2, round=4)))
    assert answer.match_index == 6


def test_what_has_been_verified_stays_verified_when_an_earlier_append_comes_late() -> None:
    blocks = blocks_of(1, 1)
    member = Member(term=1)
    member.follow()
    member.hear("b", append_to((), blocks, term=1, round=7))
    member.flush()
    (answer,) = answers(member.hear("b", append_to((), blocks[:1], term=1, round=6, confirm=True)))
    assert (answer.round, answer.match_index) == (7, 2)


def test_blocks_already_held_are_skipped_and_the_rest_stored() -> None:
    blocks = blocks_of(1, 1, 1)
    member = Member(blocks[:2], term=1)
    member.follow()

    def taken_in(number: int) -> list[StoreReceived | Truncate]:
        effects = member.hear("b", append_to((), blocks[:number], term=1))
        return [effect for effect in effects if isinstance(effect, StoreReceived | Truncate)]

    assert taken_in(1) == taken_in(2) == []
    assert taken_in(3) == [StoreReceived(blocks[2:])]
    assert taken_in(1) == taken_in(3) == []


def test_a_conflicting_block_and_all_behind_it_make_way() -> None:
    held = blocks_of(1, 1, 1)
    member = Member(held, term=3)
    member.follow("b", term=3)
    news = blocks_of(2, 3, after=held[:1])
    effects = member.hear("b", append_to(held[:1], news, term=3))
    assert effects[:2] == [Truncate(1), StoreReceived(news)]
    assert (member.raft.log.last_index, member.raft.log.last_chain) == (3, news[-1].chain)
    assert member.raft.durable_index == 1
    (answer,) = answers(member.flush())
    assert answer.match_index == 3


def test_a_block_of_the_same_term_with_other_bytes_is_a_conflict_too() -> None:
    held = blocks_of(1, 1)
    member = Member(held, term=1)
    member.follow()
    news = blocks_of(1, after=held[:1], body=b"other")
    assert member.hear("b", append_to(held[:1], news, term=1))[:2] == [Truncate(1), StoreReceived(news)]


def test_committed_entries_are_never_dropped() -> None:
    held = blocks_of(1, 1, 1)
    member = Member(held, term=2)
    member.follow("b", term=2)
    member.hear("b", append_to(held[:2], term=2, commit=2))
    with pytest.raises(InvariantError, match="drop committed entries"):
        member.hear("b", append_to(held[:1], blocks_of(2, after=held[:1]), term=2))


def test_a_tail_may_be_dropped_right_behind_what_is_committed() -> None:
    held = blocks_of(1, 1, 1)
    member = Member(held, term=2)
    member.follow("b", term=2)
    member.hear("b", append_to(held[:2], term=2, commit=2))
    assert Truncate(2) in member.hear("b", append_to(held[:2], blocks_of(2, after=held[:2]), term=2))


def test_log_time_follows_the_blocks_and_never_falls() -> None:
    member = Member(blocks_of(1, 1), term=1)
    member.follow()
    (late,) = blocks_of(1, after=blocks_of(1, 1))
    late.time = 5
    member.hear("b", append_to(blocks_of(1, 1), [late], term=1))
    assert member.raft.log_time == 20


# -- hints -----------------------------------------------------------------------------------------------------------


def hint_of(member: Member, **previous: int) -> int:
    """The hint with which an append behind `previous` is refused."""
    request = append_to((), term=member.raft.term, round=4)
    request.previous_index, request.previous_term = previous["index"], previous["term"]
    request.previous_chain = previous.get("chain", 0)
    (answer,) = answers(member.hear("b", request, after=2))
    assert (answer.accepted, answer.match_index, answer.round, answer.sent_ms) == (False, 0, 4, member.now)
    return answer.hint_index


def test_an_append_behind_the_end_of_the_log_is_refused_with_the_end() -> None:
    member = Member(blocks_of(1, 1), term=1)
    member.follow()
    assert hint_of(member, index=9, term=1) == 2


def test_an_append_behind_another_term_is_refused_with_the_end_of_the_term_before() -> None:
    member = Member(blocks_of(1, 1, 2, 2, 2), term=3)
    member.follow()
    assert hint_of(member, index=4, term=3) == 2


def test_a_hint_is_never_below_what_is_committed() -> None:
    held = blocks_of(1, 2, 2, 2)
    member = Member(held, term=3)
    member.follow()
    member.hear("b", append_to(held[:2], term=3, commit=2))
    assert hint_of(member, index=4, term=3) == 2


def test_an_append_behind_other_bytes_of_the_same_term_is_refused_with_the_block_before() -> None:
    held = blocks_of(1, 1, 1)
    member = Member(held, term=1)
    member.follow()
    assert hint_of(member, index=3, term=1, chain=99) == 2
    member.hear("b", append_to(held[:2], term=1, commit=2))
    assert hint_of(member, index=3, term=1, chain=99) == 2


def test_other_bytes_where_entries_are_committed_halt_the_member() -> None:
    held = blocks_of(1, 1)
    member = Member(held, term=1)
    member.follow()
    member.hear("b", append_to(held, term=1, commit=2))
    with pytest.raises(InvariantError, match="diverged from the leader"):
        hint_of(member, index=2, term=1, chain=99)


def test_an_append_behind_what_the_log_begins_with_is_refused_with_its_base() -> None:
    log = LogView(base_index=7, base_term=2, base_chain=70)
    log.append(8, 2, 2, 80, 10)
    member = Member(term=3, base=log)
    member.follow()
    assert hint_of(member, index=6, term=2) == 7
    request = append_to((), term=3, round=5, confirm=True)
    request.previous_index, request.previous_term, request.previous_chain = 7, 2, 70
    (answer,) = answers(member.hear("b", request))
    assert (answer.accepted, answer.hint_index) == (True, 0)


def test_a_refusal_too_waits_until_the_term_is_durable() -> None:
    member = Member(blocks_of(1), term=1)
    request = append_to(blocks_of(2, 2), term=2, round=1)
    assert messages(member.hear("b", request)) == []
    assert messages(member.step(Persisted(2, ""))) == []
    assert [answer.hint_index for answer in answers(member.hear("b", request))] == [1]


# -- commit and freshness --------------------------------------------------------------------------------------------


def test_the_commit_index_follows_the_leader_as_far_as_this_request_verified() -> None:
    held = blocks_of(1, 1, 1)
    member = Member(held, term=2)
    member.follow("b", term=2)
    assert committed(member.hear("b", append_to(held[:1], term=2, commit=3))) == [1]
    assert committed(member.hear("b", append_to(held, term=2, commit=2))) == [2]
    assert committed(member.hear("b", append_to(held, term=2, commit=2))) == []
    assert committed(member.hear("b", append_to(held, term=2, commit=1))) == []
    assert member.raft.commit_index == 2


def test_an_echo_makes_knowledge_fresh_for_two_heartbeats() -> None:
    member = Member(blocks_of(1, 1), term=1)
    member.follow()
    assert (role_of(member).fresh_until, role_of(member).fresh_commit) == (0, 0)
    member.hear("b", append_to(blocks_of(1), term=1, commit=1, echo_ms=0))
    assert (role_of(member).fresh_until, role_of(member).fresh_commit) == (0, 0)
    member.hear("b", append_to(blocks_of(1), term=1, commit=2, echo_ms=START - 30))
    assert (role_of(member).fresh_until, role_of(member).fresh_commit) == (START - 30 + 200, 2)
    member.hear("b", append_to(blocks_of(1), term=1, commit=1, echo_ms=START - 50))
    assert (role_of(member).fresh_until, role_of(member).fresh_commit) == (START - 30 + 200, 2)


def test_a_request_that_is_refused_makes_nothing_fresh() -> None:
    member = Member(term=1)
    member.follow()
    effects = member.hear("b", append_to(blocks_of(1, 1), term=1, commit=2, echo_ms=START))
    assert not any(isinstance(effect, Committed) for effect in effects)
    assert role_of(member).fresh_until == 0


# -- evidence that the leader is dead --------------------------------------------------------------------------------


def test_a_leader_whose_port_refuses_is_given_to_the_end_of_its_lease_and_a_share_of_a_heartbeat() -> None:
    member = Member(term=1, random=0.0)
    member.follow("b", lease_ms=250)
    member.random = 0.3
    assert member.step(Unreachable("b", refused=True), after=100) == []
    assert member.raft.deadline_ms == START + 250 + 30
    member.random = 0.1
    member.step(Unreachable("b", refused=True), after=1)
    assert member.raft.deadline_ms == START + 250 + 30
    assert not messages(member.step(after=178))
    assert messages(member.step(after=1))


def test_once_the_lease_has_run_out_only_the_share_of_a_heartbeat_is_left() -> None:
    member = Member(term=1)
    member.follow("b", lease_ms=250)
    member.random = 0.3
    member.step(Unreachable("b", refused=True), after=300)
    assert member.raft.deadline_ms == START + 300 + 30


def test_evidence_never_lengthens_the_wait() -> None:
    member = Member(term=1)
    member.follow("b")
    member.random = 0.9
    member.step(Unreachable("b", refused=True), after=490)
    assert member.raft.deadline_ms == START + 500


@pytest.mark.parametrize("event", [Unreachable("b", refused=False), Unreachable("c", refused=True)])
def test_a_broken_link_alone_or_the_death_of_another_moves_no_follower(event: Unreachable) -> None:
    member = Member(term=1)
    member.follow("b")
    member.step(event)
    assert member.raft.deadline_ms == START + 500


def test_a_leader_heard_of_again_is_alive_and_its_next_death_is_noticed_anew() -> None:
    member = Member(term=1)
    member.follow("b")
    member.step(Unreachable("b", refused=True))
    assert member.raft.dead == {"b"}
    member.hear("b", append_to((), term=1), after=10)
    assert member.raft.dead == set()
    assert member.raft.deadline_ms == member.now + 500
    member.random = 0.5
    member.step(Unreachable("b", refused=True), after=260)
    assert member.raft.deadline_ms == member.now + 50
    member.step(Reachable("b"))
    assert member.raft.dead == set()


# -- beginnings ------------------------------------------------------------------------------------------------------


def test_time_that_falls_is_refused() -> None:
    member = Member()
    member.step(after=0)
    with pytest.raises(InvariantError, match="time fell"):
        member.step(after=-1)


def test_a_member_begins_with_metadata_as_new_as_its_log() -> None:
    log = LogView()
    log.append(1, 1, 1, 5, 5)
    with pytest.raises(InvariantError, match="older than the log"):
        Raft(
            member_id="a",
            memberships=[read_list(0, b"a,b")],
            read_membership=read_list,
            config=RaftConfig(),
            log=log,
            term=0,
            vote="",
            log_time=0,
            random=float,
            now_ms=0,
        )
