"""Histories made for tests: written out, drawn at random, and checked by trying everything."""

import random
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from hypothesis import strategies as st

from copycat.testing.history import INFO, INVOKE, OK, UNSTATED, Event, History, Operation
from copycat.testing.linearizability import IMPOSSIBLE, Model


def op(
    f: str,
    begun: int,
    ended: int | None,
    argument: Any = None,
    result: Any = UNSTATED,
    *,
    key: Any = None,
    process: int = 0,
    resource: str = "",
) -> Operation:
    """An operation that lasted from one moment to another; None: nobody knows."""
    return Operation(
        process=process,
        f=f,
        resource=resource,
        key=key,
        argument=argument,
        result=result,
        begun=begun,
        ended=ended,
        invoked=begun,
        completed=ended,
    )


def is_linearizable(operations: Sequence[Operation], model: Model[Any]) -> bool:
    """Whether any order of any choice of the unknown ones with all others is allowed. Tries all, for few operations."""
    known = [each for each in operations if each.ended is not None]
    unknown = [each for each in operations if each.ended is None]
    for chosen in range(1 << len(unknown)):
        members = known + [each for number, each in enumerate(unknown) if chosen >> number & 1]
        if any(_is_allowed(order, model) for order in permutations(members)):
            return True
    return False


def _is_allowed(order: Sequence[Operation], model: Model[Any]) -> bool:
    latest = -1  # invocation so far: nothing that ended before it may follow
    state = model.initial()
    for each in order:
        if each.ended is not None and each.ended < latest:
            return False
        latest = max(latest, each.begun)
        state = model.step(state, each)
        if state is IMPOSSIBLE:
            return False
    return True


@st.composite
def overlapping(draw: st.DrawFn, calls: st.SearchStrategy[tuple[str, Any, Any, Any]], most: int = 5) -> list[Operation]:
    """Up to `most` operations that overlap anyhow, some without an end; `calls` draws f, key, argument and result."""
    drawn = draw(st.lists(calls, max_size=most))
    moments = draw(st.permutations(range(2 * len(drawn))))
    found = []
    for number, (f, key, argument, result) in enumerate(drawn):
        begun, ended = sorted(moments[2 * number : 2 * number + 2])
        is_known = draw(st.integers(0, 4)) > 1
        found.append(
            op(
                f,
                begun,
                ended if is_known else None,
                argument,
                result if is_known else UNSTATED,
                key=key,
                process=number,
            )
        )
    return found


class Simulation:
    """Clients of one resource, which keeps to its model: a history that is linearizable, by construction.

    calls: draws what a client does next: f, key and argument. unknown: how often an operation has no known outcome.
    """

    def __init__(self, model: Model[Any], chooser: random.Random, *, clients: int, unknown: float = 0.0) -> None:
        self._model = model
        self._chooser = chooser
        self._clients = clients
        self._unknown = unknown

    def run(self, calls: Iterator[tuple[str, Any, Any]], count: int) -> History:
        chooser, state, time = self._chooser, self._model.initial(), 0
        events: list[Event] = []
        active: dict[int, tuple[str, Any, Any, Any]] = {}  # process -> its call, and what was answered
        idle, next_process = list(range(self._clients)), self._clients
        while count or active:
            time += 1
            if count and idle and (not active or chooser.random() < 0.5):
                count -= 1
                process = idle.pop(chooser.randrange(len(idle)))
                f, key, argument = next(calls)
                active[process] = (f, key, argument, UNSTATED)
                events.append(Event(time=time, process=process, type=INVOKE, f=f, key=key, value=argument))
                continue
            process = chooser.choice(list(active))
            f, key, argument, answer = active[process]
            if answer is UNSTATED and chooser.random() >= self._unknown / 2:
                call = op(f, 0, None, argument, key=key)
                answer, state = self._model.apply(state, call)
                active[process] = (f, key, argument, answer)
                continue
            del active[process]
            if answer is UNSTATED or chooser.random() < self._unknown / 2:
                events.append(Event(time=time, process=process, type=INFO, f=f, key=key))
                idle.append(next_process)
                next_process += 1
            else:
                events.append(Event(time=time, process=process, type=OK, f=f, key=key, value=answer))
                idle.append(process)
        return History(tuple(events))


def register_calls(chooser: random.Random, values: int = 5) -> Iterator[tuple[str, Any, Any]]:
    """Sets, gets and compare-and-sets of a value."""
    while True:
        old, new = chooser.randrange(values), chooser.randrange(values)
        yield chooser.choice([("set", None, new), ("get", None, None), ("cas", None, (old, new))])
