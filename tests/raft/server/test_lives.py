"""Whose connection is whose, where two processes may be one member."""

from copycat.io.transport.local import LocalTransport
from copycat.raft.protocol.handshake import Hello
from copycat.raft.protocol.lives import Life
from copycat.raft.server.lives import YOUNG_MS, Callers
from copycat.util.address import Address


def hello(mark: bytes) -> Hello:
    return Hello(role="member", member_id="a", lives={"a": Life(1, mark)})


async def test_a_connection_that_had_ended_when_it_said_hello_keeps_nobody_out() -> None:
    transport, address = LocalTransport(), Address("b", 1)
    await transport.listen(address, lambda _hello, _connection: b"", lambda _connection, _frames: None)
    connection = await transport.connect(address, b"", lambda _connection, _frames: None)
    connection.close()
    callers = Callers()
    callers.add(connection, hello(b"before"), 0)
    callers.check_only_one(hello(b"now"), None, YOUNG_MS - 1)
    await transport.close()
