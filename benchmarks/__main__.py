"""The command line: `python -m benchmarks NAME...`, or `make bench ARGS="NAME..."`."""

import asyncio
import shlex
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    commands,
    core,
    failover,
    life,
    locks,
    peers,
    ratios,
    reads,
    scale,
    serializer,
    sessions,
    startup,
    storage,
    topics,
    wire,
)
from benchmarks.benchmark import Benchmark, Options, run
from benchmarks.report import page, section, write
from copycat.cli.settings import positive_integer, positive_number
from copycat.errors import CopycatError
from copycat.util.loop_thread import new_event_loop

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
OUT = ROOT / "build" / "benchmarks"
PAGE_NAME = "page"
USUAL = ("commands", "reads")

BENCHMARKS: Sequence[Benchmark] = (
    commands.BENCHMARK,
    reads.BENCHMARK,
    locks.BENCHMARK,
    failover.BENCHMARK,
    sessions.BENCHMARK,
    topics.BENCHMARK,
    scale.BENCHMARK,
    life.BENCHMARK,
    startup.BENCHMARK,
    ratios.BENCHMARK,
    peers.BENCHMARK,
    storage.BENCHMARK,
    wire.BENCHMARK,
    serializer.BENCHMARK,
    core.BENCHMARK,
)


def make_parser() -> ArgumentParser:
    """What may be said."""
    names = "\n".join(f"  {benchmark.name:12} {benchmark.question}" for benchmark in BENCHMARKS)
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Copycat on this machine. Each benchmark leaves NAME.json, NAME.md and NAME.svg.",
        epilog=f"benchmarks:\n{names}\n  {PAGE_NAME:12} Write docs/reference/benchmarks.md from benchmarks/results.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    known = [*(benchmark.name for benchmark in BENCHMARKS), PAGE_NAME]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run ({' '.join(USUAL)}); see below")
    parser.add_argument("--rounds", type=positive_integer, default=3, help="medians are over so many rounds (3)")
    parser.add_argument("--seconds", type=positive_number, default=3.0, help="length of each measurement (3)")
    parser.add_argument(
        "--patience",
        type=positive_number,
        default=0.0,
        metavar="S",
        help="wait for a quiet machine, so long in all (0)",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where results go (build/benchmarks)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where servers keep their data: the disk measured")
    parser.add_argument(
        "--ceiling",
        type=shlex.split,
        default=(),
        metavar="PATH",
        help="a program to compare with: benchmarks/yardstick.py",
    )
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    parser.set_defaults(known=known)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named; returns the exit status: 0 done, 1 could not, 2 wrong usage, 130 interrupted."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in given.known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(given.known)}")
    if given.ceiling and not Path(given.ceiling[0]).is_file():
        parser.error(f"--ceiling: there is no file {given.ceiling[0]}")
    said = shlex.join(sys.argv[1:] if arguments is None else list(arguments))
    try:
        for name in given.names or USUAL:
            if name == PAGE_NAME:
                PAGE.write_text(page(BENCHMARKS, RESULTS, "../../benchmarks/results"), encoding="utf-8")
            else:
                run_one(next(each for each in BENCHMARKS if each.name == name), given, said)
    except CopycatError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_one(benchmark: Benchmark, given: Namespace, said: str) -> None:
    """Run one, print what it found, and leave it where results go."""

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    options = Options(
        directory=given.data if given.data is not None else Path(tempfile.gettempdir()),
        rounds=given.rounds,
        seconds=given.seconds,
        patience=given.patience,
        ceiling=given.ceiling,
        only=given.only,
        tiny=given.tiny,
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        report = runner.run(run(benchmark, options, tell))
    report["command"] = f"python -m benchmarks {said}".strip()
    report["commit"] = commit()
    write(benchmark, report, given.out)
    print(section(benchmark, report))


def commit() -> str | None:
    """The commit that is measured, with a + behind it where files have changed since; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
