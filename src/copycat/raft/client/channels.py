"""Clients of one event loop that talk to the same server share a connection to it.

Each has a `Channel` of it, which is to the client what a connection of its own would be. What many of them send in one
turn leaves in one write, and is one read and one turn at the server; so a process with many sessions costs both sides
little more than one with a single busy one. A client that shares with nobody pays a function call.

Whoever asked is who hears: an answer names its session, the nonce of its registration or the number of its request, and
each of these came from one channel. What a server says to all, who leads, everyone is told; so is, at once, whoever
joins later.

Source: protocol §5; docs/decisions/0021-clients-of-a-loop-share-connections.md.
"""

import asyncio
from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812  # a class
from weakref import WeakValueDictionary

from copycat.errors import CopycatError
from copycat.io.transport.tcp import TcpTransport
from copycat.io.transport.transport import Connection, Transport
from copycat.raft.client.queries import REQUEST_BITS
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.wire import HEADER_KEEP_ALIVE, HEADER_KEPT, HEADER_REGISTERED, KEPT_SESSION, Tag
from copycat.util.address import Address

HELLO = encode_hello(Hello(role="client"))

TOGETHER_BYTES_MAX = 16 * 1024
"""What is sent in one turn leaves together, up to so much: beyond it the connection must say whether it takes more."""

TOGETHER_SECONDS = 0.05
"""So long a keep-alive that may wait does so for those of others."""

CHANNELS_MAX = 1 << (63 - REQUEST_BITS)
"""So many clients a connection can have in its life: each has numbers of its own for requests."""

_NUMBER = Struct("<Q")

ChannelHandler = Callable[["Channel", list[bytes]], None]
"""Takes the frames that arrived together on a channel, as a `FrameHandler` does those of a connection."""


class Channel:
    """One client's part of a connection.

    on_close: called once, when the connection is lost; not after `close`. on_writable: called whenever `writable` is
    True again.
    """

    __slots__ = ("handler", "is_closed", "is_told", "names", "number", "on_close", "on_writable", "shared")

    def __init__(self, shared: "SharedConnection", number: int, handler: ChannelHandler) -> None:
        self.shared = shared
        self.number = number
        self.handler = handler
        self.on_close: list[Callable[[Channel, Exception | None], None]] = []
        self.on_writable: list[Callable[[Channel], None]] = []
        self.is_closed = False
        self.is_told = False  # of who leads, or that nobody does
        self.names: list[int | bytes] = []  # of sessions and registrations that it owns

    @property
    def first_request(self) -> int:
        """What the numbers of its requests count from."""
        return self.number << REQUEST_BITS

    @property
    def peer_hello(self) -> bytes:
        """The server's hello."""
        return self.shared.connection.peer_hello

    @property
    def writable(self) -> bool:
        """False while the server reads too slowly. Sending is still allowed, as on the connection itself."""
        return self.shared.connection.writable

    def send(self, frames: list[bytes]) -> None:
        """Send these frames, in order: now when nobody shares the connection, else when this turn is over."""
        if not self.is_closed:
            self.shared.send(self, frames)

    def send_some_time(self, keep_alive: bytes) -> None:
        """Send this, in a moment when others' may go with it."""
        if not self.is_closed:
            self.shared.send_some_time(self, keep_alive)

    def close(self) -> None:
        """Take no further frame. The connection ends in order when no channel is left."""
        if not self.is_closed:
            self.is_closed = True
            self.shared.leave(self)

    def abandon(self) -> None:
        """Close, and let nobody else begin on this connection: it may be one that only this end believes in."""
        self.shared.is_in_doubt = True
        self.close()


class SharedConnection:
    """A connection and its channels. `connection` is set once it was dialled."""

    def __init__(self, on_end: Callable[["SharedConnection"], object]) -> None:
        self.connection: Connection
        self.is_in_doubt = False
        self._on_end = on_end
        self._channels: dict[int, Channel] = {}
        self._owners: dict[int | bytes, Channel] = {}  # of sessions by id, of registrations by nonce
        self._next_number = 0
        self._notice = b""  # the latest LEADER frame
        self._kept: list[bytes] = []  # what keep-alives say that wait for others
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection) -> None:
        """The connection was dialled."""
        self.connection = connection
        connection.on_close.append(self._closed)
        connection.on_writable.append(self._writable)

    @property
    def takes_more(self) -> bool:
        """Whether another client may join."""
        return not (self.is_in_doubt or self.connection.is_closed or self._next_number == CHANNELS_MAX)

    def join(self, handler: ChannelHandler) -> Channel:
        """A channel more. `handler` is not called before the caller's turn is over."""
        channel = self._channels[self._next_number] = Channel(self, self._next_number, handler)
        self._next_number += 1
        if self.connection.is_closed:
            channel.is_closed = True
        elif self._notice:
            asyncio.get_running_loop().call_soon(self._tell, channel)
        return channel

    def _tell(self, channel: Channel) -> None:
        if not channel.is_closed and not channel.is_told:
            channel.is_told = True
            channel.handler(channel, [self._notice])

    def leave(self, channel: Channel) -> None:
        """A channel was closed."""
        self._channels.pop(channel.number, None)
        self._disown(channel)
        if not self._channels:
            self._on_end(self)
            self._send_kept()
            self.connection.close()

    def send(self, channel: Channel, frames: list[bytes]) -> None:
        """Send a channel's frames, and remember whose session, or wish for one, they speak of."""
        connection, first = self.connection, frames[0]
        if self._kept:
            self._send_kept()  # what a client sends does not overtake what it sent before
        if first[0] == _KEEP_ALIVE:  # what a session begins with on any connection
            self._own(_NUMBER.unpack_from(first, HEADER_KEEP_ALIVE.size)[0], channel)
        elif first[0] == _REGISTER:
            if first[1:17] not in self._owners:
                self._disown(channel)  # the session before is over
            self._own(first[1:17], channel)
        connection.send_many(frames)
        if len(self._channels) == 1 or connection.buffered_bytes > TOGETHER_BYTES_MAX:
            connection.flush()

    def send_some_time(self, channel: Channel, keep_alive: bytes) -> None:
        """Send a keep-alive, when others share the connection together with theirs."""
        if len(self._channels) == 1:
            self.send(channel, [keep_alive])
            return
        self._kept.append(keep_alive[HEADER_KEEP_ALIVE.size :])
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(TOGETHER_SECONDS, self._send_kept)

    def _send_kept(self) -> None:
        kept, self._kept = self._kept, []
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if kept and not self.connection.is_closed:
            self.connection.send(HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, len(kept)) + b"".join(kept))

    def _own(self, name: int | bytes, channel: Channel) -> None:
        if name not in self._owners:
            self._owners[name] = channel
            channel.names.append(name)

    def _disown(self, channel: Channel) -> None:
        for name in channel.names:
            self._owners.pop(name, None)
        channel.names.clear()

    def on_frames(self, _connection: Connection, frames: list[bytes]) -> None:
        """Everything that arrived together: to each channel what is its own, together."""
        channels = self._channels
        if len(channels) == 1 and _NOTED.isdisjoint([frame[:1] for frame in frames]):
            (alone,) = channels.values()
            alone.handler(alone, frames)
            return
        shares: dict[Channel, list[bytes]] = {}
        for frame in frames:
            if frame[:1] == _LEADER:
                self._notice = frame
                for channel in channels.values():
                    channel.is_told = True
                    shares.setdefault(channel, []).append(frame)
            elif frame[:1] == _KEPT and len(frame) > _ONE_KEPT_SIZE:
                self._share_kept(frame, shares)
            elif (owner := self._owner_of(frame)) is not None:
                shares.setdefault(owner, []).append(frame)
        for channel, its in shares.items():
            if not channel.is_closed:
                channel.handler(channel, its)

    def _owner_of(self, frame: bytes) -> Channel | None:
        """Whose a frame is; None: nobody's here any more. One that no server sends is anybody's to refuse."""
        tag = frame[0] if frame else 0
        try:
            if tag in _OF_SESSIONS:
                return self._owners.get(_NUMBER.unpack_from(frame, 1)[0])
            if tag in _OF_REQUESTS:
                return self._channels.get(_NUMBER.unpack_from(frame, 1)[0] >> REQUEST_BITS)
            if tag == Tag.KEPT:
                return self._owners.get(_NUMBER.unpack_from(frame, HEADER_KEPT.size)[0])
            if tag == Tag.REGISTERED:
                _, nonce, session, _, _ = HEADER_REGISTERED.unpack_from(frame)
                if (owner := self._owners.get(nonce)) is not None:
                    self._own(session, owner)
                return owner
            if tag == Tag.REGISTER_REFUSED:
                return self._owners.get(frame[1:17])
        except StructError:  # too short for what it is
            pass
        return next(iter(self._channels.values()), None)

    def _share_kept(self, frame: bytes, shares: dict[Channel, list[bytes]]) -> None:
        """Many sessions were kept alive: to each client the word about its own."""
        body = frame[HEADER_KEPT.size :]
        for at in range(0, len(body), KEPT_SESSION.size):
            one = _ONE_KEPT + body[at : at + KEPT_SESSION.size]
            if (owner := self._owner_of(one)) is not None:
                shares.setdefault(owner, []).append(one)

    def _writable(self, _connection: Connection) -> None:
        for channel in list(self._channels.values()):
            for callback in list(channel.on_writable):
                callback(channel)

    def _closed(self, _connection: Connection, error: Exception | None) -> None:
        self._on_end(self)
        self._send_kept()  # to nobody
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            if channel.is_closed:
                continue  # by what another made of it
            channel.is_closed = True
            for callback in channel.on_close:
                callback(channel, error)


class ConnectionPool:
    """The connections of those clients of the running loop that have one transport: one to each server.

    transport: dials. is_owned: whether it is closed with the last client.
    """

    def __init__(self, transport: Transport, *, is_owned: bool = False) -> None:
        self.transport = transport
        self.is_closed = False
        self._is_owned = is_owned
        self._loop = asyncio.get_running_loop()
        self._users = 0
        self._open: dict[Address, SharedConnection] = {}
        self._dialling: dict[Address, asyncio.Future[CopycatError | None]] = {}

    def enter(self) -> None:
        """A client begins to use it."""
        self._users += 1

    async def leave(self) -> None:
        """A client uses it no longer."""
        self._users -= 1
        if not self._users and self._is_owned:
            self.is_closed = True
            await self.transport.close()

    async def connect(self, address: Address, handler: ChannelHandler, *, timeout: float) -> Channel:
        """A channel to the server at `address`: of the connection there is, or of one that is dialled within `timeout`
        seconds.

        Raises what `Transport.connect` raises; so does everyone who waits for the same dial.
        """
        while (shared := self._open.get(address)) is None or not shared.takes_more:
            if (dialling := self._dialling.get(address)) is None:
                shared = await self._dial(address, timeout)
                break
            if (error := await asyncio.shield(dialling)) is not None:
                raise error
        return shared.join(handler)

    async def _dial(self, address: Address, timeout: float) -> SharedConnection:
        shared = SharedConnection(lambda ended: self._forget(address, ended))
        dialled = self._dialling[address] = self._loop.create_future()
        failure: CopycatError | None = None
        try:
            shared.begin(await self.transport.connect(address, HELLO, shared.on_frames, timeout=timeout))
            self._open[address] = shared
            return shared
        except CopycatError as error:
            failure = error
            raise
        finally:
            del self._dialling[address]
            dialled.set_result(failure)  # None, too, when the one who dialled gave up: then another does

    def _forget(self, address: Address, ended: SharedConnection) -> None:
        if self._open.get(address) is ended:
            del self._open[address]


_pools: "WeakValueDictionary[tuple[int, int], ConnectionPool]" = WeakValueDictionary()
"""By loop and transport, whose ids are theirs alone as long as their pool refers to them."""


def pool_of(transport: Transport | None) -> ConnectionPool:
    """The pool of the running loop's clients with this transport; None: of those that have none of their own."""
    key = (id(asyncio.get_running_loop()), id(transport))
    pool = _pools.get(key)
    if pool is None or pool.is_closed:
        is_owned = transport is None
        pool = _pools[key] = ConnectionPool(TcpTransport() if transport is None else transport, is_owned=is_owned)
    return pool


_KEEP_ALIVE, _REGISTER = int(Tag.KEEP_ALIVE), int(Tag.REGISTER)
_LEADER, _KEPT = bytes([Tag.LEADER]), bytes([Tag.KEPT])
_NOTED = frozenset({_LEADER, bytes([Tag.REGISTERED])})
_ONE_KEPT = HEADER_KEPT.pack(Tag.KEPT, 1)
_ONE_KEPT_SIZE = HEADER_KEPT.size + KEPT_SESSION.size
_OF_SESSIONS = frozenset({Tag.RESULTS, Tag.REJECTED, Tag.ENDED, Tag.EVENTS})
_OF_REQUESTS = frozenset({Tag.ANSWER, Tag.QUERY_REFUSED})
