"""`copycat bench`: its numbers, and one run."""

import json
from argparse import Namespace

import pytest

from copycat.cli.bench import cases_of, describe
from copycat.cli.measuring import costs, mean, medians, per_operation, summary, together
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

    assert found == {
        "count": 200,
        "median_ms": pytest.approx(101),
        "p99_ms": pytest.approx(199),
        "p999_ms": pytest.approx(200),
    }


def test_one_latency_is_every_percentile() -> None:
    assert set(summary([0.5]).values()) == {1, 500}


def test_clients_that_work_at_once_add_up_and_the_slowest_is_the_tail() -> None:
    one = {"count": 100, "seconds": 2.0, "median_ms": 1.0, "p99_ms": 9.0, "p999_ms": 10.0, "cpu_seconds": 0.1}
    other = {"count": 300, "seconds": 1.0, "median_ms": 2.0, "p99_ms": 3.0, "p999_ms": 20.0, "cpu_seconds": 0.3}

    assert together([one, other]) == {
        "per_second": 350,
        "median_ms": 1.5,
        "p99_ms": 9.0,
        "p999_ms": 20.0,
        "cpu_us_client": pytest.approx(1000),
    }


def test_costs_are_per_operation_of_leader_follower_and_all() -> None:
    assert costs({"a": 3.0, "b": 1.0, "c": 2.0}, "a", 1_000_000) == {
        "cpu_us_leader": pytest.approx(3.0),
        "cpu_us_follower": pytest.approx(1.5),
        "cpu_us_servers": pytest.approx(6.0),
    }
    assert costs({}, "a", 5) == dict.fromkeys(("cpu_us_leader", "cpu_us_follower", "cpu_us_servers"))
    assert costs({"a": 1.0, "b": None}, "a", 1) == {
        "cpu_us_leader": 1e6,
        "cpu_us_follower": None,
        "cpu_us_servers": None,
    }


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
