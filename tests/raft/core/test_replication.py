"""How a leader brings the others up to date: probing, pipelining, limits, links. `a` leads; `b` and `c` follow."""

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.effects import Replicate
from copycat.raft.core.events import Applied, Proposed, Reachable, ReadRequested, Unreachable
from copycat.raft.core.progress import Progress
from copycat.raft.protocol.messages import AppendResponse
from tests.raft.core.member import HISTORY, Member, appends, blocks_of, elected, propose, ranges, ready


def progress_of(member: Member, name: str) -> Progress:
    return member.leading.members[name]


def heartbeat(member: Member) -> list[Replicate]:
    """The appends of the next heartbeat."""
    return appends(member.step(after=member.leading.heartbeat_ms - member.now))


# -- probing ---------------------------------------------------------------------------------------------------------


def test_a_member_not_yet_heard_is_sent_one_append_and_then_nothing_but_heartbeats() -> None:
    member = elected()
    member.flush()
    member.answer("b")
    member.step(Applied(3))
    assert ranges(member.step(Proposed(count=1, body=b"x")), "c") == []
    assert ranges(member.step(Proposed(count=1, body=b"x")), "b") == [(5, 5)]
    assert progress_of(member, "c").probing


def test_a_probe_is_repeated_with_each_heartbeat_for_the_last_may_be_lost() -> None:
    member = elected()
    assert ranges(heartbeat(member), "c") == [(3, 3)]
    assert progress_of(member, "c").inflight_bytes == len(b"a,b,c")


def test_a_read_asks_a_member_being_probed_without_sending_the_probe_again() -> None:
    member = ready()
    member.step(Unreachable("b", refused=False), Reachable("b"))
    assert progress_of(member, "b").probe_sent is False
    propose(member)
    assert progress_of(member, "b").probe_sent
    (append,) = appends(member.step(ReadRequested("r")), "b")
    assert (append.first_index, append.last_index, append.previous_index, append.confirm) == (4, 3, 3, True)


def test_a_probe_answered_opens_the_stream_and_all_that_waited_follows() -> None:
    member = elected()
    member.flush()
    member.answer("b")
    member.step(Applied(3))
    for _ in range(3):
        propose(member)
    assert ranges(member.answer("c", match=3), "c") == [(4, 6)]
    assert not progress_of(member, "c").probing


def test_a_refused_probe_goes_back_to_the_hint_in_one_step() -> None:
    member = Member(blocks_of(1, 1, 1, 1, 1, 1), term=2)
    member.lead()
    effects = member.refuse("b", 2)
    (append,) = appends(effects, "b")
    assert (append.previous_index, append.previous_term, append.first_index, append.last_index) == (2, 1, 3, 7)
    assert append.previous_chain == member.raft.log.chain_at(2)


def test_a_hint_beyond_the_log_or_inside_a_block_becomes_a_place_between_blocks() -> None:
    member = Member(blocks_of(1, 1, count=3), term=2)
    member.lead()
    member.refuse("b", 99)
    assert progress_of(member, "b").next_index == 8
    assert ranges(heartbeat(member), "b") == [(8, 7)]
    assert ranges(member.refuse("b", 5), "b") == [(4, 7)]


def test_a_refusal_never_goes_below_what_the_member_is_known_to_hold() -> None:
    member = ready()
    propose(member)
    assert ranges(member.refuse("b", 0), "b") == [(4, 4)]
    assert progress_of(member, "b").match_index == 3


def test_a_late_refusal_of_what_was_since_accepted_changes_nothing() -> None:
    member = ready()
    propose(member)
    assert progress_of(member, "b").next_index == 5
    member.refuse("b", 4)
    assert not progress_of(member, "b").probing
    member.refuse("b", 3)
    assert progress_of(member, "b").probing


def test_a_stream_refused_goes_back_to_one_append_at_a_time() -> None:
    member = ready()
    for _ in range(3):
        propose(member)
    assert ranges(member.refuse("b", 3), "b") == [(4, 6)]
    assert propose(member)[0].member == "c"
    assert progress_of(member, "b").probe_sent


# -- streaming -------------------------------------------------------------------------------------------------------


def test_a_stream_does_not_wait_for_answers() -> None:
    member = ready()
    assert [ranges(propose(member), "b") for _ in range(3)] == [[(4, 4)], [(5, 5)], [(6, 6)]]


def test_each_append_names_the_block_before_it() -> None:
    member = ready()
    propose(member, count=3)
    (append,) = [a for a in propose(member) if a.member == "b"]
    assert (append.previous_index, append.previous_term) == (6, 3)
    assert append.previous_chain == member.raft.log.chain_at(6)
    assert append.log_index == 7


def test_an_append_carries_no_more_than_its_limit_unless_one_block_is_larger() -> None:
    member = ready(append_bytes_max=100)
    effects = member.step(*(Proposed(count=1, body=bytes(size)) for size in (60, 40, 1, 300, 5)))
    assert ranges(effects, "b") == [(4, 5), (6, 6), (7, 7), (8, 8)]


def test_what_is_on_the_way_is_limited_until_answers_come_back() -> None:
    member = ready(inflight_bytes_max=100, append_bytes_max=50)
    effects = member.step(*(Proposed(count=1, body=bytes(50)) for _ in range(4)))
    assert ranges(effects, "b") == [(4, 4), (5, 5)]
    assert propose(member, b"y") == []
    assert ranges(member.answer("b", match=4), "b") == [(6, 6)]
    assert ranges(member.answer("b", match=4), "b") == []
    assert ranges(member.answer("b", match=6), "b") == [(7, 7), (8, 8)]


def test_a_heartbeat_goes_out_even_when_no_more_may_be_on_the_way() -> None:
    member = ready(inflight_bytes_max=10)
    propose(member, bytes(10))
    propose(member, bytes(10))
    assert ranges(heartbeat(member), "b") == [(5, 4)]


def test_a_byte_less_than_the_limit_lets_one_more_append_leave() -> None:
    member = ready(inflight_bytes_max=10)
    propose(member, bytes(9))
    assert ranges(propose(member, bytes(50)), "b") == [(5, 5)]


def test_a_member_slow_to_flush_is_streamed_to_all_the_same() -> None:
    member = ready()
    propose(member)
    member.answer("b", match=3)
    assert progress_of(member, "b").match_index == 3
    assert ranges(propose(member), "b") == [(5, 5)]


# -- answers ---------------------------------------------------------------------------------------------------------


def test_answers_of_strangers_and_of_earlier_terms_are_not_believed() -> None:
    member = ready()
    propose(member)
    member.flush()
    old = AppendResponse(
        term=2, round=member.leading.round, accepted=True, match_index=4, hint_index=0, sent_ms=5, refilling=True
    )
    assert member.hear("b", old) == []
    assert (progress_of(member, "b").match_index, progress_of(member, "b").refilling) == (3, False)
    assert member.answer("z", match=4) == []
    assert member.raft.commit_index == 3


def test_a_member_cannot_vouch_for_entries_nobody_sent() -> None:
    member = ready()
    with pytest.raises(InvariantError, match="entries nobody sent"):
        member.answer("b", match=4)


def test_a_follower_gets_the_newest_of_its_own_clock_readings_back() -> None:
    member = ready()
    member.answer("b", sent_ms=70)
    member.answer("b", sent_ms=50)
    assert {append.member: append.echo_ms for append in propose(member)} == {"b": 70, "c": 0}


def test_a_member_being_refilled_takes_back_what_its_disk_has_lost() -> None:
    member = ready()
    propose(member)
    member.answer("b")
    assert progress_of(member, "b").match_index == 4
    effects = member.refuse("b", 1, refilling=True)
    assert (progress_of(member, "b").match_index, progress_of(member, "b").refilling) == (1, True)
    assert ranges(effects, "b") == [(2, 4)]
    member.answer("b", match=4)
    assert (progress_of(member, "b").match_index, progress_of(member, "b").refilling) == (4, False)


def test_only_a_refusal_takes_anything_back() -> None:
    member = ready()
    response = AppendResponse(term=3, round=1, accepted=True, match_index=0, hint_index=0, sent_ms=0, refilling=True)
    member.hear("b", response)
    assert progress_of(member, "b").match_index == 3


# -- links -----------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_to_a_member_without_a_link() -> None:
    member = ready()
    member.step(Unreachable("b", refused=False))
    assert {append.member for append in propose(member)} == {"c"}
    assert {append.member for append in heartbeat(member)} == {"c"}


def test_a_fresh_link_is_used_at_once_from_where_the_member_is_known_to_be() -> None:
    member = ready()
    propose(member)
    member.step(Unreachable("b", refused=False))
    propose(member)
    effects = member.step(Reachable("b"), after=10)
    (append,) = appends(effects, "b")
    assert (append.first_index, append.last_index, append.confirm) == (4, 5, True)
    assert [a.confirm for a in appends(effects, "c")] == [True]
    assert progress_of(member, "b").probing
    assert member.leading.heartbeat_ms == member.now + 100


def test_a_link_renewed_unnoticed_sends_again_what_the_old_one_may_have_lost() -> None:
    member = ready()
    propose(member)
    assert ranges(member.step(Reachable("b")), "b") == [(4, 4)]


def test_a_probe_keeps_its_place_when_the_link_breaks_and_comes_back() -> None:
    member = Member(blocks_of(1, 1, 1, 1), term=2)
    member.lead()
    member.refuse("b", 2)
    assert progress_of(member, "b").next_index == 3
    member.step(Unreachable("b", refused=True))
    assert (progress_of(member, "b").next_index, progress_of(member, "b").probe_sent) == (3, False)
    assert ranges(member.step(Reachable("b")), "b") == [(3, 5)]


def test_links_of_strangers_concern_no_leader() -> None:
    member = ready()
    assert member.step(Unreachable("z", refused=False), Reachable("z")) == []


def test_a_member_whose_port_refused_is_not_dead_once_it_has_a_link() -> None:
    member = ready()
    member.step(Unreachable("b", refused=True))
    assert member.raft.dead == {"b"}
    member.step(Reachable("b"))
    assert member.raft.dead == set()
    assert progress_of(member, "b").reachable


def test_the_history_a_leader_begins_with_reaches_an_empty_member() -> None:
    member = elected()
    effects = member.refuse("c", 0)
    (append,) = appends(effects, "c")
    assert (append.previous_index, append.previous_term, append.previous_chain) == (0, 0, 0)
    assert (append.first_index, append.last_index) == (1, len(HISTORY) + 1)
