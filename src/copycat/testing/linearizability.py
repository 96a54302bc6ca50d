"""Is a history linearizable? Could each operation have taken effect at one moment between its invocation and its end?

    verdict = check(read("run.jsonl"), MapModel())
    assert verdict, verdict.explanation

The search puts operations in order one by one. Next can only be one that was invoked before the first end among those
not yet in order; whichever the model allows is tried, and taken back when nothing follows. What keeps this short is to
remember: which operations are in order, as the bits of an integer, and the state they left. To come there by another
order again is to fail again.

Parts that do not affect one another, such as the keys of a map, are checked each by itself, which is as good and much
shorter. Operations of which nobody knows whether they took effect are the expensive ones: they stay possible to the
end. Those that only read are left out. The others are tried only when nothing else fits; of several that are the same,
the first; and never where the same was reached with fewer of them.

It can still take time beyond all bounds, as the problem is hard: so steps are counted, and when they have run out the
verdict is UNKNOWN, which is no pass.

Source: Wing & Gong 1993 (the search); Lowe 2017 (what to remember); Horn & Kroening 2015 (parts).
"""

import enum
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

from copycat.testing.history import UNSTATED, History, HistoryError, Operation

S = TypeVar("S", bound=Hashable)

STEPS_MAX: Final = 1_000_000  # a second or two, and at most some hundreds of megabytes to remember
SHOWN_MAX: Final = 5  # operations of the order that an explanation shows


class _Answer(enum.Enum):
    IMPOSSIBLE = "impossible"


IMPOSSIBLE: Final = _Answer.IMPOSSIBLE
"""What `Model.step` says of an operation that cannot come next with the result it had."""

Impossible: TypeAlias = Literal[_Answer.IMPOSSIBLE]

Line: TypeAlias = "tuple[int, Line] | None"  # what is in order, from the last back to the first


class Whole(enum.Enum):
    """The type of WHOLE."""

    WHOLE = "whole"


WHOLE: Final = Whole.WHOLE
"""The partition of an operation that concerns all keys: with one in a history, its resource is checked in one piece."""


class Model(Generic[S]):
    """What a resource does when one operation comes after another. Subclass, with `initial` and `apply`.

    S: the state: immutable and hashable, and small, for many are kept.
    reads: the operations that never change the state.

    What an operation does depends on its `f`, `key`, `argument` and `result`, and on nothing else.
    """

    reads: ClassVar[frozenset[str]] = frozenset()

    def initial(self) -> S:
        """The state before the first operation."""
        raise NotImplementedError

    def apply(self, state: S, operation: Operation) -> tuple[Any, S]:
        """The result the operation must have, and the state it leaves. Raises HistoryError if there is none such."""
        raise NotImplementedError

    def step(self, state: S, operation: Operation) -> S | Impossible:
        """The state after the operation with the result it had, or IMPOSSIBLE. Override where results are chosen."""
        result, after = self.apply(state, operation)
        return after if operation.result is UNSTATED or operation.result == result else IMPOSSIBLE

    def partition(self, operation: Operation) -> Hashable:
        """Which part of its resource the operation concerns, or WHOLE; no other part may matter to it."""
        return operation.key

    def expected(self, state: S, operation: Operation) -> str:
        """What would have been possible instead, in words that go on from the operation."""
        result, _ = self.apply(state, operation)
        return f"it would have to answer {result!r}"

    def describe(self, state: S) -> str:
        """The state in words, for explanations."""
        return repr(state)

    def stranger(self, operation: Operation) -> HistoryError:
        """What `apply` raises for an operation it does not know."""
        return HistoryError(f"{type(self).__name__} knows no operation {operation.f!r}")


class Conclusion(enum.Enum):
    """What a check comes to."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Generic[S]):
    """Where one part of a history cannot go on.

    part: what the operations have in common: the resource, and the key or WHOLE.
    order: the order that gets furthest. None has both `stuck[0]` and what had ended before that did.
    state: what it leaves. stuck: what cannot be next, by its end, with `reasons`. total: how many operations there are.
    """

    part: tuple[str, Hashable]
    order: tuple[Operation, ...]
    state: S
    stuck: tuple[Operation, ...]
    total: int
    reasons: tuple[str, ...]
    described: str

    def __str__(self) -> str:
        lines = [f"{_name(self.part)}: no order of its {self.total} operations explains their results."]
        if self.order:
            lines.append(f"The order that gets furthest has {len(self.order)} of them. It ends with")
            lines += [f"    {each}" for each in self.order[-SHOWN_MAX:]]
            lines.append(f"and leaves {self.described}. What would have to be next, and cannot be:")
        else:
            lines.append(f"At first there is {self.described}. What would have to be first, and cannot be:")
        lines += [f"    {each}: {reason}" for each, reason in zip(self.stuck, self.reasons, strict=True)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `check` found. True only when the history is linearizable.

    operations: how many were checked, in how many `parts`, with how many `steps`. See that they are not too few.
    failures: of the parts that are not linearizable. undecided: parts for which the steps did not suffice.
    """

    conclusion: Conclusion
    operations: int
    parts: int
    steps: int
    failures: tuple[Failure[Any], ...] = ()
    undecided: tuple[tuple[str, Hashable], ...] = ()

    def __bool__(self) -> bool:
        return self.conclusion is Conclusion.LINEARIZABLE

    @property
    def explanation(self) -> str:
        """Why, in words."""
        lines = [str(each) for each in self.failures]
        lines += [f"{_name(each)}: undecided, for the steps have run out" for each in self.undecided]
        if not lines:
            lines.append(f"{self.operations} operations in {self.parts} parts are linearizable")
        return "\n".join(lines)


def check(history: History | Iterable[Operation], model: Model[S], *, steps_max: int = STEPS_MAX) -> Verdict:
    """Whether the operations of a history are linearizable by the model.

    steps_max: how many times, for each part, an operation may be tried as the next.

    Raises HistoryError for operations the model does not know.
    """
    operations = history.operations() if isinstance(history, History) else sorted(history, key=lambda each: each.begun)
    wanted = [each for each in operations if each.ended is not None or each.f not in model.reads]
    failures, undecided, steps = [], [], 0
    parts = _parts(wanted, model)
    for part, members in parts.items():
        search = _Search(members, model, steps_max)
        found = search.run()
        steps += search.steps
        if found is Conclusion.NOT_LINEARIZABLE:
            failures.append(search.failure(part))
        elif found is Conclusion.UNKNOWN:
            undecided.append(part)
    conclusion = Conclusion.LINEARIZABLE
    if failures or undecided:
        conclusion = Conclusion.NOT_LINEARIZABLE if failures else Conclusion.UNKNOWN
    return Verdict(
        conclusion=conclusion,
        operations=len(wanted),
        parts=len(parts),
        steps=steps,
        failures=tuple(failures),
        undecided=tuple(undecided),
    )


def _parts(operations: list[Operation], model: Model[S]) -> dict[tuple[str, Hashable], list[Operation]]:
    """The operations by what they concern, each in the order of invocation."""
    keys = [model.partition(each) for each in operations]
    undivided = {each.resource for each, key in zip(operations, keys, strict=True) if key is WHOLE}
    parts: dict[tuple[str, Hashable], list[Operation]] = {}
    for each, key in zip(operations, keys, strict=True):
        part = (each.resource, WHOLE if each.resource in undivided else key)
        parts.setdefault(part, []).append(each)
    return parts


class _Search(Generic[S]):
    """The search for an order of `operations`, which are sorted by invocation.

    Operations that have an end are numbered, and linked in a list from which those in order are taken. `low` and `mask`
    say which those are: all below `low`, and those with a bit in `mask`, counted from there. Operations whose outcome
    is unknown have bits of their own, in `extra`.
    """

    def __init__(self, operations: list[Operation], model: Model[S], steps_max: int) -> None:
        self.steps = 0
        self._model = model
        self._steps_max = steps_max
        self._known = [each for each in operations if each.ended is not None]
        self._ends = [each.ended for each in operations if each.ended is not None]
        self._unknown = [each for each in operations if each.ended is None]
        self._twins = _twins(self._unknown)
        count = len(self._known)
        # The list of what is not in order, between two ends that are no operation: number `count`, at either end.
        self._after = [*range(1, count + 1), 0]
        self._before = [count, *range(count)]
        self._furthest = (-1, -1)  # the end that no order got past, and how many operations it has
        self._dead_end: tuple[S, Line, list[int]]

    def run(self) -> Conclusion:
        """Search. Afterwards `steps` says how long it took."""
        step, known, unknown = self._model.step, self._known, self._unknown
        count = left = len(known)
        state, low, mask, extra = self._model.initial(), 0, 0, 0
        seen: dict[tuple[int, int, S], list[int]] = {(low, mask, state): [extra]}
        line: Line = None
        back: list[tuple[int, S, int, int, int, Line, Iterator[int]]] = []  # to take moves back by
        moves = iter(self._moves(extra))
        while left:
            for move in moves:
                self.steps += 1
                if self.steps > self._steps_max:
                    return Conclusion.UNKNOWN
                after = step(state, known[move] if move < count else unknown[move - count])
                if after is IMPOSSIBLE:
                    continue
                if move < count:
                    bits = mask | 1 << (move - low)
                    done = (~bits & (bits + 1)).bit_length() - 1  # ones from the lowest bit on
                    place, used = (low + done, bits >> done, after), extra
                else:
                    place, used = (low, mask, after), extra | 1 << (move - count)
                before = seen.setdefault(place, [])
                if any(each & used == each for each in before):
                    continue
                before.append(used)
                back.append((move, state, low, mask, extra, line, moves))
                (low, mask, state), extra, line = place, used, (move, line)
                if move < count:
                    self._take(move)
                    left -= 1
                moves = iter(self._moves(extra))
                break
            else:
                self._note(state, extra, line, len(back))
                if not back:
                    return Conclusion.NOT_LINEARIZABLE
                move, state, low, mask, extra, line, moves = back.pop()
                if move < count:
                    self._put_back(move)
                    left += 1
        return Conclusion.LINEARIZABLE

    def _moves(self, extra: int) -> list[int]:
        """What may come next: what was invoked before the first end of what is not in order. The unknown come last."""
        count, moves, end = len(self._known), [], None
        move = self._after[count]
        while move != count and (end is None or self._known[move].begun < end):
            moves.append(move)
            end = self._ends[move] if end is None else min(end, self._ends[move])
            move = self._after[move]
        for number, operation in enumerate(self._unknown):
            if end is None or operation.begun > end:
                break
            twin = self._twins[number]
            if not extra >> number & 1 and (twin is None or extra >> twin & 1):
                moves.append(count + number)
        return moves

    def _take(self, move: int) -> None:
        before, after = self._before[move], self._after[move]
        self._after[before], self._before[after] = after, before

    def _put_back(self, move: int) -> None:
        self._after[self._before[move]] = self._before[self._after[move]] = move

    def _note(self, state: S, extra: int, line: Line, length: int) -> None:
        """Remember the dead end that got furthest: past the most ends, and there with the most operations."""
        moves = self._moves(extra)
        end = min(self._ends[move] for move in moves if move < len(self._known))
        if (end, length) > self._furthest:
            self._furthest = (end, length)
            self._dead_end = (state, line, moves)

    def _operation(self, move: int) -> Operation:
        count = len(self._known)
        return self._known[move] if move < count else self._unknown[move - count]

    def failure(self, part: tuple[str, Hashable]) -> Failure[S]:
        """Why there is no order, after `run` found none."""
        state, line, moves = self._dead_end
        order = []
        while line is not None:
            move, line = line
            order.append(self._operation(move))
        # Any that were possible would have led further. What is left of those is an unknown one that changes nothing.
        stuck = [each for each in map(self._operation, moves) if self._model.step(state, each) is IMPOSSIBLE]
        stuck.sort(key=lambda each: (each.ended is None, each.ended))
        return Failure(
            part=part,
            order=tuple(reversed(order)),
            state=state,
            stuck=tuple(stuck),
            total=len(self._known) + len(self._unknown),
            reasons=tuple(self._model.expected(state, each) for each in stuck),
            described=self._model.describe(state),
        )


def _twins(operations: list[Operation]) -> list[int | None]:
    """For each operation the last one before that is the same: which could always take its place."""
    last: dict[Hashable, int] = {}
    twins = []
    for number, each in enumerate(operations):
        what = (each.f, each.key, each.argument)
        twins.append(last.get(what))
        last[what] = number
    return twins


def _name(part: tuple[str, Hashable]) -> str:
    """The resource and the key, as far as there are."""
    resource, key = part
    return " ".join(each for each in (resource, "" if key in (None, WHOLE) else repr(key)) if each) or "the history"
