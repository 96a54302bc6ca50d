"""The same seed does the same, to the byte: in another process, and whatever order its sets have."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging
from copycat.testing.simulator import run_seed
logging.disable(logging.CRITICAL)
for seed in (2, 8, 12):
    report = run_seed(seed, seconds=15)
    print(seed, report.trace, report.events, report.steps, report.invoked, report.problems)
"""


@pytest.mark.simulation
@pytest.mark.slow
def test_a_seed_leaves_the_same_trace_in_every_process() -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2718")
    ]
    shown = [run.communicate(timeout=55)[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0]
    assert shown[0].count("\n") == 3
    assert shown[0] == shown[1]
