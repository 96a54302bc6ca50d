"""What a chaos run comes to: each promise that its history can break, and whether it did.

All of it is read from the history, so it can be judged again later, and by others. A check that could not be finished
has not passed, and neither has one that had nothing to look at.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from copycat.testing.chaos.clients import COUNTER, LOCK, MAP, VALUE
from copycat.testing.chaos.hearing import LEDGER, TOPIC
from copycat.testing.delivery import check_delivery
from copycat.testing.history import FAIL, INFO, INVOKE, NEMESIS, OK, UNSTATED, Event, History
from copycat.testing.linearizability import Conclusion, Model, check
from copycat.testing.models import CounterModel, LockModel, MapModel, ValueModel

STEPS_MAX = 5_000_000  # for each part: some seconds
SHOWN_MAX = 10  # breaches of one kind
READS = frozenset({"get", "read", "receive", "use", "listen", "close"})
"""Operations that write nothing. (`listen` and `close` do, but are few.)"""

ENTRIES = "ledger: exactly once, nothing lost, in order"
EVENTS = "ledger: events once, in order, no gap"

MODELS: dict[str, Model[Any]] = {
    MAP: MapModel(),
    VALUE: ValueModel(),
    COUNTER: CounterModel(),
    LOCK: LockModel(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise. checked: how much there was to look at, in `parts`. breaches: in words; empty: none was found."""

    name: str
    checked: int
    parts: int = 1
    breaches: tuple[str, ...] = ()

    @property
    def is_kept(self) -> bool:
        return not self.breaches and self.checked > 0

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.is_kept, **asdict(self)}


def judge(history: History, *, steps_max: int = STEPS_MAX) -> list[Check]:
    """Every check that a history allows."""
    return [
        *(_linearizable(history, kind, steps_max) for kind in MODELS),
        _exclusive(history),
        *_ledger(history.only(LEDGER)),
        _topic(history),
    ]


def kind_of(resource: str) -> str:
    """`value` of `value-3`: what of each era is one kind."""
    return resource.partition("-")[0]


def _linearizable(history: History, kind: str, steps_max: int) -> Check:
    """10, 11, 25, 26: whatever was acknowledged, and read in the end, fits one order of single moments."""
    operations = [each for each in history.operations() if kind_of(each.resource) == kind and each.f != "use"]
    verdict = check(operations, MODELS[kind], steps_max=steps_max)
    breaches = () if verdict.conclusion is Conclusion.LINEARIZABLE else tuple(verdict.explanation.split("\n\n"))
    return Check(
        name=f"{kind}: linearizable", checked=verdict.operations, parts=verdict.parts, breaches=breaches[:SHOWN_MAX]
    )


def _exclusive(history: History) -> Check:
    """21: no token was granted twice, and nobody was granted a lock while its holder was still sure of it."""
    granted: dict[str, int] = {}  # by lock: the highest token of those who know of theirs
    sure: dict[int | str, tuple[str, int]] = {}  # by process that began a `use`: the lock, and that highest token then
    uses, breaches = 0, []
    for event in history.events:
        if kind_of(event.resource) != LOCK or event.process == NEMESIS:
            continue
        highest = granted.get(event.resource, 0)
        if event.f == "lock" and event.type == OK and isinstance(event.value, int):
            if event.value == highest:
                breaches.append(f"{event.resource}: token {highest} was granted twice")
            granted[event.resource] = max(highest, event.value)
        elif event.f == "use" and event.type == INVOKE:
            sure[event.process] = event.resource, highest
        elif event.f == "use" and event.type == OK:
            uses += 1
            path, before = sure[event.process]
            if isinstance(event.value, int) and before > event.value:
                breaches.append(f"{path}: held by token {event.value} when another had been granted {before}")
    return Check(name="lock: one holder", checked=uses, parts=len(granted), breaches=tuple(breaches[:SHOWN_MAX]))


# -- the ledger --------------------------------------------------------------------------------------------------------


def _ledger(history: History) -> list[Check]:
    entries, appends = _final_entries(history), list(_appends(history))
    heard = sum(event.f == "receive" and event.type == OK for event in history.events)
    if entries is None:
        missing = ("nobody read the ledger in the end",)
        return [Check(name=name, checked=0, breaches=missing) for name in (ENTRIES, EVENTS)]
    return [
        Check(name=ENTRIES, checked=len(appends), breaches=tuple(_judge_entries(entries, appends))[:SHOWN_MAX]),
        Check(name=EVENTS, checked=heard, breaches=tuple(_judge_hearing(entries, history))[:SHOWN_MAX]),
    ]


def _final_entries(history: History) -> list[Hashable] | None:
    """The ledger as it was last read."""
    found = None
    for event in history.events:
        if event.f == "read" and event.type == OK and isinstance(event.value, tuple):
            found = list(event.value)
    return found


def _appends(history: History) -> Iterator[tuple[Event, Event | None]]:
    """Each append and its end, in the order of the calls."""
    begun: dict[int | str, list[Event | None]] = {}
    found: list[list[Event | None]] = []
    for event in history.events:
        if event.f != "append":
            continue
        if event.type == INVOKE:
            begun[event.process] = [event, None]
            found.append(begun[event.process])
        else:
            begun[event.process][1] = event
    for begin, end in found:
        if begin is not None:
            yield begin, end


def _judge_entries(entries: Sequence[Hashable], appends: Sequence[tuple[Event, Event | None]]) -> Iterator[str]:
    """14, 15, 25, 26, 33, and that what was answered comes before what was called after that."""
    for token, count in Counter(entries).items():
        if count > 1:
            yield f"{token} is there {count} times"
    place = {token: position for position, token in enumerate(entries)}
    known = {begin.value for begin, _ in appends}
    for token in entries:
        if token not in known:
            yield f"{token} is there, and nobody appended it"
    last: dict[str, int] = {}  # by client: the position of its latest entry
    answered = -1  # the last position that was answered before the call at hand
    ends = sorted((end for _, end in appends if end is not None and end.type == OK), key=lambda end: end.time)
    waiting = iter(ends)
    following = next(waiting, None)
    for begin, end in appends:
        while following is not None and following.time < begin.time:
            if isinstance(following.value, int):
                answered = max(answered, following.value)
            following = next(waiting, None)
        at = place.get(begin.value)
        if end is not None and end.type == OK and end.value is not UNSTATED and end.value != at:
            yield f"{begin.value} was acknowledged at {end.value} and is {'gone' if at is None else f'at {at}'}"
        if at is None:
            continue
        if end is not None and end.type == FAIL:
            yield f"{begin.value} was said not to be applied and is at {at}"
        if at <= answered:
            yield f"{begin.value} is at {at}, but when it was appended position {answered} had been answered"
        client = str(begin.value).rpartition("-")[0]
        if at < last.get(client, -1):
            yield f"{begin.value} is at {at}, before what its client appended earlier, at {last[client]}"
        last[client] = max(at, last.get(client, -1))


def _judge_hearing(entries: Sequence[Hashable], history: History) -> Iterator[str]:
    """16: from where it began to listen, each process hears each entry, until it closes or is cut short."""
    first: dict[int | str, int] = {}  # where each began, as it was told
    heard: dict[int | str, list[tuple[int, Hashable]]] = {}
    excused: set[int | str] = set()
    for event in history.events:
        if event.f == "listen" and event.type == OK and isinstance(event.value, int):
            first[event.process] = event.value
        elif event.f == "receive" and event.type == OK and isinstance(event.value, tuple):
            position, token = event.value
            heard.setdefault(event.process, []).append((position, token))
        elif event.f == "close" or event.type == INFO:
            excused.add(event.process)
    for process, begins in first.items():
        run = heard.get(process, [])
        expected = min(begins, run[0][0]) if run else begins
        for position, token in run:
            if position != expected:
                yield f"process {process} heard of {position} when {expected} was next"
            if entries[position : position + 1] != [token]:
                yield f"process {process} heard {token} at {position}, where there is another"
            expected = position + 1
        if process not in excused and expected < len(entries):
            yield f"process {process} heard nothing from {expected} on, of {len(entries)} entries"


def _topic(history: History) -> Check:
    """16, for messages: each once, in one order, and all there are."""
    topic = history.only(TOPIC)
    received = [event for event in topic.events if event.f == "receive" and event.type == OK]
    return Check(
        name="topic: messages once, in one order, none missing",
        checked=len(received),
        parts=len({event.process for event in received}),
        breaches=tuple(check_delivery(topic))[:SHOWN_MAX],
    )


def longest_stop(history: History, until: int) -> float:
    """The longest time in seconds, from the first on and up to `until`, in ns, in which no write was acknowledged."""
    times = [each.time for each in history.events if each.type == OK and each.f not in READS and each.time <= until]
    return max(_differences(times), default=0) / 1e9


def _differences(times: Iterable[int]) -> Iterator[int]:
    last = None
    for time in times:
        if last is not None:
            yield time - last
        last = time
