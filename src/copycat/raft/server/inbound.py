"""What arrives: who is calling, and what each frame says.

A caller names itself in its hello: a member, whose frames are consensus, or a client, whose frames go to the desk.
Bytes that cannot be read cost their own connection and nothing else.

Source: protocol §2.5; reliability §4 "Network".
"""

import logging
import random
from collections.abc import Callable
from typing import Protocol

from copycat.errors import ForeignDirectoryError, HandshakeError, ProtocolError
from copycat.io.storage.record import decode_records
from copycat.io.transport.transport import Connection
from copycat.raft.protocol.handshake import Hello, agree_version, decode_hello, encode_hello
from copycat.raft.protocol.message_wire import decode_append, decode_message
from copycat.raft.protocol.messages import Append
from copycat.raft.protocol.wire import HEADER_STATUS, Tag, unpack
from copycat.raft.server.belonging import Belonging
from copycat.raft.server.desk import Desk
from copycat.raft.server.driver import Driver
from copycat.raft.server.identity import Identity
from copycat.raft.server.lives import Callers, why_outdated
from copycat.raft.server.origins import ClientConnection

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the gate asks of its server. `driver` and `desk` are None until the cluster has formed."""

    identity: Identity
    driver: Driver | None
    desk: Desk | None
    belonging: Belonging

    def formed(self) -> None:
        """The identity has just become that of a formed cluster."""

    def refused_for_good(self, error: ForeignDirectoryError) -> None:
        """This member can never join the cluster it met."""

    def status_frame(self, request: int) -> bytes: ...


class Inbound:
    """The handlers of every connection of one server: those it accepted, and the greetings of those it dialled."""

    def __init__(
        self,
        host: Host,
        chance: random.Random,
        max_body: int,
        now_ms: Callable[[], int],
        on_call: Callable[[str, Connection], None],
    ) -> None:
        self._host = host
        self._on_call = on_call  # told of each member that calls
        self._max_body = max_body
        # Drawn at random, so that an answer meant for an earlier life of this server finds nobody.
        self._route = chance.getrandbits(62)
        self._callers = Callers()
        self._now_ms = now_ms
        self._clients: dict[Connection, ClientConnection] = {}

    # -- greetings ---------------------------------------------------------------------------------------------------

    def accept(self, greeting: bytes, connection: Connection) -> bytes:
        """Answer a caller's hello with ours. Raises HandshakeError with the reason for the caller to read."""
        try:
            hello = decode_hello(greeting)
        except ProtocolError as error:
            raise HandshakeError(str(error)) from error
        if hello.role == "member" and self._host.identity.has_removed(hello):
            pass  # it is told by our hello; what it says is not heard
        elif hello.role == "member":
            self.greet(hello)
            self.hear_from(hello, connection)
            self._on_call(hello.member_id, connection)
            self._member_called(hello.member_id)
        elif hello.role == "client":
            agree_version(self._host.identity.hello().versions, hello.versions)
            self._client_called(connection)
        else:
            raise HandshakeError(f"role {hello.role!r} is neither 'member' nor 'client'")
        return encode_hello(self._host.identity.hello())

    def greet(self, hello: Hello) -> None:
        """Take in another member's hello, over whichever connection it came. Raises HandshakeError."""
        host, identity = self._host, self._host.identity
        try:
            formed = identity.hear(hello)
        except ForeignDirectoryError as error:
            host.refused_for_good(error)
            raise HandshakeError(str(error)) from error
        if formed:
            host.formed()
        self._callers.check_only_one(hello, identity.lives.get(hello.member_id), self._now_ms())
        if identity.note_lives(hello):
            host.belonging.save_lives()
            self._callers.hang_up_on_earlier(identity.lives)
        if identity.note_place(hello):
            host.belonging.member_moved(hello.member_id)
        if host.driver is not None and (why := why_outdated(identity, host.driver.raft, hello)):
            host.belonging.outdated(hello, why)

    def hear_from(self, hello: Hello, connection: Connection) -> None:
        """What comes on this connection is from whoever said this hello."""
        self._callers.add(connection, hello, self._now_ms())
        connection.on_close.append(self._member_left)

    def hang_up_on_removed(self) -> None:
        """Break off the calls of those that are members no more: they call again, and are told."""
        self._callers.hang_up_on(self._host.identity.removed)

    def _member_called(self, member: str) -> None:
        """Answers of this member's may have been lost with an earlier connection of its."""
        desk, driver = self._host.desk, self._host.driver
        if desk is not None and driver is not None and driver.raft.leader == member:
            desk.announce(again=True)

    def _client_called(self, connection: Connection) -> None:
        self._route += 1
        client = ClientConnection(self._route, connection)
        self._clients[connection] = client
        connection.on_close.append(self._client_left)
        if self._host.desk is not None:
            self._host.desk.connected(client)

    def _member_left(self, connection: Connection, _error: Exception | None) -> None:
        self._callers.remove(connection)

    def _client_left(self, connection: Connection, _error: Exception | None) -> None:
        client = self._clients.pop(connection, None)
        if client is not None and self._host.desk is not None:
            self._host.desk.disconnected(client)

    def admit_early_callers(self, desk: Desk) -> None:
        """The cluster has formed: clients that came before are clients now."""
        for client in self._clients.values():
            desk.connected(client)

    # -- frames ------------------------------------------------------------------------------------------------------

    def on_frames(self, connection: Connection, frames: list[bytes]) -> None:
        """Everything that arrived together on one connection. Raises ProtocolError, which costs the connection."""
        member = self._callers.who(connection)
        if member is not None:
            for frame in frames:
                self._from_member(connection, member, frame)
            return
        client = self._clients.get(connection)
        if client is not None:
            for frame in frames:
                self._from_client(client, frame)

    def _from_client(self, client: ClientConnection, frame: bytes) -> None:
        if not frame:
            raise ProtocolError("a client sent an empty frame")
        if frame[0] == _STATUS:
            _, request = unpack(HEADER_STATUS, frame)
            client.send(self._host.status_frame(request))
        elif self._host.desk is not None:
            self._host.desk.from_client(client, frame)

    def _from_member(self, connection: Connection, member: str, frame: bytes) -> None:
        tag = frame[0] if frame else 0
        if tag == _IDENTITY:
            try:
                self.greet(hello := decode_hello(frame[1:]))
            except HandshakeError as error:
                raise ProtocolError(str(error)) from error
            self._callers.add(connection, hello, self._now_ms())
            return
        driver, desk = self._host.driver, self._host.desk
        if driver is None or desk is None:
            return  # not formed: no vote, no entry, no promise
        if tag == _APPEND:
            driver.receive(member, self._read_append(frame))
        elif (to_desk := TO_DESK.get(tag)) is not None:
            to_desk(desk, member, frame)
        else:
            driver.receive(member, decode_message(frame))

    def _read_append(self, frame: bytes) -> Append:
        """An append whose blocks follow the place it names, and one another. Raises ProtocolError."""
        append, records = decode_append(frame)
        blocks = decode_records(records, self._max_body)
        if blocks:
            first = blocks[0]
            follows = (first.first_index, first.chain_before) == (append.previous_index + 1, append.previous_chain)
            if not follows or blocks[-1].term > append.term:
                raise ProtocolError(
                    f"an append of term {append.term} behind {append.previous_index} holds other blocks"
                )
        append.blocks = blocks
        return append


_IDENTITY, _APPEND, _STATUS = int(Tag.IDENTITY), int(Tag.APPEND), int(Tag.STATUS)  # at hand, for every frame asks

TO_DESK: dict[int, Callable[[Desk, str, bytes], None]] = {
    Tag.FORWARD: lambda desk, member, frame: desk.relay.from_follower(member, frame),
    Tag.RELAY: lambda desk, _member, frame: desk.relay.from_leader(frame),
    Tag.FORWARD_MANY: lambda desk, member, frame: desk.relay.many_from_follower(member, frame),
    Tag.RELAY_MANY: lambda desk, _member, frame: desk.relay.many_from_leader(frame),
    Tag.STATE_REPORT: lambda desk, member, frame: desk.checks.reported(member, frame[1:]),
    Tag.STATE_VERDICT: lambda desk, member, frame: desk.checks.found(member, frame[1:]),
}
