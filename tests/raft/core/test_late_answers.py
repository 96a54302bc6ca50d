"""Which answers of members a leader may take in with whatever comes next, because nobody waits for them."""

from collections.abc import Callable

import pytest

from copycat.raft.core.events import ReadRequested, TransferRequested, Unreachable
from copycat.raft.protocol.messages import AppendResponse, PollResponse
from tests.raft.core.member import Member, propose, ready


def answer(
    member: Member, *, accepted: bool = True, refilling: bool = False, term: int | None = None, round: int | None = None
) -> AppendResponse:
    """What a member says that has taken in all of the log with the newest round."""
    return AppendResponse(
        term=member.raft.term if term is None else term,
        round=member.leading.round if round is None else round,
        accepted=accepted,
        match_index=member.raft.log.last_index if accepted else 0,
        hint_index=0,
        sent_ms=0,
        refilling=refilling,
    )


def committed(size: int = 3) -> Member:
    """A leader that has committed a block with the answers of as many others as that takes, in their order."""
    member = ready(size, notice_ms=50)
    propose(member)
    member.flush()
    for other in member.raft.others[: size // 2]:
        member.answer(other)
    assert member.raft.commit_index == member.raft.log.last_index
    return member


def test_an_answer_to_what_is_committed_may_wait_and_one_that_commits_may_not() -> None:
    member = ready(notice_ms=50)
    propose(member)
    member.flush()
    assert not member.raft.may_wait("b", answer(member))
    assert not member.raft.may_wait("c", answer(member))
    member.answer("b")
    assert member.raft.may_wait("c", answer(member))


def test_of_five_members_the_answers_of_two_may_wait() -> None:
    member = ready(5, notice_ms=50)
    propose(member)
    member.flush()
    waits = []
    for other in ("d", "b", "e", "c"):
        waits.append(member.raft.may_wait(other, answer(member)))
        member.answer(other)
    assert waits == [False, False, True, True]


def test_the_first_answer_to_a_heartbeat_may_not_wait_for_leases_rest_on_it() -> None:
    member = committed()
    member.step(after=member.raft.config.heartbeat_ms)
    assert not member.raft.may_wait("c", answer(member))
    member.answer("c")
    assert member.raft.may_wait("b", answer(member))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda member: propose(member),
        lambda member: member.step(ReadRequested("read")),
        lambda member: member.step(TransferRequested("b")),
        lambda member: member.step(Unreachable("c", refused=False)),
    ],
    ids=["something is not committed", "a read waits", "another is to lead", "the member is probed"],
)
def test_no_answer_may_wait_while(spoil: Callable[[Member], object]) -> None:
    member = committed()
    assert member.raft.may_wait("c", answer(member))
    spoil(member)
    assert not member.raft.may_wait("c", answer(member, round=1))


def test_what_is_not_a_plain_yes_may_not_wait() -> None:
    member = committed()
    term = member.raft.term
    assert not member.raft.may_wait("c", answer(member, accepted=False))
    assert not member.raft.may_wait("c", answer(member, refilling=True))
    assert not member.raft.may_wait("c", answer(member, term=term + 1))
    assert not member.raft.may_wait("z", answer(member))
    assert not member.raft.may_wait("c", PollResponse(term=term, proposed=term, granted=False))


def test_only_a_leader_lets_answers_wait() -> None:
    member = committed()
    late = answer(member)
    member.hear("b", answer(member, term=member.raft.term + 1))
    assert not member.raft.may_wait("c", late)
