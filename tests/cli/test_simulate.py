"""`copycat simulate`: what it says, and what it calls too little."""

import json
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from copycat.cli.simulate import FEW, describe, failure, shortcomings, summary
from copycat.testing.fault import Action
from copycat.testing.faults import FAULTS
from copycat.testing.marks import MARKS
from copycat.testing.simulator import SECONDS, Report, Settings, run_seed
from tests.cli.support import copycat


@pytest.fixture(scope="module")
def report() -> Report:
    return run_seed(1, seconds=2)


def ample(seed: int, **changes: float) -> Report:
    """A report of a seed in which enough happened."""
    facts = {"seconds": 65.0, "elections": 3, "invoked": 300, "ok": 280, **changes}
    report = Report(seed=seed, settings=Settings.draw(Random(seed)), **facts)  # type: ignore[arg-type]  # numbers all
    report.actions = [Action(at=1.0, fault=name, arguments={}) for name in FAULTS]
    report.marks = Counter(MARKS)
    return report


def test_a_seed_that_failed_says_how_to_run_it_again(report: Report) -> None:
    bad = replace(report, problems=["25: a token is gone"])

    assert failure(bad, SECONDS).splitlines() == [
        "seed 1 failed; run it again: copycat simulate --seed 1",
        "  25: a token is gone",
        "  make it small: copycat simulate --seed 1 --shrink",
    ]
    assert "--seconds 5" in failure(bad, 5)
    assert "seed 1: failed" in describe(bad)
    assert summary([report, bad], 2, 1.0)["failed"] == [1]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seconds": 10.0}, "a median of less than 60 simulated s"),
        ({"invoked": 150, "ok": 140}, "a median of less than 200 operations"),
        ({"ok": 100}, "operations acknowledged"),
        ({"elections": 1}, "another leader in only 0"),
    ],
)
def test_what_hardly_happened_is_said(changes: dict[str, float], what: str) -> None:
    assert shortcomings([ample(seed) for seed in range(FEW)], SECONDS) == []

    (found,) = shortcomings([ample(seed, **changes) for seed in range(FEW)], SECONDS)

    assert what in found


def test_a_fault_that_never_happened_is_named() -> None:
    reports = [ample(seed) for seed in range(FEW)]
    for report in reports:
        report.actions = [action for action in report.actions if action.fault != "wipe"]

    assert shortcomings(reports, SECONDS) == ["the fault 'wipe' in 0 seeds"]


def test_a_mark_that_was_never_reached_is_named() -> None:
    reports = [ample(seed) for seed in range(FEW)]
    for report in reports:
        del report.marks["a hole was refilled"]

    assert shortcomings(reports, SECONDS) == ["never: a hole was refilled"]


def test_a_history_that_was_not_decided_is_no_pass() -> None:
    reports = [ample(seed) for seed in range(FEW)]
    reports[7].checked["unknown verdicts"] += 1

    assert shortcomings(reports, SECONDS) == ["1 histories that the checker did not decide in time"]


def test_of_a_few_seeds_nothing_is_asked(report: Report) -> None:
    assert shortcomings([report], 2) == []


@pytest.mark.slow
def test_a_run_says_the_same_of_a_seed_as_another(report: Report) -> None:
    done = copycat("simulate", "--seed", "1", "--seeds", "2", "--seconds", "2", "--jobs", "2", "--json")

    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert (whole["seeds"], whole["failed"], whole["shortcomings"]) == (2, [], [])
    assert whole["reports"][0]["trace"] == report.trace
    assert whole["invoked"] == sum(each["invoked"] for each in whole["reports"])
