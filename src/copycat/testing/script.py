"""A simulation written down: what it is made of, and every fault by itself; for people to read, change and keep.

    # All three lose their power at once, while clients write.
    copycat-simulation/1
    seed 7
    seconds 10
    members 3

    3.2 cut-power members=a,b,c until 3.9

A comment begins with #. The first line that is none names the format. Then a line for each setting of
`simulator.Settings` that is not as usual; `seed` is what is left to chance, and `seconds` how long faults go on. A line
that begins with a number is a fault: when, a name of `faults.FAULTS`, what it takes, and until when it lasts; without
`until` it ends by itself, or when everything is mended.

The script that was made of a seed leaves the trace of that seed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_origin

import msgspec

from copycat.errors import ConfigurationError, UsageError
from copycat.testing.cluster import MEMBERS_MAX, NAMES
from copycat.testing.fault import Action, Value
from copycat.testing.faults import FAULTS
from copycat.testing.simulator import Report, Settings, run_seed
from copycat.testing.workload import WORKS

FORMAT = "copycat-simulation/1"
DRAWING = ("fault_pause", "fault_length", "faults")
"""Settings by which faults are drawn: in a script they have been."""
SETTINGS: dict[str, "Field[Any]"] = {
    field.name.replace("_", "-"): field for field in fields(Settings) if field.name not in DRAWING
}


class ScriptError(UsageError, ValueError):
    """A script that cannot be read, or that no cluster could run. `line` counts from 1; 0: the script as a whole."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A simulation, fault by fault. `about`: what it shows, in lines of text. seconds: how long faults go on."""

    seed: int
    seconds: float
    settings: Settings
    actions: tuple[Action, ...] = ()
    about: str = ""

    @classmethod
    def of(cls, report: Report) -> "Script":
        """What was done in a simulation, all of it."""
        return cls(
            seed=report.seed, seconds=report.fault_seconds, settings=report.settings, actions=tuple(report.actions)
        )

    def run(self) -> Report:
        """Do it. Always returns: what went wrong is in the report."""
        return run_seed(self.seed, seconds=self.seconds, settings=self.settings, actions=self.actions)

    def check(self) -> None:
        """Raises ScriptError unless a cluster could be like this, and survive it."""
        settings = self.settings
        if not 1 <= settings.members <= MEMBERS_MAX:
            raise ScriptError(f"a cluster has 1 to {MEMBERS_MAX} members, not {settings.members}")
        if settings.clients < 1:
            raise ScriptError("without clients nothing happens: let there be 1 at least")
        if not settings.work or not set(settings.work) <= WORKS.keys():
            raise ScriptError(f"clients do {', '.join(WORKS)}, not {' '.join(settings.work) or 'nothing'}")
        if not 0 < self.seconds < math.inf:
            raise ScriptError(f"faults go on for some seconds, not for {self.seconds:g}")
        try:
            settings.config()
        except ConfigurationError as error:
            raise ScriptError(str(error)) from error
        _check_hosts(self, [(0, action) for action in self.actions])
        lost = {action.arguments["member"] for action in self.actions if FAULTS[action.fault].loses_disk}
        if 2 * len(lost) >= settings.members and lost:
            raise ScriptError(
                f"{len(lost)} of {settings.members} members lose their disks: more than a cluster survives"
            )

    def __str__(self) -> str:
        """The text of it, which `parse` reads."""
        lines = [f"# {line}".rstrip() for line in self.about.splitlines()]
        lines += [FORMAT, f"seed {self.seed}", f"seconds {_shown(self.seconds)}"]
        lines += [
            f"{name} {' '.join(_words(value))}"
            for name, field in SETTINGS.items()
            if (value := getattr(self.settings, field.name)) != field.default
        ]
        actions = [_action_text(action) for action in self.actions]
        return "\n".join([*lines, *([""] if actions else []), *actions]) + "\n"


def run_script(text: str) -> Report:
    """Do what a script says. Raises ScriptError when it cannot be read."""
    return parse(text).run()


# -- writing -----------------------------------------------------------------------------------------------------------


def _words(value: Any) -> Iterator[str]:
    for part in value if isinstance(value, tuple) else (value,):
        yield part if isinstance(part, str) else _shown(part)


def _shown(number: float) -> str:
    """So that reading it gives the same number."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _action_text(action: Action) -> str:
    arguments = [f"{name}={','.join(_words(value))}" for name, value in action.arguments.items()]
    until = [] if action.until is None else [f"until {_shown(action.until)}"]
    return " ".join([f"{_shown(action.at):>8}", action.fault, *arguments, *until])


# -- reading -----------------------------------------------------------------------------------------------------------


def parse(text: str) -> Script:
    """The script. Raises ScriptError, which names the line."""
    about: list[str] = []
    found: dict[str, Any] = {}
    actions: list[tuple[int, Action]] = []
    has_begun = False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        try:
            if not has_begun:
                has_begun = _begins(words)
                about += [line.strip().removeprefix("#").removeprefix(" ")] if not words and line.strip() else []
            elif words and words[0][0] in "0123456789.-+":
                actions.append((number, _action(words)))
            elif words:
                _read_setting(words, found)
        except ValueError as error:
            raise ScriptError(str(error), line=number) from None
    if not has_begun:
        raise ScriptError(f"there is no line {FORMAT}")
    script = Script(
        seed=found.pop("seed", 0),
        seconds=found.pop("seconds", None) or _enough([action for _, action in actions]),
        settings=_settings(found),
        actions=tuple(action for _, action in actions),
        about="\n".join(about),
    )
    _check_hosts(script, actions)
    script.check()
    return script


def _begins(words: list[str]) -> bool:
    if words and words != [FORMAT]:
        raise ValueError(f"{FORMAT} comes first, not {' '.join(words)!r}")
    return bool(words)


def _enough(actions: list[Action]) -> float:
    """Seconds after which all of them have ended."""
    return 5.0 + math.ceil(max((action.until or action.at for action in actions), default=5.0))


def _read_setting(words: list[str], found: dict[str, Any]) -> None:
    name, values = words[0], words[1:]
    kind: Any
    if name in ("seed", "seconds"):
        key, kind = name, int if name == "seed" else float
    elif name in SETTINGS:
        key, kind = SETTINGS[name].name, SETTINGS[name].type
    else:
        raise ValueError(f"there is no setting {name}; there are seed, seconds, {', '.join(SETTINGS)}")
    if key in found:
        raise ValueError(f"{name} was set before")
    if len(values) != 1 and get_origin(kind) is not tuple:
        raise ValueError(f"{name} has one value, not {len(values)}")
    try:
        found[key] = msgspec.convert(values if get_origin(kind) is tuple else values[0], kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} {' '.join(values)}: {error}") from None


def _settings(found: dict[str, Any]) -> Settings:
    missing = [name for name, field in SETTINGS.items() if field.default is MISSING and field.name not in found]
    if missing:
        raise ScriptError(f"it does not say {', '.join(missing)}")
    return Settings(**found)


def _action(words: list[str]) -> Action:
    if len(words) < 2:
        raise ValueError("a time, and then a fault: " + ", ".join(FAULTS))
    at, name, rest = _number(words[0]), words[1], words[2:]
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name}; there are {', '.join(FAULTS)}")
    fault = FAULTS[name]
    until = None
    if len(rest) >= 2 and rest[-2] == "until":
        until, rest = _number(rest[-1]), rest[:-2]
        if not fault.lasts:
            raise ValueError(f"{name} ends by itself: it has no until")
        if until < at:
            raise ValueError(f"it ends at {until:g}, before it begins")
    arguments: dict[str, Value] = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or key not in fault.takes:
            raise ValueError(f"{name} takes {_usage(fault.takes)}, not {word}")
        arguments[key] = READERS.get(key, _number)(value)
    if missing := [key for key in fault.takes if key not in arguments]:
        raise ValueError(f"{name} takes {_usage(missing)}, which is missing")
    return Action(at=at, fault=name, arguments={key: arguments[key] for key in fault.takes}, until=until)


def _usage(names: tuple[str, ...] | list[str]) -> str:
    return " ".join(f"{name}=…" for name in names)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


READERS: dict[str, Callable[[str], Value]] = {
    **dict.fromkeys(("host", "member", "client", "source", "target", "kind"), str),
    **dict.fromkeys(("members", "side", "other"), _hosts),
}
"""How the arguments of faults are read by their names; all others are numbers."""


def names_of(settings: Settings) -> tuple[list[str], list[str]]:
    """The members and the clients there are."""
    return list(NAMES[: settings.members]), [f"client-{number + 1}" for number in range(settings.clients)]


def _check_hosts(script: Script, actions: list[tuple[int, Action]]) -> None:
    members, clients = names_of(script.settings)
    for line, action in sorted(actions, key=lambda each: each[1].at):
        if action.fault == "join":
            joins = str(action.arguments["member"])
            if joins in members or joins in clients:
                raise ScriptError(f"member={joins}: there is one by that name", line=line)
            members.append(joins)
        for key, value in action.arguments.items():
            if key == "kind":
                continue
            named = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
            known = members if key.startswith("member") else clients if key == "client" else members + clients
            unknown = [name for name in named if name not in known]
            if unknown:
                raise ScriptError(f"{key}={unknown[0]}: there are {', '.join(known)}", line=line)
