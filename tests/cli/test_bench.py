"""`copycat bench`: its numbers, and one run."""

import json
from argparse import Namespace

import pytest

from copycat.cli.bench import cases_of, describe, mean, medians, per_operation
from copycat.cli.bench_client import summary
from tests.cli.support import copycat


def test_the_cases_are_one_at_a_time_and_pipelined() -> None:
    options = Namespace(seconds=1.0, value_bytes=10, clients=None, in_flight=None)

    assert [case.name for case in cases_of(options, "h:1")] == [
        "put, one at a time",
        "put, 1 × 256 in flight",
        "put, 1 × 1024 in flight",
        "put, 4 × 256 in flight",
        "put, 4 × 1024 in flight",
        "get, one at a time",
        "get, 1 × 1024 in flight",
    ]


def test_clients_and_operations_in_flight_may_be_chosen() -> None:
    options = Namespace(seconds=1.0, value_bytes=10, clients=2, in_flight=8)

    assert [case.name for case in cases_of(options, "h:1")][1:-2] == ["put, 2 × 8 in flight"]


def test_a_median_over_rounds_is_unknown_when_a_round_is() -> None:
    assert medians([{"a": 1.0, "b": None}, {"a": 9.0, "b": 2.0}, {"a": 2.0, "b": 2.0}]) == {"a": 2.0, "b": None}


def test_what_cannot_be_known_stays_unknown() -> None:
    assert mean([1.0, None]) is None
    assert mean([]) is None
    assert mean([1.0, 3.0]) == 2.0
    assert per_operation(None, 5) is None
    assert per_operation(0.001, 100) == pytest.approx(10)


def test_latencies_are_summed_up_in_milliseconds() -> None:
    found = summary([number / 1000 for number in range(200, 0, -1)])

    assert found == {"count": 200, "median_ms": pytest.approx(101), "p99_ms": pytest.approx(199)}


def test_the_table_is_markdown() -> None:
    figures = {"per_second": 1234.5, "median_ms": 0.456, "p99_ms": 1.0}
    cpu = {"cpu_us_leader": 12.34, "cpu_us_follower": None, "cpu_us_client": 3.0}

    assert describe([{"case": "put", **figures, **cpu}]).splitlines()[2] == (
        "| put | 1,234 | 0.46 | 1.00 | 12.3 | – | 3.0 |"
    )


@pytest.mark.process
@pytest.mark.slow
def test_a_short_run_measures_every_case() -> None:
    flags = ("--rounds", "1", "--seconds", "0.1", "--clients", "1", "--in-flight", "16")
    done = copycat("bench", "--json", *flags)

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [each["case"] for each in results] == [
        "put, one at a time",
        "put, 1 × 16 in flight",
        "get, one at a time",
        "get, 1 × 16 in flight",
    ]
    assert all(each["per_second"] > 0 for each in results)
