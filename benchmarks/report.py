"""What is left of a run: JSON with all rounds, the same for people in Markdown, and a picture; and the page of all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Benchmark
from benchmarks.figures import Column
from benchmarks.picture import bars, lines
from benchmarks.quiet import QUIET_SHARE
from copycat.cli.text import figure, markdown_table

Report = Mapping[str, Any]

BUSY = (
    "**The machine was busy with something else meanwhile**: what takes turns on a CPU takes longer than it needs, "
    "throughput most of all. Ratios within the table say more than its figures."
)

PAGE_HEAD = """\
# Benchmarks

What `make bench` has measured; see [how to measure](../how-to/measure.md). Each table was made in one run: compare
figures within it, not between tables or machines. `python -m benchmarks page` writes this page, from the files in
`benchmarks/results`, which hold every round.
"""

NOTHING_KEPT = """
No results are kept of this version. On a machine that does nothing else, these two put yours here:

```
make bench ARGS="commands reads peers --patience 600 --out benchmarks/results"
make bench ARGS=page
```
"""


def write(benchmark: Benchmark, report: Report, directory: Path) -> list[Path]:
    """Write NAME.json, NAME.md and NAME.svg; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps(report, indent=1) + "\n",
        "md": f"# {benchmark.name}\n\n{section(benchmark, report)}\n![{benchmark.question}]({benchmark.name}.svg)\n",
        "svg": draw(benchmark, report),
    }
    paths = []
    for suffix, text in texts.items():
        path = directory / f"{benchmark.name}.{suffix}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def section(benchmark: Benchmark, report: Report) -> str:
    """The question, the answer in tables, and how it was found."""
    parts = [benchmark.question, table(benchmark.columns, report["results"])]
    if report["ratios"]:
        parts.append(ratio_table(report["ratios"]))
    parts += report["notes"]
    if (report["busy_before"] or 0.0) > QUIET_SHARE:
        parts.append(BUSY)
    parts.append(described(report))
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[Column], results: Sequence[Report]) -> str:
    """The results in Markdown. Columns in which nothing is known are left out."""
    shown = [column for column in columns if any(result.get(column.key) is not None for result in results)]
    rows = [
        [result["case"], *(figure(result.get(column.key), column.digits) for column in shown)] for result in results
    ]
    return markdown_table(["", *(column.head for column in shown)], rows)


def ratio_table(ratios: Sequence[Report]) -> str:
    """The ratios in Markdown."""
    keys = ("median", "least", "most")
    return markdown_table(
        ["ratio", *keys], [[ratio["ratio"], *(figure(ratio[key], 2) for key in keys)] for ratio in ratios]
    )


def described(report: Report) -> str:
    """Where, when and how it was measured."""
    machine, busy = report["machine"], report["busy_before"]
    others = "" if busy is None else f", of which {busy:.0%} were in use before each measurement"
    at = f" at {report['commit']}" if report["commit"] else ""
    return (
        f"`{report['command']}`{at}, {report['date']}; {machine['cpus']} CPUs{others}; {machine['system']}, Python "
        f"{machine['python']}. Medians of {report['rounds']} rounds."
    )


def draw(benchmark: Benchmark, report: Report) -> str:
    """The picture, as SVG."""
    column = benchmark.picture.column
    title = f"{benchmark.name}: {column.head}"
    points = [(result["case"], result.get(column.key)) for result in report["results"]]
    known = [(name, float(value)) for name, value in points if value is not None]
    if benchmark.picture.kind == "bars":
        return bars(title, known, column.digits)
    series: dict[str, list[tuple[float, float]]] = {}
    for name, value in known:
        line, _, number = name.rpartition(" ")
        series.setdefault(line, []).append((float(number.replace(",", "")), value))
    return lines(title, series, column.digits)


def page(benchmarks: Sequence[Benchmark], directory: Path, pictures: str) -> str:
    """The page of all reports in `directory`, in the order of `benchmarks`; `pictures` is the way to it from there."""
    parts = [PAGE_HEAD]
    for benchmark in benchmarks:
        path = directory / f"{benchmark.name}.json"
        if path.is_file():
            report = json.loads(path.read_text(encoding="utf-8"))
            picture = f"![{benchmark.question}]({pictures}/{benchmark.name}.svg)"
            parts.append(f"## {benchmark.name}\n\n{section(benchmark, report)}\n{picture}\n")
    return "\n".join(parts) if len(parts) > 1 else PAGE_HEAD + NOTHING_KEPT
