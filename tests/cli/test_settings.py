"""Where settings come from, and which source wins."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from copycat.cli.settings import (
    Setting,
    SettingError,
    add_flags,
    natural_number,
    one_of,
    positive_integer,
    positive_number,
    resolve,
)

SETTINGS = (
    Setting(name="election-timeout", help="", parse=positive_integer, default=500),
    Setting(name="insecure", help="", is_switch=True, default=False),
    Setting(name="resources", help="", is_list=True, default=()),
    Setting(name="log-level", help="", parse=one_of("info", "debug"), default="info"),
)


def resolved(
    *flags: str, environment: dict[str, str] | None = None, settings: tuple[Setting, ...] = SETTINGS
) -> Namespace:
    parser = ArgumentParser()
    add_flags(parser, settings)
    options = parser.parse_args(flags)
    resolve(settings, options, command="server", prefix="COPYCAT_", environment=environment or {})
    return options


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "copycat.toml"
    file.write_text(
        '[server]\nelection-timeout = 300\ninsecure = true\nresources = ["acme:A", "acme:B"]\n[status]\nother = 1\n'
    )
    return file


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(config: Path) -> None:
    file = ("--config", str(config))
    environment = {"COPYCAT_ELECTION_TIMEOUT": "400"}

    assert resolved("--election-timeout", "700", *file, environment=environment).election_timeout == 700
    assert resolved(*file, environment=environment).election_timeout == 400
    assert resolved(*file).election_timeout == 300
    assert resolved().election_timeout == 500


def test_the_file_may_be_named_in_the_environment(config: Path) -> None:
    assert resolved(environment={"COPYCAT_CONFIG": str(config)}).election_timeout == 300


def test_switches_are_true_when_given_and_read_yes_and_no_elsewhere(config: Path) -> None:
    assert resolved("--insecure").insecure is True
    assert resolved(environment={"COPYCAT_INSECURE": "yes"}).insecure is True
    assert resolved("--config", str(config), environment={"COPYCAT_INSECURE": "0"}).insecure is False
    assert resolved("--config", str(config)).insecure is True
    assert resolved().insecure is False


def test_lists_are_repeated_flags_or_parted_by_commas(config: Path) -> None:
    assert resolved("--resources", "x:X,y:Y", "--resources", "z:Z").resources == ["x:X", "y:Y", "z:Z"]
    assert resolved(environment={"COPYCAT_RESOURCES": "x:X,y:Y"}).resources == ["x:X", "y:Y"]
    assert resolved("--config", str(config)).resources == ["acme:A", "acme:B"]


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        (["--election-timeout", "soon"], {}, "--election-timeout: 'soon' is not an integer above 0"),
        ([], {"COPYCAT_ELECTION_TIMEOUT": "0"}, "COPYCAT_ELECTION_TIMEOUT: '0' is not"),
        ([], {"COPYCAT_INSECURE": "perhaps"}, "COPYCAT_INSECURE: 'perhaps' is neither yes nor no"),
        (["--log-level", "loud"], {}, "--log-level: 'loud' is not one of info, debug"),
        (["--config", "nowhere.toml"], {}, "nowhere.toml cannot be read: No such file"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_with_its_source(
    flags: list[str], environment: dict[str, str], expected: str
) -> None:
    with pytest.raises(SettingError) as caught:
        resolved(*flags, environment=environment)

    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nelection-timeout = 'x'\n", "[server] election-timeout: 'x' is not an integer above 0"),
        ("[server]\nelection-timeuot = 1\n", "there is no setting election_timeuot; it takes election-timeout, "),
        ("server = 1\n", "server is a value, not a table"),
        ("[server\n", "is not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "copycat.toml"
    file.write_text(text)

    with pytest.raises(SettingError) as caught:
        resolved("--config", str(file))

    assert str(file) in str(caught.value)
    assert expected in str(caught.value)


def test_a_required_setting_says_where_it_may_be_given() -> None:
    settings = (Setting(name="id", help="", is_required=True),)

    with pytest.raises(SettingError, match=r"--id, or COPYCAT_ID in the environment, or id under \[server\]"):
        resolved(settings=settings)

    assert resolved(environment={"COPYCAT_ID": "a"}, settings=settings).id == "a"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_numbers_are_above_zero_and_finite(text: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        positive_number(text)
    with pytest.raises(ValueError, match="above 0"):
        positive_integer(text)


def test_a_natural_number_may_be_zero() -> None:
    assert natural_number("0") == 0
    for text in ("-1", "1.5", "x", ""):
        with pytest.raises(ValueError, match="from 0 on"):
            natural_number(text)
