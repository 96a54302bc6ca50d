"""Which server a client prefers, and how patiently it dials."""

import random as random_module
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain, repeat
from typing import Protocol

from copycat.util.backoff import Backoff

REDIAL_SECONDS_MIN, REDIAL_SECONDS_MAX = 0.02, 2.0
FIBONACCI_SECONDS = (1, 1, 2, 3, 5, 8, 13)


class ServerSelection(StrEnum):
    """Which server to talk to. ANY: whichever answers, at random. LEADER: the leader, which saves its answers a way.
    FOLLOWERS: any but the leader, which has enough to do. A wish, not a demand: without one as wished, any will do.
    """

    ANY = "ANY"
    LEADER = "LEADER"
    FOLLOWERS = "FOLLOWERS"

    def wants(self, address: str, leader: str | None) -> bool:
        """Whether the server there is as wished; `leader` is the leader's address, None while none is known."""
        if self is ServerSelection.ANY or leader is None:
            return True
        return (address == leader) is (self is ServerSelection.LEADER)


class ConnectionStrategy(StrEnum):
    """What to do when no server answers. EXPONENTIAL_BACKOFF: try again after 20 ms, and twice as long each time, up
    to 2 s. FIBONACCI_BACKOFF: after 1, 1, 2, 3, 5, 8, 13, 13, … seconds. ONCE: give up, and close the client.
    """

    ONCE = "ONCE"
    EXPONENTIAL_BACKOFF = "EXPONENTIAL_BACKOFF"
    FIBONACCI_BACKOFF = "FIBONACCI_BACKOFF"

    def delays(self, random: random_module.Random) -> "Delays":
        """The times between rounds of attempts."""
        if self is ConnectionStrategy.FIBONACCI_BACKOFF:
            return Listed(FIBONACCI_SECONDS)
        return Backoff(REDIAL_SECONDS_MIN, REDIAL_SECONDS_MAX, random=random)


class Delays(Protocol):
    """Seconds to wait, one after another."""

    def next_delay(self) -> float: ...

    def reset(self) -> None: ...


class Listed:
    """Delays from a list, the last one for ever."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self._seconds = tuple(seconds)
        self._next: Iterator[float]
        self.reset()

    def next_delay(self) -> float:
        return next(self._next)

    def reset(self) -> None:
        self._next = chain(self._seconds, repeat(self._seconds[-1]))
