"""Who holds a member's word for what, and what a member has forgotten of its own. protocol §2.8."""

import pytest

from copycat.raft.core.vouched import is_forgotten, told
from copycat.raft.protocol.lives import Life, Vouched
from copycat.raft.protocol.messages import AppendResponse, VoteResponse
from tests.raft.core.member import Member, append_to, blocks_of, elected

HISTORY = blocks_of(1, 1, 1, 1)


def acknowledged(member: Member, index: int) -> AppendResponse:
    return AppendResponse(
        term=member.raft.term, round=1, accepted=True, match_index=index, hint_index=0, sent_ms=0, refilling=False
    )


def test_a_leader_holds_the_word_of_who_voted_and_of_who_acknowledged_and_keeps_it_when_it_leads_no_more() -> None:
    member = elected()
    (voter,) = told(member.raft)
    term, last = member.raft.term, member.raft.log.last_index
    assert told(member.raft) == {voter: Vouched(term, 0, True)}
    member.hear("c", acknowledged(member, last))
    assert told(member.raft)["c"] == Vouched(term, last, voter == "c")
    before = told(member.raft)
    member.hear("b", VoteResponse(term=term + 1, granted=False))
    assert member.raft.role.name == "follower"
    assert told(member.raft) == before


@pytest.mark.parametrize(
    ("word", "forgotten"),
    [
        (Vouched(3, 0, False), True),  # it was in a term that it does not know of
        (Vouched(2, 5, False), True),  # it lacks what it held
        (Vouched(2, 4, False), False),
        (Vouched(2, 0, True), True),  # it does not know that it has voted
        (Vouched(1, 9, True), False),  # of earlier terms: what it held may have been replaced since
    ],
)
def test_what_is_forgotten_is_what_was_vouched_for_in_the_latest_term_and_is_not_there(
    word: Vouched, forgotten: bool
) -> None:
    assert is_forgotten(Member(HISTORY, term=2).raft, word) is forgotten


def test_one_that_is_being_refilled_has_not_forgotten_what_it_lacks_and_one_that_has_voted_not_that() -> None:
    assert not is_forgotten(Member(HISTORY, term=2, voting=False).raft, Vouched(2, 9, False))
    assert not is_forgotten(Member(HISTORY, term=2, vote="b").raft, Vouched(2, 0, True))


def test_a_member_that_did_all_it_said_has_forgotten_nothing_whatever_its_leader_replaced() -> None:
    member = Member(blocks_of(1, 2, 2), term=2)
    member.hear("c", append_to(HISTORY[:1], blocks_of(3, after=HISTORY[:1]), term=3))
    member.flush()
    assert not is_forgotten(member.raft, Vouched(2, 3, False))


def test_a_start_is_superseded_by_later_ones_and_by_another_of_the_same_number() -> None:
    own = Life(4, b"own")
    assert Life(5, b"x").supersedes(own)
    assert Life(4, b"x").supersedes(own)
    assert not Life(4, b"own").supersedes(own)
    assert not Life(3, b"x").supersedes(own)
