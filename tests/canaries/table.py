"""docs/reference/canaries.md: every canary, who found it, and after how many seeds.

`make canaries` measures and writes. With `--only`, the other rows stay as they are.
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from tests.canaries.canary import SOURCE, Canary
from tests.canaries.registry import CANARIES
from tests.canaries.search import CPU_SECONDS_MAX, SECONDS, SEEDS_MAX, Finding, SearchError, judge_of, search

PAGE = SOURCE.parent / "docs" / "reference" / "canaries.md"

STARTS = 3
APART = 10_000
"""Between the first seeds of two searches."""
PROCESSES = 2

HEAD = f"""\
# Canaries

Mistakes that we make on purpose, one at a time, each in one function of the product, to see that
[the simulator](reliability.md#simulator) finds them. A mistake that nobody finds means that some workload is
missing. *Found by* are [the invariants](reliability.md#1-invariants) that spoke, or the check within the code.
*Seeds* and *seconds* (of one core) are what a search took, the median of {STARTS} from seeds far apart, with
{SECONDS:g} simulated seconds of faults in each seed. A search has {SEEDS_MAX} seeds and {CPU_SECONDS_MAX:g} seconds at
most. That a seed which found something finds nothing without the mistake is checked, too.

The mistakes stand in [tests/canaries](../../tests/canaries/registry.py). This page is written by `make canaries`.

| Mistake | Made in | Which means that | Found by | Seeds | Seconds |
|---|---|---|---|---:|---:|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What the searches for one canary came to, as the page shows it."""

    found_by: str
    seeds: str
    seconds: str


def measure(canary: Canary, starts: int) -> Measure:
    """Search from so many seeds. Raises SearchError when one search is in vain, or what it found is there anyway."""
    findings = [search(canary, start * APART) for start in range(starts)]
    for finding in findings:
        if finding.seed is None:
            raise SearchError(f"{canary.name}: not found, in {finding.seeds} seeds and {finding.cpu_seconds} s")
        search(None, finding.seed, seeds=1)  # raises when the seed fails without the mistake
    return Measure(
        found_by=", ".join(_judges(findings, canary)),
        seeds=f"{median(finding.seeds for finding in findings):.0f}",
        seconds=f"{median(finding.cpu_seconds for finding in findings):.1f}",
    )


def _judges(findings: Iterable[Finding], canary: Canary) -> list[str]:
    """Who spoke, in the order of the canary's own list."""
    spoke = {judge_of(finding.problem, canary) for finding in findings}
    return [judge if judge.isdecimal() else f"“{judge}”" for judge in canary.judges if judge in spoke]


def page(measures: dict[str, Measure]) -> str:
    """The whole page, of the canaries that were measured."""
    return HEAD + "".join(
        f"| {canary.name} | `{canary.module.removeprefix('copycat.')}`: `{canary.function}` | {canary.danger} "
        f"| {known.found_by} | {known.seeds} | {known.seconds} |\n"
        for canary in CANARIES
        if (known := measures.get(canary.name)) is not None
    )


def measures_on_page() -> dict[str, Measure]:
    """What stands on the page, by the names of the canaries."""
    known: dict[str, Measure] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 6 and cells[4].isdecimal():
            known[cells[0]] = Measure(found_by=cells[3], seeds=cells[4], seconds=cells[5])
    return known


def main() -> int:
    """Measure, and write the page. Returns 1 when some canary was not found as it should be."""
    parser = argparse.ArgumentParser(prog="make canaries", description=main.__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="canaries with this text in their names")
    parser.add_argument("--starts", type=int, default=STARTS, help="searches for each; the page is written for 3")
    options = parser.parse_args()
    chosen = [canary for canary in CANARIES if options.only.lower() in canary.name.lower()]
    failures = 0
    known = measures_on_page()
    with ThreadPoolExecutor(PROCESSES) as pool:
        running = [(canary, pool.submit(measure, canary, options.starts)) for canary in chosen]
        for canary, future in running:
            try:
                found = known[canary.name] = future.result()
            except SearchError as error:
                failures += 1
                known.pop(canary.name, None)
                print(f"FAILED {error}", flush=True)
            else:
                print(f"{found.seeds:>4} seeds {found.seconds:>6} s  {canary.name}: {found.found_by}", flush=True)
    if options.starts == STARTS:
        PAGE.write_text(page(known), encoding="utf-8")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
