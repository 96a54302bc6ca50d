"""Servers that compare their own states, under every fault there is: they find nothing, for nothing is wrong."""

import pytest

from copycat.raft.server.checks import Checks
from copycat.testing.simulator import run_seed

pytestmark = pytest.mark.simulation

SECONDS = 15.0


@pytest.mark.parametrize("seed", range(6))
def test_servers_that_compare_their_states_find_no_difference_whatever_happens(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed: list[int] = []
    agrees = Checks._agrees

    def noted(checks: Checks, index: int) -> None:
        agreed.append(index)
        agrees(checks, index)

    monkeypatch.setattr(Checks, "_agrees", noted)
    report = run_seed(seed, seconds=SECONDS, options={"check_interval": 0.5})
    assert not report.problems, report
    assert len(set(agreed)) >= 5 or report.settings.members == 1
