"""Where a command's settings come from: its flags, then the environment, then a file, then the default.

A setting is called `election-timeout` as a flag, `COPYCAT_ELECTION_TIMEOUT` in the environment, and `election-timeout`
in the file's table of the command, such as `[server]`. The first of these that names it wins.
"""

import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copycat.errors import ConfigurationError

PREFIX = "COPYCAT_"
CONFIG_VARIABLE = "COPYCAT_CONFIG"

_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off", ""}


class SettingError(ConfigurationError):
    """A setting is missing, cannot be read, or does not go with another: a mistake in how the command was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. `parse` reads its text and raises ValueError, whose message says what it should be.

    is_switch: a flag without a value, True when given. is_list: may be repeated, and holds several parted by commas.
    """

    name: str
    help: str
    parse: Callable[[str], Any] = str
    default: Any = None
    metavar: str | None = None
    is_switch: bool = False
    is_list: bool = False
    is_required: bool = False

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    def variable(self, prefix: str) -> str:
        """The name in the environment."""
        return prefix + self.attribute.upper()

    def read(self, given: Any, source: str) -> Any:
        """The value of what `source` gave. Raises SettingError that names the source."""
        try:
            if self.is_switch:
                return _boolean(str(given))
            if self.is_list:
                texts = given if isinstance(given, list) else [given]
                return [self.parse(part) for text in texts for part in str(text).split(",") if part]
            return self.parse(str(given))
        except ValueError as error:
            raise SettingError(f"{source}: {error}") from error


def add_flags(parser: ArgumentParser, settings: Sequence[Setting]) -> None:
    """Give `parser` a flag for each setting, and --config. What is not given stays None until `resolve`."""
    for setting in settings:
        flag = f"--{setting.name}"
        if setting.is_switch:
            parser.add_argument(flag, action="store_const", const="yes", help=setting.help)
        elif setting.is_list:
            parser.add_argument(flag, action="append", metavar=setting.metavar, help=setting.help)
        else:
            parser.add_argument(flag, metavar=setting.metavar or setting.name.upper(), help=setting.help)
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, in a table named like the command")


def resolve(
    settings: Sequence[Setting], given: Namespace, *, command: str, prefix: str, environment: Mapping[str, str]
) -> None:
    """Put the value of every setting into `given`, which holds what the flags gave.

    Raises SettingError for a value that cannot be read, a name the file should not hold, and a missing setting.
    """
    file = given.config or environment.get(CONFIG_VARIABLE)
    table = read_table(Path(file), command, settings) if file else {}
    for setting in settings:
        variable = setting.variable(prefix)
        sources = (
            (getattr(given, setting.attribute), f"--{setting.name}"),
            (environment.get(variable), variable),
            (table.get(setting.attribute), f"{file} [{command}] {setting.name}"),
        )
        found = next(((value, source) for value, source in sources if value is not None), None)
        if found is None and setting.is_required:
            raise SettingError(
                f"{setting.name} is missing: give --{setting.name}, or {variable} in the environment, or "
                f"{setting.name} under [{command}] in a file named with --config"
            )
        setattr(given, setting.attribute, setting.default if found is None else setting.read(*found))


def read_table(file: Path, command: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """The command's table, by attribute; empty when the file has none. Raises SettingError."""
    try:
        with file.open("rb") as source:
            content = tomllib.load(source)
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{file} is not TOML: {error}") from error
    table = content.get(command, {})
    if not isinstance(table, dict):
        raise SettingError(f"{file}: {command} is a value, not a table; write [{command}]")
    known = {setting.attribute for setting in settings}
    found = {name.replace("-", "_"): value for name, value in table.items()}
    unknown = sorted(set(found) - known)
    if unknown:
        takes = ", ".join(setting.name for setting in settings)
        raise SettingError(f"{file} [{command}]: there is no setting {', '.join(unknown)}; it takes {takes}")
    return found


def positive_number(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{text!r} is not a number above 0")
    return number


def positive_integer(text: str) -> int:
    """An integer above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{text!r} is not an integer above 0")
    return int(text)


def natural_number(text: str) -> int:
    """An integer, 0 or above."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not an integer from 0 on")
    return int(text)


SOME_MEMBERS = Setting(name="members", metavar="LIST", help="some or all members: host:port,... or id=host:port,...")


def timeout(default: float, help: str) -> Setting:
    """How long to try, in seconds."""
    return Setting(name="timeout", metavar="SECONDS", parse=positive_number, default=default, help=help)


def one_of(*names: str) -> Callable[[str], str]:
    """A reader that takes these names only, in any case."""

    def read(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text.lower()

    return read


def _boolean(text: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")
