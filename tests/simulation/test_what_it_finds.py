"""The simulator can fail: what a user's state machine does wrong is found, by the first seeds.

Mistakes in the product itself are in tests/canaries."""

from itertools import count

import pytest

from copycat.resource import Commit
from copycat.testing import workload
from copycat.testing.simulator import run_seed

pytestmark = pytest.mark.simulation

SEEDS = range(12)
SECONDS = 20.0


def found() -> str:
    """What is wrong with the first seed that fails."""
    for seed in SEEDS:
        report = run_seed(seed, seconds=SECONDS)
        if report.problems:
            return report.problems[0]
    return ""


def test_a_state_machine_that_answers_differently_on_each_member_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(workload.LedgerMachine, "_append", lambda *_: next(numbers))

    assert "6: two members applied the same index unlike" in found()


def test_a_state_machine_that_hides_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()

    def append(machine: workload.LedgerMachine, _commit: object, token: str) -> int:
        machine.entries.append(f"{token} {next(numbers)}")
        return 0

    monkeypatch.setattr(workload.LedgerMachine, "_append", append)

    assert "30: " in found()


def test_a_query_that_answers_what_the_log_does_not_have_at_its_index_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    look, numbers = workload.LedgerMachine._look, count()

    def look_behind(machine: workload.LedgerMachine, commit: Commit) -> list[int | str]:
        index, entries, last = look(machine, commit)
        return [index, entries, "another" if next(numbers) % 50 == 49 else last]

    monkeypatch.setattr(workload.LedgerMachine, "_look", look_behind)

    assert "but the log has" in found()
