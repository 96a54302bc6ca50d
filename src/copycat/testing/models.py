"""Models of the shipped resources, for `copycat.testing.linearizability.check`: what each operation does to what.

A result that the history leaves open fits all. So does a partial result: `put` recorded without its answer is checked
as a write. Values are compared with `==`: one that differs in its type alone (True, 1, 1.0) is the same here.
"""

from collections.abc import Hashable
from typing import Any, Final

from copycat.testing.history import UNSTATED, HistoryError, Operation
from copycat.testing.linearizability import IMPOSSIBLE, WHOLE, Impossible, Model

MapState = frozenset[tuple[Hashable, Any]]


class MapModel(Model[MapState]):
    """A map whose values are never None, as DistributedMap. `key` is the key, and `value` of an invocation:

    `put`, `put_if_absent`, `replace`: the new value. `remove_value`: the value to remove. `replace_value`, or `cas`: a
    list of the old and the new. `contains_value`: the value. Of the others: nothing.

    Each key is checked by itself, unless the history has `clear`, `size`, `is_empty` or `contains_value`.
    """

    reads = frozenset({"get", "contains_key", "contains_value", "size", "is_empty"})

    def initial(self) -> MapState:
        return frozenset()

    def partition(self, operation: Operation) -> Hashable:
        return WHOLE if operation.f in ("clear", "size", "is_empty", "contains_value") else operation.key

    def describe(self, state: MapState) -> str:
        entries = sorted(f"{key!r}: {value!r}" for key, value in state)
        return f"{{{', '.join(entries)}}}"

    def apply(self, state: MapState, operation: Operation) -> tuple[Any, MapState]:
        key, argument = operation.key, operation.argument
        previous = next((value for each, value in state if each == key), None)
        match operation.f:
            case "get":
                return previous, state
            case "put":
                return previous, _with(state, key, previous, argument)
            case "put_if_absent":
                return previous, state if previous is not None else _with(state, key, None, argument)
            case "replace":
                return previous, state if previous is None else _with(state, key, previous, argument)
            case "replace_value" | "cas":
                old, new = _pair(operation)
                is_so = previous is not None and previous == old
                return is_so, _with(state, key, previous, new) if is_so else state
            case "remove":
                return previous, _with(state, key, previous, None)
            case "remove_value":
                is_so = previous is not None and previous == argument
                return is_so, _with(state, key, previous, None) if is_so else state
            case "contains_key":
                return previous is not None, state
            case "contains_value":
                return any(value == argument for _, value in state), state
            case "size":
                return len(state), state
            case "is_empty":
                return not state, state
            case "clear":
                return None, frozenset()
        raise self.stranger(operation)


def _pair(operation: Operation) -> tuple[Any, Any]:
    """The two arguments of a compare-and-set."""
    match operation.argument:
        case (old, new):
            return old, new
    raise HistoryError(f"{operation}: its value must be a list of the expected and the new value")


def _with(state: MapState, key: Hashable, previous: Any, value: Any) -> MapState:
    """The map with this value at `key` instead of `previous`; None stands for no entry."""
    if previous is not None:
        state -= {(key, previous)}
    return state if value is None else state | {(key, value)}


class ValueModel(Model[Any]):
    """One value, None at first, with operations `get`, `set` (value), `get_and_set` (value) and `compare_and_set`, or
    `cas` (a list of the expected and the new value); `write` and `read` are `set` and `get`. Each `key` is one of its
    own, if there are any.
    """

    reads = frozenset({"get", "read"})

    def __init__(self, initial: Any = None) -> None:
        self._initial = initial

    def initial(self) -> Any:
        return self._initial

    def apply(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        match operation.f:
            case "get" | "read":
                return state, state
            case "set" | "write":
                return None, operation.argument
            case "get_and_set":
                return state, operation.argument
            case "compare_and_set" | "cas":
                expected, new = _pair(operation)
                return (True, new) if state == expected else (False, state)
        raise self.stranger(operation)


class CounterModel(Model[int]):
    """A number, 0 at first: `get`, `set` (value); `add` (value), `increment` and `decrement`, which answer the new
    number; `get_and_add` (value), which answers the old.
    """

    reads = frozenset({"get"})

    def initial(self) -> int:
        return 0

    def apply(self, state: int, operation: Operation) -> tuple[Any, int]:
        match operation.f:
            case "get":
                return state, state
            case "set":
                return None, operation.argument
            case "add":
                return state + operation.argument, state + operation.argument
            case "increment":
                return state + 1, state + 1
            case "decrement":
                return state - 1, state - 1
            case "get_and_add":
                return state, state + operation.argument
        raise self.stranger(operation)


class SetModel(Model[frozenset[Hashable]]):
    """A set: `add`, `remove` (whether that changed it) and `contains` with the element as value; `size`, `is_empty`,
    `clear`. Each element is checked by itself, unless the history has one of the last three.
    """

    reads = frozenset({"contains", "size", "is_empty"})

    def initial(self) -> frozenset[Hashable]:
        return frozenset()

    def partition(self, operation: Operation) -> Hashable:
        return WHOLE if operation.f in ("size", "is_empty", "clear") else operation.argument

    def describe(self, state: frozenset[Hashable]) -> str:
        return f"{{{', '.join(sorted(map(repr, state)))}}}"

    def apply(self, state: frozenset[Hashable], operation: Operation) -> tuple[Any, frozenset[Hashable]]:
        element = operation.argument
        match operation.f:
            case "add":
                return element not in state, state | {element}
            case "remove":
                return element in state, state - {element}
            case "contains":
                return element in state, state
            case "size":
                return len(state), state
            case "is_empty":
                return not state, state
            case "clear":
                return None, frozenset()
        raise self.stranger(operation)


FREE: Final = 0
MAYBE: Final = -1

LockState = tuple[int, int]  # the token of the holder, FREE, or MAYBE; and the last token known


class LockModel(Model[LockState]):
    """A lock whose grants have tokens that only grow, as DistributedLock. An election is one: its epochs are tokens.

    `lock`, `try_lock`: the result is the token; of `try_lock` None when it is held. `unlock` of a token: the result is
    whether that held it, or None, which is yes. `is_locked`: whether anybody holds it.
    `lost` of a token: the hold ended by itself, with its session; it has no result. Record it from when that became
    possible to when it is certain; for a holder that was killed record the invocation only.

    A grant of which nobody knows may have ended with its session, unseen: from there on the lock may be free or not.
    """

    reads = frozenset({"is_locked"})

    def initial(self) -> LockState:
        return FREE, 0

    def describe(self, state: LockState) -> str:
        holder, last = state
        words = {FREE: "a free lock", MAYBE: "a lock that may be held"}
        return f"{words.get(holder, f'a lock held by token {holder}')}, after token {last}"

    def step(self, state: LockState, operation: Operation) -> LockState | Impossible:
        holder, last = state
        result = operation.result
        match operation.f:
            case "try_lock" if result is None:
                return IMPOSSIBLE if holder == FREE else state
            case "lock" | "try_lock":
                if holder > FREE:
                    # Whether a `try_lock` of which nobody knows was granted is open as well.
                    return state if operation.f == "try_lock" and result is UNSTATED else IMPOSSIBLE
                if result is UNSTATED:
                    return MAYBE, last
                if not isinstance(result, int):
                    raise HistoryError(f"{operation}: the result of a grant is its token")
                return (result, result) if result > last else IMPOSSIBLE
            case "unlock":
                token = operation.argument
                held = token == holder or (holder == MAYBE and token > last)
                if result is False:
                    return IMPOSSIBLE if token == holder else state
                if held:
                    return FREE, token
                return state if result is UNSTATED else IMPOSSIBLE
            case "lost":
                token = operation.argument
                if token == holder or (holder == MAYBE and token > last):
                    return FREE, token
                return IMPOSSIBLE
            case "is_locked":
                if result is UNSTATED or holder == MAYBE:
                    return state
                return state if result == (holder != FREE) else IMPOSSIBLE
        raise self.stranger(operation)

    def expected(self, state: LockState, operation: Operation) -> str:
        holder, last = state
        if operation.f in ("lock", "try_lock") and operation.result is not None:
            return f"the lock is held by token {holder}" if holder > FREE else f"its token must be above {last}"
        if operation.f in ("unlock", "lost"):
            return "that token holds it" if operation.result is False else "that token does not hold it"
        return "the lock is free" if holder == FREE else f"the lock is held by token {holder}"
