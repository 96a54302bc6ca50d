"""A TCP proxy for one directed link, which can be as bad as a network.

TCP never loses a byte in the middle: what a network drops is sent again, late, or the connection breaks. So a black
hole *holds* what is sent into it, and lets it through when it ends; who waits for too long gives it up.
A link can be bad in one direction alone: FORWARD is from who dialled to who was dialled.
"""

import asyncio
import enum
import random
from dataclasses import dataclass

from copycat.util.address import Address
from copycat.util.tasks import TaskOwner

CHUNK_BYTES = 64 * 1024
NARROW_CHUNK_BYTES = 1024  # so that a narrow link trickles rather than gushes
BACKLOG = 128


class Direction(enum.Enum):
    """Of bytes on a link."""

    FORWARD = "forward"
    BACKWARD = "backward"


BOTH = tuple(Direction)


@dataclass(slots=True)
class Lane:
    """One direction of a link. holds: how many faults hold it now; it is open when none does.

    cuts, flips: how many of the next chunks are cut in the middle, which ends their connection, or get a wrong bit.
    """

    open: asyncio.Event
    holds: int = 0
    cuts: int = 0
    flips: int = 0


class Link:
    """From `port` of this host to `target`. `start` before use, `close` after.

    delay: seconds that everything takes longer, each way. bytes_per_second: how much passes each way, or None.
    random: where a cut and a flipped bit fall.
    """

    def __init__(
        self, name: str, port: int, target: Address, *, host: str = "127.0.0.1", random: random.Random
    ) -> None:
        self.name = name
        self.address = Address(host, port)
        self.target = target
        self.delay = 0.0
        self.bytes_per_second: float | None = None
        self._random = random
        self._lanes = {direction: Lane(asyncio.Event()) for direction in Direction}
        for lane in self._lanes.values():
            lane.open.set()
        self._server: asyncio.Server | None = None
        self._wires: dict[_Wire, None] = {}
        self._tasks = TaskOwner(f"link-{name}")

    def __repr__(self) -> str:
        return f"<Link {self.name} to {self.target}>"

    @property
    def is_listening(self) -> bool:
        """Whether it can be dialled."""
        return self._server is not None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._wires)

    async def start(self) -> None:
        """Take connections. Idempotent."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._take, self.address.host, self.address.port, backlog=BACKLOG, limit=CHUNK_BYTES
            )

    def refuse(self) -> None:
        """Be what a host is whose server has died: dialling is refused, and every connection is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    async def close(self) -> None:
        """Break everything."""
        self.refuse()
        await self._tasks.close()

    # -- what a network does -----------------------------------------------------------------------------------------

    def hold(self, *directions: Direction) -> None:
        """Let nothing pass in these directions, none given: in both. Connections stand, and new ones hang."""
        for direction in directions or BOTH:
            lane = self._lanes[direction]
            lane.holds += 1
            lane.open.clear()

    def release(self, *directions: Direction) -> None:
        """Take back one `hold`; what was held goes on when all are."""
        for direction in directions or BOTH:
            lane = self._lanes[direction]
            lane.holds = max(0, lane.holds - 1)
            if not lane.holds:
                lane.open.set()

    def drop(self) -> None:
        """Reset every connection, at both ends."""
        for wire in list(self._wires):
            wire.abort()

    def forget(self) -> None:
        """Reset every connection at the far end alone: who dialled is not told, and sends into the void."""
        for wire in list(self._wires):
            wire.forget()

    def cut(self, direction: Direction = Direction.FORWARD) -> None:
        """Let half of what comes next pass, and end its connection there."""
        self._lanes[direction].cuts += 1

    def corrupt(self, direction: Direction = Direction.FORWARD) -> None:
        """Flip a bit in what comes next."""
        self._lanes[direction].flips += 1

    def heal(self) -> None:
        """Be a good link from now on. Connections stand."""
        self.delay, self.bytes_per_second = 0.0, None
        for lane in self._lanes.values():
            lane.holds = lane.cuts = lane.flips = 0
            lane.open.set()
        for wire in list(self._wires):
            if wire.is_forgotten:
                wire.abort()

    # -- connections -------------------------------------------------------------------------------------------------

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer), name=f"link-{self.name}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(self, reader, writer)
        self._wires[wire] = None
        try:
            await wire.run()
        finally:
            self._wires.pop(wire)
            wire.close()

    async def pass_on(self, data: bytes, direction: Direction, writer: asyncio.StreamWriter) -> bool:
        """Send what came, as this link does such things. Returns False if that broke the connection."""
        lane = self._lanes[direction]
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.bytes_per_second is not None:
            await asyncio.sleep(len(data) / self.bytes_per_second)
        await lane.open.wait()
        if writer.is_closing():
            return False
        if lane.flips:
            lane.flips -= 1
            at = self._random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
        if lane.cuts:
            lane.cuts -= 1
            writer.write(data[: len(data) // 2])
            await writer.drain()
            return False
        writer.write(data)
        await writer.drain()
        return True

    @property
    def chunk_bytes(self) -> int:
        """How much is passed on at once."""
        return CHUNK_BYTES if self.bytes_per_second is None else NARROW_CHUNK_BYTES


class _Wire:
    """One connection through a link: two halves, and what goes from one to the other."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_forgotten = False
        self._link = link
        self._near = reader, writer
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until either end closes, or the link breaks it."""
        target = self._link.target
        try:
            far = self._far = await asyncio.open_connection(target.host, target.port, limit=CHUNK_BYTES)
        except OSError:
            self.abort()
            return
        async with asyncio.TaskGroup() as tasks:
            pumps = [
                tasks.create_task(self._pump(self._near[0], far[1], Direction.FORWARD)),
                tasks.create_task(self._pump(far[0], self._near[1], Direction.BACKWARD)),
            ]
            await self._over.wait()
            for pump in pumps:
                pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        try:
            while data := await reader.read(self._link.chunk_bytes):
                is_whole = self.is_forgotten or await self._link.pass_on(data, direction, writer)
                if not is_whole and not self.is_forgotten:  # it may have been meanwhile
                    break
        except OSError:
            pass  # an end is gone
        if not self.is_forgotten or direction is Direction.FORWARD:
            self._over.set()

    def forget(self) -> None:
        """The far end is gone, and the near end does not know."""
        if self._far is not None:
            self.is_forgotten = True
            self._far[1].transport.abort()

    def close(self) -> None:
        """Close both ends, after what was passed on to them."""
        self._near[1].close()
        if self._far is not None:
            self._far[1].close()

    def abort(self) -> None:
        """Reset both ends."""
        self._over.set()
        self._near[1].transport.abort()
        if self._far is not None:
            self._far[1].transport.abort()
