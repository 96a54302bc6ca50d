"""A comparable picture of what an object holds, all the way down: whether two replicas are in one state.

`==` is not enough: it is identity for classes that define none, says that True is 1, and does not see the order of a
dict, which a replica may act upon.
"""

from collections import deque
from dataclasses import dataclass
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from copycat.io.msgpack import FLAT
from copycat.io.serializer import Serializer
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.host import Clockwork, Host
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.timers import Timer, Timers
from copycat.raft.protocol.state_machine import Derived, StateMachine

_CODE = (FunctionType, MethodType, BuiltinMethodType, type)


def portrait(value: Any) -> Any:
    """A tuple, equal to that of another object which holds the same."""
    return _portrait(value, {})


def differences(first: Any, second: Any, path: str = "") -> str:
    """Where two portraits differ, and how; empty when they do not."""
    if first == second:
        return ""
    match first, second:
        case ((("fields", name), *one), (("fields", other), *two)) if name == other and len(one) == len(two):
            parts = [
                differences(mine[1], theirs[1], f"{path}.{mine[0]}" if path else mine[0])
                for mine, theirs in zip(one, two, strict=True)
                if mine[0] == theirs[0]
            ]
            found = "; ".join(part for part in parts if part)
            if found:
                return found
    return f"{path or 'the object'}: {_shown(first)} and {_shown(second)}"


def _shown(picture: Any) -> Any:
    """A portrait without its marks, for people."""
    match picture:
        case (("value", _), value):
            return value
        case (("items", _), *items):
            return [_shown(item) for item in items]
        case (("pairs", _), *pairs):
            return {_hashable(_shown(key)): _shown(value) for key, value in pairs}
        case (("members", _), members):
            return {_hashable(_shown(member)) for member in members}
        case (("fields", name), *fields):
            return f"{name}({', '.join(f'{field}={_shown(value)!r}' for field, value in fields)})"
    return picture


def _hashable(value: Any) -> Any:
    return value if value.__hash__ is not None else repr(value)


def _portrait(value: Any, seen: dict[int, int]) -> Any:
    kind = type(value)
    name = kind.__qualname__
    if value is None or isinstance(value, int | str | bytes):
        return ("value", name), value
    if isinstance(value, float):
        return ("value", name), repr(value)  # one NaN is another, and zero has a sign
    if isinstance(value, _CODE):
        return ("code", getattr(value, "__qualname__", name))
    if isinstance(value, Host | Clockwork | Serializer):
        return ("of the replica", name)
    if isinstance(value, ServerSession):
        return ("session", value.id, value.is_open)
    if isinstance(value, Timers):
        return (("items", "timers"), value.sequence, *(_portrait(timer, seen) for timer in value.view()[0]))
    if isinstance(value, Derived):
        return ("derived", name)
    if isinstance(value, Timer):
        called = (value.target, value.method, _portrait(value.arguments, seen))
        return ("timer", value.id, value.timers is not None, called, value.due, value.interval_ms)
    if not isinstance(value, tuple):  # one tuple in two places is as good as two
        if id(value) in seen:
            return ("seen before", seen[id(value)])
        seen[id(value)] = len(seen)
    if isinstance(value, dict):
        return (("pairs", name), *((_portrait(key, seen), _portrait(held, seen)) for key, held in value.items()))
    if isinstance(value, list | tuple | deque):
        return (("items", name), *(_portrait(held, seen) for held in value))
    if isinstance(value, set | frozenset):
        return (("members", name), frozenset(_portrait(held, seen) for held in value))
    fields = _fields(value)
    if fields is None:
        return ("value", name), value  # of the standard library, say: Decimal, UUID, datetime
    return (("fields", name), *((field, _portrait(held, seen)) for field, held in fields))


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """The attributes of an object that keeps them where they can be seen, in an order that says nothing."""
    slots = [slot for base in type(value).__mro__ for slot in _names(base.__dict__.get("__slots__", ()))]
    held = [(slot, getattr(value, slot)) for slot in slots if hasattr(value, slot)]
    if not hasattr(value, "__dict__"):
        return held or None
    fields = sorted({**_defaults(type(value)), **vars(value)}.items())
    return held + [(name, each) for name, each in fields if not isinstance(each, Derived)]


def _defaults(kind: type) -> dict[str, Any]:
    """What a state machine's class says of attributes that it need not have itself."""
    if not issubclass(kind, StateMachine):
        return {}
    classes = kind.__mro__[kind.__mro__.index(StateMachine) - 1 :: -1]
    attributes = {name: each for base in classes for name, each in vars(base).items()}
    return {name: each for name, each in attributes.items() if type(each) in FLAT and not name.startswith("__")}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


# -- of a whole replica ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """The replicated state of a member, all the way down, in a form that can be compared."""

    clock: Any  # log time, wall time, timers
    sessions: Any
    machines: tuple[tuple[str, Any], ...]  # what each is called, and its portrait


def picture(executor: Executor) -> Picture:
    """What there is to a replica at the index it has reached."""
    clockwork = executor.clockwork
    sessions = {
        session.id: [
            session.nonce,
            session.secret,
            session.timeout_ms,
            session.sequence,
            session.ack,
            session.activity_index,
            list(session.runs),
            _queued(session),
        ]
        for session in executor.sessions
    }
    return Picture(
        clock=portrait([clockwork.time, clockwork.wall_ms, clockwork.timers]),
        sessions=portrait(sessions),
        machines=tuple((host.where, portrait(host.machine)) for host in executor.machines.hosts.values()),
    )


def picture_differences(first: Picture, second: Picture) -> str:
    """Where two replicas differ, and how; empty when they do not."""
    if first == second:
        return ""
    found = [
        differences(first.clock, second.clock, "time and timers"),
        differences(first.sessions, second.sessions, "sessions"),
    ]
    one, other = dict(first.machines), dict(second.machines)
    both = [*one, *(each for each in other if each not in one)]
    found += [differences(one.get(where), other.get(where), where) for where in both]
    return "; ".join(filter(None, found)) or "the resources stand in another order"


def _queued(session: ServerSession) -> list[Any]:
    """The events of a session: the last index, how far they were acknowledged, how much waits, and what."""
    queue = session.events
    if queue is None:
        return []
    head = [queue.index, queue.ack, queue.count, queue.size]
    return [*head, *([batch.index, batch.previous, *batch.events] for batch in queue.waiting())]
