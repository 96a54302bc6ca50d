"""What the transport tests share: an echo of names, collectors that can be waited for, raw sockets."""

import asyncio
from collections.abc import Callable

from copycat.io.transport import Connection

PATIENCE = 10.0  # seconds until a condition counts as never


async def wait_until(condition: Callable[[], object]) -> None:
    """Turn the loop until `condition()` holds. Fails after PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 – the condition may be about anything
            await asyncio.sleep(0.001)


class Peer:
    """One side's handler and callbacks, remembering everything."""

    def __init__(self, hello: bytes = b"listener") -> None:
        self.hello = hello
        self.hellos: list[bytes] = []
        self.connections: list[Connection] = []
        self.frames: list[bytes] = []
        self.batches = 0
        self.closed: list[Exception | None] = []

    def accept(self, hello: bytes, connection: Connection) -> bytes:
        self.hellos.append(hello)
        self.watch(connection)
        return self.hello

    def watch(self, connection: Connection) -> Connection:
        self.connections.append(connection)
        connection.on_close.append(lambda _, error: self.closed.append(error))
        return connection

    def handle(self, connection: Connection, frames: list[bytes]) -> None:
        self.batches += 1
        self.frames += frames
