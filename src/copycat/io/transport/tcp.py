"""Frames over TCP, with or without TLS, on whatever event loop is running.

The interesting part is in `connection`; here is what belongs to sockets: looking up names, dialling each of a
name's addresses, binding, TLS, and telling people in few words why it failed.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from dataclasses import replace

from copycat.errors import ConfigurationError
from copycat.io.transport.connection import FramedConnection, describe_error
from copycat.io.transport.frame import MAX_FRAME
from copycat.io.transport.group import ConnectionGroup, GroupedTransport, Limits
from copycat.io.transport.transport import Accept, DialError, FrameHandler, TransportStatistics
from copycat.util.address import Address
from copycat.util.builder import Buildable

log = logging.getLogger(__name__)

# The kernel finds a vanished peer after idle + count × interval = 30 s, should nothing above notice sooner.
KEEPALIVE_IDLE_S = 15
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3

BACKLOG = 128
DESCRIPTORS_KEPT = 2 * BACKLOG
"""What connections leave to files and to what is dialled: a whole backlog is accepted before the first is refused, and
a member that cannot open a file has to end itself."""


class TcpTransport(GroupedTransport, Buildable):
    """A `Transport` over TCP.

    `ssl_context` is used when dialling, `server_ssl_context` when listening (mutual TLS is a matter of both
    contexts). Listening beyond loopback without TLS is refused unless `insecure`, which is logged.
    `max_frame` and `max_buffered` are bytes, `handshake_timeout` seconds: how long a caller may take to
    introduce itself. `max_connections` bounds each listener, and so does what the process may open (`ulimit -n`).
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_ssl_context: ssl.SSLContext | None = None,
        insecure: bool = False,
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
        self._ssl_context = ssl_context
        self._server_ssl_context = server_ssl_context
        self._insecure = insecure

    async def connect(
        self, address: Address, hello: bytes, handler: FrameHandler, *, timeout: float = 5.0
    ) -> FramedConnection:
        """Dial `address` and exchange hellos; see `Transport.connect`."""
        group = self.dialling_group(hello)
        dial = _Dial(address, group, hello, handler, self._ssl_context, timeout)
        try:
            async with asyncio.timeout(timeout):
                connection = await dial.run()
                await connection.wait_open()
            self.check_open()
        except BaseException as error:
            dial.abandon()
            if isinstance(error, TimeoutError):
                raise dial.no_answer() from error
            raise
        return connection

    async def listen(self, address: Address, accept: Accept, handler: FrameHandler) -> "TcpServer":
        """Listen on `address`; see `Transport.listen`."""
        self.check_open()
        self._check_secure(address)
        loop = asyncio.get_running_loop()
        group = ConnectionGroup(replace(self._limits, max_connections=connections_within(self._limits.max_connections)))

        def make_connection() -> FramedConnection:
            return _TcpConnection(group, handler, accept=accept)

        try:
            infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(info[4][0]) for info in infos))
            if address.port == 0:
                del hosts[1:]  # each would be given another port, and a server has one address
            listener = await loop.create_server(
                make_connection,
                hosts,
                address.port,
                backlog=BACKLOG,
                ssl=self._server_ssl_context,
                ssl_handshake_timeout=self._limits.handshake_timeout if self._server_ssl_context else None,
            )
        except (OSError, UnicodeError, OverflowError) as error:
            raise _cannot_listen(address, error) from error
        port = int(listener.sockets[0].getsockname()[1])
        server = TcpServer(self, Address(address.host, port), listener, group)
        self.add_server(server, group)
        return server

    def _check_secure(self, address: Address) -> None:
        if self._server_ssl_context is not None or address.is_loopback:
            return
        if not self._insecure:
            raise ConfigurationError(
                f"refusing to listen on {address} without TLS, because anyone who reaches it could read and write "
                "everything: give TcpTransport a server_ssl_context, listen on 127.0.0.1, "
                "or say insecure=True if the network is trusted"
            )
        log.warning("listening on %s without TLS", address, extra={"address": str(address)})


NettyTransport = TcpTransport
"""The name the manual uses."""


class TcpServer:
    """A `Server` over TCP."""

    def __init__(
        self, transport: TcpTransport, address: Address, listener: asyncio.Server, group: ConnectionGroup
    ) -> None:
        self.address = address
        self._transport = transport
        self._listener = listener
        self._group = group

    def statistics(self) -> TransportStatistics:
        """A snapshot of the counters."""
        return self._group.statistics()

    def close_nowait(self) -> None:
        """Begin to close, without waiting for the end of it."""
        self._listener.close()
        self._group.close_nowait()

    async def close(self) -> None:
        """Stop listening and close every connection accepted here. Harmless when repeated."""
        self.close_nowait()
        await self._group.close()
        await self._listener.wait_closed()
        self._transport.remove_server(self)


class _TcpConnection(FramedConnection):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _set_options(sock)
        super().connection_made(transport)


class _Dial:
    """One call of `connect`: every address of the name in turn, each with its share of the time."""

    def __init__(
        self,
        address: Address,
        group: ConnectionGroup,
        hello: bytes,
        handler: FrameHandler,
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._address = address
        self._group = group
        self._hello = hello
        self._handler = handler
        self._ssl_context = ssl_context
        self._timeout = timeout
        self._made: FramedConnection | None = None

    async def run(self) -> FramedConnection:
        loop = self._group.loop
        deadline = loop.time() + self._timeout
        hosts = await self._look_up()
        reasons: list[str] = []
        refused = True
        for position, host in enumerate(hosts):
            share = (deadline - loop.time()) / (len(hosts) - position)
            try:
                # The last address is bounded by the caller's own timeout.
                async with asyncio.timeout(share if position < len(hosts) - 1 else None):
                    return await self._try(host)
            except TimeoutError:
                reasons.append(self.no_answer().reason)
                refused = False
            except OSError as error:
                reasons.append(describe_error(error))
                refused = refused and isinstance(error, ConnectionRefusedError)
        raise DialError(self._address, ", ".join(dict.fromkeys(reasons)), refused=refused)

    async def _look_up(self) -> list[str]:
        try:
            infos = await self._group.loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise DialError(self._address, "name not found") from error
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    async def _try(self, host: str) -> FramedConnection:
        tls = self._ssl_context
        _, connection = await self._group.loop.create_connection(
            self._make_connection,
            host,
            self._address.port,
            ssl=tls,
            server_hostname=self._address.host if tls is not None else None,
        )
        return connection

    def _make_connection(self) -> FramedConnection:
        self._made = _TcpConnection(self._group, self._handler, hello=self._hello, remote=str(self._address))
        return self._made

    def no_answer(self) -> DialError:
        return DialError(self._address, f"no answer within {self._timeout:g} s")

    def abandon(self) -> None:
        if self._made is not None:
            self._made.abandon()


def connections_within(wanted: int) -> int:
    """How many of the `wanted` connections fit into what this process may open besides."""
    openable, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if openable == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(openable - DESCRIPTORS_KEPT, openable // 2))


def _set_options(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
            ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ):
            if hasattr(socket, name):  # not every platform has all three
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # the peer is already gone; the event loop will say so


def _cannot_listen(address: Address, error: Exception) -> ConfigurationError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        advice = "it is in use; stop the process that listens there, perhaps an earlier run, or choose another port"
    elif number == errno.EACCES:
        advice = "permission denied; ports below 1024 are reserved, choose a higher one"
    elif number == errno.EADDRNOTAVAIL:
        advice = "this machine has no such address; listen on one it has, or on 0.0.0.0 for all"
    elif isinstance(error, socket.gaierror | UnicodeError):
        advice = "name not found; listen on an address of this machine, or on 0.0.0.0 for all"
    else:
        advice = describe_error(error)
    return ConfigurationError(f"cannot listen on {address}: {advice}")
