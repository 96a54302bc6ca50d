"""Events on their way to clients: each server sends those of the sessions connected to it, from its own state.

Every server has every session's queue. The one that holds a session's newest connection delivers: it learns which that
is when the leader confirms a registration or a keep-alive, for the answer passes through it. It sends whatever is
queued beyond the last index it sent; a client that misses something says from where. What a connection was sent is
known here and nowhere else; only the log's acks take events out of the queue.

Source: protocol §6.
"""

from dataclasses import dataclass

from copycat.raft.protocol.wire import encode_events
from copycat.raft.server.origins import ClientConnection
from copycat.raft.server.reads import HasState

FRAME_BYTES_MAX = 256 << 10
"""A frame holds about this much of events, so that a reply need not wait long behind them."""


@dataclass(slots=True)
class Cursor:
    """`sent` is the index of the last event sent down `client`."""

    client: ClientConnection
    sent: int


class Delivery:
    """One server's part in delivering events."""

    def __init__(self, state: HasState) -> None:
        self._state = state
        self._cursors: dict[int, Cursor] = {}  # by session

    def bind(self, session_id: int, client: ClientConnection) -> None:
        """The session lives on this connection now. A connection new to it is sent everything unacknowledged."""
        cursor = self._cursors.get(session_id)
        if cursor is None or cursor.client is not client:
            self.ended(session_id)
            self._cursors[session_id] = Cursor(client, 0)
            client.delivered[session_id] = None
            self._send(session_id)

    def published(self, session_ids: list[int]) -> list[ClientConnection]:
        """Events were published to these sessions. Returns the connections of those that are this server's to send."""
        clients = []
        for session_id in session_ids:
            if (cursor := self._cursors.get(session_id)) is not None:
                self._send(session_id)
                clients.append(cursor.client)
        return clients

    def send_after(self, session_id: int, client: ClientConnection, index: int) -> None:
        """The client has every event up to `index`, and misses what follows."""
        cursor = self._cursors.get(session_id)
        if cursor is not None and cursor.client is client:
            cursor.sent = min(cursor.sent, index)
            self._send(session_id)

    def has_read(self, client: ClientConnection) -> None:
        """The connection is writable again: a client that reads slowly gets its events when it has read."""
        for session_id in client.delivered:
            self._send(session_id)

    def ended(self, session_id: int) -> None:
        """The session is over, or lives elsewhere."""
        cursor = self._cursors.pop(session_id, None)
        if cursor is not None:
            del cursor.client.delivered[session_id]

    def state_replaced(self) -> None:
        """A leader's snapshot has brought what was published meanwhile, and ended some sessions."""
        for session_id in list(self._cursors):
            if self._state.executor.sessions.get(session_id) is None:
                self.ended(session_id)
            else:
                self._send(session_id)

    def disconnected(self, client: ClientConnection) -> None:
        """The connection is gone, and the cursors with it."""
        for session_id in list(client.delivered):
            self.ended(session_id)

    def _send(self, session_id: int) -> None:
        session, cursor = self._state.executor.sessions.get(session_id), self._cursors[session_id]
        if session is None or session.events is None:
            return
        events, connection = session.events, cursor.client.connection
        while connection.writable:
            batches = events.after(max(cursor.sent, events.ack), FRAME_BYTES_MAX)
            if not batches:
                return
            connection.send(encode_events(session_id, batches[0].previous, batches))
            cursor.sent = batches[-1].index
            if cursor.sent < events.index:
                connection.flush()  # so that `writable` knows
