"""What a benchmark is: cases, measured in rounds that go through all of them, so that a slow minute hits all.

Figures of one machine change from hour to hour, more than most of what is worth knowing. So everything that is to be
compared is measured in one run, and ratios are taken within each round before their median is.
"""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.figures import Column, Ratio, ratio_of
from benchmarks.quiet import SAMPLE_S, Quiet
from copycat.cli.measuring import Figures, machine, medians
from copycat.errors import CopycatError

T = TypeVar("T")


class BenchmarkError(CopycatError):
    """Something could not be measured; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says.

    seconds: length of each measurement. directory: where servers keep their data; it decides which disk is measured.
    patience: how many seconds to wait, in all, for the machine to be quiet before measurements.
    ceiling: a program to compare with and its first arguments, see `yardstick`; empty: without.
    only: measure no cases but those with this in their names.
    tiny: sizes at which nothing is learned but that it runs.
    """

    directory: Path
    rounds: int = 3
    seconds: float = 3.0
    patience: float = 0.0
    ceiling: Sequence[str] = ()
    only: str = ""
    tiny: bool = False

    def pick(self, full: T, tiny: T) -> T:
        """A size."""
        return tiny if self.tiny else full


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement of a round. `measure` returns figures, under the keys of the benchmark's columns."""

    name: str
    measure: Callable[[], Awaitable[Figures]]


async def nothing() -> None:
    """What most benchmarks do before a round."""


@dataclass(slots=True)
class Plan:
    """What is measured: the cases in order, and what comes before each round.

    notes: sentences for the reader, such as which system was left out because it is not installed.
    """

    cases: Sequence[Case]
    before_round: Callable[[], Awaitable[None]] = nothing
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Picture:
    """Which column is drawn, and how: "bars", a bar for each case, or "lines", over the number a case's name ends with.

    With lines, what comes before the number names the line.
    """

    column: Column
    kind: str = "bars"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One question, and how it is answered. `prepare` starts what is to be measured, and ends it."""

    name: str
    question: str
    columns: Sequence[Column]
    picture: Picture
    prepare: Callable[[Options], AbstractAsyncContextManager[Plan]]
    ratios: Sequence[Ratio] = ()


async def run(benchmark: Benchmark, options: Options, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; returns the report, which is plain values. `tell` hears of progress.

    A case that fails with a CopycatError is left out of its round, and a note says why.

    Raises BenchmarkError when no case is left, and what preparing raises.
    """
    began, load = time.time(), os.getloadavg()[0]
    async with benchmark.prepare(options) as plan:
        cases = [case for case in plan.cases if options.only in case.name]
        if not cases:
            why = f"no case has {options.only!r} in its name" if options.only else " ".join(plan.notes)
            raise BenchmarkError(f"{benchmark.name}: there is nothing to measure: {why}")
        rounds: list[dict[str, Figures]] = []
        quiet = Quiet(options.patience, sample=options.pick(SAMPLE_S, 0.01))
        for number in range(1, options.rounds + 1):
            await plan.before_round()
            rounds.append({})
            for case in cases:
                tell(f"{benchmark.name}, round {number} of {options.rounds}: {case.name}")
                await quiet.wait()
                try:
                    rounds[-1][case.name] = await case.measure()
                except CopycatError as error:  # the other cases are worth keeping
                    plan.notes.append(f"{case.name} was not measured in round {number}: {error}")
        notes = list(plan.notes)
    return {
        "benchmark": benchmark.name,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began)),
        "load_before": round(load, 2),
        "busy_before": round(statistics.median(quiet.shares), 2) if quiet.shares else None,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "notes": notes,
        "results": [{"case": case.name, **medians_of(case.name, rounds)} for case in cases],
        "ratios": [found for ratio in benchmark.ratios if (found := ratio_of(ratio, rounds)) is not None],
        "measured": rounds,
    }


def medians_of(case: str, rounds: Sequence[Mapping[str, Figures]]) -> Figures:
    """The medians over the rounds in which the case was measured; none where it never was."""
    measured = [each[case] for each in rounds if case in each]
    return medians(measured) if measured else {}
