"""Carrying opaque frames between members and clients: over TCP, or within one process."""

from copycat.io.transport.frame import FrameDecoder, encode_frame, encode_frames
from copycat.io.transport.local import LocalRegistry, LocalTransport
from copycat.io.transport.tcp import NettyTransport, TcpTransport
from copycat.io.transport.transport import (
    Accept,
    Connection,
    DialError,
    FrameHandler,
    Server,
    Transport,
    TransportStatistics,
)

__all__ = [
    "Accept",
    "Connection",
    "DialError",
    "FrameDecoder",
    "FrameHandler",
    "LocalRegistry",
    "LocalTransport",
    "NettyTransport",
    "Server",
    "TcpTransport",
    "Transport",
    "TransportStatistics",
    "encode_frame",
    "encode_frames",
]
