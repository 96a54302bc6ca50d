"""Snapshots of machines whose state is annotated attributes: `accounts: dict[str, int]` in the body of the class.

State that is forgotten would make a restored replica another machine, and nobody would see it for weeks. So what is no
state is told apart by its type, and any attribute that is neither annotated nor of such a type is an error.

Source: protocol §8.4.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, ClassVar, get_origin, get_type_hints

from copycat.errors import CopycatError, SnapshotError
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.protocol.state_machine import Derived, Executor, Session, StateMachine

SHOWN_MAX = 120  # characters of a value in a message

_ADVICE = "or override snapshot and restore"


class AnnotatedAttributes(Derived):
    """Serves the machine that was configured with `executor`."""

    def __init__(self, executor: object, codec: ValueCodec) -> None:
        self._executor = executor
        self._codec = codec

    def snapshot(self, machine: StateMachine) -> list[Any]:
        """[name, bytes] of every attribute. Raises SnapshotError for one that cannot be encoded or is not annotated."""
        kinds = _kinds(type(machine))  # type: ignore[arg-type]  # a class is hashable
        parts = []
        for name in self._names(machine, kinds):
            kind, value = kinds.get(name), getattr(machine, name)
            where = f"attribute {name!r} of {type(machine).__name__}"
            if kind is None:
                raise SnapshotError(
                    f"{where} is not annotated in the body of the class: annotate it there if it is state, subclass "
                    f"Derived if it follows from the state, {_ADVICE}"
                )
            if kind is Session:
                raise SnapshotError(
                    f"{where} is a Session: keep its id instead, and find it with Executor.session(id), {_ADVICE}"
                )
            try:
                parts.append([name, self._codec.encode_state(value)])
            except CopycatError as error:
                raise SnapshotError(f"{where} cannot be encoded: {error}; it is {_shown(value)}") from error
        return parts

    def _names(self, machine: StateMachine, kinds: dict[str, Any]) -> list[str]:
        """The attributes that the machine has of its own, less what cannot be state; in order."""
        declared = [base.__dict__.get("__slots__", ()) for base in type(machine).__mro__]
        slots = [slot for each in declared for slot in ([each] if isinstance(each, str) else each)]
        own = {name for name in (*vars(machine), *slots) if hasattr(machine, name)}
        for name in kinds:
            shared = None if name in own else getattr(machine, name, None)
            if shared.__class__.__hash__ is None:
                raise SnapshotError(
                    f"attribute {name!r} of {type(machine).__name__} is one {type(shared).__name__} for all machines "
                    "of the class: make it in __init__"
                )
        names = [name for name in kinds if name in own] + sorted(own - kinds.keys())
        values = ((name, getattr(machine, name)) for name in names)
        return [name for name, value in values if not isinstance(value, Derived) and value is not self._executor]

    def restore(self, machine: StateMachine, parts: Iterable[Any]) -> None:
        """Set every attribute. Raises SnapshotError for one that the class does not have, or has as another type."""
        kinds = _kinds(type(machine))  # type: ignore[arg-type]  # a class is hashable
        for name, data in parts:
            if name not in kinds:
                raise SnapshotError(f"{type(machine).__name__} has no attribute {name!r}, which an older one had")
            try:
                setattr(machine, name, self._codec.decode_state(data, kinds[name]))
            except CopycatError as error:
                raise SnapshotError(f"attribute {name!r} of {type(machine).__name__}: {error}") from error


@lru_cache(maxsize=1024)
def _kinds(machine: type[StateMachine]) -> dict[str, Any]:
    """What is annotated in the bodies of the class and its ancestors, in their order; less what cannot be state."""
    try:
        hints = get_type_hints(machine)
    except Exception as error:
        raise SnapshotError(f"the annotations of {machine.__name__} cannot be read: {error}") from error
    for name in get_type_hints(StateMachine):
        del hints[name]
    return {name: kind for name, kind in hints.items() if not _is_no_state(kind)}


def _is_no_state(kind: Any) -> bool:
    return get_origin(kind) is ClassVar or kind is Executor or (isinstance(kind, type) and issubclass(kind, Derived))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
