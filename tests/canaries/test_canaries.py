"""The canaries are in order, and five of them are found by the seeds that found them before. All: `make canaries`."""

from dataclasses import replace

import pytest

from tests.canaries.canary import Canary, CanaryError, let_in
from tests.canaries.registry import CANARIES, by_name
from tests.canaries.search import SearchError, judge_of, search
from tests.canaries.table import PAGE, measures_on_page, page

FOUND = {
    "A follower vouches for entries before they are on its disk": 100,
    "The name of a new segment is not synced": 113,
    "Term and vote are written and not synced": 108,
    "Events sent again on a new connection are heard again": 115,
    "The tokens of a lock begin anew": 103,
}
"""Of each kind one that its seed finds within a second."""

ANY = CANARIES[0]


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_a_canary_is_a_change_of_one_function_that_compiles(canary: Canary) -> None:
    source = canary.path.read_text(encoding="utf-8")

    changed = canary.applied_to(source)

    assert canary.function
    assert compile(changed, str(canary.path), "exec") != compile(source, str(canary.path), "exec")


def test_canaries_have_names_of_their_own() -> None:
    assert len({canary.name for canary in CANARIES}) == len(CANARIES)


def test_the_page_has_exactly_the_canaries_there_are() -> None:
    measures = measures_on_page()

    assert set(measures) == {canary.name for canary in CANARIES}, "run: make canaries"
    assert PAGE.read_text(encoding="utf-8") == page(measures), "run: make canaries"


@pytest.mark.simulation
@pytest.mark.parametrize(("name", "seed"), FOUND.items())
def test_a_canary_is_found_by_the_seed_that_found_it_before(name: str, seed: int) -> None:
    assert search(by_name(name), seed, seeds=1).seed == seed


@pytest.mark.simulation
def test_a_seed_that_finds_canaries_finds_nothing_without_one() -> None:
    assert search(None, 105, seeds=1).seed is None


def test_a_judge_is_heard_by_its_number_or_its_words_and_in_no_other_number() -> None:
    def heard(problem: str, *judges: str) -> str | None:
        return judge_of(problem, replace(ANY, judges=judges))

    assert heard("at 0.3 s, member a: InvariantError: 5: a leader lacks a committed entry 69", "4", "5") == "5"
    assert heard("seed 15: at 3.5: member a: AssertionError: a file was synced again", "5") is None
    assert heard("member a: AssertionError: a file was synced again", "5", "a file was synced") == "a file was synced"
    assert heard("seed 3: waited 60 s for calls to be answered: a: leader", "34") == "34"
    assert heard("seed 3: waited 60 s for calls to be answered: a: leader", "10") is None


@pytest.mark.parametrize("before", ["return 1 +", "pass\npass", "raft.nowhere()"])
def test_a_canary_whose_lines_are_gone_or_not_alone_says_so(before: str) -> None:
    canary = replace(ANY, before=before)

    with pytest.raises(CanaryError, match="times, not once"):
        canary.applied_to("def one():\n    pass\n    pass\n    pass\n")


def test_a_canary_that_reaches_beyond_one_function_says_so() -> None:
    lines = ANY.path.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("CARRY_MEMBERSHIP = "))

    with pytest.raises(CanaryError, match="not within one function"):
        _ = replace(ANY, before=lines[at]).function


def test_a_canary_is_put_where_its_lines_were_indented_alike() -> None:
    canary = replace(ANY, before="if old:\n    go()", after="if new:\n    stay()")

    assert canary.applied_to("def one():\n    if old:\n        go()\n") == "def one():\n    if new:\n        stay()\n"


def test_a_canary_comes_too_late_once_the_package_is_imported() -> None:
    import copycat  # noqa: F401  # as it has been by other tests, unless this one runs alone

    with pytest.raises(CanaryError, match="imported before"):
        let_in(ANY)


def test_a_search_that_goes_wrong_says_what_went_wrong() -> None:
    with pytest.raises(SearchError, match="there is no canary"):
        search(replace(ANY, name="A canary that is none"), 0, seeds=1)
