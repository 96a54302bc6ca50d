"""Operations: commands change state, queries do not; and how fresh a query's answer must be.

An operation class has an explicit id, unique within its state machine and never reused. Its dataclass fields, in
order, are its arguments on the wire.

Source: protocol §3.4 to §3.7, §7.2.
"""

import enum
from dataclasses import fields
from typing import Any, ClassVar, Generic, TypeVar

from copycat.errors import ConfigurationError

R = TypeVar("R")


class ConsistencyLevel(enum.IntEnum):
    """How fresh the answer to a query must be. It is a minimum: a server may give more.

    LINEARIZABLE: sees every write acknowledged before the query was called. Costs a round to a majority.
    LINEARIZABLE_LEASE: the same while clocks drift less than a fifth during a lease; answered by the leader alone.
    SERIALIZABLE: a prefix of the one order of writes, never going back for one client, with its own writes; answered
        by any server whose knowledge is recent. Behind a leader that is cut off from its majority it may be stale by
        up to the election timeout plus two heartbeats.
    """

    SERIALIZABLE = 1
    LINEARIZABLE_LEASE = 2
    LINEARIZABLE = 3
    # The same levels by the names later versions of the original used.
    SEQUENTIAL = 1
    BOUNDED_LINEARIZABLE = 2


class PersistenceMode(enum.IntEnum):
    """How long a value lives: until removed (PERSISTENT), or until the session that wrote it ends (EPHEMERAL)."""

    PERSISTENT = 0
    EPHEMERAL = 1


class Operation(Generic[R]):
    """A command or a query whose result is an R. Subclass `Command` or `Query`, not this."""

    operation_id: ClassVar[int] = -1

    def __init_subclass__(cls, id: int | None = None, **options: Any) -> None:  # reads as it is meant
        super().__init_subclass__(**options)
        if id is not None:
            if not 0 <= id < 1 << 16:
                raise ConfigurationError(f"the id of operation {cls.__name__} must be 0 to 65535, not {id}")
            cls.operation_id = id

    def arguments(self) -> tuple[Any, ...]:
        """The values of the fields, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]  # a dataclass


class Command(Operation[R]):
    """Changes state; takes effect exactly once, in the order of calls within its session."""


class Query(Operation[R]):
    """Changes nothing. `consistency` is the level used unless the call names another."""

    consistency: ClassVar[ConsistencyLevel] = ConsistencyLevel.LINEARIZABLE


RESULT_TOO_LARGE = "ResultTooLargeError"
"""The kind of a Failure that stands for a result too large to be sent; of a command, which was applied."""


class Failure:
    """A result that is an exception: its class name and its message. The message stays outside state hashes."""

    __slots__ = ("kind", "message")

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        self.message = message

    def __repr__(self) -> str:
        return f"Failure({self.kind!r}, {self.message!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and (self.kind, self.message) == (other.kind, other.message)

    def __hash__(self) -> int:
        return hash((self.kind, self.message))
