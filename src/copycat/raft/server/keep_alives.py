"""Keep-alives that bring no news wait a moment for others, so that those of many sessions share one turn and one flush.

Each by itself costs every server a turn, and each disk a flush, to say that nothing has changed. So the server that a
client is connected to gathers them, for a heartbeat at most, before it takes them in or passes them on. What must not
wait does not: the first since the client was told of a leader, which ties the session to its connection there; one
that acknowledges events; one of a short session. And nothing of a client's is overtaken: whatever else it sends takes
the keep-alive that waits along.

Source: protocol §5.2; docs/decisions/0017-keep-alives-without-news-wait-for-one-another.md.
"""

import asyncio
from collections.abc import Callable, Iterator

from copycat.raft.protocol.wire import HEADER_KEEP_ALIVE, KEPT_ALIVE, Tag, keep_alives_of
from copycat.raft.server.origins import ClientConnection
from copycat.raft.server.reads import HasState

GATHERING_SECONDS = 0.1
TIMEOUT_MS_MIN = 1000  # a shorter session has no such time to give

TOGETHER_MAX = 1000
"""So many sessions of one connection are kept alive by one frame."""


class KeepAlives:
    """Those that wait on one server. `pass_on` takes them when their time has come: those of a connection as one."""

    def __init__(self, state: HasState, pass_on: Callable[[list[tuple[ClientConnection, bytes]]], None]) -> None:
        self._state = state
        self._pass_on = pass_on
        self.waiting: dict[ClientConnection, dict[int, bytes]] = {}  # what a keep-alive says, by session
        self._alarm: asyncio.TimerHandle | None = None

    def take(self, client: ClientConnection, frame: bytes) -> bytes | None:
        """Let what may wait of a keep-alive wait. Returns what may not, to be handled now; None: all of it waits.

        Raises ProtocolError.
        """
        said = keep_alives_of(frame)
        urgent: list[bytes] = []
        for at in range(0, len(said), KEPT_ALIVE.size):
            session_id, _, _, event_ack, _ = KEPT_ALIVE.unpack_from(said, at)
            one = said[at : at + KEPT_ALIVE.size]
            if self._is_without_news(client, session_id, event_ack):
                # A newer one says all that the one before said.
                self.waiting.setdefault(client, {})[session_id] = one
            else:
                urgent.append(one)
        if self._alarm is None and self.waiting:
            self._alarm = asyncio.get_running_loop().call_later(GATHERING_SECONDS, self._release_all)
        return _frame(urgent) if urgent else None

    def release(self, client: ClientConnection) -> None:
        """This client says something else, which comes after what waits."""
        kept = self.waiting.pop(client, None)
        if kept is not None:
            self._pass_on([(client, frame) for frame in _together(kept)])

    def forget(self, client: ClientConnection) -> None:
        """The connection is gone: its sessions may live on others by now."""
        self.waiting.pop(client, None)

    def _is_without_news(self, client: ClientConnection, session_id: int, event_ack: int) -> bool:
        is_known = session_id in client.settled and session_id in client.delivered
        session = self._state.executor.sessions.get(session_id) if is_known else None
        if session is None or session.timeout_ms < TIMEOUT_MS_MIN:
            return False
        return session.events is None or event_ack <= session.events.ack

    def _release_all(self) -> None:
        self._alarm = None
        waiting, self.waiting = self.waiting, {}
        if waiting:
            self._pass_on([(client, frame) for client, kept in waiting.items() for frame in _together(kept)])


def _together(kept: dict[int, bytes]) -> Iterator[bytes]:
    """The keep-alives of one connection's sessions as few frames."""
    said = list(kept.values())
    for at in range(0, len(said), TOGETHER_MAX):
        yield _frame(said[at : at + TOGETHER_MAX])


def _frame(said: list[bytes]) -> bytes:
    return HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, len(said)) + b"".join(said)
