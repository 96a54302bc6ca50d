"""Servers that a client reaches on an event loop in virtual time."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from copycat.io.transport import Connection, LocalRegistry, LocalTransport, Server
from copycat.raft.client.client import RaftClient
from copycat.raft.client.states import ClientState
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.wire import HEADER_STATUS, Tag, encode_msgpack
from copycat.testing.loop import VirtualLoop
from copycat.util.address import Address
from tests.raft.client.model import Model

CLUSTER = b"c" * 16
VIRTUAL_SECONDS_MAX = 1000.0
"""A test that takes longer waits for what never comes."""


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own, in virtual time."""

    async def bounded(*arguments: Any, **options: Any) -> None:
        async with asyncio.timeout(VIRTUAL_SECONDS_MAX):
            await test(*arguments, **options)

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(bounded(*arguments, **options))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


class Host:
    """A server of `model` that listens on a network within the process.

    is_mute: takes frames and does nothing. knows_leader: tells its callers who leads.
    """

    def __init__(self, model: Model, registry: LocalRegistry, address: str, *, cluster: bytes = CLUSTER) -> None:
        self.model = model
        self.address = address
        self.cluster = cluster
        self.hello: bytes | None = None  # to say instead of a proper one
        self.is_mute = False
        self.knows_leader = True
        self.drop: Callable[[bytes], bool] = lambda frame: False  # whether to lose an answer
        self.connections: list[Connection] = []
        self.callers = 0
        self.frames: list[bytes] = []
        self._transport = LocalTransport(registry)
        self._server: Server | None = None

    async def open(self) -> "Host":
        self._server = await self._transport.listen(Address.parse(self.address), self._accept, self._serve)
        return self

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        if self._server is not None:
            await self._server.close()

    def _accept(self, hello: bytes, connection: Connection) -> bytes:
        self.callers += 1
        self.connections.append(connection)
        connection.on_close.append(lambda gone, _error: self.connections.remove(gone))
        if self.knows_leader and not self.is_mute:
            connection.send(self.model.notice())
        if self.hello is not None:
            return self.hello
        return encode_hello(Hello(role="member", member_id=self.address.split(":")[0], cluster_id=self.cluster))

    def _serve(self, connection: Connection, frames: list[bytes]) -> None:
        self.frames += frames
        if self.is_mute:
            return
        for frame in frames:
            if frame[0] == Tag.STATUS:
                answers = [HEADER_STATUS.pack(Tag.STATUS_ANSWER, 1) + encode_msgpack({"member": self.address})]
            else:
                answers = self.model.serve(frame, connection)
            connection.send_many([each for each in answers if not self.drop(each)])

    def tell(self, frame: bytes) -> None:
        """Send to everybody connected here."""
        for connection in list(self.connections):
            connection.send(frame)

    def announce(self) -> None:
        """Name the leader to everybody connected here."""
        self.tell(self.model.notice())

    def hang_up(self, error: Exception | None = None) -> None:
        for connection in list(self.connections):
            connection.abort(error)


class Cluster:
    """Servers "a:1", "b:1", … of one model, and clients of theirs."""

    def __init__(self, names: str = "a") -> None:
        self.model = Model()
        self.registry = LocalRegistry()
        self.hosts = {name: Host(self.model, self.registry, f"{name}:1") for name in names}
        self.clients: list[RaftClient] = []

    async def __aenter__(self) -> "Cluster":
        for host in self.hosts.values():
            await host.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        for host in self.hosts.values():
            await host.close()

    @property
    def a(self) -> Host:
        return self.hosts["a"]

    def new_client(self, members: Iterable[str] | None = None, *, seed: int = 1, **options: Any) -> RaftClient:
        """A client of these addresses, or of all servers, not open yet."""
        addresses = list(members) if members is not None else [host.address for host in self.hosts.values()]
        options = {"transport": LocalTransport(self.registry), "random": random.Random(seed), **options}
        client = RaftClient(addresses, **options)
        self.clients.append(client)
        return client

    async def client(self, members: Iterable[str] | None = None, **options: Any) -> RaftClient:
        """The same, open."""
        return await self.new_client(members, **options).open()

    def host_of(self, client: RaftClient) -> Host:
        """The server `client` is connected to."""
        assert client.connected_to is not None
        return self.hosts[client.connected_to]


async def turn(count: int = 20) -> None:
    """Let the loop turn, without letting time pass."""
    for _ in range(count):
        await asyncio.sleep(0)


async def reach(client: RaftClient, state: ClientState) -> None:
    """Wait until the client is, or was for a moment, in that state."""
    if client.state is state:
        return
    reached = asyncio.Event()
    with client.on_state_change(lambda now: reached.set() if now is state else None):
        await reached.wait()


def say(client: RaftClient, word: str, **options: Any) -> asyncio.Future[Any]:
    """A command; its result is its place in the log."""
    return client.command(0, 0, 1, (word,), what=f"say {word!r}", **options)


def ask(client: RaftClient, word: str = "?", **options: Any) -> asyncio.Future[Any]:
    """A query; its result is how many commands were executed."""
    return client.query(0, 0, 1, (word,), what=f"ask {word!r}", **options)
