"""`copycat demo`: it counts right, and leaves nothing behind, however it ends."""

import json
import signal
from pathlib import Path

import pytest

from tests.cli.support import copycat, finish, servers_in, start, wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_nothing_is_lost_and_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = copycat("demo", "--json", "--seconds", "0.5")

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert report["ok"] is True
    assert (report["lost"], report["duplicated"]) == (0, 0)
    assert report["found"] == report["acknowledged"] > 100
    assert report["writes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []
    assert servers_in(tmp_path) == []


def test_one_altered_value_is_found_and_the_data_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = copycat("demo", "--seconds", "0.5", "--sabotage")

    assert done.returncode == 1
    (directory,) = tmp_path.iterdir()
    assert "Lost 1, duplicated 0" in done.stdout
    assert f"The data are in {directory}" in done.stderr
    assert {"a", "b", "c"} <= {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_its_servers_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    process = start("demo", "--seconds", "30", TMPDIR=str(tmp_path))
    try:
        wait_until(lambda: len(servers_in(tmp_path)) == 3)
        process.send_signal(number)
        process.communicate(timeout=30)
        wait_until(lambda: not servers_in(tmp_path))
    finally:
        finish(process)

    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []
