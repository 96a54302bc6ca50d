"""Clients' frames on their way between the server a client is connected to and its leader, and the answers back.

Neither is read on the way: a *route*, a number for the client's connection, goes along, and says where the answer goes.
Keep-alives that waited for one another travel as one frame, and so do their answers.

Source: protocol §5.8; docs/decisions/0017-keep-alives-without-news-wait-for-one-another.md.
"""

import logging
from collections.abc import Callable, Mapping

from copycat.errors import ProtocolError
from copycat.raft.protocol.wire import (
    HEADER_FORWARD,
    HEADER_KEPT,
    HEADER_REGISTERED,
    HEADER_RELAY,
    KEPT_SESSION,
    Tag,
    decode_many,
    encode_many,
    unpack,
)
from copycat.raft.server.origins import ClientConnection, Origin, RelayedClient
from copycat.raft.server.peers import Peers

_log = logging.getLogger(__name__)


class Relay:
    """One server's part in it.

    clients: those connected here, by route. take_in: what a leader does with a client's frame; may raise ProtocolError.
    settle: called with every session that a leader says lives on a connection here.
    """

    def __init__(
        self,
        peers: Peers,
        clients: Mapping[int, ClientConnection],
        *,
        take_in: Callable[[Origin, bytes], None],
        settle: Callable[[int, ClientConnection], None],
    ) -> None:
        self._peers = peers
        self._clients = clients
        self._take_in = take_in
        self._settle = settle

    # -- to the leader -----------------------------------------------------------------------------------------------

    def forward(self, leader: str, client: ClientConnection, frame: bytes) -> None:
        """Pass a client's frame on."""
        self._peers.send(leader, HEADER_FORWARD.pack(Tag.FORWARD, client.route) + frame)

    def forward_many(self, leader: str, frames: list[tuple[ClientConnection, bytes]]) -> None:
        """Pass frames of clients on together."""
        for many in encode_many(Tag.FORWARD_MANY, [(client.route, frame) for client, frame in frames]):
            self._peers.send(leader, many)

    def from_follower(self, member: str, frame: bytes) -> None:
        """A client's frame, passed on by `member`. Raises ProtocolError if it has no route."""
        _, route = unpack(HEADER_FORWARD, frame)
        self._from_afar(member, route, frame[HEADER_FORWARD.size :])

    def many_from_follower(self, member: str, frame: bytes) -> None:
        """Frames of many clients, passed on by `member`. Raises ProtocolError if they cannot be told apart."""
        for route, each in decode_many(frame):
            self._from_afar(member, route, each)

    def _from_afar(self, member: str, route: int, frame: bytes) -> None:
        """A bad frame costs its client's answer, not the link."""
        try:
            self._take_in(RelayedClient(member, route, self._peers), frame)
        except ProtocolError as error:
            _log.warning("dropped a client's frame that %s passed on: %s", member, error, extra={"member": member})

    # -- and back ----------------------------------------------------------------------------------------------------

    def answer_many(self, member: str, answers: list[tuple[int, bytes]]) -> None:
        """Answers, each with its route, to clients connected to `member`. One answer: `RelayedClient`."""
        for many in encode_many(Tag.RELAY_MANY, answers):
            self._peers.send(member, many)

    def from_leader(self, frame: bytes) -> None:
        """An answer for a client connected here. Raises ProtocolError if it has no route."""
        _, route = unpack(HEADER_RELAY, frame)
        self._answer(route, frame[HEADER_RELAY.size :])

    def many_from_leader(self, frame: bytes) -> None:
        """Answers for clients connected here. Raises ProtocolError if they cannot be told apart."""
        for route, answer in decode_many(frame):
            self._answer(route, answer)

    def _answer(self, route: int, answer: bytes) -> None:
        client = self._clients.get(route)
        if client is not None:
            client.send(answer)
            for session_id in sessions_confirmed(answer):
                self._settle(session_id, client)


def sessions_confirmed(frame: bytes) -> list[int]:
    """The sessions that a leader's answer says live on the connection it goes to."""
    if frame[:1] == _REGISTERED_TAG:
        return [unpack(HEADER_REGISTERED, frame)[2]]
    if frame[:1] == _KEPT_TAG:
        return [session_id for session_id, _ in KEPT_SESSION.iter_unpack(frame[HEADER_KEPT.size :])]
    return []


_REGISTERED_TAG, _KEPT_TAG = bytes([Tag.REGISTERED]), bytes([Tag.KEPT])
