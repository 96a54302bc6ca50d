"""The command as a whole: help, versions, and what is said of wrong usage."""

import subprocess
import sys

import pytest

import copycat
from copycat.cli.main import NAMES, load, main
from tests.cli.support import copycat as run_copycat


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ID", "MEMBERS", "DATA", "CONFIG"):
        monkeypatch.delenv(f"COPYCAT_{name}", raising=False)


def run(*arguments: str) -> int:
    """The exit status."""
    try:
        return main(arguments)
    except SystemExit as exit:
        return int(exit.code or 0)


LISTED = [name for name in NAMES if load(name).summary]


@pytest.mark.parametrize("name", LISTED)
def test_the_help_of_a_command_has_an_example_and_says_what_exit_statuses_mean(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--help") == 0

    help = capsys.readouterr().out
    assert f"example: copycat {name}" in help
    assert "exit status: 0" in help
    assert "--json" in help
    assert "sabotage" not in help
    assert "until-eof" not in help


def test_the_help_lists_the_commands_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0

    help = capsys.readouterr().out
    assert all(f"    {name} " in help for name in LISTED)
    assert "bench-client" not in help


def test_a_command_is_run_without_what_only_others_need() -> None:
    program = (
        "import sys, copycat.cli.main as main; main.make_parsers([main.load('server')]); print(*sorted(sys.modules))"
    )
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "copycat.cli.server" in modules
    assert not [name for name in modules if name.startswith(("copycat.testing", "copycat.cli.chaos"))]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"copycat {copycat.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["server"], "id is missing: give --id, or COPYCAT_ID"),
        (["server", "--id", "a"], "members is missing"),
        (["server", "--id", "a", "--members", "a=127.0.0.1:1"], "either --data DIR, or --memory"),
        (["server", "--id", "a", "--members", "a=h:1", "--data", "d", "--memory"], "either --data DIR, or --memory"),
        (
            ["server", "--id", "a", "--members", "a=h:1", "--heartbeat", "fast"],
            "--heartbeat: 'fast' is not an integer above 0",
        ),
        (["status"], "name the members: copycat status host:port,..."),
        (["demo", "--seconds", "-1"], "--seconds: '-1' is not a number above 0"),
        (["demo", "--data", "."], "is not empty: name an empty directory"),
        (["bench", "--rounds", "0"], "--rounds: '0' is not an integer above 0"),
    ],
)
def test_wrong_usage_is_told_with_exit_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2

    said = capsys.readouterr()
    assert expected in said.err
    assert "usage: copycat" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["server", "--id", "x", "--members", "a=127.0.0.1:1", "--memory"], "member 'x' is not in the member list"),
        (["server", "--id", "a", "--members", "a", "--memory"], "member 'a' is not of the form id=host:port"),
        (["server", "--id", "a", "--members", "a=127.0.0.1:1", "--memory", "--heartbeat", "900"], "the heartbeat"),
        (
            ["server", "--id", "a", "--members", "a=127.0.0.1:1", "--memory", "--resources", "nowhere.at_all:X"],
            "resources 'nowhere.at_all:X'",
        ),
        (["status", "nonsense"], "member 'nonsense' is not of the form"),
    ],
)
def test_what_cannot_work_is_told_with_exit_status_1(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 1

    said = capsys.readouterr()
    assert said.err.startswith(f"copycat {arguments[0]}: ")
    assert expected in said.err
    assert "Traceback" not in said.err


@pytest.mark.process
def test_python_dash_m_copycat_is_the_command() -> None:
    done = run_copycat("--version")

    assert (done.returncode, done.stdout) == (0, f"copycat {copycat.__version__}\n")
