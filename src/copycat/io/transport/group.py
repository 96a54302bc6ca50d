"""The connections of one listener or one dialling loop: their bounds, their counters, and how they end together."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from copycat.errors import ClosedError, ConfigurationError, TooLargeError
from copycat.io.transport.frame import MAX_FRAME, MAX_GREETING
from copycat.io.transport.transport import Server, TransportStatistics

log = logging.getLogger(__name__)

SHUTDOWN_GRACE = 1.0
COMPLAINT_INTERVAL = 60.0
COMPLAINTS_MAX = 1024


class GroupedConnection(Protocol):
    """A connection as its group sees it."""

    is_established: bool
    is_to_be_flushed: bool  # at the end of this turn, unless `flush` is called before

    def flush(self) -> None:
        """Write what was sent, if anything was."""

    def close(self) -> None:
        """Close in order."""

    def abort(self, error: Exception | None = None) -> None:
        """Drop it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a connection: sizes in bytes, `handshake_timeout` in seconds."""

    max_frame: int = MAX_FRAME
    max_buffered: int = 64 * 1024 * 1024
    max_connections: int = 10_000
    handshake_timeout: float = 5.0

    def __post_init__(self) -> None:
        for name in ("max_frame", "max_buffered", "max_connections", "handshake_timeout"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be positive, not {getattr(self, name)}")
        if self.max_frame > 0xFFFF_FFFF:
            raise ConfigurationError(f"max_frame must fit 32 bits; {self.max_frame} does not")


class ConnectionGroup:
    """The connections of one listener, or those dialled from one loop, and their counters."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.connections: dict[GroupedConnection, None] = {}  # in order, so that they end alike each time
        self.accepted = self.refused = self.dialled = 0
        self.frames_in = self.frames_out = 0
        self.bytes_in = self.bytes_out = 0
        self.protocol_errors = 0
        self.is_closed = False
        self._to_be_flushed: list[GroupedConnection] = []
        self._complained: dict[str, float] = {}
        self._emptied: asyncio.Future[None] | None = None

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            connections_open=sum(connection.is_established for connection in list(self.connections)),
            connections_accepted=self.accepted,
            connections_refused=self.refused,
            connections_dialled=self.dialled,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            protocol_errors=self.protocol_errors,
        )

    def flush_soon(self, connection: GroupedConnection) -> None:
        """At the end of this turn of the loop, once for all connections that have sent something."""
        if not self._to_be_flushed:
            self.loop.call_soon(self._flush)
        self._to_be_flushed.append(connection)

    def _flush(self) -> None:
        connections, self._to_be_flushed = self._to_be_flushed, []
        for connection in connections:
            if not connection.is_to_be_flushed:
                continue  # it was, meanwhile
            try:
                connection.flush()
            except Exception as error:  # costs this connection alone
                log.exception("a connection could not be written to: %r", error)
                connection.abort(error)

    def discard(self, connection: GroupedConnection) -> None:
        self.connections.pop(connection, None)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def complain(self, host: str, remote: str, reason: str) -> None:
        """Log a peer's offence once a minute per host, so that a port scan does not fill the disk."""
        now = self.loop.time()
        if now - self._complained.get(host, -COMPLAINT_INTERVAL) < COMPLAINT_INTERVAL:
            return
        if len(self._complained) >= COMPLAINTS_MAX:
            self._complained.clear()
        self._complained[host] = now
        log.warning("connection dropped: %s %s", remote, reason, extra={"remote": remote, "reason": reason})

    def close_nowait(self) -> None:
        """Begin to close every connection; those still on their way are dropped as they arrive."""
        self.is_closed = True
        for connection in list(self.connections):
            connection.close()

    async def close(self) -> None:
        """Close every connection in order, and abort those that take longer than SHUTDOWN_GRACE."""
        self.close_nowait()
        if not self.connections:
            return
        self._emptied = self.loop.create_future()
        await asyncio.wait([self._emptied], timeout=SHUTDOWN_GRACE)
        for connection in list(self.connections):
            connection.abort()
        if self.connections:
            await asyncio.wait([self._emptied], timeout=SHUTDOWN_GRACE)


class OwnedServer(Server, Protocol):
    """A server its transport can tell to close from another thread's loop."""

    def close_nowait(self) -> None:
        """Begin to close, without waiting for the end of it."""


class GroupedTransport:
    """What both transports keep: the servers and connections they made, by event loop.

    A transport may be shared by an application and the replica it embeds, which has its own loop in its own
    thread. So dialled connections are grouped by loop, and the lock guards only the tables of groups and servers.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._dialled: dict[asyncio.AbstractEventLoop, ConnectionGroup] = {}
        self._listening: dict[OwnedServer, ConnectionGroup] = {}
        self._past = TransportStatistics()  # of groups that are gone
        self._closed = False

    def statistics(self) -> TransportStatistics:
        """A snapshot of the counters of everything this transport made."""
        with self._lock:
            groups = [*self._dialled.values(), *self._listening.values()]
            total = self._past
        for group in groups:
            total += group.statistics()
        return total

    async def close(self) -> None:
        """Close everything this transport made. Harmless when repeated.

        What lives on other event loops is told to close, and not waited for.
        """
        self._closed = True
        here = asyncio.get_running_loop()
        with self._lock:
            servers = list(self._listening.items())
            groups = list(self._dialled.values())
        for server, group in servers:
            if group.loop is here:
                await server.close()
            else:
                _call_elsewhere(group.loop, server.close_nowait)
        for group in groups:
            if group.loop is here:
                await group.close()
            else:
                _call_elsewhere(group.loop, group.close_nowait)

    def dialling_group(self, hello: bytes) -> ConnectionGroup:
        """The group of connections dialled from the running loop, for a dial with this hello."""
        self.check_open()
        if len(hello) > min(MAX_GREETING, self._limits.max_frame):
            raise too_large(len(hello), min(MAX_GREETING, self._limits.max_frame))
        loop = asyncio.get_running_loop()
        with self._lock:
            group = self._dialled.get(loop)
            if group is None:
                for gone in [other for other in self._dialled if other.is_closed()]:
                    self._past += self._dialled.pop(gone).statistics()
                group = self._dialled[loop] = ConnectionGroup(self._limits)
        return group

    def add_server(self, server: OwnedServer, group: ConnectionGroup) -> None:
        with self._lock:
            self._listening[server] = group

    def remove_server(self, server: OwnedServer) -> None:
        with self._lock:
            group = self._listening.pop(server, None)
            if group is not None:
                self._past += group.statistics()

    def check_open(self) -> None:
        if self._closed:
            raise ClosedError("the transport is closed")


def _call_elsewhere(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # that loop is closed, and its connections with it
        loop.call_soon_threadsafe(callback)


def too_large(size: int, limit: int) -> TooLargeError:
    """The refusal of a frame of `size` bytes."""
    return TooLargeError(f"a frame of {size} bytes exceeds the limit of {limit}", size_bytes=size, limit_bytes=limit)
