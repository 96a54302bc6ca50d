"""Rounds, medians and ratios."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.benchmark import Benchmark, BenchmarkError, Case, Options, Picture, Plan, run
from benchmarks.figures import MEDIAN_MS, PER_SECOND, Ratio, ratio_of

from copycat.cli.measuring import Figures

HERE = Path()
FAILS = -1.0


def ignore(_: str) -> None:
    """Of progress."""


def made_up(values: dict[str, list[float | None]], seen: list[str], ratios: Sequence[Ratio] = ()) -> Benchmark:
    """Cases whose figures are these, round by round; `seen` is told what happens."""

    def case(name: str) -> Case:
        async def measure() -> Figures:
            seen.append(name)
            value = values[name].pop(0)
            if value == FAILS:
                raise BenchmarkError("the leader changed")
            return {"per_second": value, "median_ms": 1.0}

        return Case(name, measure)

    @asynccontextmanager
    async def prepare(options: Options) -> AsyncIterator[Plan]:
        async def before_round() -> None:
            seen.append("round")

        yield Plan([case(name) for name in values], before_round, ["A note."])
        seen.append("ended")

    return Benchmark(
        name="made-up",
        question="How many?",
        columns=(PER_SECOND, MEDIAN_MS),
        picture=Picture(PER_SECOND),
        prepare=prepare,
        ratios=ratios,
    )


async def test_every_round_goes_through_all_cases() -> None:
    seen: list[str] = []
    benchmark = made_up({"one": [1.0, 2.0], "other": [3.0, 4.0]}, seen)

    await run(benchmark, Options(directory=HERE, rounds=2), seen.append)

    assert [each for each in seen if not each.startswith("made-up")] == [
        *("round", "one", "other"),
        *("round", "one", "other"),
        "ended",
    ]
    assert seen[1] == "made-up, round 1 of 2: one"


async def test_a_report_has_the_medians_and_every_round() -> None:
    benchmark = made_up({"one": [1.0, 9.0, 2.0], "other": [3.0, None, 4.0]}, [])

    report = await run(benchmark, Options(directory=HERE), ignore)

    assert report["results"] == [
        {"case": "one", "per_second": 2.0, "median_ms": 1.0},
        {"case": "other", "per_second": None, "median_ms": 1.0},
    ]
    assert [each["one"]["per_second"] for each in report["measured"]] == [1.0, 9.0, 2.0]
    assert report["notes"] == ["A note."]
    assert (report["rounds"], report["seconds"], report["benchmark"]) == (3, 3.0, "made-up")


async def test_a_case_that_fails_costs_its_round_and_nothing_else() -> None:
    seen: list[str] = []
    ratio = Ratio(name="one / other", key="per_second", case="one", to="other")
    benchmark = made_up(
        {"one": [1.0, FAILS, 3.0, 4.0], "other": [2.0, 3.0, 4.0, 5.0], "no": [FAILS] * 4}, seen, [ratio]
    )

    report = await run(benchmark, Options(directory=HERE, rounds=4), ignore)

    assert [each.get("per_second") for each in report["results"]] == [3.0, 3.5, None]
    assert report["notes"][:2] == [
        "A note.",
        "no was not measured in round 1: the leader changed",
    ]
    assert "one was not measured in round 2: the leader changed" in report["notes"]
    assert report["ratios"] == [{"ratio": "one / other", "median": 0.75, "least": 0.5, "most": 0.8}]


async def test_only_some_cases_may_be_measured() -> None:
    seen: list[str] = []

    report = await run(
        made_up({"one": [1.0], "other": []}, seen), Options(directory=HERE, rounds=1, only="one"), ignore
    )

    assert [each["case"] for each in report["results"]] == ["one"]
    with pytest.raises(BenchmarkError, match="no case has 'none' in its name"):
        await run(made_up({"one": []}, seen), Options(directory=HERE, only="none"), ignore)


async def test_what_cannot_be_measured_says_why() -> None:
    with pytest.raises(BenchmarkError, match=r"made-up: there is nothing to measure: A note\."):
        await run(made_up({}, []), Options(directory=HERE), ignore)


async def test_ratios_are_taken_within_rounds() -> None:
    ratio = Ratio(name="one / other", key="per_second", case="one", to="other")
    absent = Ratio(name="one / none", key="per_second", case="one", to="none")
    benchmark = made_up({"one": [1.0, 90.0, 4.0], "other": [2.0, 30.0, 4.0]}, [], [ratio, absent])

    report = await run(benchmark, Options(directory=HERE), ignore)

    assert report["ratios"] == [{"ratio": "one / other", "median": 1.0, "least": 0.5, "most": 3.0}]


def test_a_ratio_needs_both_figures() -> None:
    ratio = Ratio(name="", key="a", case="x", to="x", to_key="b")

    assert ratio_of(ratio, [{"x": {"a": 6, "b": 2}}]) == {"ratio": "", "median": 3, "least": 3, "most": 3}
    assert ratio_of(ratio, [{"x": {"a": 6, "b": 2}}, {"x": {"a": None, "b": 2}}]) is None
    assert ratio_of(ratio, [{"x": {"a": 6, "b": 0}}]) is None
    assert ratio_of(ratio, [{"y": {"a": 6, "b": 2}}]) is None


def test_names_are_found_once_and_match_their_modules() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]

    assert len(set(names)) == len(names)
    assert not [name for name in names if not (Path("benchmarks") / f"{name}.py").is_file()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no benchmark nothing; there are commands,"),
        (["commands", "--ceiling", "/nowhere/ceiling.py --flush inline"], "there is no file /nowhere/ceiling.py"),
        (["commands", "--rounds", "0"], "invalid positive_integer value: '0'"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 2
    assert message in capsys.readouterr().err
