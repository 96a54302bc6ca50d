"""Asking one server how it is: a connection, one question, one answer. Needs no session and no leader."""

import asyncio
from typing import Any

import msgspec

from copycat.errors import ConnectError, ProtocolError, QueryTimeoutError
from copycat.io.msgpack import UNREADABLE
from copycat.io.transport.transport import Connection, DialError, Transport
from copycat.raft.client.connector import HELLO
from copycat.raft.protocol.wire import HEADER_STATUS, Tag
from copycat.util.address import Address

REQUEST = 1


async def ask_status(transport: Transport, address: Address, timeout: float) -> dict[str, Any]:
    """What the server at `address` says of itself, within `timeout` seconds.

    Raises: ConnectError, HandshakeError, ProtocolError, QueryTimeoutError, ClosedError.
    """
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(_connection: Connection, frames: list[bytes]) -> None:
        found = next((frame for frame in frames if frame[:1] == bytes([Tag.STATUS_ANSWER])), None)
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
                connection.send(HEADER_STATUS.pack(Tag.STATUS, REQUEST))
                status: dict[str, Any] = msgspec.msgpack.decode(await answer, type=dict[str, Any])
                return status
            finally:
                connection.close()
    except TimeoutError as error:
        if isinstance(error, DialError):
            raise
        raise QueryTimeoutError(f"{address}: no answer within {timeout:g} s") from None
    except UNREADABLE as error:
        raise ProtocolError(f"{address}: its status cannot be read: {error}") from None
