"""How a client's session stands, and what is to happen when it is lost."""

from enum import StrEnum


class ClientState(StrEnum):
    """CONNECTED: the servers know that the session lives. SUSPENDED: none confirms it just now; it may live or not.
    EXPIRED: the servers ended it; a new one is on its way. CLOSED: not open yet, or closed.
    """

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    CLOSED = "CLOSED"


class Recovery(StrEnum):
    """RECOVER: begin a new session when the servers have ended one. CLOSE: close the client then."""

    RECOVER = "RECOVER"
    CLOSE = "CLOSE"
