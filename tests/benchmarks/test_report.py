"""What is left of a run, to the letter."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.__main__ import BENCHMARKS, PAGE, RESULTS
from benchmarks.benchmark import Benchmark, Options, Picture, Plan
from benchmarks.figures import CPU_LEADER, MEDIAN_MS, PER_SECOND
from benchmarks.picture import bars, lines
from benchmarks.report import BUSY, NOTHING_KEPT, PAGE_HEAD, page, section, write


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    yield Plan([])


BENCHMARK = Benchmark(
    name="puts",
    question="How many puts?",
    columns=(PER_SECOND, MEDIAN_MS, CPU_LEADER),
    picture=Picture(PER_SECOND),
    prepare=prepare,
)
REPORT: dict[str, Any] = {
    "benchmark": "puts",
    "machine": {"copycat": "0.1.0", "python": "3.12.1", "system": "Linux", "cpus": 2},
    "date": "2026-01-02 03:04 UTC",
    "load_before": 0.25,
    "busy_before": 0.125,
    "rounds": 3,
    "seconds": 3.0,
    "notes": ["A note."],
    "command": "python -m benchmarks puts",
    "commit": "0123abc",
    "results": [
        {"case": "keys 10", "per_second": 1234.5, "median_ms": 0.456, "cpu_us_leader": None},
        {"case": "keys 1,000", "per_second": None, "median_ms": 12.0, "cpu_us_leader": None},
    ],
    "ratios": [{"ratio": "one / other", "median": 0.5, "least": 0.25, "most": 2.0}],
    "measured": [],
}
SECTION = """\
How many puts?

|  | per second | median ms |
| --- | ---: | ---: |
| keys 10 | 1,234 | 0.46 |
| keys 1,000 | – | 12.00 |

| ratio | median | least | most |
| --- | ---: | ---: | ---: |
| one / other | 0.50 | 0.25 | 2.00 |

A note.

`python -m benchmarks puts` at 0123abc, 2026-01-02 03:04 UTC; 2 CPUs, of which 12% were in use before each measurement\
; Linux, Python 3.12.1. Medians of 3 rounds.
"""


def test_a_section_has_tables_notes_and_how_it_was_found() -> None:
    assert section(BENCHMARK, REPORT) == SECTION


def test_a_section_says_so_when_the_machine_was_busy() -> None:
    assert f"A note.\n\n{BUSY}\n\n`python" in section(BENCHMARK, {**REPORT, "busy_before": 0.5})
    assert BUSY not in section(BENCHMARK, {**REPORT, "busy_before": None})


def test_a_run_leaves_json_markdown_and_a_picture(tmp_path: Path) -> None:
    paths = write(BENCHMARK, REPORT, tmp_path / "results")

    assert [path.name for path in paths] == ["puts.json", "puts.md", "puts.svg"]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == REPORT
    assert paths[1].read_text(encoding="utf-8") == f"# puts\n\n{SECTION}\n![How many puts?](puts.svg)\n"
    assert ElementTree.fromstring(paths[2].read_text(encoding="utf-8")).tag.endswith("svg")


def test_the_page_has_what_was_measured_in_order(tmp_path: Path) -> None:
    write(BENCHMARK, REPORT, tmp_path)
    absent = Benchmark(name="gets", question="?", columns=(), picture=Picture(PER_SECOND), prepare=prepare)

    text = page([absent, BENCHMARK], tmp_path, "../pictures")

    assert text.startswith("# Benchmarks\n\n")
    assert text.endswith(f"\n## puts\n\n{SECTION}\n![How many puts?](../pictures/puts.svg)\n")
    assert "## gets" not in text
    assert page([absent], tmp_path, "../pictures") == PAGE_HEAD + NOTHING_KEPT


def test_the_page_in_the_reference_is_that_of_the_results_kept() -> None:
    """Otherwise: python -m benchmarks page."""
    assert PAGE.read_text(encoding="utf-8") == page(BENCHMARKS, RESULTS, "../../benchmarks/results")


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars("a < b", [("one", 100.0), ("half", 50.0)])

    assert ">a &lt; b</text>" in drawn
    assert '<rect x="300" y="34" width="370.0" height="14" fill="#3465a4"/>' in drawn
    assert '<rect x="300" y="54" width="185.0" height="14" fill="#3465a4"/>' in drawn
    assert 'text-anchor="end" fill="#222">half</text>' in drawn
    assert 'text-anchor="start" fill="#222">50</text>' in drawn
    ElementTree.fromstring(drawn)


def test_lines_go_tenfold_to_the_right_and_up_from_zero() -> None:
    drawn = lines("costs", {"keys": [(1, 0.0), (10, 5.0), (100, 10.0)], "sessions": [(1, 10.0)]}, 1)

    assert '<polyline points="80.0,294.0 375.0,164.0 670.0,34.0" fill="none" stroke="#3465a4"' in drawn
    assert '<polyline points="80.0,34.0" fill="none" stroke="#c4501b"' in drawn
    assert drawn.count(">10.0</text>") == 1  # the top of the scale
    assert ">100</text>" in drawn
    ElementTree.fromstring(drawn)


def test_nothing_known_is_drawn_as_nothing() -> None:
    for drawn in (bars("empty", []), lines("empty", {}), bars("zero", [("none", 0.0)])):
        ElementTree.fromstring(drawn)


def test_a_picture_of_lines_takes_the_number_at_the_end_of_a_name(tmp_path: Path) -> None:
    curve = Benchmark(
        name="puts",
        question="?",
        columns=(MEDIAN_MS,),
        picture=Picture(MEDIAN_MS, "lines"),
        prepare=prepare,
    )
    write(curve, REPORT, tmp_path)

    drawn = (tmp_path / "puts.svg").read_text(encoding="utf-8")
    assert '<polyline points="80.0,' in drawn
    assert ">keys</text>" in drawn
