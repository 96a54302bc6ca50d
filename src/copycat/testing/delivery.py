"""Did every listener hear what it had to: once, in the one order, and nothing else?

Linearizability is not the notion for a topic, whose messages arrive some time after they were published. In the history
of a topic, where no two messages are alike:

- `publish` with the message as value; the answer does not matter.
- `listen`: when it is `ok`, that process hears all that is published from then on.
- `receive` answers a message, by the process that listens; one operation for each. `index`, where known, is its place.
- `close`: from its invocation on that process need not hear any more. So it is after an operation that ended in `info`.

    violations = check_delivery(read("run.jsonl"))
    assert not violations, "\\n".join(violations)
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from copycat.testing.history import FAIL, INFO, INVOKE, NEMESIS, OK, Event, History, HistoryError

Node = int | tuple[Hashable]
"""A moment, which is a place in the history; or a message, alone in a tuple."""


@dataclass(slots=True)
class _Message:
    """Where in the history a message was published and answered, and whether it is certain that it was."""

    begun: int
    ended: int | None = None
    is_refused: bool = False
    is_certain: bool = False


@dataclass(slots=True)
class _Listener:
    """From which place in the history to which somebody listens, and what was received: message, place, index."""

    opened: int | None = None
    closed: int | None = None
    received: list[tuple[Hashable, int, int | None]] = field(default_factory=list)


def check_delivery(history: History, *, settled: bool = True) -> list[str]:
    """What is wrong with the deliveries in a history, each in words; empty when nothing is.

    settled: the history ends when every listener has had the time to receive all there is. False: what would have come
        after the last message that a listener received is not missed.

    Raises HistoryError when a message is published twice, or an operation is none of a topic's.
    """
    topics: dict[str, _Topic] = {}
    for place, event in enumerate(history.events):
        if event.process != NEMESIS:
            topics.setdefault(event.resource, _Topic()).take(place, event)
    return [
        f"{resource}: {violation}" if resource else violation
        for resource, topic in topics.items()
        for violation in topic.violations(settled)
    ]


class _Topic:
    """What happened to one topic."""

    def __init__(self) -> None:
        self._messages: dict[Hashable, _Message] = {}
        self._listeners: dict[int | str, _Listener] = {}
        self._publishing: dict[int | str, _Message] = {}  # by process

    def take(self, place: int, event: Event) -> None:
        """Follow one event more."""
        if event.f == "publish":
            self._take_publish(place, event)
            return
        if event.f not in ("listen", "receive", "close"):
            raise HistoryError(f"a topic knows no operation {event.f!r}", line=place + 2)
        listener = self._listeners.setdefault(event.process, _Listener())
        if event.f == "listen" and event.type == OK:
            listener.opened, listener.closed = place, None
        elif event.f == "receive" and event.type == OK:
            listener.received.append((event.value, place, event.index))
        elif event.type == INFO or (event.f == "close" and event.type == INVOKE):
            listener.closed = place

    def _take_publish(self, place: int, event: Event) -> None:
        if event.type == INVOKE:
            if event.value in self._messages:
                raise HistoryError(f"{event.value!r} is published twice; make every message its own", line=place + 2)
            self._messages[event.value] = self._publishing[event.process] = _Message(place)
            return
        message = self._publishing.pop(event.process)
        message.is_refused = event.type == FAIL
        if event.type == OK:
            message.ended, message.is_certain = place, True

    def violations(self, settled: bool) -> Iterator[str]:
        """What is wrong."""
        for listener in self._listeners.values():
            for value, _, _ in listener.received:
                if value in self._messages:
                    self._messages[value].is_certain = True
        predecessors = self._predecessors()
        for process, listener in self._listeners.items():
            for violation in (*self._superfluous(listener), *self._missing(listener, predecessors, settled)):
                yield f"process {process} {violation}"
        try:
            TopologicalSorter(predecessors).prepare()
        except CycleError as error:
            circle = [repr(node[0]) for node in error.args[1] if isinstance(node, tuple)]
            yield f"no order of publishing explains what was received when: see {', '.join(dict.fromkeys(circle))}"

    def _superfluous(self, listener: _Listener) -> Iterator[str]:
        """What a listener received that it should not have."""
        seen: set[Hashable] = set()
        last = -1
        for value, _, index in listener.received:
            if value in seen:
                yield f"received {value!r} twice"
            elif value not in self._messages:
                yield f"received {value!r}, which nobody published"
            elif self._messages[value].is_refused:
                yield f"received {value!r}, of which its publisher was told that it never took effect"
            elif index is not None:
                if index <= last:
                    yield f"received {value!r} of index {index} after index {last}"
                last = index
            seen.add(value)

    def _missing(self, listener: _Listener, predecessors: dict[Node, set[Node]], settled: bool) -> Iterator[str]:
        """What it should have received: what came before something it did, and in a settled history all."""
        if listener.opened is None:
            return
        received = {value for value, _, _ in listener.received}
        before = _ancestors(predecessors, [(value,) for value in received if value in self._messages])
        for value, message in self._messages.items():
            if value in received or not message.is_certain or message.begun < listener.opened:
                continue
            if (value,) in before:
                yield f"never received {value!r}, but what came after it"
            elif settled and listener.closed is None:
                yield f"never received {value!r}"

    def _predecessors(self) -> dict[Node, set[Node]]:
        """What certainly came before what.

        A moment before the next; a message after it was invoked, and before it was answered, before it was received,
        and before what the same listener received after it. There is one order of all unless this goes in a circle.
        """
        graph: dict[Node, set[Node]] = {}
        for value, message in self._messages.items():
            graph.setdefault((value,), set()).add(message.begun)
            graph.setdefault(message.begun, set())
            if message.ended is not None:
                graph.setdefault(message.ended, set()).add((value,))
        for listener in self._listeners.values():
            last: Node | None = None
            for value, place, _ in {each[0]: each for each in reversed(listener.received)}.values():
                if value not in self._messages:
                    continue
                graph.setdefault(place, set()).add((value,))
                if last is not None:
                    graph[last].add((value,))
                last = (value,)
        moments = sorted(node for node in graph if isinstance(node, int))
        for earlier, later in pairwise(moments):
            graph[later].add(earlier)
        return graph


def _ancestors(predecessors: dict[Node, set[Node]], nodes: list[Node]) -> set[Node]:
    """All that certainly came before any of these."""
    found: set[Node] = set()
    while nodes:
        for node in predecessors.get(nodes.pop(), ()):
            if node not in found:
                found.add(node)
                nodes.append(node)
    return found
