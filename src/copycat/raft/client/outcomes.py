"""What a session reports to whoever drives it: one object per frame or batch, never per operation.

A token is what the caller handed in with an operation, and gets back with its result: here always a future.
"""

from dataclasses import dataclass
from typing import Any

from copycat.raft.protocol.wire import Reason

Token = Any


@dataclass(slots=True)
class Resolved:
    """Results came, in the order of calls. A result may be a Failure."""

    tokens: list[Token]
    results: list[Any]
    are_commands: bool


@dataclass(slots=True)
class Registered:
    """The session began."""


@dataclass(slots=True)
class RegistrationRefused:
    """There will be no session: the servers do not grant what was asked for."""

    detail: str


@dataclass(slots=True)
class Kept:
    """The servers know that the session lives."""


@dataclass(slots=True)
class Delivered:
    """Events came, in batches of one index each: [index, [target, instance, event id, *arguments], ...]."""

    batches: list[list[Any]]


@dataclass(slots=True)
class QueriesRefused:
    """Queries that no server will answer."""

    tokens: list[Token]
    reason: Reason
    detail: str


@dataclass(slots=True, kw_only=True)
class Ended:
    """The session is over; queries are not part of it and stay.

    sent: commands whose outcome nobody will tell. unsent: commands that never left, or were refused with certainty.
    refused: commands that a server refused for `detail`, which is why the session ended.
    """

    why: str
    sent: list[Token]
    unsent: list[Token]
    refused: list[Token]
    reason: Reason | None = None


Outcome = Resolved | Registered | RegistrationRefused | Kept | Delivered | QueriesRefused | Ended
