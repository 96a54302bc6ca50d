"""A caller that says to a member whatever a test wants, and keeps what it hears."""

from copycat.io.transport import Connection
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    HEADER_KEEP_ALIVE,
    HEADER_REGISTER,
    HEADER_REGISTERED,
    KEPT_ALIVE,
    Tag,
    encode_operations,
)
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import ADD, Cluster

CLIENT = Hello(role="client")


class Caller:
    """One connection to one member."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.connection: Connection

    def hear(self, _connection: Connection, frames: list[bytes]) -> None:
        self.frames += frames

    def send(self, *frames: bytes) -> None:
        self.connection.send_many(list(frames))

    async def answer(self, tag: Tag) -> bytes:
        """Wait for a frame with this tag, and take it."""
        await wait_until(lambda: any(frame[0] == tag for frame in self.frames))
        frame = next(frame for frame in self.frames if frame[0] == tag)
        self.frames.remove(frame)
        return frame

    async def closed(self) -> None:
        """Wait until the member has hung up."""
        await wait_until(lambda: self.connection.is_closed)

    async def register(self, nonce: bytes = b"n" * 16, timeout_ms: int = 5000) -> tuple[int, bytes]:
        """The session and its secret."""
        self.send(HEADER_REGISTER.pack(Tag.REGISTER, nonce, timeout_ms))
        _, _, session, secret, _ = HEADER_REGISTERED.unpack(await self.answer(Tag.REGISTERED))
        return session, secret


async def call(cluster: Cluster, member: str, hello: Hello | bytes = CLIENT) -> Caller:
    """A caller of this member, greeted. Raises HandshakeError, if it is refused."""
    caller = Caller()
    greeting = hello if isinstance(hello, bytes) else encode_hello(hello)
    address = Address(cluster.members[member].host, cluster.members[member].port)
    caller.connection = await cluster.network.transport("stranger").connect(address, greeting, caller.hear)
    return caller


def batch(session: int, first: int, amount: int = 1) -> bytes:
    """A frame that adds once."""
    return HEADER_BATCH.pack(Tag.BATCH, session, first, first - 1, 1) + encode_operations([[0, 0, ADD, amount]])


def keep_alive(session: int, secret: bytes) -> bytes:
    return HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 1) + KEPT_ALIVE.pack(session, secret, 0, 0, 0)
