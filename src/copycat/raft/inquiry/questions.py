"""Asking one server how it is: a connection, one question, one answer. Needs no session and no leader."""

import asyncio
from typing import Any

import msgspec

from copycat.errors import ConnectError, ProtocolError, QueryTimeoutError
from copycat.io.msgpack import UNREADABLE
from copycat.io.transport.transport import Connection, DialError, Transport
from copycat.raft.protocol.configuration import ChangeOutcome, ChangeRequest, decode_change_outcome
from copycat.raft.protocol.handshake import Hello, decode_hello, encode_hello
from copycat.raft.protocol.wire import HEADER_CHANGE, HEADER_STATUS, Tag, encode_msgpack
from copycat.util.address import Address

REQUEST = 1
HELLO = encode_hello(Hello(role="client"))


async def ask_status(transport: Transport, address: Address, timeout: float) -> dict[str, Any]:
    """What the server at `address` says of itself, within `timeout` seconds.

    Raises: ConnectError, HandshakeError, ProtocolError, QueryTimeoutError, ClosedError.
    """
    question = HEADER_STATUS.pack(Tag.STATUS, REQUEST)
    answer = await _ask(transport, address, question, Tag.STATUS_ANSWER, timeout)
    try:
        status: dict[str, Any] = msgspec.msgpack.decode(answer, type=dict[str, Any])
    except UNREADABLE as error:
        raise ProtocolError(f"{address}: its status cannot be read: {error}") from None
    return status


async def ask_change(transport: Transport, address: Address, asked: ChangeRequest, timeout: float) -> ChangeOutcome:
    """What came of a change of members, asked for at the server at `address`, which passes it to its leader.

    Raises: as `ask_status`; after QueryTimeoutError it may have been done or not.
    """
    question = HEADER_CHANGE.pack(Tag.CHANGE_MEMBERS, REQUEST) + encode_msgpack(asked)
    return decode_change_outcome(await _ask(transport, address, question, Tag.MEMBERS_CHANGED, timeout))


async def ask_cluster(transport: Transport, address: Address, timeout: float) -> bytes:
    """The id of the cluster that the server at `address` belongs to, b"" for none yet. Raises: as `ask_status`."""
    connection = await transport.connect(address, HELLO, lambda _connection, _frames: None, timeout=timeout)
    connection.close()
    return decode_hello(connection.peer_hello).cluster_id


async def _ask(transport: Transport, address: Address, question: bytes, tag: Tag, timeout: float) -> bytes:
    """What follows the header of the first frame with this tag."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(_connection: Connection, frames: list[bytes]) -> None:
        found = next((frame for frame in frames if frame[:1] == bytes([tag])), None)
        if found is not None and not answer.done():
            answer.set_result(found[HEADER_STATUS.size :])

    def lost(_connection: Connection, error: Exception | None) -> None:
        if not answer.done():
            answer.set_exception(
                error or ConnectError(f"{address}: closed the connection", tried={str(address): "closed"})
            )

    try:
        async with asyncio.timeout(timeout):
            connection = await transport.connect(address, HELLO, take, timeout=timeout)
            try:
                connection.on_close.append(lost)
                connection.send(question)
                return await answer
            finally:
                connection.close()
    except TimeoutError as error:
        if isinstance(error, DialError):
            raise
        raise QueryTimeoutError(f"{address}: no answer within {timeout:g} s") from None
