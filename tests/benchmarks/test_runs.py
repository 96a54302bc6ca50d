"""Each benchmark runs, at sizes from which nothing is learned. No times are judged."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import (
    cluster,
    commands,
    core,
    failover,
    life,
    locks,
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
from benchmarks.__main__ import main
from benchmarks.benchmark import Benchmark, BenchmarkError, Options, run
from benchmarks.micro import timed
from benchmarks.yardstick import ceiling

from copycat.testing.processes import LocalCluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

CEILING = """
import json, sys
assert sys.argv[1:] == ["--flush", "inline", "16", "0.05", "100", "--clients", "2", "--dir", sys.argv[-1]], sys.argv
print(json.dumps({"rate": 1000, "p50_ms": 1.5, "p99_ms": 3.0, "servers_us": 9.0}))
"""


class Shared(LocalCluster):
    """One cluster for all: only members that are named are killed, until `end`."""

    def start(self, names: Iterable[str] | None = None) -> None:
        if names is not None or not self._processes:
            super().start(names)

    def kill(self, names: Iterable[str] | None = None) -> None:
        if names is not None:
            super().kill(names)

    def end(self) -> None:
        super().kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    servers = Shared(tmp_path_factory.mktemp("cluster"))
    yield servers
    servers.end()


@pytest.fixture(autouse=True)
def _one_cluster(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cluster, startup):
        monkeypatch.setattr(module, "LocalCluster", lambda directory: shared)


def tiny(directory: Path, **more: Any) -> Options:
    return Options(directory=directory, rounds=1, seconds=0.05, tiny=True, **more)


@pytest.mark.parametrize(
    "benchmark",
    [
        commands.BENCHMARK,
        reads.BENCHMARK,
        locks.BENCHMARK,
        failover.BENCHMARK,
        sessions.BENCHMARK,
        topics.BENCHMARK,
        scale.BENCHMARK,
        life.BENCHMARK,
        startup.BENCHMARK,
    ],
    ids=lambda benchmark: benchmark.name,
)
async def test_it_measures_every_case(benchmark: Benchmark, tmp_path: Path) -> None:
    report = await run(benchmark, tiny(tmp_path), lambda _: None)

    keys = [column.key for column in benchmark.columns]
    assert report["results"]
    for result in report["results"]:
        assert any(result.get(key) is not None for key in keys)
    assert any(result.get(benchmark.picture.column.key) is not None for result in report["results"])


@pytest.mark.parametrize("only", ["live keys", "sessions", "serializable"])
async def test_ratios_measure_what_they_compare(only: str, tmp_path: Path) -> None:
    report = await run(ratios.BENCHMARK, tiny(tmp_path, only=only), lambda _: None)

    assert all(result["per_second"] > 0 for result in report["results"])
    assert [each["ratio"] for each in report["ratios"]] == (
        ["p99, 600,000 live keys / none"] if only == "live keys" else []
    )


@pytest.mark.parametrize("module", [storage, wire, serializer, core], ids=lambda module: module.__name__)
def test_every_timer_can_be_called_again_and_again(module: Any) -> None:
    for timer in module.TIMERS.values():
        assert timed(2, timer) > 0


async def test_pyperf_times_a_case(tmp_path: Path) -> None:
    report = await run(serializer.BENCHMARK, tiny(tmp_path, only="encode key, str"), lambda _: None)

    assert [result["us"] > 0 for result in report["results"]] == [True]


async def test_a_ceiling_is_run_and_understood(tmp_path: Path) -> None:
    program = tmp_path / "ceiling.py"
    program.write_text(CEILING)
    options = tiny(tmp_path, ceiling=(str(program), "--flush", "inline"))
    (case,) = ceiling(options, "least", 16, clients=2)

    assert await case.measure() == {
        "per_second": 1000,
        "median_ms": 1.5,
        "p99_ms": 3.0,
        "cpu_us_leader": None,
        "cpu_us_follower": None,
        "cpu_us_servers": 9.0,
        "cpu_us_client": None,
    }
    assert ceiling(tiny(tmp_path), "least", 16) == []
    (failing,) = ceiling(options, "least", 17)
    with pytest.raises(BenchmarkError, match="ended with exit status 1"):
        await failing.measure()


def test_the_command_line_leaves_results_and_prints_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["startup", "--tiny", "--rounds", "1", "--only", "import asyncio", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])

    assert main() == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == ["startup.json", "startup.md", "startup.svg"]
    assert f"`python -m benchmarks {shlex.join(arguments)}`" in capsys.readouterr().out
    assert main(["startup", "--only", "nothing"]) == 1
    assert "benchmarks: startup: there is nothing to measure" in capsys.readouterr().err
