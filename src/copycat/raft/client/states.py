"""How a client's session stands, and what is to happen when it is lost."""

from dataclasses import dataclass
from enum import StrEnum


class ClientState(StrEnum):
    """CONNECTED: the servers know that the session lives. SUSPENDED: none confirms it just now; it may live or not.
    EXPIRED: the servers ended it; a new one is on its way. CLOSED: not open yet, or closed.
    """

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Loss:
    """What rests on a session must be given up: `why`; `is_over` tells whether the session is known to have ended.

    False when it may have, by the client's own clock. It may then prove alive; another loss follows if it does not.
    `is_last` tells whether the client is closed with it, so that no other session follows.
    """

    why: str
    is_over: bool
    is_last: bool = False


class Recovery(StrEnum):
    """RECOVER: begin a new session when the servers have ended one. CLOSE: close the client then."""

    RECOVER = "RECOVER"
    CLOSE = "CLOSE"
