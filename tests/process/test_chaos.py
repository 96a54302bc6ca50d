"""`copycat chaos` from its arguments to its verdict, and that it says so when promises are broken."""

import json
import re
from pathlib import Path

import pytest

from copycat.testing.history import read
from tests.cli.support import copycat, finish, servers_in, start, wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_short_run_keeps_every_promise_and_leaves_all_there_is_to_see(tmp_path: Path) -> None:
    out = tmp_path / "out"

    done = copycat(
        "chaos", "--seconds", "3", "--faults", "kill,pause,network", "--clients", "3", "--json", "--out", str(out)
    )

    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["ok"], verdict
    assert verdict["problems"] == []
    assert all(check["ok"] and check["checked"] > 0 for check in verdict["checks"]), verdict["checks"]
    assert verdict["checks"][-1]["name"] == "members: equal"
    came = {name.partition(":")[0] for name in verdict["faults"]}
    assert came
    assert came <= {"kill", "pause", "network"}
    history = read(out / "history.jsonl")
    assert history.counts()["ok"] == verdict["operations"]["ok"] > 100
    assert json.loads((out / "verdict.json").read_text())["operations"] == verdict["operations"]
    assert re.search("<svg.*</svg>", (out / "timeline.html").read_text(), re.DOTALL)
    assert servers_in(out) == []


def test_a_run_that_is_ended_leaves_no_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("chaos", "--seconds", "60", "--faults", "pause", "--clients", "1", "--out", str(out))
    try:
        wait_until(lambda: len(servers_in(out)) == 3)
        process.terminate()

        assert process.wait(30) == 130
        assert servers_in(out) == []
    finally:
        finish(process)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--faults", "flood"], "'flood' is not one of kill, pause, partition, network, disk, clock, client"),
        (["--members", "10"], "at most 9"),
        (["--out", "/dev/null"], "/dev/null cannot be used"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_starts(arguments: list[str], what: str) -> None:
    done = copycat("chaos", *arguments)

    assert done.returncode == 2
    assert what in done.stderr
