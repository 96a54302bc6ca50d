"""Keep-alives that bring no news wait a moment for others, so that those of many sessions share one turn and one flush.

Each by itself costs every server a turn, and each disk a flush, to say that nothing has changed. So the server that a
client is connected to gathers them, for a heartbeat at most, before it takes them in or passes them on. What must not
wait does not: the first since the client was told of a leader, which ties the session to its connection there; one
that acknowledges events; one of a short session. And nothing of a client's is overtaken: whatever else it sends takes
the keep-alive that waits along.

Source: protocol §5.2; docs/decisions/0017-keep-alives-without-news-wait-for-one-another.md.
"""

import asyncio
from collections.abc import Callable

from copycat.raft.protocol.wire import HEADER_KEEP_ALIVE, KEPT_ALIVE
from copycat.raft.server.origins import ClientConnection
from copycat.raft.server.reads import HasState

GATHERING_SECONDS = 0.1
TIMEOUT_MS_MIN = 1000  # a shorter session has no such time to give

ONE = HEADER_KEEP_ALIVE.size + KEPT_ALIVE.size
"""A keep-alive of a single session is so long."""


class KeepAlives:
    """Those that wait on one server, one of a connection. `pass_on` takes them when their time has come.

    All that have waited are of one size.
    """

    def __init__(self, state: HasState, pass_on: Callable[[dict[ClientConnection, bytes]], None]) -> None:
        self._state = state
        self._pass_on = pass_on
        self.waiting: dict[ClientConnection, bytes] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def take(self, client: ClientConnection, frame: bytes) -> bool:
        """Let a keep-alive wait if it may. Returns whether it does; then it is not to be handled any further."""
        if not (client.is_settled and self._is_without_news(client, frame)):
            return False
        self.waiting[client] = frame  # a newer one says all that the one before said
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(GATHERING_SECONDS, self._release_all)
        return True

    def release(self, client: ClientConnection) -> None:
        """This client says something else, which comes after what waits."""
        frame = self.waiting.pop(client, None)
        if frame is not None:
            self._pass_on({client: frame})

    def forget(self, client: ClientConnection) -> None:
        """The connection is gone: its session may live on another by now."""
        self.waiting.pop(client, None)

    def _is_without_news(self, client: ClientConnection, frame: bytes) -> bool:
        if len(frame) != ONE:
            return False
        session_id, _, _, event_ack, _ = KEPT_ALIVE.unpack_from(frame, HEADER_KEEP_ALIVE.size)
        session = self._state.executor.sessions.get(session_id) if session_id in client.delivered else None
        if session is None or session.timeout_ms < TIMEOUT_MS_MIN:
            return False
        return session.events is None or event_ack <= session.events.ack

    def _release_all(self) -> None:
        self._alarm = None
        waiting, self.waiting = self.waiting, {}
        if waiting:
            self._pass_on(waiting)
