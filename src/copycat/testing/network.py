"""A network whose links are as bad as real ones: slow, broken, cut, one-way, by rule and by seed.

Connections behave as TCP's do: what is written arrives in order, or not at all and the connection ends. So nothing is
lost or overtaken within a connection. But connections break: with bytes under way that arrive later or never, in the
middle of a frame, and often only one end hears of it; whoever then sends again, on another connection, finds its words
twice at the other end, and in another order. A link that is cut swallows without a word, until it is mended.

Everything a program sends is encoded, framed, greeted and decoded by the code that runs over sockets.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from random import Random
from typing import Any

from copycat.io.transport.connection import FramedConnection
from copycat.io.transport.frame import MAX_FRAME
from copycat.io.transport.local import LocalRegistry, LocalServer, LocalTransport, Pipe
from copycat.io.transport.transport import Accept, DialError, FrameHandler
from copycat.testing.loop import Host, VirtualLoop
from copycat.util.address import Address

HALF_OPEN_SECONDS = (1.0, 60.0)  # until the end that heard nothing of a broken connection does


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRule:
    """How a link carries: one direction between two hosts. Times in seconds, chances from 0 to 1, of each write.

    latency: from, to. stall: chance that a write, and all behind it, comes `stall_seconds` later, as when packets are
    lost and sent again. cut: chance that the connection breaks within it. bytes_per_second: None is no limit.
    """

    latency: tuple[float, float] = (0.0002, 0.002)
    stall: float = 0.0
    stall_seconds: tuple[float, float] = (0.2, 2.0)
    cut: float = 0.0
    bytes_per_second: float | None = None


@dataclass(slots=True)
class Link:
    """One direction between two hosts: its rule, what hinders it, and what waits for it to be mended."""

    source: str
    target: str
    rule: LinkRule | None = None  # None: the network's
    blocks: int = 0
    refusals: int = 0  # as often as something refuses whatever would connect
    free_at: float = 0.0  # when a slow link has carried what it was given
    held: list[tuple[int, "Wire", Callable[..., object], tuple[object, ...]]] = field(default_factory=list)


class SimulatedNetwork:
    """The links between hosts, made as they are needed. `rule` holds for every link that has none of its own.

    chooser: what is drawn for delays and faults. on_delivery(source, target, connection, data): told of all that
    arrives. faults: how often what happened.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        chooser: Random,
        *,
        rule: LinkRule | None = None,
        on_delivery: Callable[[str, str, int, bytes], object] = lambda *_: None,
    ) -> None:
        self.loop = loop
        self.rule = rule if rule is not None else LinkRule()
        self.registry = LocalRegistry()
        self.faults: Counter[str] = Counter()
        self.on_delivery = on_delivery
        self.chooser = chooser
        self._links: dict[tuple[str, str], Link] = {}
        self._places: dict[Address, Host] = {}  # who listens, or listened last, where
        self._wires: dict[Host, dict[Wire, None]] = {}
        self._numbers = 0
        self._sent = 0
        self._dark: dict[str, None] = {}  # hosts that lost power: nothing answers there, not even with a refusal

    def transport(self, host: Host, *, max_frame: int = MAX_FRAME) -> "SimulatedTransport":
        """A Transport for programs on `host`."""
        return SimulatedTransport(self, host, max_frame=max_frame)

    # -- links -------------------------------------------------------------------------------------------------------

    def link(self, source: str, target: str) -> Link:
        """The direction from `source` to `target`."""
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(source, target)
        return link

    def set_rule(self, rule: LinkRule | None, *pairs: tuple[str, str]) -> None:
        """Give these directions a rule of their own, or take it away; without any: all of them, for now and later."""
        for source, target in pairs:
            self.link(source, target).rule = rule
        if not pairs:
            self.rule = rule if rule is not None else LinkRule()
            for link in self._links.values():
                link.rule = None

    def block(self, source: str, target: str) -> None:
        """Let nothing through from `source` to `target`, until `unblock`, called as often."""
        self.link(source, target).blocks += 1

    def unblock(self, source: str, target: str) -> None:
        """Undo one `block`. What was held goes on its way, in order."""
        link = self.link(source, target)
        link.blocks = max(0, link.blocks - 1)
        if not link.blocks:
            held, link.held = sorted(link.held, key=itemgetter(0)), []
            for number, wire, callback, arguments in held:
                self._schedule(link, number, wire, callback, arguments)

    def separate(self, *groups: Iterable[str], one_way: bool = False) -> Callable[[], None]:
        """Cut groups of hosts off from one another: from the first to the others only, if `one_way`.

        Returns what mends it.
        """
        sides = [list(group) for group in groups]
        cut = [
            (source, target)
            for number, side in enumerate(sides)
            for other in sides[number + 1 :]
            for near in side
            for far in other
            for source, target in ([(near, far)] if one_way else [(near, far), (far, near)])
            if near != far
        ]
        for source, target in cut:
            self.block(source, target)

        def mend() -> None:
            for source, target in cut:
                self.unblock(source, target)
            cut.clear()

        return mend

    def refuse(self, *groups: Iterable[str]) -> Callable[[], None]:
        """Reset every connection between groups of hosts, and refuse others, as a firewall may that rejects: all of
        these hosts go on, and hear at once that they cannot speak to one another.

        Returns what mends it.
        """
        sides = [list(group) for group in groups]
        cut = [
            self.link(*pair)
            for number, side in enumerate(sides)
            for other in sides[number + 1 :]
            for near in side
            for far in other
            for pair in ((near, far), (far, near))
        ]
        for link in cut:
            link.refusals += 1
        for wires in list(self._wires.values()):
            for wire in list(wires):
                if self.link(wire.host.name, wire.other.host.name).refusals:
                    wire.break_off(ConnectionResetError("the network refused"))

        def mend() -> None:
            for link in cut:
                link.refusals = max(0, link.refusals - 1)
            cut.clear()

        return mend

    def heal(self) -> None:
        """Mend every link, and let all of them carry as they do by default."""
        self.set_rule(replace(self.rule, stall=0.0, cut=0.0, bytes_per_second=None, latency=LinkRule().latency))
        for link in list(self._links.values()):
            link.free_at, link.refusals = 0.0, 0
            while link.blocks:
                self.unblock(link.source, link.target)

    # -- hosts -------------------------------------------------------------------------------------------------------

    def listens(self, address: Address, host: Host) -> None:
        """`host` listens there."""
        self._places[address] = host

    def went_down(self, host: Host, *, dark: bool) -> None:
        """A host died. `dark`: with its machine, so that nobody is told; else its system closes what it had open."""
        if dark:
            self._dark[host.name] = None
        for address, place in self._places.items():
            if place is host and (server := self.registry.find(address)) is not None:
                self.registry.unregister(server)
        for wire in self._wires.pop(host, {}):
            wire.is_gone = True
            if not dark:
                self.carry(wire, wire.other._on_end, ConnectionResetError("the process ended"))

    def came_up(self, host: Host) -> None:
        """Its machine is there again. It knows nothing of the connections it had: whoever writes to them hears so."""
        self._dark.pop(host.name, None)

    # -- what is under way -------------------------------------------------------------------------------------------

    async def dial(self, source: Host, address: Address) -> tuple[Host, LocalServer]:
        """Who listens at `address`, after as long as it takes to find out. Raises DialError when that is nobody."""
        answer: asyncio.Future[tuple[Host, LocalServer]] = self.loop.create_future()
        place = self._places.get(address)
        target = place.name if place is not None else str(address)

        def ask() -> None:
            host, server = self._places.get(address), self.registry.find(address)
            if target in self._dark or self.link(source.name, target).blocks:
                return  # no answer
            if self.link(source.name, target).refusals:
                host = server = None
            self._later(self.link(target, source.name), source, tell, host, server)

        def tell(host: Host | None, server: LocalServer | None) -> None:
            if answer.done() or self.link(target, source.name).blocks:
                return
            if host is None or server is None:
                answer.set_exception(DialError(address, "connection refused", refused=True))
            else:
                answer.set_result((host, server))

        self._later(self.link(source.name, target), None, ask)
        return await answer

    def _later(self, link: Link, host: Host | None, callback: Callable[..., object], *arguments: object) -> None:
        delay = self.chooser.uniform(*(link.rule or self.rule).latency)
        self.loop.call_at_true(self.loop.now + delay, callback, *arguments, on=host)

    def connect(self, near: "Wire", far: "Wire") -> None:
        """Two ends belong together."""
        self._numbers += 1
        for wire in (near, far):
            wire.number = self._numbers
            self._wires.setdefault(wire.host, {})[wire] = None
        near.other, far.other = far, near

    def forget(self, wire: "Wire") -> None:
        """It has ended."""
        self._wires.get(wire.host, {}).pop(wire, None)

    def carry(self, wire: "Wire", callback: Callable[..., object], *arguments: object) -> None:
        """Tell the other end of `wire`, behind all it was told before."""
        self._sent += 1
        link = self.link(wire.host.name, wire.other.host.name)
        if link.blocks:
            link.held.append((self._sent, wire, callback, arguments))
        else:
            self._schedule(link, self._sent, wire, callback, arguments)

    def _schedule(
        self, link: Link, number: int, wire: "Wire", callback: Callable[..., object], arguments: tuple[object, ...]
    ) -> None:
        rule, chooser = link.rule or self.rule, self.chooser
        data = arguments[0] if arguments and isinstance(arguments[0], bytes) else None
        when = max(self.loop.now, wire.host.free_at)
        if data is not None and rule.bytes_per_second is not None:
            when = link.free_at = max(when, link.free_at) + len(data) / rule.bytes_per_second
            self.faults["slow link"] += 1
        when += chooser.uniform(*rule.latency)
        if data is not None and rule.stall and chooser.random() < rule.stall:
            when += chooser.uniform(*rule.stall_seconds)
            self.faults["stalled write"] += 1
        wire.arrival = max(wire.arrival, when)
        if data is not None and rule.cut and chooser.random() < rule.cut:
            self._break(link, number, wire, data)
        else:
            self._arrive_at(wire.arrival, link, number, wire, callback, arguments)

    def _arrive_at(self, when: float, link: Link, number: int, wire: "Wire", *what: Any) -> None:
        self.loop.call_at_true(when, self._arrive, link, number, wire, *what)

    def _arrive(
        self, link: Link, number: int, wire: "Wire", callback: Callable[..., object], arguments: tuple[object, ...]
    ) -> None:
        """It has come to the host, if nothing came between."""
        if link.blocks:  # since it was sent
            link.held.append((number, wire, callback, arguments))
        elif wire.other.is_gone:
            if link.target not in self._dark:
                self._reset(wire)
        else:
            self.loop.call_soon(
                self._hand_over, link, wire, callback, arguments, context=wire.other.host.context.copy()
            )

    def _hand_over(
        self, link: Link, wire: "Wire", callback: Callable[..., object], arguments: tuple[object, ...]
    ) -> None:
        """The host runs, and takes it."""
        data = arguments[0] if arguments and isinstance(arguments[0], bytes) else None
        if data is not None and wire.other.is_over:
            self._reset(wire)
            return
        if data is not None:
            self.on_delivery(link.source, link.target, wire.number, data)
        callback(*arguments)

    def _reset(self, wire: "Wire") -> None:
        """The other end knows nothing of this connection, and its system says so."""
        if not wire.is_over:
            self.carry(wire.other, wire._on_end, ConnectionResetError("the other end is gone"))

    def _break(self, link: Link, number: int, wire: "Wire", data: bytes) -> None:
        """The connection breaks while these bytes are under way."""
        chooser = self.chooser
        manner = chooser.choice(("lost", "cut within a write", "late", "half open"))
        self.faults[f"connection broken: {manner}"] += 1
        error = ConnectionResetError("the network broke the connection")
        other, at = wire.other, wire.arrival
        if manner == "cut within a write":
            self._arrive_at(at, link, number, wire, other._on_data, (data[: chooser.randrange(len(data))],))
        elif manner == "late":  # after what is sent again, on another connection
            at += chooser.uniform(0.05, 3.0)
            self._arrive_at(at, link, number, wire, other._on_data, (data,))
        elif manner == "half open":
            at += chooser.uniform(*HALF_OPEN_SECONDS)
        wire.arrival = at
        self._arrive_at(at, link, number, wire, other._on_end, (error,))
        wire.break_off(error)


class SimulatedTransport(LocalTransport):
    """The Transport of one host."""

    def __init__(self, network: SimulatedNetwork, host: Host, *, max_frame: int = MAX_FRAME) -> None:
        super().__init__(network.registry, max_frame=max_frame)
        self._network = network
        self._host = host

    async def connect(
        self, address: Address, hello: bytes, handler: FrameHandler, *, timeout: float = 5.0
    ) -> FramedConnection:
        """Dial `address`; see `Transport.connect`."""
        group, network = self.dialling_group(hello), self._network
        connection = FramedConnection(group, handler, hello=hello, remote=str(address))
        try:
            async with asyncio.timeout(timeout):
                host, server = await network.dial(self._host, address)
                near = Wire(network, self._host, connection, peer=str(address))
                far = Wire(network, host, None, peer=f"{self._host.name}:{next(self.registry.dials)}")
                network.connect(near, far)
                network.carry(near, server.on_dial, far)
                connection.connection_made(near)
                await connection.wait_open()
            self.check_open()
        except BaseException as error:
            connection.abandon()
            if isinstance(error, TimeoutError):
                raise DialError(address, f"no answer within {timeout:g} s") from error
            raise
        return connection

    async def listen(self, address: Address, accept: Accept, handler: FrameHandler) -> LocalServer:
        """Listen on `address`; see `Transport.listen`."""
        server = await super().listen(address, accept, handler)
        self._network.listens(server.address, self._host)
        return server


class Wire(Pipe):
    """One end of a connection through a simulated network."""

    other: "Wire"

    def __init__(self, network: SimulatedNetwork, host: Host, protocol: asyncio.Protocol | None, *, peer: str) -> None:
        super().__init__(network.loop, protocol, peer=peer)
        self.host = host
        self.number = 0  # the connection's
        self.arrival = 0.0  # of what was sent last
        self.is_gone = False  # with its host
        self._network = network
        self._taken = 0  # bytes, of which the other end has not been told

    @property
    def is_over(self) -> bool:
        """Whether nobody is at this end any more."""
        return self.is_gone or self._lost

    def break_off(self, error: Exception) -> None:
        """This end hears that the connection is broken."""
        if not self._closing:
            self._closing = True
            self.host.call(self.loop.call_soon, self._lose, error)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        if not self.is_gone:
            self._network.carry(self, callback, *arguments)

    def _tell_taken(self, size: int) -> None:
        """Only once it matters, as TCP does: less than this is no reason for the other end not to write."""
        self._taken += size
        if self._taken > self.other._low:
            self._tell(self.other._on_taken, self._taken)
            self._taken = 0

    def _lose(self, error: Exception | None) -> None:
        super()._lose(error)
        self._network.forget(self)
