"""The watch sees what must never happen. Each case breaks a sound member in one place; numbers are reliability §1's."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.effects import RoleChanged, Send, Store, Truncate
from copycat.raft.core.invariants import ClusterWatch, MembershipWatch, Watch
from copycat.raft.core.log_view import LogView
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.messages import AppendResponse, VoteRequest, VoteResponse
from tests.raft.core.disk import list_of, read_list
from tests.raft.core.member import Member, append_to, blocks_of, propose, ready


def follower() -> Member:
    """Has three durable entries of its leader `b`, two of them committed."""
    blocks = blocks_of(1, 1, 1)
    member = Member(blocks, term=2, vote="b")
    member.follow("b")
    member.hear("b", append_to(blocks, term=2, commit=2))
    return member


def answer(*, match: int = 0, term: int = 2, accepted: bool = True) -> Send:
    return Send("b", AppendResponse(term=term, round=1, accepted=accepted, match_index=match, hint_index=0, sent_ms=0))


def vote(*, term: int, granted: bool = True) -> Send:
    return Send("b", VoteResponse(term=term, granted=granted))


def stored(index: int) -> Store:
    return Store(first_index=index, count=1, term=2, kind=2, time=0, chain_before=0, chain=0, body=b"")


def applied_beyond_commit(raft: Raft) -> None:
    raft.applied_index = raft.commit_index + 1


def committed_beyond_log(raft: Raft) -> None:
    raft.commit_index = raft.log.last_index + 1


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda raft: setattr(raft, "term", raft.term - 1), "2: a term fell"),
        (lambda raft: setattr(raft, "vote", "c"), "2: a vote changed"),
        (lambda raft: setattr(raft, "vote", ""), "2: a vote changed"),
        (lambda raft: setattr(raft, "commit_index", 1), "8: the commit index fell"),
        (applied_beyond_commit, "8: applied, commit and last out of order"),
        (committed_beyond_log, "8: applied, commit and last out of order"),
        (lambda raft: setattr(raft, "durable_index", 4), "7: durable beyond the log"),
        (lambda raft: setattr(raft, "log_time", raft.log_time - 1), "24: log time fell"),
        (lambda raft: setattr(raft, "persisted_term", 3), "2: a term was persisted before"),
    ],
)
def test_a_member_whose_state_is_impossible_is_stopped(breaks: Callable[[Raft], None], message: str) -> None:
    member = follower()
    breaks(member.raft)
    with pytest.raises(InvariantError, match=message):
        member.watch.check(member.raft, [])


def test_an_applied_index_that_falls_is_seen() -> None:
    member = follower()
    member.raft.applied_index = 2
    member.watch.check(member.raft, [])
    member.raft.applied_index = 1
    with pytest.raises(InvariantError, match="8: the applied index fell"):
        member.watch.check(member.raft, [])


def test_a_watch_is_not_fooled_by_beginnings() -> None:
    watch = Watch()
    assert (watch.term, watch.vote, watch.commit_index, watch.applied_index, watch.log_time) == (0, "", 0, 0, 0)
    watch.check(Member().raft, [])


def test_a_new_term_comes_with_a_vote_of_its_own() -> None:
    member = follower()
    member.raft.term, member.raft.vote = 3, ""
    member.watch.check(member.raft, [])
    member.raft.vote = "c"
    member.watch.check(member.raft, [])
    assert (member.watch.term, member.watch.vote) == (3, "c")


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (Truncate(1), "5: a committed entry was truncated"),
        (vote(term=3), "2: a vote left before it was durable"),
        (Send("b", VoteRequest(term=3, last_index=1, last_term=1)), "2: a vote left before it was durable"),
        (answer(match=4), "7: vouched before the flush"),
        (answer(term=3), "2: an answer left before its term was durable"),
    ],
)
def test_what_must_not_be_done_or_said_is_stopped(effect: Send | Truncate, message: str) -> None:
    member = follower()
    with pytest.raises(InvariantError, match=message):
        member.watch.check(member.raft, [effect])


@pytest.mark.parametrize(
    "effect",
    [Truncate(2), vote(term=2), vote(term=3, granted=False), answer(match=3), answer(term=3, match=9, accepted=False)],
)
def test_what_may_be_done_and_said_passes(effect: Send | Truncate) -> None:
    member = follower()
    member.watch.check(member.raft, [effect])


def test_a_member_without_a_vote_proposes_nothing() -> None:
    member = Member(term=2, voting=False)
    member.watch.check(member.raft, [])
    with pytest.raises(InvariantError, match="passives propose"):
        member.watch.check(member.raft, [stored(1)])
    other = follower()
    other.watch.check(other.raft, [stored(4)])  # proposed as a leader, and stepped down in the same step


def test_a_candidate_that_votes_for_another_is_seen() -> None:
    member = Member(term=2)
    member.step(after=500)
    member.watch.check(member.raft, [])  # asks first, and may have voted for someone
    candidate = Member(term=2)
    candidate.campaign()
    candidate.raft.vote = candidate.watch.vote = "b"
    with pytest.raises(InvariantError, match="a candidate votes for itself"):
        candidate.watch.check(candidate.raft, [])


# -- leaders ---------------------------------------------------------------------------------------------------------


def test_a_leader_that_follows_another_is_seen() -> None:
    member = ready()
    member.raft.leader = "b"
    with pytest.raises(InvariantError, match="a leader knows itself"):
        member.watch.check(member.raft, [])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("match_index", 2, "7: a match index fell"),
        ("next_index", 3, "next must stay above match"),
        ("next_index", 2, "next must stay above match"),
    ],
)
def test_progress_that_is_impossible_is_seen(field: str, value: int, message: str) -> None:
    member = ready()
    setattr(member.leading.members["b"], field, value)
    with pytest.raises(InvariantError, match=message):
        member.watch.check(member.raft, [])


def test_a_match_beyond_the_log_is_seen() -> None:
    member = ready()
    progress = member.leading.members["b"]
    progress.match_index, progress.next_index = 4, 5
    with pytest.raises(InvariantError, match="7: match beyond the log"):
        member.watch.check(member.raft, [])


def test_a_match_may_fall_for_a_member_being_refilled_and_anew_in_another_leadership() -> None:
    member = ready()
    member.leading.members["b"].match_index = 1
    member.leading.members["b"].refilling = True
    member.watch.check(member.raft, [])
    member = ready()
    member.hear("b", append_to((), term=9))
    assert member.watch.match == {}


@pytest.mark.parametrize(("durable", "matches"), [(3, (3, 3)), (4, (3, 3)), (3, (4, 3))])
def test_a_commit_without_a_durable_majority_is_seen(durable: int, matches: tuple[int, int]) -> None:
    member = ready()
    propose(member)
    member.raft.durable_index = durable
    for progress, match in zip(member.leading.members.values(), matches, strict=True):
        progress.match_index = match
    member.raft.commit_index = 4
    with pytest.raises(InvariantError, match="5: committed without a durable majority"):
        member.watch.check(member.raft, [])


@pytest.mark.parametrize(("durable", "matches"), [(4, (4, 3)), (3, (4, 4)), (4, (4, 4))])
def test_a_durable_majority_may_commit(durable: int, matches: tuple[int, int]) -> None:
    member = ready()
    propose(member)
    member.raft.durable_index = durable
    for progress, match in zip(member.leading.members.values(), matches, strict=True):
        progress.match_index = match
    member.raft.commit_index = 4
    member.watch.check(member.raft, [])


def test_an_entry_of_an_earlier_term_that_is_committed_by_itself_is_seen() -> None:
    member = Member(blocks_of(1, 1), term=2)
    member.lead()
    member.raft.commit_index = 2
    with pytest.raises(InvariantError, match="5: a leader counts who holds its own entries alone"):
        member.watch.check(member.raft, [])


# -- a whole cluster -------------------------------------------------------------------------------------------------


def test_two_leaders_in_a_term_are_seen() -> None:
    watch = ClusterWatch()
    watch.check(ready().raft, [])
    other = ready()
    other.raft.member_id = "b"
    with pytest.raises(InvariantError, match="1: two leaders in a term"):
        watch.check(other.raft, [])


def test_two_votes_in_a_term_are_seen() -> None:
    watch = ClusterWatch()
    member = follower()
    watch.check(member.raft, [vote(term=2), vote(term=2)])
    watch.check(member.raft, [Send("c", VoteResponse(term=2, granted=False))])
    watch.check(member.raft, [Send("c", VoteResponse(term=3, granted=True))])
    with pytest.raises(InvariantError, match="2: two votes in a term"):
        watch.check(member.raft, [Send("c", VoteResponse(term=2, granted=True))])


def test_two_members_that_commit_different_entries_are_seen() -> None:
    watch = ClusterWatch()
    watch.check(follower().raft, [])
    other = follower()
    other.raft.log = LogView()
    for block in blocks_of(1, 1, 1, body=b"other"):
        other.raft.log.append(block.first_index, block.count, block.term, block.chain, block.size)
    with pytest.raises(InvariantError, match="6: two members committed different entries"):
        watch.check(other.raft, [])


@pytest.mark.parametrize(
    ("terms", "body", "message"),
    [
        ((1,), b"", "5: a leader lacks a committed entry"),
        ((1, 2), b"", "5: a leader lacks a committed entry"),
        ((1, 1), b"other", "4: a leader holds another entry"),
    ],
)
def test_a_leader_without_what_was_committed_is_seen(terms: tuple[int, ...], body: bytes, message: str) -> None:
    watch = ClusterWatch()
    watch.check(follower().raft, [])
    member = Member(blocks_of(*terms, body=body), term=2)
    member.lead()
    with pytest.raises(InvariantError, match=message):
        watch.check(member.raft, [])


def test_a_leader_of_a_term_gone_by_need_not_hold_what_was_committed_since() -> None:
    watch = ClusterWatch()
    watch.check(ready().raft, [])
    old = Member(blocks_of(1), term=1)
    old.lead()
    watch.check(old.raft, [])
    assert watch.leaders == {2: "a", 3: "a"}


def test_a_member_that_has_committed_more_is_compared_again() -> None:
    watch = ClusterWatch()
    member = follower()
    watch.check(member.raft, [])
    other = Member(blocks_of(1, 1, 1, 1), term=2)
    other.raft.commit_index = 3
    watch.check(other.raft, [])
    member.raft.log = LogView()
    for block in blocks_of(1, 1, 1, body=b"other"):
        member.raft.log.append(block.first_index, block.count, block.term, block.chain, block.size)
    watch.check(member.raft, [])  # nothing that is below can have changed, or its Watch has seen it
    member.raft.commit_index = 3
    with pytest.raises(InvariantError, match="6: two members committed different entries"):
        watch.check(member.raft, [])


# -- who takes part ----------------------------------------------------------------------------------------------------


def configure(raft: Raft, names: str) -> Store:
    """A list of these members, appended behind the log."""
    return replace(stored(raft.log.last_index + 1), term=raft.term, kind=BlockKind.CONFIGURE, body=list_of(names))


def test_a_leader_without_the_votes_of_a_majority_is_seen() -> None:
    cluster = ClusterWatch()
    watch = MembershipWatch(cluster)
    elected = RoleChanged(role="leader", term=2, leader="a")
    cluster.votes["b", 2] = "a"
    watch.check(follower().raft, [elected])
    cluster.votes["b", 2] = "c"
    cluster.votes["z", 2] = "a"  # who has no vote
    with pytest.raises(InvariantError, match="36: elected without a majority of the voters"):
        watch.check(follower().raft, [elected])


def test_a_list_that_the_log_does_not_hold_is_seen_and_so_is_one_that_is_not_in_force() -> None:
    watch, raft = MembershipWatch(ClusterWatch()), follower().raft
    watch.check(raft, [])
    raft.memberships.append(read_list(raft.log.last_index, list_of("ab")))  # another entry stands there
    with pytest.raises(InvariantError, match="9: a list is in force that the log does not hold"):
        watch.check(raft, [])

    watch, raft = MembershipWatch(ClusterWatch()), follower().raft
    held = replace(configure(raft, "ab"), kind=BlockKind.INITIALIZE, first_index=3, term=raft.log.term_at(3) or 0)
    with pytest.raises(InvariantError, match="9: a list in the log is not in force"):
        watch.check(raft, [held])


def test_two_changes_at_a_time_are_seen_and_so_is_one_before_an_own_entry() -> None:
    watch, raft = MembershipWatch(ClusterWatch()), ready().raft
    for later, names in enumerate(("ab", "a"), 1):
        raft.memberships.append(read_list(raft.log.last_index + later, list_of(names)))
    with pytest.raises(InvariantError, match="9: two changes of members at a time"):
        watch.check(raft, [configure(raft, "a")])

    watch, member = MembershipWatch(ClusterWatch()), Member(blocks_of(1), term=1)
    member.lead()
    with pytest.raises(InvariantError, match="9: a change before anything of the own term was committed"):
        watch.check(member.raft, [configure(member.raft, "ab")])
