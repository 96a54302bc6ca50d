"""What the rest of Copycat asks of a transport: connections that carry opaque frames, many at a time.

The unit is a list of frames, because throughput lives in batches: what arrived together is handed over
together, and what is sent during one turn of the event loop leaves in one write. There is no task, future,
queue or timer per frame.

A connection opens with one hello each way, opaque to the transport. The listener's `accept` answers a hello or
refuses it; a refusal reaches the dialler as a `HandshakeError` with the listener's own words.

Everything here belongs to the event loop it was made on, and is called on that loop only.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from copycat.errors import ConnectError
from copycat.util.address import Address


class DialError(ConnectError):
    """A dial failed before anything was sent that could matter.

    `reason` is short enough for a list ("connection refused"). `refused` is True only when the host itself
    answered that nothing listens there: evidence that a process is gone, which a timeout or a reset is not.
    """

    def __init__(self, address: Address | str, reason: str, *, refused: bool = False) -> None:
        super().__init__(f"{address}: {reason}", tried={str(address): reason})
        self.reason = reason
        self.refused = refused


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """Counters since the server or transport was made, and the connections open now."""

    connections_open: int = 0
    connections_accepted: int = 0  # by `listen`, after their handshake
    connections_refused: int = 0  # by `accept`, or because there were too many
    connections_dialled: int = 0  # by `connect`, after their handshake
    frames_in: int = 0  # greetings included, both ways
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    protocol_errors: int = 0  # connections dropped for what they sent, or failed to send in time

    def __add__(self, other: "TransportStatistics") -> "TransportStatistics":
        return TransportStatistics(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )


class Connection(Protocol):
    """One side of an open connection.

    `on_close` callbacks run once, never from inside a call to the connection: with None when either side closed
    in order, else with the error. One added after the end never runs; look at `is_closed` first.
    `on_writable` callbacks run whenever `writable` becomes True again.
    """

    on_close: list[Callable[["Connection", Exception | None], None]]
    on_writable: list[Callable[["Connection"], None]]

    @property
    def peer_hello(self) -> bytes:
        """The hello the other side sent."""

    @property
    def remote(self) -> str:
        """The other side, for people: the address dialled, or where the caller came from."""

    @property
    def is_closed(self) -> bool:
        """True from the first of `close`, `abort` and the loss of the connection."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes sent here that the operating system has not yet taken."""

    @property
    def writable(self) -> bool:
        """False while the peer reads too slowly. Sending is still allowed, up to the transport's `max_buffered`;
        beyond that the connection is aborted."""

    def send(self, frame: bytes) -> None:
        """Send a frame at the end of this turn of the loop, or at `flush`. Dropped if the connection is closed.

        Raises: TooLargeError if it exceeds the transport's `max_frame`.
        """

    def send_many(self, frames: list[bytes]) -> None:
        """Send all these frames, in order, as `send` would. The list is copied."""

    def flush(self) -> None:
        """Write what was sent so far, now, in one write."""

    def pause_reading(self) -> None:
        """Take nothing more from the peer until `resume_reading`, so that it has to wait."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""

    def close(self) -> None:
        """Flush, then close in order. No frame is handed over after this call."""

    def abort(self, error: Exception | None = None) -> None:
        """Close at once, dropping what is unsent. `error` is what `on_close` callbacks are told."""


FrameHandler = Callable[[Connection, list[bytes]], None]
"""Called once with all frames that arrived together; the list is the handler's to keep.

It must not wait. If it raises, its connection is aborted and others go on.
"""

Accept = Callable[[bytes, Connection], bytes]
"""Answers a dialler's hello with ours, or raises HandshakeError, whose text the dialler gets to read.

Frames sent on the connection meanwhile leave after our hello.
"""


class Server(Protocol):
    """An open listener and the connections it accepted."""

    @property
    def address(self) -> Address:
        """Where it listens; if port 0 was asked for, the port it was given."""

    def statistics(self) -> TransportStatistics:
        """A snapshot of the counters."""

    async def close(self) -> None:
        """Stop listening and close every connection accepted here. Harmless when repeated."""


class Transport(Protocol):
    """Dials and listens."""

    async def connect(
        self, address: Address, hello: bytes, handler: FrameHandler, *, timeout: float = 5.0
    ) -> Connection:
        """Dial, exchange hellos and return the open connection, all within `timeout` seconds.

        The name is looked up anew at each call. `handler` is not called before this returns to the task that
        awaits it.

        Raises: DialError; HandshakeError with the listener's words if it refused; ClosedError.
        """

    async def listen(self, address: Address, accept: Accept, handler: FrameHandler) -> Server:
        """Listen until the server is closed. Port 0 means any free port.

        Raises: ConfigurationError when the address cannot be used, saying what to do; ClosedError.
        """

    def statistics(self) -> TransportStatistics:
        """A snapshot of the counters of everything this transport made."""

    async def close(self) -> None:
        """Close everything this transport made. Harmless when repeated."""
