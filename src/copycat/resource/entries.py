"""A value together with its version, as resources that keep values hand them out, and the loop of an update."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """A value as it was found. `version` is the log index at which it was written: no two writes have one."""

    value: V
    version: int


async def update_entry(
    function: Any,
    read: Callable[[], Awaitable[Entry[V] | None]],
    write: Callable[[Entry[V] | None, V | None], Awaitable[bool]],
) -> V | None:
    """Make a value from what it is: read, call `function`, write; once more if it was written meanwhile.

    function: makes the new value of the value; None stands for none. It may be called more than once.
    write: is given what was read and the new value. Its result is whether that was still what is there.

    Returns the new value. Raises TypeError when `function` is no plain function; and what it and the others raise.
    """
    if not callable(function) or iscoroutinefunction(function):
        raise TypeError(f"update takes a plain function of the value, not {function!r}")
    while True:
        entry = await read()
        value: V | None = function(None if entry is None else entry.value)
        if await write(entry, value):
            return value
