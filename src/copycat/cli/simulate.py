"""`copycat simulate`: clusters in virtual time, each under the faults its seed draws, and what became of them."""

import json
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

from copycat import __version__
from copycat.cli import scripted
from copycat.cli.command import Command
from copycat.cli.settings import Setting, positive_integer, positive_number
from copycat.cli.text import figure, table
from copycat.testing.faults import FAULTS
from copycat.testing.marks import MARKS
from copycat.testing.simulator import COUNTERS, SECONDS, Report, run_seed

SETTINGS = (
    Setting(name="seeds", metavar="N", parse=positive_integer, help="how many seeds (1 with --seed, else 100)"),
    Setting(name="seed", metavar="S", parse=int, help="the first seed (0); alone: that one, with all there is to tell"),
    Setting(
        name="seconds", metavar="S", parse=positive_number, default=SECONDS, help="simulated seconds of faults (60)"
    ),
    Setting(name="jobs", metavar="N", parse=positive_integer, help="processes to use (one for each CPU)"),
    *scripted.SETTINGS,
)

EPILOG = """\
example: copycat simulate --seeds 20

Each seed draws a cluster, what its clients do, and a mix of faults. The same seed does the same again, to the byte: the
trace tells. A seed that fails prints how to run it again, and how to make what happens in it small: --shrink leaves out
one thing after another as long as it fails, and gives a script of what is left, to be read and to be kept.

exit status: 0 nothing that must not be; 1 a seed failed, or so little happened that it says nothing; 2 wrong usage.
"""

FEW = 100
"""With fewer seeds nothing is said about what did not happen."""


def shortcomings(reports: Sequence[Report], seconds: float) -> list[str]:
    """Why these say little, if they do: what hardly happened. Of fewer than FEW nothing is asked."""
    if len(reports) < FEW or seconds < SECONDS:
        return []
    changes = sum(report.elections > 1 for report in reports)
    happened = Counter(name for report in reports for name in {action.fault for action in report.actions})
    reached = Counter(mark for report in reports for mark in report.marks)
    undecided = sum(report.checked["unknown verdicts"] for report in reports)
    invoked, ok = sum(report.invoked for report in reports), sum(report.ok for report in reports)
    demands = [
        (median(report.seconds for report in reports) >= SECONDS, f"a median of less than {SECONDS:g} simulated s"),
        (median(report.invoked for report in reports) >= 200, "a median of less than 200 operations"),
        (ok >= 0.6 * invoked, f"only {ok} of {invoked} operations acknowledged"),
        (changes >= 0.7 * len(reports), f"another leader in only {changes} of {len(reports)} seeds"),
        *((happened[name] >= 0.1 * len(reports), f"the fault {name!r} in {happened[name]} seeds") for name in FAULTS),
        *((reached[mark] > 0, f"never: {mark}") for mark in MARKS),
        (undecided == 0, f"{undecided} histories that the checker did not decide in time"),
    ]
    return [what for holds, what in demands if not holds]


def summary(reports: Sequence[Report], seconds: float, real_seconds: float) -> dict[str, Any]:
    """All of them together, as plain values."""
    counters = {name: sum((getattr(report, name) for report in reports), Counter[str]()) for name in COUNTERS}
    simulated, cpu = sum(report.seconds for report in reports), sum(report.cpu_seconds for report in reports)
    return {
        "version": __version__,
        "seeds": len(reports),
        "failed": [report.seed for report in reports if report.problems],
        "shortcomings": shortcomings(reports, seconds),
        "simulated_seconds": round(simulated, 3),
        "real_seconds": round(real_seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "simulated_seconds_per_cpu_second": round(simulated / cpu, 1) if cpu else 0.0,
        "seeds_with_another_leader": sum(report.elections > 1 for report in reports),
        **{
            name: sum(getattr(report, name) for report in reports)
            for name in (
                *("events", "steps", "elections", "invoked", "ok", "fail", "unknown"),
                *("states_compared", "snapshots_compared"),
            )
        },
        "median_seconds": median(report.seconds for report in reports),
        "median_invoked": median(report.invoked for report in reports),
        **{name: dict(sorted(counter.items())) for name, counter in counters.items()},
    }


def run_all(seeds: Iterable[int], seconds: float, jobs: int) -> Iterator[Report]:
    """The reports, in order, from so many processes."""
    work = partial(_run, seconds=seconds)
    if jobs == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, seeds)


def _run(seed: int, seconds: float) -> Report:
    logging.disable(logging.CRITICAL)  # a cluster under faults has much to say
    return run_seed(seed, seconds=seconds)


def describe(report: Report) -> str:
    """One seed, for people."""
    lines = [
        f"seed {report.seed}: {'failed' if report.problems else 'ok'}, trace {report.trace}",
        f"  {report.settings}",
        f"  {figure(report.seconds, 1)} simulated s, {figure(report.events)} events, {report.elections} elections, "
        f"operations {report.invoked}: ok {report.ok}, fail {report.fail}, unknown {report.unknown}",
        *(f"  {count:6} × {what}" for what, count in sorted(report.faults.items())),
        *(f"  {problem}" for problem in report.problems),
    ]
    return "\n".join(lines)


def failure(report: Report, seconds: float) -> str:
    """What failed, and how to see it again."""
    again = f"copycat simulate --seed {report.seed}" + ("" if seconds == SECONDS else f" --seconds {seconds:g}")
    return "\n".join(
        [
            f"seed {report.seed} failed; run it again: {again}",
            *(f"  {each}" for each in report.problems),
            f"  make it small: {again} --shrink",
        ]
    )


def run(options: Namespace) -> int:
    """Simulate; 0 when nothing failed and enough happened."""
    if scripted.is_wanted(options):
        return scripted.run(options, describe)
    first = options.seed if options.seed is not None else 0
    count = options.seeds or (1 if options.seed is not None else FEW)
    jobs = min(count, options.jobs or os.cpu_count() or 1)
    started = time.monotonic()
    reports = []
    for report in run_all(range(first, first + count), options.seconds, jobs):
        reports.append(report)
        if options.json:
            continue
        if report.problems or count == 1:
            print(describe(report) if count == 1 else failure(report, options.seconds), flush=True)
    whole = summary(reports, options.seconds, time.monotonic() - started)
    if options.json:
        print(json.dumps({**whole, "reports": [report.as_dict() for report in reports]}))
    elif count > 1:
        print(_shown(whole))
    return 1 if whole["failed"] or whole["shortcomings"] else 0


def _shown(whole: dict[str, Any]) -> str:
    rows = [[name.replace("_", " "), figure(value)] for name, value in whole.items() if isinstance(value, int | float)]
    rows += [[f"{part}: {what}", figure(count)] for part in COUNTERS for what, count in whole[part].items()]
    lines = [table(["", "in all"], rows)]
    lines += [f"too little happened: {what}" for what in whole["shortcomings"]]
    lines.append(f"{len(whole['failed'])} of {whole['seeds']} seeds failed")
    return "\n".join(lines)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="simulate",
    summary="clusters in virtual time, under faults drawn from seeds",
    run=run,
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    prefix="COPYCAT_SIMULATE_",
)
