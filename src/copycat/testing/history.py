"""Histories: what clients asked, and what came of it, as lines that any checker can read.

The file is JSON Lines. The first line is `{"format": "copycat-history/1"}`, with whatever else is worth knowing, such
as a seed. Each further line is one event, in the order in which things happened:

    {"time": 1204, "process": 0, "type": "invoke", "f": "put", "resource": "users", "key": "ann", "value": 41}
    {"time": 1519, "process": "nemesis", "type": "info", "f": "stop", "value": "a"}
    {"time": 1733, "process": 0, "type": "ok", "f": "put", "resource": "users", "key": "ann", "value": null}

- `time`: nanoseconds of a monotonic clock, never less than on the line before.
- `process`: a number; it does one thing at a time. `"nemesis"` is whoever causes faults, with lines of type `info`.
- `type`: `invoke` begins an operation and one of three ends it: `ok`: it took effect; `fail`: it did not, and never
  will; `info`: nobody knows. After `info` the process number is never used again, for what it began may still take
  effect. An operation that nothing ends is as one that ends in `info`.
- `f`: which operation. `resource`: the path, where there are several. `key`: which part of the resource, if it has any.
- `value`: of an invocation, what was asked: the argument, or a list of several; of `ok`, what was answered. Left out of
  `ok` where that is not known; null is a value.
- `index`: the operation's place in the log, where known. `error`: what went wrong, for people.

Members with other names are for others, and are passed over. A last line that was cut short, because the writer was
killed, is as if it had not been begun: the recorder writes an invocation before it is made, and an end after it.

Source: docs/how-to/check-linearizability.md "The file".
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from heapq import merge
from pathlib import Path
from typing import Any, Final

from copycat.errors import UsageError

FORMAT: Final = "copycat-history/1"
NEMESIS: Final = "nemesis"
INVOKE: Final = "invoke"
OK: Final = "ok"
FAIL: Final = "fail"
INFO: Final = "info"
TYPES: Final = (INVOKE, OK, FAIL, INFO)


class _Unstated:
    """The type of UNSTATED."""

    def __repr__(self) -> str:
        return "?"


UNSTATED: Final[Any] = _Unstated()
"""The answer that is not known, of an operation that may or does have one."""


class HistoryError(UsageError, ValueError):
    """A history that cannot have happened, or a file that is none. `line` counts from 1; 0: no line of a file."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line. `key` None: the resource has no parts. `value` UNSTATED: an answer that is not known."""

    time: int
    process: int | str
    type: str
    f: str
    resource: str = ""
    key: Hashable = None
    value: Any = None
    index: int | None = None
    error: str | None = None

    def to_json(self) -> str:
        """The line, without its end."""
        facts: dict[str, Any] = {"time": self.time, "process": self.process, "type": self.type, "f": self.f}
        if self.resource:
            facts["resource"] = self.resource
        if self.key is not None:
            facts["key"] = self.key
        if self.value is not UNSTATED and (self.value is not None or self.type == OK):
            facts["value"] = self.value
        if self.index is not None:
            facts["index"] = self.index
        if self.error is not None:
            facts["error"] = self.error
        return json.dumps(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An invocation and its end. `begun` and `ended` are places in the history, `invoked` and `completed` times in ns.

    result: UNSTATED when it took effect and nobody knows the answer, or when it is not known whether it took effect.
    ended, completed: None when that is not known; then it may take effect at any time, or never.
    """

    process: int
    f: str
    resource: str = ""
    key: Hashable = None
    argument: Any = None
    result: Any = UNSTATED
    begun: int = 0
    ended: int | None = None
    invoked: int = 0
    completed: int | None = None
    index: int | None = None
    error: str | None = None

    def __str__(self) -> str:
        """In words: `process 2: put('ann', 41) → None`."""
        arguments = [] if self.key is None else [repr(self.key)]
        if isinstance(self.argument, tuple):
            arguments += [repr(each) for each in self.argument]
        elif self.argument is not None:
            arguments.append(repr(self.argument))
        answer = "unknown" if self.ended is None else repr(self.result)
        return f"process {self.process}: {self.f}({', '.join(arguments)}) → {answer}"


@dataclass(frozen=True, slots=True)
class History:
    """Events in order, and what the first line says besides the format. Made by `read`, or a Recorder."""

    events: tuple[Event, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        turns = Turns()
        for line, event in enumerate(self.events, 2):
            try:
                turns.take(event)
            except HistoryError as error:
                raise HistoryError(str(error), line=line) from None

    def __len__(self) -> int:
        return len(self.events)

    def write(self, path: str | Path) -> None:
        """Write the file, over what was there."""
        lines = [header(self.facts), *(event.to_json() for event in self.events)]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def only(self, *resources: str) -> "History":
        """What was done to these resources. Faults stay."""
        kept = tuple(each for each in self.events if each.resource in resources or each.process == NEMESIS)
        return replace(self, events=kept)

    def counts(self) -> dict[str, int]:
        """How many operations ended in `ok`, `fail` and `info`. Few `ok`: the history says little."""
        ends = Counter(event.type for event in self.events if event.process != NEMESIS)
        begun = ends.pop(INVOKE, 0)
        return {OK: ends[OK], FAIL: ends[FAIL], INFO: begun - ends[OK] - ends[FAIL]}

    def operations(self) -> list[Operation]:
        """What took effect or may have, in the order of invocation; without what certainly did not."""
        found: dict[int, Operation] = {}  # by place of invocation
        places: dict[int | str, int] = {}  # process -> where its open invocation is in `found`
        for place, event in enumerate(self.events):
            if event.process == NEMESIS:
                continue
            if event.type == INVOKE:
                places[event.process] = place
                found[place] = Operation(
                    process=int(event.process),
                    f=event.f,
                    resource=event.resource,
                    key=event.key,
                    argument=event.value,
                    begun=place,
                    invoked=event.time,
                )
                continue
            begun = places.pop(event.process)
            if event.type == FAIL:
                del found[begun]
            elif event.type == INFO:
                found[begun] = replace(found[begun], index=event.index, error=event.error)
            else:
                found[begun] = replace(
                    found[begun],
                    result=event.value if event.error is None else UNSTATED,
                    ended=place,
                    completed=event.time,
                    index=event.index,
                    error=event.error,
                )
        return list(found.values())


def read(path: str | Path) -> History:
    """The history in a file. Raises HistoryError, which names the line; OSError."""
    return parse(Path(path).read_bytes())


def parse(data: bytes) -> History:
    """The history in the bytes of a file. Raises HistoryError, which names the line."""
    lines = data.split(b"\n")
    if not _is_whole(lines[-1]):
        lines.pop()  # cut short, or empty: after the end of the last line
    if not lines:
        raise HistoryError(f'the file is empty; the first line of a history is {{"format": "{FORMAT}"}}', line=1)
    facts = _header(lines[0])
    events = []
    for number, line in enumerate(lines[1:], 2):
        try:
            events.append(_event(_object(line)))
        except ValueError as error:
            raise HistoryError(str(error), line=number) from None
    return History(tuple(events), facts)


def join(*histories: History) -> History:
    """One history of what several recorders saw at the same time, by the clock of one machine.

    The processes in each must be its own. Of what happened in the same nanosecond invocations count as earlier, so that
    the operations overlap. Raises HistoryError.
    """
    seen: set[int | str] = set()
    facts: dict[str, Any] = {}
    for each in histories:
        processes = {event.process for event in each.events} - {NEMESIS}
        if shared := seen & processes:
            raise HistoryError(f"process {min(shared, key=str)} is in two of the histories to be joined")
        seen |= processes
        facts.update(each.facts)
    streams = (each.events for each in histories)
    return History(tuple(merge(*streams, key=lambda event: (event.time, event.type != INVOKE))), facts)


def header(facts: Mapping[str, Any]) -> str:
    """The first line of a file, without its end. Raises HistoryError when the facts have a `format`."""
    if "format" in facts:
        raise HistoryError(f"the format is {FORMAT}: it is not a fact to be given")
    return json.dumps({"format": FORMAT, **facts})


def frozen(value: Any) -> Any:
    """The value as checkers see it, hashable: as JSON has it, lists as tuples, objects as sorted pairs.

    What JSON has no form for becomes its `repr`. Floats that are no numbers do, too.
    """
    if value is None or value is UNSTATED or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if isinstance(value, list | tuple):
        return tuple(frozen(each) for each in value)
    if isinstance(value, dict):
        return tuple(sorted(((str(key), frozen(each)) for key, each in value.items()), key=lambda pair: pair[0]))
    return repr(value)


class Turns:
    """What every process is doing. Refuses events that cannot follow on those before."""

    def __init__(self) -> None:
        self._time = 0
        self._open: dict[int | str, Event] = {}
        self._ended: set[int | str] = set()

    def take(self, event: Event) -> None:
        """Follow one event more. Raises HistoryError."""
        if event.time < self._time:
            raise HistoryError(f"time goes back from {self._time} to {event.time}")
        self._time = event.time
        process = event.process
        if process == NEMESIS:
            if event.type != INFO:
                raise HistoryError(f"the nemesis has lines of type {INFO} only, not {event.type}")
            return
        begun = self._open.get(process)
        if process in self._ended:
            raise HistoryError(f"process {process} is used again after {INFO}; go on with a number of its own")
        if event.type == INVOKE:
            if begun is not None:
                raise HistoryError(f"process {process} invokes {event.f} while its {begun.f} is open")
            self._open[process] = event
            return
        if begun is None:
            raise HistoryError(f"process {process} ends {event.f} without having invoked it")
        if (begun.f, begun.resource, begun.key) != (event.f, event.resource, event.key):
            raise HistoryError(f"process {process} ends {_named(event)}, but what it has open is {_named(begun)}")
        del self._open[process]
        if event.type == INFO:
            self._ended.add(process)


# -- reading a line ----------------------------------------------------------------------------------------------------


def _is_whole(line: bytes) -> bool:
    """Whether the last line of a file, which has no end, is a line all the same."""
    try:
        _object(line)
    except ValueError:
        return False
    return True


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _header(line: bytes) -> dict[str, Any]:
    try:
        facts = _object(line)
    except ValueError as error:
        raise HistoryError(str(error), line=1) from None
    found = facts.pop("format", None)
    if found != FORMAT:
        raise HistoryError(f"the format is {found!r}; what can be read here is {FORMAT!r}", line=1)
    return facts


def _event(facts: dict[str, Any]) -> Event:
    process: Any = facts.get("process")
    if process != NEMESIS and not _is_count(process):
        raise ValueError(f'process must be a number from 0 on, or "{NEMESIS}", not {process!r}')
    kind = facts.get("type")
    if kind not in TYPES:
        raise ValueError(f"type must be one of {', '.join(TYPES)}, not {kind!r}")
    _demand("time", facts.get("time"), "a whole number from 0 on", _is_count)
    _demand("f", facts.get("f"), "text, and not empty", lambda value: isinstance(value, str) and value)
    _demand("resource", facts.get("resource", ""), "text", lambda value: isinstance(value, str))
    _demand("error", facts.get("error"), "text", lambda value: value is None or isinstance(value, str))
    _demand("index", facts.get("index"), "a whole number from 0 on", lambda value: value is None or _is_count(value))
    return Event(
        time=facts["time"],
        process=process,
        type=kind,
        f=facts["f"],
        resource=facts.get("resource", ""),
        key=frozen(facts.get("key")),
        value=frozen(facts.get("value", UNSTATED if kind == OK else None)),
        index=facts.get("index"),
        error=facts.get("error"),
    )


def _demand(name: str, value: Any, kind: str, is_right: Callable[[Any], object]) -> None:
    if not is_right(value):
        raise ValueError(f"{name} must be {kind}, not {value!r}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _named(event: Event) -> str:
    return " ".join(str(each) for each in (event.f, event.resource, event.key) if each not in ("", None))
