"""A network between members and clients whose links can be cut, each direction alone, and whose frames are counted.

Every connection is dialled by somebody with a name, and goes to an address that belongs to a member. What is cut
vanishes without a word, as behind a firewall: frames are dropped, dials get no answer.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from copycat.io.transport import (
    Accept,
    Connection,
    DialError,
    FrameHandler,
    LocalRegistry,
    LocalTransport,
    Server,
    TcpTransport,
    Transport,
    TransportStatistics,
)
from copycat.util.address import Address


class Network:
    """The wires. `cut` holds (source, target) pairs; `frames` counts what arrived by (source, target, tag)."""

    def __init__(self, *, tcp: bool = False) -> None:
        self.cut: set[tuple[str, str]] = set()
        self.frames: Counter[tuple[str, str, int]] = Counter()
        self.names: dict[Address, str] = {}  # who listens where
        self._links: set[Link] = set()
        self._registry = None if tcp else LocalRegistry()

    def transport(self, name: str) -> "NamedTransport":
        """A transport for the member or client `name`."""
        return NamedTransport(self, name, TcpTransport() if self._registry is None else LocalTransport(self._registry))

    def separate(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Cut everything between two groups of names, both ways."""
        others = list(other)
        for name in one:
            for each in others:
                self.cut |= {(name, each), (each, name)}

    def heal(self) -> None:
        """Mend everything."""
        self.cut.clear()

    def break_links(self, one: str, other: str) -> None:
        """Reset every connection between two names."""
        for link in [link for link in self._links if {link.source, link.target} == {one, other}]:
            link.abort(ConnectionResetError("broken by the test"))

    def links_of(self, name: str) -> "list[Link]":
        """The open connections from or to `name`."""
        return [link for link in self._links if name in (link.source, link.target)]

    def sent(self, tag: int, *, source: str | None = None, target: str | None = None) -> int:
        """How many frames with `tag` arrived, of those that match."""
        return sum(
            count
            for (sender, receiver, number), count in self.frames.items()
            if number == tag and source in (None, sender) and target in (None, receiver)
        )

    def sent_by(self, source: str) -> int:
        """How many frames of any kind came from `source`."""
        return sum(count for (sender, _, _), count in self.frames.items() if sender == source)

    def add(self, link: "Link") -> None:
        self._links.add(link)
        link.on_close.append(lambda _link, _error: self._links.discard(link))

    def passes(self, source: str, target: str, frames: Iterable[bytes]) -> bool:
        """Whether these frames get through; counts them if they do."""
        if (source, target) in self.cut:
            return False
        self.frames.update((source, target, frame[0]) for frame in frames if frame)
        return True


class NamedTransport:
    """A `Transport` of somebody in particular."""

    def __init__(self, network: Network, name: str, inner: Transport) -> None:
        self.inner = inner
        self._network = network
        self._name = name

    async def connect(
        self, address: Address, hello: bytes, handler: FrameHandler, *, timeout: float = 5.0
    ) -> Connection:
        target = self._network.names.get(address, str(address))
        if {(self._name, target), (target, self._name)} & self._network.cut:
            await asyncio.sleep(0)  # a real dial would wait for its time to be up; nobody else need
            raise DialError(address, f"no answer within {timeout:g} s")
        link = Link(self._network, self._name, target, handler)
        link.attach(await self.inner.connect(address, hello, link.receive, timeout=timeout))
        return link

    async def listen(self, address: Address, accept: Accept, handler: FrameHandler) -> Server:
        return await self.inner.listen(address, accept, handler)

    def statistics(self) -> TransportStatistics:
        return self.inner.statistics()

    async def close(self) -> None:
        await self.inner.close()


class Link:
    """The dialler's side of a connection, through which everything goes in both directions."""

    def __init__(self, network: Network, source: str, target: str, handler: FrameHandler) -> None:
        self.source = source
        self.target = target
        self.on_close: list[Callable[[Connection, Exception | None], None]] = []
        self.on_writable: list[Callable[[Connection], None]] = []
        self._network = network
        self._handler = handler
        self._inner: Connection

    def attach(self, inner: Connection) -> None:
        self._inner = inner
        inner.on_close.append(self._closed)
        inner.on_writable.append(self._became_writable)
        self._network.add(self)

    def _closed(self, _inner: Connection, error: Exception | None) -> None:
        for callback in list(self.on_close):
            callback(self, error)

    def _became_writable(self, _inner: Connection) -> None:
        for callback in list(self.on_writable):
            callback(self)

    def receive(self, _inner: Connection, frames: list[bytes]) -> None:
        if self._network.passes(self.target, self.source, frames):
            self._handler(self, frames)

    @property
    def peer_hello(self) -> bytes:
        return self._inner.peer_hello

    @property
    def remote(self) -> str:
        return self._inner.remote

    @property
    def is_closed(self) -> bool:
        return self._inner.is_closed

    @property
    def buffered_bytes(self) -> int:
        return self._inner.buffered_bytes

    @property
    def writable(self) -> bool:
        return self._inner.writable

    def send(self, frame: bytes) -> None:
        self.send_many([frame])

    def send_many(self, frames: list[bytes]) -> None:
        if self._network.passes(self.source, self.target, frames):
            self._inner.send_many(frames)

    def flush(self) -> None:
        self._inner.flush()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def close(self) -> None:
        self._inner.close()

    def abort(self, error: Exception | None = None) -> None:
        self._inner.abort(error)
