"""Looks for a canary: seed after seed of the simulator, until one fails.

Each search is a process of its own, `python -m tests.canaries.search`, for the mistake stays in a process for good.
"""

import json
import logging
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from tests.canaries.canary import SOURCE, Canary, let_in
from tests.canaries.registry import by_name

SECONDS = 20.0
"""Of faults in a seed. Short ones, and more of them, find more in the same time."""
SEEDS_MAX = 150
CPU_SECONDS_MAX = 120.0
"""The budget of one search: it must find the canary within both. A seed takes less than a second."""

IN_VAIN = re.compile(r"waited [\d.]+ s for")
"""How the simulator says that the cluster did not recover: invariant 34."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How a search ended: with `seed`, of which `problem` is the first that counts; None when the budget was spent."""

    seed: int | None
    seeds: int
    cpu_seconds: float
    problem: str = ""


class SearchError(Exception):
    """The search itself went wrong, or what failed was not what had to."""


def search(
    canary: Canary | None, first: int, *, seeds: int = SEEDS_MAX, cpu_seconds: float = CPU_SECONDS_MAX
) -> Finding:
    """Try the seeds from `first` on; None: without any mistake. Raises SearchError."""
    name = canary.name if canary is not None else ""
    child = subprocess.run(
        [sys.executable, "-m", "tests.canaries.search", name, str(first), str(seeds), str(cpu_seconds)],
        cwd=SOURCE.parent,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{SOURCE.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise SearchError(f"{name}: {child.stderr.strip()[-4000:]}")
    return Finding(**json.loads(child.stdout))


def judge_of(problem: str, canary: Canary) -> str | None:
    """Which of the canary's judges this problem is the word of; None when it speaks of something else."""
    return next((judge for judge in canary.judges if _speaks(judge, problem)), None)


def _speaks(judge: str, problem: str) -> bool:
    if judge == "34" and IN_VAIN.search(problem):
        return True
    return bool(re.search(rf"(?<![\w.]){judge}: ", problem)) if judge.isdecimal() else judge in problem


def _look(canary: Canary | None, first: int, seeds: int, cpu_seconds: float) -> Finding:
    if canary is not None:
        let_in(canary)
    from copycat.testing.simulator import run_seed  # only now: with the canary in it

    logging.disable(logging.CRITICAL)
    started = time.process_time()
    tried = 0
    while tried < seeds and time.process_time() - started < cpu_seconds:
        report = run_seed(first + tried, seconds=SECONDS)
        tried += 1
        spent = round(time.process_time() - started, 2)
        for problem in report.problems:
            if canary is not None and judge_of(problem, canary):
                return Finding(seed=report.seed, seeds=tried, cpu_seconds=spent, problem=problem)
        if report.problems:
            raise SearchError(f"seed {report.seed} failed for another reason: {'; '.join(report.problems)}")
    return Finding(seed=None, seeds=tried, cpu_seconds=round(time.process_time() - started, 2))


def _main() -> int:
    name, first, seeds, cpu_seconds = sys.argv[1:]
    try:
        finding = _look(by_name(name) if name else None, int(first), int(seeds), float(cpu_seconds))
    except SearchError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(finding)))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
