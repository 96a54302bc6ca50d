"""`copycat simulate --script`, `--write` and `--shrink`: one simulation, written down."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat.cli.main import main
from copycat.testing.script import Script, parse
from copycat.testing.simulator import Settings, run_seed
from copycat.testing.workload import LedgerMachine

TEXT = "copycat-simulation/1\nseed 5\nseconds 3\n\n       1 kill members=a,b,c until 2\n"


@pytest.fixture(autouse=True)
def _keep_logging() -> Iterator[None]:
    """In a process of its own the command silences all logging."""
    yield
    logging.disable(logging.NOTSET)


def test_a_script_is_run_and_told_like_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "script.txt"
    file.write_text(TEXT)

    assert main(["simulate", "--script", str(file)]) == 0

    assert capsys.readouterr().out.startswith(f"seed 5: ok, trace {parse(TEXT).run().trace}")


def test_with_a_seed_a_script_has_other_luck(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "script.txt"
    file.write_text(TEXT)

    assert main(["simulate", "--script", str(file), "--seed", "6", "--json"]) == 0

    whole = json.loads(capsys.readouterr().out)
    assert (whole["seed"], whole["problems"]) == (6, [])
    assert whole["script"] == TEXT.replace("seed 5", "seed 6")


def test_what_a_seed_draws_is_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "script.txt"

    assert main(["simulate", "--seed", "3", "--seconds", "2", "--write", str(file)]) == 0

    report = run_seed(3, seconds=2)
    assert report.actions
    assert file.read_text() == str(Script.of(report))


def test_a_seed_that_fails_is_made_small_and_written_to_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = LedgerMachine._append
    monkeypatch.setattr(LedgerMachine, "_append", lambda *arguments: append(*arguments) + 1)
    file = tmp_path / "script.txt"

    status = main(["simulate", "--seed", "0", "--seconds", "4", "--shrink", "--tries", "20", "--write", str(file)])

    small = parse(file.read_text())
    shown = capsys.readouterr().out
    assert status == 1
    assert shown.startswith("seed 0: failed")
    assert "of 20: " in shown
    assert shown.endswith(f"\n{small}\n")
    assert small.actions == ()
    assert (small.settings.clients, small.settings.members) == (1, 1)
    assert "25: " in small.about
    assert small.settings.pace == Settings().pace


def test_a_seed_that_does_not_fail_has_nothing_to_make_small(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "3", "--seconds", "2", "--shrink"]) == 0
    assert " of 200: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--script", "absent.txt"], "absent.txt cannot be read: No such file or directory"),
        (["--script", "wrong.txt"], "wrong.txt: line 2: there is no setting explode"),
        (["--script", "wrong.txt", "--seconds", "5"], "leave --seconds out"),
        (["--seed", "3", "--seeds", "2", "--shrink"], "name it with --seed, not --seeds"),
        (["--seconds", "1", "--write", "absent/script.txt"], "absent/script.txt cannot be written"),
        (["--shrink", "--tries", "0"], "'0' is not an integer above 0"),
    ],
)
def test_a_mistake_is_told(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.txt").write_text("copycat-simulation/1\nexplode\n")

    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err
