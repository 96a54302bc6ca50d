"""A simulation that fails, made small: less time, fewer faults, clients and members, and it fails in the same way.

Everything that is left out makes another run, which may fail for another reason, or not at all. So each candidate is
run, and is kept only if the same rule is broken. What remains is not the smallest there is: it is a script from which
nothing can be left out by itself.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from copycat.errors import UsageError
from copycat.testing.fault import DIGITS, Action, Value
from copycat.testing.script import SETTINGS, Script, ScriptError, names_of
from copycat.testing.simulator import Report, Settings

TRIES = 200
"""Of a seed of a minute this takes some minutes."""
USUAL = Settings()
LEAST = ("members", "clients", "work")  # settings that are made less, whatever is usual
SOON = 1.0  # seconds: by then most clusters have a leader, and clients have begun

_WHERE = re.compile(r"^(seed -?\d+: )?(at [\d.]+ s(, member \w+)?: )?")
_RULE = re.compile(r"(?:^|: )(\d\d?): ")


def kind(problem: str) -> str:
    """What sort of problem it is: the number of the rule that was broken, or what was said, without its particulars."""
    rule = _RULE.search(problem)
    if rule is not None:
        return rule[1]
    said = _WHERE.sub("", problem).partition(": ")[0]
    return re.sub(r"[\d.]+", "n", said)


def shrink(
    script: Script,
    *,
    tries: int = TRIES,
    run: Callable[[Script], Report] = Script.run,
    tell: Callable[[str], object] = lambda _: None,
) -> Script:
    """A smaller script that fails as `script` does, by as many runs at most; its first problem says how that is.

    tell: hears of every step. Raises UsageError when `script` does not fail.
    """
    return _Shrinking(script, tries, run, tell).result()


class _Shrinking:
    def __init__(
        self, script: Script, tries: int, run: Callable[[Script], Report], tell: Callable[[str], object]
    ) -> None:
        report = run(script)
        if not report.problems:
            raise UsageError(f"there is nothing to shrink: with seed {script.seed} and these faults nothing fails")
        self._best = script
        self._origin = script
        self._kind = kind(report.problems[0])
        self._report = report
        self._run = run
        self._tell = tell
        self._tries = tries
        self._tried = 0
        self._known = {str(script)}
        tell(f"looking for less that fails like this: {report.problems[0]}")

    def result(self) -> Script:
        steps = (
            self._leave_out_what_comes_later,
            self._leave_out_kinds_of_faults,
            self._leave_out_faults,
            self._spare_members_of_faults,
            self._do_less_work,
            self._have_fewer_clients,
            self._have_fewer_members,
            self._begin_sooner,
            self._say_it_in_round_numbers,
            self._set_as_usual,
        )
        before = None
        while before != str(self._best) and self._tried < self._tries:
            before = str(self._best)
            for step in steps:
                step()
        said = next(problem for problem in self._report.problems if kind(problem) == self._kind)
        about = f"{said}\nWhat is left of seed {self._origin.seed}, which fails in the same way."
        return replace(self._best, about=about)

    def _is_enough(self, candidate: Script, what: str) -> bool:
        """Whether this fails in the same way; if so, it is what will be made smaller."""
        text = str(candidate)
        if text in self._known or self._tried >= self._tries:
            return False
        self._known.add(text)
        try:
            candidate.check()
        except ScriptError:
            return False  # no cluster has to survive it
        self._tried += 1
        report = self._run(candidate)
        if self._kind not in map(kind, report.problems):
            return False
        self._best, self._report = candidate, report
        settings = candidate.settings
        self._tell(
            f"{self._tried:4} of {self._tries}: {what}: faults {len(candidate.actions)}, "
            f"seconds {candidate.seconds:g}, members {settings.members}, clients {settings.clients}"
        )
        return True

    # -- what may be left out ----------------------------------------------------------------------------------------

    def _leave_out_what_comes_later(self) -> None:
        failed_at = math.ceil(self._report.seconds)
        for seconds in (failed_at, *(self._best.seconds * part for part in (0.25, 0.5, 0.75))):
            seconds = round(seconds, 1)
            if SOON <= seconds < self._best.seconds:
                kept = tuple(action for action in self._best.actions if action.at < seconds)
                if self._is_enough(replace(self._best, seconds=seconds, actions=kept), "less time"):
                    break

    def _leave_out_kinds_of_faults(self) -> None:
        for name, _ in Counter(action.fault for action in self._best.actions).most_common():
            kept = tuple(action for action in self._best.actions if action.fault != name)
            self._is_enough(replace(self._best, actions=kept), f"without {name}")

    def _leave_out_faults(self) -> None:
        """All, or half of them, or the other half, and so on to single ones: ddmin, of Zeller and Hildebrandt."""
        size = len(self._best.actions)
        while size:
            start = 0
            while start < len(self._best.actions):
                actions = self._best.actions
                kept = actions[:start] + actions[start + size :]
                if not self._is_enough(replace(self._best, actions=kept), "fewer faults"):
                    start += size
            size //= 2

    def _spare_members_of_faults(self) -> None:
        number = 0
        while number < len(self._best.actions):
            for smaller in _less_hit(self._best.actions[number]):
                actions = (*self._best.actions[:number], smaller, *self._best.actions[number + 1 :])
                if self._is_enough(replace(self._best, actions=actions), "fewer hosts hit"):
                    break
            else:
                number += 1

    def _do_less_work(self) -> None:
        for gone in self._best.settings.work:
            work = tuple(kind for kind in self._best.settings.work if kind != gone)
            self._is_enough(replace(self._best, settings=replace(self._best.settings, work=work)), f"without {gone}")

    def _have_fewer_clients(self) -> None:
        for count in range(1, self._best.settings.clients):
            if self._is_enough(fitted(self._best, clients=count), "fewer clients"):
                break

    def _have_fewer_members(self) -> None:
        for count in range(1, self._best.settings.members):
            if self._is_enough(fitted(self._best, members=count), "fewer members"):
                break

    # -- what may be said more simply --------------------------------------------------------------------------------

    def _begin_sooner(self) -> None:
        early = min((action.at for action in self._best.actions), default=0.0) - SOON
        if early > 0:
            actions = tuple(_moved(action, lambda time: round(time - early, DIGITS)) for action in self._best.actions)
            seconds = round(max(self._best.seconds - early, SOON), DIGITS)
            self._is_enough(replace(self._best, actions=actions, seconds=seconds), "sooner")

    def _say_it_in_round_numbers(self) -> None:
        for digits in (0, 1):
            actions = tuple(_moved(action, partial(round, ndigits=digits)) for action in self._best.actions)
            seconds = float(math.ceil(self._best.seconds))
            if self._is_enough(replace(self._best, actions=actions, seconds=seconds), "round numbers"):
                break

    def _set_as_usual(self) -> None:
        """All the settings, or each by itself."""
        names = [field.name for field in SETTINGS.values() if field.name not in LEAST]
        for group in (names, *([name] for name in names)):
            usual = {name: getattr(USUAL, name) for name in group}
            settings = replace(self._best.settings, **usual)
            if self._is_enough(replace(self._best, settings=settings), "usual settings") and group is names:
                break


def _moved(action: Action, move: Callable[[float], float]) -> Action:
    """The same at other times."""
    return replace(action, at=move(action.at), until=None if action.until is None else move(action.until))


def _less_hit(action: Action) -> Iterator[Action]:
    """The same with one host less in one of its groups."""
    for name, value in action.arguments.items():
        if isinstance(value, tuple) and len(value) > 1:
            for gone in value:
                rest = tuple(host for host in value if host != gone)
                yield replace(action, arguments={**action.arguments, name: rest})


def fitted(script: Script, *, members: int | None = None, clients: int | None = None) -> Script:
    """The same with fewer hosts, and without what would happen to those that are gone."""
    settings = replace(
        script.settings,
        members=script.settings.members if members is None else members,
        clients=script.settings.clients if clients is None else clients,
    )
    there = {name for names in names_of(settings) for name in names}
    there |= {str(action.arguments["member"]) for action in script.actions if action.fault == "join"}
    return replace(script, settings=settings, actions=tuple(_fitted(script.actions, there)))


def _fitted(actions: Sequence[Action], there: Iterable[str]) -> Iterator[Action]:
    for action in actions:
        arguments: dict[str, Value] = {
            name: tuple(host for host in value if host in there) if isinstance(value, tuple) else value
            for name, value in action.arguments.items()
        }
        hosts = [value for name, value in arguments.items() if name != "kind"]
        if all(value in there if isinstance(value, str) else value != () for value in hosts):
            yield replace(action, arguments=arguments)
