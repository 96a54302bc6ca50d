"""Which server a client talks to: dials until one answers, and another when that one is lost or left.

Servers are tried in random order, so that many clients spread over them. Why each failed is remembered, for it is what
a person needs to read when nothing works.
"""

import asyncio
import random as random_module
from collections.abc import Callable, Iterable

from copycat.errors import ClosedError, ConnectError, CopycatError, HandshakeError, NoLeaderError, RetryableError
from copycat.io.transport.transport import DialError
from copycat.raft.client.channels import Channel, ConnectionPool
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.protocol.handshake import PROTOCOL_VERSIONS, Hello, agree_version, decode_hello
from copycat.util.address import Address

DIAL_SECONDS = 2.0  # a host that takes longer is tried again later: meanwhile another may answer


class Connector:
    """Keeps a channel to one server, as long as `run` runs.

    addresses: where servers may be found; `learn` adds more. pool: dials them.
    on_frames: gets every frame of the connection that is current, and of no other.
    on_connected, on_lost: called when a connection becomes current, and when it no longer is.
    selection: which servers to try first, and to change to. strategy: what to do when none answers.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        pool: ConnectionPool,
        *,
        random: random_module.Random,
        on_frames: Callable[[list[bytes]], object],
        on_connected: Callable[[], object],
        on_lost: Callable[[], object],
        selection: ServerSelection = ServerSelection.ANY,
        strategy: ConnectionStrategy = ConnectionStrategy.EXPONENTIAL_BACKOFF,
    ) -> None:
        self.connection: Channel | None = None
        self.address = ""  # of the server connected to last
        self.member = ""  # its id
        self.heard: dict[str, str] = {}  # address to id of each server that ever answered
        self.tried: dict[str, str] = {}  # address to the reason it was of no use when last tried
        self._cluster_id = b""
        self._is_settled = False  # a session stands in that cluster: no other will do
        self._addresses = list(dict.fromkeys(addresses))
        self._pool = pool
        self._random = random
        self._on_frames = on_frames
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._selection = selection
        self._strategy = strategy
        self._leader: str | None = None  # the leader's address, as the last server that knew one gave it
        self._lost = asyncio.Event()
        self._delays = strategy.delays(random)

    async def run(self) -> None:
        """Connect, and connect again, until cancelled or the transport is closed.

        Raises ConnectError or NoLeaderError when no server answers and the strategy is ONCE.
        """
        try:
            while True:
                for address in self._in_order():
                    if await self._connect(address):
                        await self._lost.wait()
                        break
                else:
                    if self._strategy is ConnectionStrategy.ONCE:
                        raise self.error("each server was tried once")
                await asyncio.sleep(self._delays.next_delay())
        finally:
            self.leave("the client was closed")

    @property
    def addresses(self) -> list[str]:
        """Every server known, the one connected to first."""
        return sorted(self._addresses, key=self.address.__ne__)

    def learn(self, addresses: Iterable[str]) -> None:
        """Try these servers, too."""
        self._addresses = list(dict.fromkeys([*self._addresses, *addresses]))

    def settle(self) -> None:
        """This server's cluster is the one: it holds our session, and servers of others are refused from now on."""
        self._is_settled = True
        self._delays.reset()
        self.tried.pop(self.address, None)

    def follow(self, leader: str, address: str | None) -> None:
        """The server connected to says that `leader` leads, at `address`: change to one as wished, if there is any.

        Once for each leader, so that a server that cannot be reached is not tried over and over.
        """
        is_news, self._leader = address != self._leader, address
        if not is_news or address is None or self._selection is ServerSelection.ANY or self.connection is None:
            return
        is_leader = self.member == leader
        if is_leader is not (self._selection is ServerSelection.LEADER) and any(map(self._wants, self._addresses)):
            self.leave(f"is {'the leader' if is_leader else 'not the leader'}, and others are preferred")

    def _wants(self, address: str) -> bool:
        return self._selection.wants(address, self._leader)

    def leave(self, reason: str, *, in_doubt: bool = False) -> None:
        """Give this server up for `reason`, and try others first. `in_doubt`: it may hear this connection no longer."""
        connection = self.connection
        if connection is not None:
            self._let_go(connection, reason)
            if in_doubt:
                connection.abandon()
            else:
                connection.close()

    def note(self, reason: str) -> None:
        """Remember why the server connected to is of no use for now."""
        self.tried[self.address] = reason

    def describe(self) -> str:
        """What became of each server, for people."""
        if self.connection is not None and self.address not in self.tried:
            return f"connected to {self._name(self.address)}"
        if not self.tried:
            return f"none of {', '.join(self._addresses)} has answered yet"
        return "; ".join(f"{self._name(address)}: {reason}" for address, reason in sorted(self.tried.items()))

    def error(self, what: str) -> RetryableError:
        """`what` could not be done, for want of a server or of a leader."""
        advice = f"Check the addresses, or run: copycat status {','.join(self._addresses)}"
        if self.heard:
            return NoLeaderError(f"{what}: no leader answered. {self.describe()}. {advice}")
        return ConnectError(f"{what}: no server answered. {self.describe()}. {advice}", tried=self.tried)

    def _name(self, address: str) -> str:
        member = self.heard.get(address)
        return f"{member} ({address})" if member and member != address else address

    def _in_order(self) -> list[str]:
        """Every server once: at random, but those as wished first, and the one just left last."""
        addresses = self._random.sample(self._addresses, len(self._addresses))
        addresses.sort(key=lambda address: (address == self.address, not self._wants(address)))
        return addresses

    async def _connect(self, address: str) -> bool:
        try:
            connection = await self._pool.connect(Address.parse(address), self._handle, timeout=DIAL_SECONDS)
        except ClosedError:
            raise
        except CopycatError as error:
            self.tried[address] = _reason(error, address)
            return False
        try:
            hello = self._check(connection)
        except CopycatError as error:
            connection.close()
            self.tried[address] = str(error)
            return False
        self._begin(connection, address, hello)
        return True

    def _check(self, connection: Channel) -> Hello:
        """The server's hello, when it is one to talk to. Raises HandshakeError or ProtocolError."""
        hello = decode_hello(connection.peer_hello)
        agree_version(PROTOCOL_VERSIONS, hello.versions)
        if self._is_settled and self._cluster_id and hello.cluster_id not in (b"", self._cluster_id):
            raise HandshakeError(
                f"belongs to another cluster: {hello.cluster_id.hex()}, and this client's is {self._cluster_id.hex()}"
            )
        return hello

    def _begin(self, connection: Channel, address: str, hello: Hello) -> None:
        self._cluster_id = hello.cluster_id or (self._cluster_id if self._is_settled else b"")
        self.address, self.member = address, hello.member_id
        self.heard[address] = hello.member_id
        self.tried[address] = "answered, but has named no leader yet"
        self.connection = connection
        self._lost.clear()
        connection.on_close.append(self._closed)
        if connection.is_closed:
            self._let_go(connection, "closed the connection")
        else:
            self._on_connected()

    def _closed(self, connection: Channel, error: Exception | None) -> None:
        self._let_go(connection, "closed the connection" if error is None else _reason(error, self.address))

    def _let_go(self, connection: Channel, reason: str) -> None:
        if connection is self.connection:
            self.connection = None
            self.tried[self.address] = reason
            self._lost.set()
            self._on_lost()

    def _handle(self, connection: Channel, frames: list[bytes]) -> None:
        if connection is self.connection:
            self._on_frames(frames)


def _reason(error: Exception, address: str) -> str:
    return error.reason if isinstance(error, DialError) else str(error).removeprefix(f"{address}: ")
