"""A fixed set of seeds: real clusters, in virtual time, under the faults each draws."""

import pytest

from copycat.testing.simulator import Report, run_seed

SEEDS = range(20)
SECONDS = 20.0

pytestmark = [pytest.mark.simulation, pytest.mark.slow]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_and_the_cluster_recovers(seed: int) -> None:
    report = run_seed(seed, seconds=SECONDS)

    assert not report.problems, report
    assert report.ok > 0.5 * report.invoked > 0
    assert report.seconds >= SECONDS
    assert report.elections >= 1


def test_the_seeds_differ_in_what_they_bring_about() -> None:
    reports: list[Report] = [run_seed(seed, seconds=3) for seed in (1, 2, 3)]

    assert len({report.trace for report in reports}) == len(reports)
    assert len({report.settings for report in reports}) == len(reports)


def test_a_member_that_is_removed_while_it_asks_for_its_vote_ends_as_one_that_was_removed() -> None:
    report = run_seed(262)  # in which it happens: it ended with the refusal of its vote once

    assert not report.problems, report


def test_a_member_that_is_removed_before_it_heard_that_it_was_let_in_ends() -> None:
    report = run_seed(132)  # in which it happens: its end counted as a fault once

    assert not report.problems, report
