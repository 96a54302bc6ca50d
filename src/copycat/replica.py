"""A Copycat with a server of its own: the process holds the state, takes part in consensus, and uses it."""

import asyncio
import random
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from copycat import atomic, collections, coordination
from copycat.errors import ClosedError
from copycat.handle import SESSION_TIMEOUT_SECONDS, TIMEOUT_SECONDS, Copycat
from copycat.io.serializer import Serializer
from copycat.io.storage.storage import Storage
from copycat.io.transport.local import LocalTransport
from copycat.io.transport.transport import Transport
from copycat.raft.client.backup import Backup, fetch_backup
from copycat.raft.client.client import BACKUP_SECONDS, RaftClient
from copycat.raft.client.states import Recovery
from copycat.raft.core.config import RaftConfig
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.executor import Machines
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.members import Member
from copycat.raft.server.executors import MakeMachines
from copycat.raft.server.limits import ServerLimits
from copycat.raft.server.server import CHECK_SECONDS, RaftServer
from copycat.raft.server.status import Status
from copycat.resource.loading import machines_of, resources_in
from copycat.resource.manager import ResourceManager
from copycat.resource.resource import Resource
from copycat.util.address import Address
from copycat.util.builder import Buildable
from copycat.util.context import Context
from copycat.util.loop_thread import LoopThread

T = TypeVar("T")

SHIPPED: tuple[type[Resource], ...] = resources_in(atomic, collections, coordination)
"""The resources every server allows."""

OWN_DOOR = Member("own", "local", 1)


def machines_for(resources: Iterable[Any] = ()) -> MakeMachines:
    """What a server of the shipped resources and these runs. Raises ConfigurationError."""
    allowed = machines_of([*SHIPPED, *resources])

    def machines(clockwork: Clockwork, codec: ValueCodec) -> Machines:
        return ResourceManager(clockwork, codec, allowed)

    return machines


def make_server(
    member: str | Member,
    members: str | Iterable[str | Member],
    *,
    resources: Iterable[Any] = (),
    **options: Any,
) -> RaftServer:
    """A server of resources: the shipped ones and `resources`; options are those of RaftServer.

    Raises ConfigurationError.
    """
    return RaftServer(member, members, machines=machines_for(resources), **options)


class CopycatReplica(Copycat, Buildable):
    """One member of a cluster, and a Copycat that reaches the cluster through it.

    member: this member's id, or the Member itself. members: every member, this one included: text, strings or Members.
    storage: where data is kept; None keeps it in memory, where it dies with the process.
    resources: classes of your own to allow, Resources or StateMachines; every member needs the same.
    listen: the address to listen on, "host:port"; None: the advertised one if it is an IP address or localhost.
    transport: None for TCP, which refuses to listen beyond loopback without TLS (see TcpTransport).
    config: times of consensus. limits: what the server takes from clients.
    join: with a new directory, ask the cluster that the other `members` belong to, to let this one in. vote: and for a
        vote, as soon as it is level; False: it stays without one.
    check_interval: as for RaftServer.
    thread: run the server on an event loop and thread of its own, so that a busy program deposes no leader and loses
        no session; False runs it on the loop that opens this.
    session_timeout, timeout, recovery, serializer, random: as for CopycatClient.

    Raises ConfigurationError for members or resources that contradict each other.
    """

    def __init__(
        self,
        member: str | Member,
        members: str | Iterable[str | Member],
        *,
        storage: Storage | None = None,
        resources: Iterable[Any] = (),
        listen: str | Address | None = None,
        transport: Transport | None = None,
        config: RaftConfig | None = None,
        limits: ServerLimits | None = None,
        join: bool = False,
        vote: bool = True,
        check_interval: float = CHECK_SECONDS,
        thread: bool = True,
        session_timeout: float = SESSION_TIMEOUT_SECONDS,
        timeout: float | None = TIMEOUT_SECONDS,
        recovery: Recovery = Recovery.RECOVER,
        serializer: Serializer | None = None,
        random: random.Random | None = None,
    ) -> None:
        own = LocalTransport()
        self._registry = own.registry
        doors: Sequence[tuple[Transport, Address]] = [(own, Address(OWN_DOOR.host, OWN_DOOR.port))]
        self.server = make_server(
            member,
            members,
            resources=resources,
            storage=storage,
            listen=listen,
            transport=transport,
            doors=doors,
            config=config,
            limits=limits,
            join=join,
            vote=vote,
            check_interval=check_interval,
            random=random,
        )
        self._thread = LoopThread(f"copycat-{self.server.member.id}") if thread else None
        self._opening, self._stopping = asyncio.Lock(), asyncio.Lock()
        self._context: Context | None = None  # where it was opened
        self._is_running = False
        self._is_closed = False
        client = RaftClient(
            [OWN_DOOR],
            transport=LocalTransport(own.registry),
            session_timeout=session_timeout,
            timeout=timeout,
            recovery=recovery,
            discover=False,
            random=random,
        )
        super().__init__(client, serializer=serializer, timeout=timeout)

    async def open(self, timeout: float | None = TIMEOUT_SECONDS) -> "CopycatReplica":
        """Start the server, wait until there is a leader, for `timeout` seconds (None: for ever), and open a session.

        Idempotent while it is open. Raises: NoLeaderError, saying which members were heard and why the others were
        not; DirectoryInUseError, ForeignDirectoryError, CorruptionError, StorageError, ConfigurationError (a port in
        use). Nothing stays open then. ClosedError for a replica that was closed.
        """
        async with self._opening:  # whoever comes second waits for the first
            if self._is_closed:
                raise ClosedError("the replica is closed: open another")
            if self._context is None:
                await self._start(timeout)
            else:
                await super().open()
        return self

    async def _start(self, timeout: float | None) -> None:
        self._context = Context.current()
        if self._thread is not None:
            self._thread.start()
        self._is_running = True
        try:
            await self._at_server(self.server.open(timeout))
            await super().open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the session and stop the server. The member keeps its place in the cluster, and its data.

        Idempotent; does nothing in a forked child.
        """
        if self._context is not None:
            if self._context.is_inherited:
                return  # nothing here is this process's to end
            self._context.check_thread()
        self._is_closed = True
        try:
            await super().close()
        finally:
            async with self._stopping:
                if self._is_running:
                    await self._at_server(self.server.close())
                    if self._thread is not None:
                        await self._thread.close()
                    self._is_running = False

    async def leave(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Leave the cluster for good, then close. The directory is of no more use, and the id never returns.

        Raises: ConfigurationError when this is the only member with a vote; NoLeaderError when no leader let it go
        within `timeout` seconds, IndeterminateError when that is not known; it is then open as before. ClosedError.
        """
        self._require_open()
        await super().close()
        await self._at_server(self.server.leave(timeout))
        await self.close()

    async def transfer_leadership(self, member: str | None = None, timeout: float = 5.0) -> None:
        """Let `member` lead, None: whoever holds most; as `RaftServer.transfer_leadership`."""
        self._require_open()
        await self._at_server(self.server.transfer_leadership(member, timeout))

    async def server_status(self) -> Status:
        """What this replica's own server knows. Raises ClosedError while it is not open."""
        self._require_open()

        async def ask() -> Status:
            return self.server.status()

        return await self._at_server(ask())

    async def take_snapshot(self) -> int:
        """Have this replica's own server take a snapshot now; gives the last index of the log that it covers.

        Servers take snapshots by themselves, see `Storage`. Raises: SnapshotError, naming the resource whose state
        cannot be encoded; StorageError when there is no room; ClosedError while it is not open.
        """
        self._require_open()
        return await self._at_server(self.server.take_snapshot())

    def _require_open(self) -> None:
        if self._context is not None:
            self._context.check_process()
        if not self._is_running:
            raise ClosedError(
                "the replica is closed: open another"
                if self._is_closed
                else "the replica is not open: await its open()"
            )

    async def backup(self, path: str | Path, *, force: bool = False, timeout: float = BACKUP_SECONDS) -> Backup:
        """As `Copycat.backup`: from the leader, whichever member that is, over this replica's transport."""
        if self._context is not None:
            self._context.check_process()
        if not self._is_running:
            raise ClosedError("the replica is not open")
        return await self._at_server(self._fetch_backup(path, force, timeout))

    async def _fetch_backup(self, path: str | Path, force: bool, timeout: float) -> Backup:
        members = self.server.identity.members
        if len(members) > 1:
            addresses = [member.address for member in members]
            return await fetch_backup(self.server.transport, addresses, path, force=force, timeout=timeout)
        transport = LocalTransport(self._registry)  # nobody dials a member that is alone, at whatever address
        try:
            return await fetch_backup(transport, [OWN_DOOR.address], path, force=force, timeout=timeout)
        finally:
            await transport.close()

    async def _at_server(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            return await work
        return await self._thread.run(work)
