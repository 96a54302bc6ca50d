"""What a read must show, as one can tell who sees all members."""

from dataclasses import dataclass
from typing import cast

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.effects import ReadReady, ReadRefused
from copycat.raft.core.events import ReadRequested
from copycat.raft.core.raft import Raft
from copycat.testing.reading import ReadWatch


@dataclass
class Member:
    """As much of a Raft as is looked at."""

    member_id: str
    commit_index: int = 0
    is_leader: bool = False


def member(name: str, commit_index: int = 0, *, is_leader: bool = False) -> Raft:
    return cast(Raft, Member(name, commit_index, is_leader))


def test_a_read_is_let_in_at_what_was_committed_anywhere_when_it_arrived() -> None:
    watch, token = ReadWatch(), ["read"]
    watch.stepped(member("b", 7), [])
    watch.stepping([ReadRequested(token)])
    watch.stepped(member("b", 9), [])  # too late to be seen by it

    watch.stepped(member("a", 7), [ReadReady([token], 7)])

    assert watch.checked == 1


def test_a_leader_that_lets_in_a_read_without_what_another_has_committed_is_found_out() -> None:
    watch, token = ReadWatch(), ["read"]
    watch.stepped(member("b", 8), [])
    watch.stepping([ReadRequested(token)])

    with pytest.raises(InvariantError, match="11: a read was let in without"):
        watch.stepped(member("a", 7), [ReadReady([token], 7)])


def test_a_read_that_is_refused_shows_nothing() -> None:
    watch, token = ReadWatch(), ["read"]
    watch.stepping([ReadRequested(token)])

    watch.stepped(member("a"), [ReadRefused([token])])

    assert watch.checked == 0


def test_who_answers_by_a_lease_has_applied_all_that_another_leader_has() -> None:
    watch = ReadWatch()
    watch.applied(member("b", is_leader=True), 7)
    watch.applied(member("c"), 9)  # who answers nobody

    watch.at_once(member("a", is_leader=True), 7)

    with pytest.raises(InvariantError, match="12: a read by lease"):
        watch.at_once(member("a", is_leader=True), 6)
