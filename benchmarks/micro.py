"""Micro-benchmarks: small pieces of code on their own, timed by pyperf in processes of their own.

Each module of them is a program, too: `python -m benchmarks.wire --case "decode 256 puts"` takes pyperf's own options.
"""

import asyncio
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Benchmark, BenchmarkError, Case, Options, Picture, Plan
from benchmarks.figures import MICROSECONDS
from copycat.cli.measuring import Figures

ROOT = Path(__file__).parent.parent
FULL = ("--processes", "3", "--values", "3")
TINY = ("--debug-single-value",)


@dataclass(frozen=True, slots=True)
class Timer:
    """What is timed: `make` prepares and returns a function, each call of which does the thing `count` times."""

    make: Callable[[], Callable[[], Any]]
    count: int = 1


def micro(name: str, question: str, timers: Mapping[str, Timer]) -> Benchmark:
    """The benchmark of a module's timers."""

    @asynccontextmanager
    async def prepare(options: Options) -> AsyncIterator[Plan]:
        if importlib.util.find_spec("pyperf") is None:
            yield Plan([], notes=["pyperf is not installed: it comes with `pip install -e '.[dev]'`."])
        else:
            yield Plan([case(options, each) for each in timers])

    def case(options: Options, timer: str) -> Case:
        return Case(timer, lambda: measure(options, f"benchmarks.{name}", timer))

    return Benchmark(
        name=name, question=question, columns=(MICROSECONDS,), picture=Picture(MICROSECONDS), prepare=prepare
    )


async def measure(options: Options, module: str, timer: str) -> Figures:
    """Have pyperf time it; the median of what its processes found."""
    import pyperf

    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        found = Path(directory) / "found.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, "--case", timer, "--copy-env", "--quiet", "--output", str(found)),
            *options.pick(FULL, TINY),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise BenchmarkError(f"{module}, {timer}: {errors.decode()[-1000:]}")
        (benchmark,) = pyperf.BenchmarkSuite.load(str(found)).get_benchmarks()
        return {"us": benchmark.median() * 1e6}


def time_with_pyperf(module: str, timers: Mapping[str, Timer]) -> None:
    """The program of a module: times the case named, or all."""
    import pyperf

    def pass_on(command: list[str], given: Any) -> None:
        if given.case:
            command += ["--case", given.case]

    runner = pyperf.Runner(program_args=("-m", module), add_cmdline_args=pass_on)
    runner.argparser.add_argument("--case", help="only this one")
    given = runner.parse_args()
    for name, timer in timers.items():
        if given.case in (None, name):
            runner.bench_time_func(name, timed, timer, inner_loops=timer.count)


def timed(loops: int, timer: Timer) -> float:
    """Seconds for so many calls, without what prepares them."""
    call = timer.make()
    began = time.perf_counter()
    for _ in range(loops):
        call()
    return time.perf_counter() - began
