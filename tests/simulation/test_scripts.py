"""Simulations that are kept, each for what it shows: `scripts/*.txt`, run by `copycat simulate --script FILE`."""

from pathlib import Path

import pytest

from copycat.testing.script import parse

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))

pytestmark = pytest.mark.simulation


@pytest.mark.slow
@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_what_a_script_brings_about_is_survived(file: Path) -> None:
    script = parse(file.read_text(encoding="utf-8"))

    report = script.run()

    assert not report.problems, report
    assert report.actions == list(script.actions)
    assert report.ok > 0.5 * report.invoked > 50


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_a_script_says_first_what_it_shows_and_is_written_as_scripts_are(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    script = parse(text)

    assert len(script.about) > 60
    assert str(script) == text
    assert max(map(len, text.splitlines())) <= 120


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
