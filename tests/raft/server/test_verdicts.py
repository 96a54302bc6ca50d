"""What follows from the hashes of several members at one index. Protocol §8.10."""

import pytest

from copycat.raft.protocol.hashes import NOT_HASHED, Hashes
from copycat.raft.server.verdicts import judge, sections_apart


def state(*digests: str, first: int = 0) -> Hashes:
    """Of the resources 0, 1, …; "-" for one that cannot be hashed."""
    return [(first + at, NOT_HASHED if each == "-" else each.encode()) for at, each in enumerate(digests)]


def test_equal_states_of_a_majority_settle_it_and_more_may_come() -> None:
    early = judge({"a": state("x"), "b": state("x")}, "abc")
    assert (early.agreed, early.differing, early.is_hopeless) == (["a", "b"], {}, False)
    late = judge({"a": state("x"), "b": state("x"), "c": state("x")}, "abc")
    assert late.agreed == ["a", "b", "c"]


def test_one_alone_is_no_majority_and_nothing_is_lost_yet() -> None:
    verdict = judge({"a": state("x")}, "abc")
    assert (verdict.agreed, verdict.is_hopeless) == ((), False)


def test_a_minority_hears_where_it_differs_and_what_is_right_there() -> None:
    reports = {"a": state("x", "y", "z"), "b": state("x", "!", "z"), "c": state("x", "y", "z")}
    verdict = judge(reports, "abc")
    assert verdict.agreed == ["a", "c"]
    assert verdict.differing == {"b": [(1, b"y")]}
    assert sections_apart(reports) == [1]


def test_each_of_a_minority_may_differ_in_its_own_way() -> None:
    right = state("x", "y")
    verdict = judge({"a": state("!", "y"), "b": right, "c": right, "d": state("x", "?"), "e": right}, "abcde")
    assert verdict.differing == {"a": [(0, b"x")], "d": [(1, b"y")]}


def test_a_resource_that_only_some_have_is_a_difference() -> None:
    verdict = judge({"a": state("x"), "b": state("x"), "c": state("x", "more"), "d": []}, "abc")
    assert verdict.differing == {"c": [(1, NOT_HASHED)], "d": [(0, b"x")]}


@pytest.mark.parametrize(
    ("voters", "said", "is_hopeless"),
    [
        ("ab", "12", True),
        ("abc", "12", False),  # c decides
        ("abc", "123", True),
        ("abcde", "1122", False),
        ("abcde", "123", False),  # d and e may agree with one
        ("abcde", "1234", True),
        ("abcde", "11223", True),
    ],
)
def test_it_is_hopeless_when_those_missing_can_make_no_majority(voters: str, said: str, is_hopeless: bool) -> None:
    verdict = judge({member: state(digest) for member, digest in zip(voters, said, strict=False)}, voters)
    assert (verdict.agreed, verdict.is_hopeless) == ((), is_hopeless)


def test_members_without_a_vote_are_compared_and_do_not_count() -> None:
    reports = {"a": state("x"), "b": state("x"), "p": state("!"), "q": state("!"), "r": state("!")}
    assert list(judge(reports, "abc").differing) == ["p", "q", "r"]
    undecided = judge({"a": state("x"), "p": state("x")}, "abc")
    assert (undecided.agreed, undecided.is_hopeless) == ((), False)


def test_what_somebody_cannot_hash_is_left_out_of_the_comparison() -> None:
    reports = {"a": state("x", "y"), "b": state("x", "-"), "c": state("x", "?")}
    assert judge(reports, "abc").agreed == ["a", "b", "c"]
    assert sections_apart(reports) == []
    reports["c"] = state("!", "?")
    assert judge(reports, "abc").differing == {"c": [(0, b"x")]}
