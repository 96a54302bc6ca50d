"""The connection both transports share: greeting, batching, back-pressure and endings.

`FramedConnection` is an asyncio protocol, so it runs the same over a socket, over TLS and over the pipe between
two event loops of one process. It goes through stages, and each stage is the function in `_deliver`: first
`_greet`, which expects the hello; for a dialler `_hold`, for the moment until its `connect` has returned; then
the user's handler itself. So a batch of frames on an open connection costs one decode and one call.

Rule: user code (handlers, callbacks, `accept`) may raise anything, and costs only its own connection.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from copycat.errors import HandshakeError, ProtocolError, TransportError
from copycat.io.transport.frame import (
    ACCEPTED,
    HEADER_SIZE,
    MAX_GREETING,
    PREAMBLE,
    REFUSED,
    VERSION,
    FrameDecoder,
    encode_frame,
    encode_frames,
)
from copycat.io.transport.group import ConnectionGroup, too_large
from copycat.io.transport.transport import Accept, Connection, DialError, FrameHandler

log = logging.getLogger(__name__)

# `writable` turns False here: several socket buffers, so that a reader at full speed never notices.
WRITE_HIGH = 1024 * 1024
WRITE_LOW = 256 * 1024
# How long an orderly close may take before it is an abort: a peer that does not read must not hold us.
CLOSE_GRACE = 5.0
REFUSAL_TEXT_MAX = 1000


class FramedConnection(asyncio.Protocol):
    """A `Connection` over any asyncio transport. With `accept` it is the listener's side, else the dialler's."""

    def __init__(
        self,
        group: ConnectionGroup,
        handler: FrameHandler,
        *,
        accept: Accept | None = None,
        hello: bytes = b"",
        remote: str = "",
    ) -> None:
        self.on_close: list[Callable[[Connection, Exception | None], None]] = []
        self.on_writable: list[Callable[[Connection], None]] = []
        self.peer_hello = b""
        self.remote = remote
        self.is_closed = False
        self.is_established = False
        self.writable = True
        self._group = group
        self._loop = group.loop
        self._handler = handler
        self._deliver: FrameHandler = self._greet
        self._accept = accept
        self._hello = hello
        self._max_frame = group.limits.max_frame
        self._max_buffered = group.limits.max_buffered
        self._decoder = FrameDecoder(self._max_frame)
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] | None = group.loop.create_future() if accept is None else None
        self._timer: asyncio.TimerHandle | None = None  # first the handshake's deadline, later the close's
        self._held: list[bytes] = []
        self._out: list[bytes] = []
        self._out_bytes = 0
        self.is_to_be_flushed = False  # its group does so at the end of the turn
        self._error: Exception | None = None

    # What users call

    @property
    def buffered_bytes(self) -> int:
        return self._out_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)

    def send(self, frame: bytes) -> None:
        size = len(frame)
        if size > self._max_frame:
            raise too_large(size, self._max_frame)
        if self.is_closed:
            return
        self._out.append(frame)
        self._out_bytes += size + HEADER_SIZE
        if not self.is_to_be_flushed:
            self.is_to_be_flushed = True
            self._group.flush_soon(self)
        if self._out_bytes > self._max_buffered:
            self._abort_slow_reader()

    def send_many(self, frames: list[bytes]) -> None:
        if not frames:
            return
        sizes = list(map(len, frames))
        if max(sizes) > self._max_frame:
            raise too_large(max(sizes), self._max_frame)
        if self.is_closed:
            return
        self._out += frames
        self._out_bytes += sum(sizes) + HEADER_SIZE * len(sizes)
        if not self.is_to_be_flushed:
            self.is_to_be_flushed = True
            self._group.flush_soon(self)
        if self._out_bytes > self._max_buffered:
            self._abort_slow_reader()

    def flush(self) -> None:
        self.is_to_be_flushed = False
        # Before the greeting is answered, frames wait: our hello must be the first thing the peer reads.
        if not self._out or not self.is_established or self.is_closed or self._transport is None:
            return
        frames, self._out = self._out, []
        self._out_bytes = 0
        group = self._group
        data = encode_frames(frames)
        group.frames_out += len(frames)
        group.bytes_out += len(data)
        self._transport.write(data)
        if not self.writable and self._transport.get_write_buffer_size() > self._max_buffered:
            self._abort_slow_reader()

    def pause_reading(self) -> None:
        if self._transport is not None and not self.is_closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.is_closed:
            self._transport.resume_reading()

    def close(self) -> None:
        if self.is_closed:
            return
        self.flush()
        if not self.is_closed:
            self._end(None)

    def abort(self, error: Exception | None = None) -> None:
        if self._error is None:
            self._error = error
        self.is_closed = True
        self._drop_unsent()
        self._cancel_timer()
        if self._transport is not None:
            self._transport.abort()

    async def wait_open(self) -> None:
        """Wait until the greeting is over. On the listener's side, which has nobody to tell, return at once.

        Raises: DialError, HandshakeError.
        """
        if self._opened is not None:
            await self._opened

    def abandon(self) -> None:
        """Give up a dial: abort, and let nobody be told of it."""
        if self._opened is not None:
            if self._opened.done() and not self._opened.cancelled():
                self._opened.exception()  # so that asyncio does not report it as never retrieved
            self._opened.cancel()
        self.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        group = self._group
        if not self.remote:
            self.remote = describe_peer(transport.get_extra_info("peername"))
        group.connections[self] = None
        if self.is_closed or group.is_closed:  # closed while this connection was on its way
            transport.abort()
        elif self._accept is None:
            self._write_greeting(self._hello)
        elif len(group.connections) > group.limits.max_connections:
            self._refuse(f"too many connections (limit {group.limits.max_connections})")
        else:
            self._timer = self._loop.call_later(group.limits.handshake_timeout, self._on_handshake_deadline)

    def data_received(self, data: bytes) -> None:
        if self.is_closed:
            return
        group = self._group
        group.bytes_in += len(data)
        try:
            frames = self._decoder.feed(data)
        except ProtocolError as error:
            self._fail(error)
            return
        if frames:
            group.frames_in += len(frames)
            self._hand_over(frames)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if not self.is_closed:
            for callback in list(self.on_writable):
                try:
                    callback(self)
                except Exception:
                    log.exception("on_writable callback failed for %s", self.remote, extra={"remote": self.remote})

    def connection_lost(self, exception: Exception | None) -> None:
        self._release()
        self._cancel_timer()
        self._group.discard(self)
        error = self._error
        if error is None and not self.is_closed:
            if exception is not None:
                error = TransportError(f"{self.remote}: connection lost: {describe_error(exception)}")
                error.__cause__ = exception
            elif self._decoder.is_partial:
                error = TransportError(f"{self.remote}: closed in the middle of a frame")
        self.is_closed = True
        self.is_established = False
        self._drop_unsent()
        if self._opened is not None and not self._opened.done():
            reason = "closed during handshake"
            if isinstance(exception, ssl.SSLError):
                reason = describe_error(exception)
            self._opened.set_exception(DialError(self.remote, reason))
        for callback in list(self.on_close):
            try:
                callback(self, error)
            except Exception:
                log.exception("on_close callback failed for %s", self.remote, extra={"remote": self.remote})
        # A closed connection may be kept for long by its owner; what it references should not be.
        self._deliver = self._handler = _ignore
        self._accept = None
        self._transport = None

    # Stages

    def _greet(self, _: Connection, frames: list[bytes]) -> None:
        if self._accept is None:
            self._on_answer(frames)
        else:
            self._on_hello(self._accept, frames)

    def _on_hello(self, accept: Accept, frames: list[bytes]) -> None:
        self.peer_hello = frames[0]
        try:
            answer = accept(frames[0], self)
            if len(answer) >= MAX_GREETING:
                raise too_large(len(answer), MAX_GREETING - 1)
        except HandshakeError as refusal:
            self._refuse(str(refusal) or "refused")
            return
        except Exception:
            log.exception("accept failed for %s", self.remote, extra={"remote": self.remote})
            self._refuse("internal error while accepting the connection")
            return
        if self.is_closed:
            return
        self._cancel_timer()
        self._write_greeting(ACCEPTED + answer)
        self.is_established = True
        self._group.accepted += 1
        self._deliver = self._handler
        self.flush()
        if len(frames) > 1:
            self._deliver(self, frames[1:])

    def _on_answer(self, frames: list[bytes]) -> None:
        status, body = frames[0][:1], frames[0][1:]
        if status == REFUSED:
            self._end(HandshakeError(body.decode(errors="replace")))
            return
        if status != ACCEPTED:
            raise ProtocolError("answered the hello with an unknown status")
        self.peer_hello = body
        self.is_established = True
        self._group.dialled += 1
        self._held = frames[1:]
        self._deliver = self._hold
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        self._loop.call_soon(self._release)  # runs after the task that awaits `connect`

    def _hold(self, _: Connection, frames: list[bytes]) -> None:
        self._held += frames

    def _release(self) -> None:
        if self.is_established and not self.is_closed and self._deliver == self._hold:
            self._deliver = self._handler
            held, self._held = self._held, []
            if held:
                self._hand_over(held)

    def _hand_over(self, frames: list[bytes]) -> None:
        try:
            self._deliver(self, frames)
        except ProtocolError as error:
            self._fail(error)
        except Exception as error:
            log.exception("frame handler failed for %s", self.remote, extra={"remote": self.remote})
            failure = TransportError(f"{self.remote}: the frame handler failed: {error!r}")
            failure.__cause__ = error
            self.abort(failure)

    # Writing and ending

    def _write_greeting(self, payload: bytes) -> None:
        if self._transport is None:
            return
        data = PREAMBLE + encode_frame(payload)
        self._group.frames_out += 1
        self._group.bytes_out += len(data)
        self._transport.write(data)

    def _refuse(self, text: str) -> None:
        if self.is_closed:
            return
        self._group.refused += 1
        self._write_greeting(REFUSED + text[:REFUSAL_TEXT_MAX].encode())
        self._end(HandshakeError(text))

    def _fail(self, error: ProtocolError) -> None:
        """The peer broke the protocol: drop it, count it, say so once."""
        if self.is_closed:
            return
        self._group.protocol_errors += 1
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(DialError(self.remote, str(error)))  # the dialler hears it; no log
        else:
            self._group.complain(self.remote.rpartition(":")[0], self.remote, str(error))
        is_other_version = self._accept is not None and self._decoder.peer_version not in (None, VERSION)
        if is_other_version and self._transport is not None:
            self._transport.write(PREAMBLE)  # it tells a Copycat of another version which one we speak
            self._end(error)
        else:
            self.abort(error)

    def _end(self, error: Exception | None) -> None:
        """Close in order, within CLOSE_GRACE; what was written still leaves."""
        self.is_closed = True
        self._error = error
        if error is not None and self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)
        self._drop_unsent()
        self._cancel_timer()
        if self._transport is not None:
            self._timer = self._loop.call_later(CLOSE_GRACE, self._transport.abort)
            self._transport.close()

    def _abort_slow_reader(self) -> None:
        size = self.buffered_bytes
        self.abort(
            TransportError(f"{self.remote} does not read: {size} bytes wait for it, the limit is {self._max_buffered}")
        )

    def _on_handshake_deadline(self) -> None:
        self._timer = None
        self._fail(ProtocolError(f"did not finish its handshake within {self._group.limits.handshake_timeout:g} s"))

    def _drop_unsent(self) -> None:
        self._out = []
        self._out_bytes = 0

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def describe_peer(name: object) -> str:
    """A socket's peer name as host:port, IPv6 in brackets."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = str(name[0]), name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) if name else "unknown"


def describe_error(error: BaseException) -> str:
    """An exception from a socket in a few words, for lists."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return "does not speak TLS"
        return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection reset"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _ignore(_: Connection, frames: list[bytes]) -> None:
    """Where the frames of a closed connection go."""
