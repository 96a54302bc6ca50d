"""Frames within one process, also between event loops in different threads.

A pair of `Pipe`s stands in for a pair of sockets; greeting, framing and back-pressure are the very code TCP
runs, so a test that passes here has encoded and decoded every byte. A pipe touches the other side only by
scheduling calls on its loop, and every field has one owner: the loop of the pipe it belongs to.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable

from copycat.errors import ConfigurationError
from copycat.io.transport.connection import FramedConnection
from copycat.io.transport.frame import MAX_FRAME
from copycat.io.transport.group import ConnectionGroup, GroupedTransport, Limits
from copycat.io.transport.transport import Accept, DialError, FrameHandler, TransportStatistics
from copycat.util.address import Address


class LocalRegistry:
    """Who listens where: the network that local transports share. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[Address, LocalServer] = {}
        self._ports = itertools.count(49152)
        self.dials = itertools.count(1)  # numbers the diallers, for people

    def register(self, address: Address, make_server: Callable[[Address], "LocalServer"]) -> "LocalServer":
        """Bind the server made for `address`; port 0 is replaced by a free one.

        Raises: ConfigurationError if something listens there.
        """
        with self._lock:
            while address.port == 0 or (address in self._servers and self._servers[address].is_stale):
                if address.port == 0:
                    candidate = Address(address.host, next(self._ports))
                    if candidate not in self._servers:
                        address = candidate
                else:
                    del self._servers[address]
            if address in self._servers:
                raise ConfigurationError(
                    f"cannot listen on {address}: it is in use in this registry; choose another port"
                )
            server = self._servers[address] = make_server(address)
            return server

    def unregister(self, server: "LocalServer") -> None:
        with self._lock:
            if self._servers.get(server.address) is server:
                del self._servers[server.address]

    def find(self, address: Address) -> "LocalServer | None":
        with self._lock:
            return self._servers.get(address)


class LocalTransport(GroupedTransport):
    """A `Transport` within the process. Transports that share a registry reach each other.

    `registry` None makes a network of its own, reachable as `.registry`.
    """

    def __init__(
        self,
        registry: LocalRegistry | None = None,
        *,
        max_frame: int = MAX_FRAME,
        max_buffered: int = 64 * 1024 * 1024,
        handshake_timeout: float = 5.0,
        max_connections: int = 10_000,
    ) -> None:
        super().__init__(
            Limits(
                max_frame=max_frame,
                max_buffered=max_buffered,
                max_connections=max_connections,
                handshake_timeout=handshake_timeout,
            )
        )
        self.registry = LocalRegistry() if registry is None else registry

    async def connect(
        self, address: Address, hello: bytes, handler: FrameHandler, *, timeout: float = 5.0
    ) -> FramedConnection:
        """Dial `address` and exchange hellos; see `Transport.connect`."""
        group = self.dialling_group(hello)
        server = self.registry.find(address)
        if server is None:
            raise DialError(address, "connection refused", refused=True)
        connection = FramedConnection(group, handler, hello=hello, remote=str(address))
        near = Pipe(group.loop, connection, peer=str(address))
        far = Pipe(server.loop, None, peer=f"local:{next(self.registry.dials)}")
        near.other, far.other = far, near
        try:
            server.loop.call_soon_threadsafe(server.on_dial, far)
        except RuntimeError as error:  # the listener's loop ended without closing its server
            raise DialError(address, "connection refused", refused=True) from error
        try:
            connection.connection_made(near)
            async with asyncio.timeout(timeout):
                await connection.wait_open()
            self.check_open()
        except BaseException as error:
            connection.abandon()
            if isinstance(error, TimeoutError):
                raise DialError(address, f"no answer within {timeout:g} s") from error
            raise
        return connection

    async def listen(self, address: Address, accept: Accept, handler: FrameHandler) -> "LocalServer":
        """Listen on `address`; see `Transport.listen`."""
        self.check_open()
        group = ConnectionGroup(self._limits)
        server = self.registry.register(address, lambda bound: LocalServer(self, bound, group, accept, handler))
        self.add_server(server, group)
        return server


class LocalServer:
    """A `Server` within the process."""

    def __init__(
        self,
        transport: LocalTransport,
        address: Address,
        group: ConnectionGroup,
        accept: Accept,
        handler: FrameHandler,
    ) -> None:
        self.address = address
        self.loop = group.loop
        self._transport = transport
        self._group = group
        self._accept = accept
        self._handler = handler

    @property
    def is_stale(self) -> bool:
        """True when its event loop ended before the server was closed."""
        return self.loop.is_closed()

    def statistics(self) -> TransportStatistics:
        """A snapshot of the counters."""
        return self._group.statistics()

    def on_dial(self, pipe: "Pipe") -> None:
        """A dialler arrived; runs on the listener's loop."""
        connection = FramedConnection(self._group, self._handler, accept=self._accept)
        pipe.serve(connection)

    def close_nowait(self) -> None:
        """Begin to close, without waiting for the end of it."""
        self._transport.registry.unregister(self)
        self._group.close_nowait()

    async def close(self) -> None:
        """Stop listening and close every connection accepted here. Harmless when repeated."""
        self.close_nowait()
        await self._group.close()
        self._transport.remove_server(self)


class Pipe(asyncio.Transport):
    """One end of a byte stream between two event loops, behaving as a socket's transport does."""

    other: "Pipe"

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol | None, *, peer: str) -> None:
        super().__init__({"peername": peer})
        self.loop = loop
        self._protocol = protocol
        self._closing = False
        self._lost = False
        self._high, self._low = 64 * 1024, 16 * 1024
        self._in_flight = 0  # bytes written here that the other side has not taken
        self._writing_paused = False
        self._reading_paused = False
        self._arrived: deque[bytes] = deque()  # what came while reading was paused
        self._ended = False  # the other side closed in order, behind what has arrived

    def serve(self, protocol: asyncio.Protocol) -> None:
        """Hand what arrives to `protocol`, for the end that had none when it was made."""
        self._protocol = protocol
        protocol.connection_made(self)

    # Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._in_flight += len(data)
        self._tell(self.other._on_data, bytes(data))
        if self._in_flight > self._high and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._tell(self.other._on_end, None)
            self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._tell(self.other._on_end, ConnectionResetError("the other side aborted"))
            self.loop.call_soon(self._lose, None)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.loop.call_soon(self._drain)

    def get_write_buffer_size(self) -> int:
        return self._in_flight

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    # Between the two ends

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call the other end on its own loop, in order with everything told before."""
        loop = self.other.loop
        if loop is self.loop:
            loop.call_soon(callback, *arguments)
            return
        try:
            loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # its loop ended without closing its connections
            if not self._closing:
                self._closing = True
                self.loop.call_soon(self._lose, ConnectionResetError("the other side's event loop is closed"))

    def _tell_taken(self, size: int) -> None:
        """So many bytes were handed on, and the other end may write as many more."""
        self._tell(self.other._on_taken, size)

    def _on_data(self, data: bytes) -> None:
        self._arrived.append(data)
        self._drain()

    def _drain(self) -> None:
        taken = 0
        while self._arrived and not self._reading_paused and not self._closing and self._protocol is not None:
            data = self._arrived.popleft()
            taken += len(data)
            self._protocol.data_received(data)
        if taken:
            self._tell_taken(taken)
        if self._ended and not self._arrived and not self._reading_paused and not self._closing:
            self._closing = True
            self._lose(None)

    def _on_taken(self, size: int) -> None:
        if self._lost:
            return
        self._in_flight -= size
        if self._writing_paused and self._in_flight <= self._low:
            self._writing_paused = False
            if self._protocol is not None:
                self._protocol.resume_writing()

    def _on_end(self, error: Exception | None) -> None:
        if error is None:
            self._ended = True
            self._drain()
        elif not self._closing:
            self._closing = True
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._in_flight = 0
        self._arrived.clear()
        if self._protocol is not None:
            self._protocol.connection_lost(error)
