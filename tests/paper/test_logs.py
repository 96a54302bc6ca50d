"""Replication and what may be committed, as the dissertation has it: §3.5 to §3.8, §10.2.

One test a rule, in the paper's words. The finer points are in tests/raft/core; docs/reference/paper.md lists all.
"""

import pytest

from copycat.raft.core.effects import Committed, Replicate, Store, StoreReceived, Truncate
from copycat.raft.core.events import Applied, Flushed, Proposed
from tests.raft.core.cluster import CoreCluster
from tests.raft.core.member import (
    HISTORY,
    Member,
    answers,
    append_to,
    appends,
    blocks_of,
    committed,
    elected,
    propose,
    ranges,
    ready,
)


def follower(*terms: int) -> Member:
    """A follower of b, which leads term 9, with a log of these terms."""
    member = Member(blocks_of(*terms), term=terms[-1] if terms else 0)
    member.follow("b", term=9)
    return member


# -- §3.5 log replication ----------------------------------------------------------------------------------------------


@pytest.mark.paper("3.5")
def test_a_leader_appends_a_command_and_sends_it_to_all_others_in_parallel() -> None:
    member = ready()
    effects = member.step(Proposed(count=1, body=b"x"))
    assert [effect.body for effect in effects if isinstance(effect, Store)] == [b"x"]
    assert ranges(effects, "b") == ranges(effects, "c") == [(4, 4)]


@pytest.mark.paper("3.5")
def test_an_entry_is_committed_once_a_majority_holds_it_and_slow_followers_delay_nothing() -> None:
    member = ready(size=5)
    propose(member)
    member.flush()
    assert committed(member.answer("b")) == []
    assert committed(member.answer("c")) == [4]


@pytest.mark.paper("3.5")
def test_a_leader_tells_the_highest_committed_index_and_followers_then_apply_up_to_it() -> None:
    member = ready()
    propose(member)
    member.flush()
    assert [effect.commit_index for effect in appends(member.answer("b"), "b")] == [4]
    other = follower(1, 1)
    assert committed(other.hear("b", append_to(blocks_of(1, 1), term=9, commit=2, round=2))) == [2]


@pytest.mark.paper("3.5")
def test_a_follower_commits_no_further_than_the_last_entry_of_the_request() -> None:
    member = follower(1, 1, 2)
    assert committed(member.hear("b", append_to(blocks_of(1, 1), term=9, commit=3))) == [2]


@pytest.mark.paper("3.5")
def test_each_append_names_index_and_term_of_the_entry_before_it() -> None:
    (append,) = appends(Member(HISTORY, term=2).lead(), "b")
    assert (append.previous_index, append.previous_term) == (2, 2)


@pytest.mark.paper("3.5")
@pytest.mark.parametrize("held", [(1,), (1, 3)], ids=["missing", "of another term"])
def test_a_follower_refuses_entries_when_it_lacks_the_entry_before_them(held: tuple[int, ...]) -> None:
    member = follower(*held)
    before = blocks_of(1, 2)
    effects = member.hear("b", append_to(before, blocks_of(9, after=before), term=9))
    assert [answer.accepted for answer in answers(effects)] == [False]
    assert not [effect for effect in effects if isinstance(effect, StoreReceived | Truncate)]


@pytest.mark.paper("3.5")
def test_conflicting_entries_of_a_follower_are_overwritten_by_the_leader_s() -> None:
    member = follower(1, 1, 2, 2)
    agreed = blocks_of(1, 1)
    theirs = blocks_of(3, 9, after=agreed)
    effects = member.hear("b", append_to(agreed, theirs, term=9))
    assert [effect.index for effect in effects if isinstance(effect, Truncate)] == [2]
    assert [list(effect.blocks) for effect in effects if isinstance(effect, StoreReceived)] == [theirs]


@pytest.mark.paper("3.5")
def test_a_leader_begins_behind_its_own_log_and_goes_back_until_the_logs_agree() -> None:
    member = elected()
    assert member.leading.members["b"].next_index == 3
    assert ranges(member.refuse("b", 1), "b") == [(2, 3)]
    assert ranges(member.refuse("b", 0), "b") == [(1, 3)]


@pytest.mark.paper("3.5")
def test_a_refusal_skips_all_entries_of_the_conflicting_term() -> None:
    member = follower(1, 1, 2, 2, 2, 3, 3, 3)
    theirs = blocks_of(1, 1, 4, 4, 4, 4, 4, 4)
    (answer,) = answers(member.hear("b", append_to(theirs, term=9)))
    assert answer.hint_index == 5


@pytest.mark.paper("3.5")
def test_a_leader_never_overwrites_or_drops_entries_of_its_own_log() -> None:
    """Leader append-only: whatever followers answer, it truncates nothing."""
    member = ready()
    propose(member)
    effects = [*member.refuse("b", 0), *member.refuse("c", 99), *member.answer("b", match=1), *member.answer("c")]
    assert not [effect for effect in effects if isinstance(effect, Truncate)]
    assert member.raft.log.last_index == 4


@pytest.mark.paper("3.5")
def test_a_leader_sends_again_for_ever_until_all_followers_hold_everything() -> None:
    cluster = CoreCluster(3, seed=4)
    leader = cluster.elect()
    other = next(name for name in cluster.names if name != leader)
    cluster.isolate(other)
    cluster.propose(leader, b"x")
    cluster.run(20_000)
    assert cluster.bodies(other) == []
    cluster.heal()
    cluster.run(1_000)
    assert cluster.bodies(other) == [b"x"]


# -- §3.6.2 committing entries from previous terms ---------------------------------------------------------------------


@pytest.mark.paper("3.6.2")
def test_only_entries_of_the_leader_s_own_term_are_committed_by_counting() -> None:
    member = elected()
    member.flush()
    assert committed(member.answer("b", match=2)) == []
    assert committed(member.answer("c", match=2)) == []


@pytest.mark.paper("3.6.2")
def test_entries_of_earlier_terms_are_committed_with_the_first_of_the_leader_s_own() -> None:
    member = elected()
    member.flush()
    assert committed(member.answer("b", match=3)) == [3]


# -- §3.7 crashes, §3.8 persisted state --------------------------------------------------------------------------------


@pytest.mark.paper("3.7")
def test_an_append_that_comes_twice_changes_nothing_the_second_time() -> None:
    member = follower()
    request = append_to((), blocks_of(1, 9), term=9, commit=1)
    member.hear("b", request)
    before = (member.raft.log.last_index, member.raft.log.last_chain, member.raft.commit_index)
    again = member.hear("b", request)
    assert not [effect for effect in again if isinstance(effect, StoreReceived | Truncate | Committed)]
    assert (member.raft.log.last_index, member.raft.log.last_chain, member.raft.commit_index) == before


@pytest.mark.paper("3.7")
def test_a_crashed_follower_is_sent_what_it_missed_when_it_restarts() -> None:
    cluster = CoreCluster(3, seed=5)
    leader = cluster.elect()
    other = next(name for name in cluster.names if name != leader)
    cluster.kill(other)
    cluster.propose(leader, b"x")
    cluster.run(1_000)
    cluster.start(other)
    cluster.tell_back(other)
    cluster.run(2_000)
    assert cluster.bodies(other) == [b"x"]


@pytest.mark.paper("3.8")
def test_entries_are_durable_before_an_answer_vouches_for_them() -> None:
    member = follower()
    effects = member.hear("b", append_to((), blocks_of(9), term=9, confirm=True))
    assert [answer.match_index for answer in answers(effects)] == [0]
    assert [answer.match_index for answer in answers(member.flush())] == [1]


@pytest.mark.paper("3.8")
def test_the_commit_index_is_not_kept_over_a_restart_but_learnt_again() -> None:
    member = Member(blocks_of(1, 1), term=1)
    assert member.raft.commit_index == 0
    member.follow("b", term=2)
    member.hear("b", append_to(blocks_of(1, 1), term=2, commit=2, round=2))
    assert member.raft.commit_index == 2


# -- §10.2 disks and pipelines -----------------------------------------------------------------------------------------


@pytest.mark.paper("10.2.1")
def test_a_leader_replicates_an_entry_while_its_own_disk_still_writes_it() -> None:
    member = ready()
    assert propose(member) != []
    assert member.raft.durable_index == 3


@pytest.mark.paper("10.2.1")
def test_a_majority_of_followers_may_commit_an_entry_before_the_leader_has_written_it() -> None:
    member = ready()
    propose(member)
    assert committed(member.answer("b")) == []
    assert committed(member.answer("c")) == [4]
    assert member.raft.durable_index == 3


@pytest.mark.paper("10.2.1")
def test_a_leader_counts_its_own_copy_once_it_is_durable_and_no_earlier() -> None:
    member = ready()
    propose(member)
    member.answer("b")
    assert committed(member.step(Flushed(3, 3))) == []
    assert committed(member.flush()) == [4]


@pytest.mark.paper("10.2.2")
def test_the_next_append_does_not_wait_for_the_answer_to_the_last() -> None:
    member = ready()
    first, second = propose(member), propose(member)
    assert [(each.first_index, each.last_index) for each in (*first, *second)] == [(4, 4), (4, 4), (5, 5), (5, 5)]


@pytest.mark.paper("10.2.2")
def test_commands_that_arrive_together_are_sent_together() -> None:
    member = ready()
    effects = member.step(Proposed(count=2, body=b"x"), Proposed(count=3, body=b"y"), Applied(3))
    assert ranges(effects, "b") == [(4, 8)]
    assert len({effect.round for effect in effects if isinstance(effect, Replicate)}) == 1
