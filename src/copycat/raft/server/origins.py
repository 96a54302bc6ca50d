"""Where a client's answer goes: straight down its connection, or back through the follower it is connected to."""

from dataclasses import dataclass, field
from typing import Protocol

from copycat.io.transport.transport import Connection
from copycat.raft.protocol.wire import HEADER_RELAY, Tag
from copycat.raft.server.peers import Peers


class Origin(Protocol):
    """A way back to a client. Two that compare equal are the same connection of the same client."""

    def send(self, frame: bytes) -> None:
        """Send if the way still stands; else the frame is dropped, and the client asks again elsewhere.

        It leaves with `flush`, or at the end of this turn of the loop.
        """

    def send_many(self, frames: list[bytes]) -> None:
        """Send all these, in order, as `send` would."""

    def flush(self) -> None:
        """Write what was sent."""


UNREAD_BYTES_MAX = 16 << 20
"""What a client may leave unread before answers to it are dropped."""


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A client connected to this very server. `route` names it towards the leader; never reused in a process.

    One that reads too slowly misses answers. When it has read what there was, it is told to ask again for the rest:
    so nothing waits here without bound, and nothing is lost.
    """

    route: int
    connection: Connection
    sessions: set[int] = field(default_factory=set)  # bound here while this server leads; only tested and emptied
    delivered: dict[int, None] = field(default_factory=dict)  # sessions whose events go down this connection
    announced: bytes = b""  # the LEADER frame it was sent last
    settled: set[int] = field(default_factory=set)  # sessions a leader has confirmed since; only tested and emptied
    has_missed: bool = False

    def send(self, frame: bytes) -> None:
        connection = self.connection
        if connection.buffered_bytes <= UNREAD_BYTES_MAX:
            connection.send(frame)
        else:
            self.has_missed = True

    def send_many(self, frames: list[bytes]) -> None:
        connection = self.connection
        if connection.buffered_bytes + sum(map(len, frames)) <= UNREAD_BYTES_MAX:
            connection.send_many(frames)
        else:
            for frame in frames:
                self.send(frame)

    def flush(self) -> None:
        self.connection.flush()


@dataclass(slots=True, unsafe_hash=True)
class RelayedClient:
    """A client connected to the follower `member`."""

    member: str
    route: int
    peers: Peers = field(compare=False, repr=False)

    def send(self, frame: bytes) -> None:
        self.peers.send(self.member, HEADER_RELAY.pack(Tag.RELAY, self.route) + frame)

    def send_many(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.send(frame)

    def flush(self) -> None:
        self.peers.flush()
