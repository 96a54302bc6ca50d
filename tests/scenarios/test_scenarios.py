"""Scripts of the core that read as documentation: a command, `----`, and everything it led to.

`pytest tests/scenarios --rewrite` writes what happens. Commit only what you understand.
"""

import re
from pathlib import Path

import pytest

from tests.scenarios.stage import Stage

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))
COMMAND = re.compile(r"^(?P<command>[^#\s].*\n(?:[^#\s].*\n)*?)----\n(?P<outcome>(?:[^\n]+\n)*)", re.MULTILINE)


def performed(script: str) -> str:
    """The script with what really happens."""
    stage = Stage()

    def act(match: re.Match[str]) -> str:
        command, *more = match["command"].splitlines()
        return f"{match['command']}----\n" + "".join(f"{line}\n" for line in stage.perform(command, more))

    return COMMAND.sub(act, script)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_the_scenario_says_is_what_happens(path: Path, rewrite: bool) -> None:
    script = path.read_text(encoding="utf-8")
    happened = performed(script)
    if rewrite:
        path.write_text(happened, encoding="utf-8")
    else:
        assert happened.splitlines() == script.splitlines()


def test_there_are_enough_of_them() -> None:
    assert len(SCRIPTS) >= 25


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_scenario_says_first_what_it_shows_and_whence_the_rule_comes(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line for line in lines[: lines.index("")] if line.startswith("# ")]
    assert 2 <= len(comment) == lines.index("") <= 4
    assert re.search(r"(dissertation|protocol|reliability|paper) ", " ".join(comment))


def test_a_script_that_says_something_else_is_told_apart() -> None:
    script = "cluster\na\n----\nok\n\nwait 500\n----\nnothing happens\n"
    assert performed(script) != script
    assert performed(performed(script)) == performed(script)


def test_the_page_names_every_command() -> None:
    page = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    commands = [name.removeprefix("do_") for name in vars(Stage) if name.startswith("do_")]
    assert len(commands) > 15
    assert not [name for name in commands if not re.search(rf"`{name}\b", page)]
