"""Links to the other members: each member dials every other and sends on the connection it dialled.

What the others send arrives on the connections they dialled. So there is no contest over whose connection counts,
and a link that breaks is dialled again at once by the member that needs it: whether that redial is *refused* is the
evidence for an early election (protocol §3.3).

Only who is no member as far as this one knows is answered on its own call: a leader that joined while this member was
away must bring it up to date before it can be dialled.
"""

import asyncio
import random
from collections.abc import Callable

from copycat.errors import CopycatError, HandshakeError
from copycat.io.transport.transport import Connection, DialError, FrameHandler, Transport
from copycat.raft.protocol.handshake import decode_hello, encode_hello
from copycat.raft.protocol.members import Member
from copycat.raft.server.identity import Identity
from copycat.util.address import Address
from copycat.util.backoff import Backoff
from copycat.util.tasks import TaskOwner

REDIAL_S_MIN = 0.05
REDIAL_S_MAX = 1.0


class Peers:
    """The outgoing links of one member.

    on_up(member), on_down(member, refused) and greet(hello) are called on the loop; `greet` may raise HandshakeError.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        identity: Identity,
        handler: FrameHandler,
        greet: Callable[[Connection], None],
        on_up: Callable[[str], None],
        on_down: Callable[[str, bool], None],
        chance: random.Random,
        dial_timeout: float,
    ) -> None:
        self._transport = transport
        self._identity = identity
        self._handler = handler
        self._greet = greet
        self._on_up = on_up
        self._on_down = on_down
        self._random = chance
        self._dial_timeout = dial_timeout
        self._tasks = TaskOwner(f"{identity.member.id}-peers")
        self._links: dict[str, Connection] = {}
        self._calls: dict[str, Connection] = {}  # of those that are not dialled
        self._unflushed: dict[str, Connection] = {}  # sent to since `flush`
        self._dialled: dict[str, asyncio.Task[None]] = {}
        self.failures: dict[str, str] = {}  # why the latest dial of each unreachable member failed

    def start(self) -> None:
        """Dial every other member, and keep dialling; again when there are more."""
        for member in self._others():
            if member.id not in self._dialled:
                self._dialled[member.id] = self._tasks.start(self._keep_dialled(member), name=f"dial-{member.id}")

    def forget_others(self) -> None:
        """Dial nobody any more who is no member."""
        names = [member.id for member in self._others()]
        for name in [name for name in self._dialled if name not in names]:
            self._dialled.pop(name).cancel()
            self.failures.pop(name, None)

    def _find(self, known: Member) -> Member:
        """Where a member is dialled now; as it was, if it is none any more."""
        return next((member for member in self._others() if member.id == known.id), known)

    def _others(self) -> list[Member]:
        return [member for member in self._identity.members if member.id != self._identity.member.id]

    @property
    def up(self) -> list[str]:
        """The members whose link stands, in order."""
        return sorted(self._links)

    def is_up(self, member: str) -> bool:
        """Whether frames to this member have a way."""
        return member in self._links

    def called(self, member: str, connection: Connection) -> None:
        """A member has called."""
        self._calls[member] = connection
        connection.on_close.append(lambda _connection, _error: self._call_ended(member, connection))

    def _call_ended(self, member: str, connection: Connection) -> None:
        if self._calls.get(member) is connection:
            del self._calls[member]

    def send(self, member: str, frame: bytes) -> bool:
        """Send if the link stands. Returns whether it did; a frame may still be lost with its link."""
        link = self._links.get(member) or (self._calls.get(member) if member not in self._dialled else None)
        if link is None:
            return False
        link.send(frame)
        self._unflushed[member] = link
        return True

    def send_all(self, frame: bytes) -> None:
        """Send to every member whose link stands."""
        for link in self._links.values():
            link.send(frame)

    def flush(self) -> None:
        """Write what was sent this turn."""
        if self._unflushed:
            links, self._unflushed = self._unflushed, {}
            for link in links.values():
                link.flush()

    async def close(self) -> None:
        """Close every link and stop dialling."""
        await self._tasks.close()
        for link in list(self._links.values()):
            link.close()
        self._links.clear()

    async def _keep_dialled(self, member: Member) -> None:
        backoff = Backoff(REDIAL_S_MIN, REDIAL_S_MAX, random=self._random)
        stood: Address | None = None  # where it was last
        while True:
            member = self._find(member)
            address = Address(member.host, member.port)
            try:
                link = await self._transport.connect(
                    address, encode_hello(self._identity.hello()), self._handler, timeout=self._dial_timeout
                )
                self._meet(member, link)
            except DialError as error:
                self.failures[member.id] = error.reason
                # Refusal is evidence only after a link: before, it may be a firewall or an address that has moved.
                self._on_down(member.id, error.refused and stood == address)
            except (CopycatError, OSError) as error:
                self.failures[member.id] = str(error)
                self._on_down(member.id, False)
            else:
                backoff.reset()
                stood = address
                await self._until_closed(member.id, link)
                continue
            await asyncio.sleep(backoff.next_delay())

    def _meet(self, member: Member, link: Connection) -> None:
        """Raises HandshakeError, and closes the link, if this is another than was called, or we do not belong."""
        try:
            hello = decode_hello(link.peer_hello)
            if hello.role != "member" or hello.member_id != member.id:
                raise HandshakeError(f"{member.address} answered as {hello.member_id!r}, not as {member.id!r}")
            self._greet(link)
        except BaseException:
            link.close()
            raise

    async def _until_closed(self, member: str, link: Connection) -> None:
        closed = asyncio.Event()
        if link.is_closed:
            return
        link.on_close.append(lambda _link, _error: closed.set())
        self._links[member] = link
        self.failures.pop(member, None)
        self._on_up(member)
        try:
            await closed.wait()
        finally:
            self._links.pop(member, None)
            link.close()
        self._on_down(member, False)
