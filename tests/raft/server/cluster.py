"""A cluster within one event loop: real servers and clients, over a network and on disks that can be spoiled."""

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from copycat.io.storage import Storage, StorageLevel
from copycat.raft.client.client import RaftClient
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.follower import Follower
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.state_machine import Commit, Executor, Session, StateMachine
from copycat.raft.protocol.wire import Tag
from copycat.raft.server.flusher import SLOW_FLUSHES
from copycat.raft.server.server import RaftServer
from copycat.raft.server.status import Status
from copycat.testing.disk import FaultyDisk
from copycat.testing.processes import free_ports
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.disks import SpoiltDisk
from tests.raft.server.network import NamedTransport, Network

QUICK = RaftConfig(election_timeout_ms=300, heartbeat_ms=40, lease_ms=120)
OPEN_SECONDS = 20.0  # the test fails when no leader comes up for so long

PUT, ADD, SET_TIMER, GET, TOTAL = 1, 2, 3, 11, 12


class Notebook(StateMachine, name="test.notebook"):
    """Keeps what it is told, and where in the log sessions ended and timers fired."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.total = 0
        self.ended: list[tuple[int, int, bool]] = []  # session, index, whether it expired
        self.fired: list[tuple[str, int, int]] = []  # word, index, log time
        self.set: list[tuple[str, int]] = []  # word, log time at which it was asked for
        self.queries = 0  # here alone

    def snapshot(self) -> list[Any]:
        return [self.values, self.total, self.ended, self.fired, self.set]

    def restore(self, parts: Iterable[Any]) -> None:
        self.values, self.total, self.ended, self.fired, self.set = parts

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(PUT, self._put)
        executor.register_command(ADD, self._add)
        executor.register_command(SET_TIMER, self._set_timer)
        executor.register_query(GET, self._get)
        executor.register_query(TOTAL, self._get_total)

    def _put(self, commit: Commit, key: str, value: Any) -> Any:
        previous = self.values.get(key)
        self.values[key] = value
        return previous

    def _add(self, commit: Commit, amount: int) -> int:
        self.total += amount
        return self.total

    def _set_timer(self, commit: Commit, delay_ms: int, word: str) -> None:
        self.set.append((word, self._executor.time))
        self._executor.schedule(delay_ms, self._fire, word)

    def _fire(self, word: str) -> None:
        self.fired.append((word, self._executor.index, self._executor.time))

    def _get(self, commit: Commit, key: str) -> Any:
        self.queries += 1
        return self.values.get(key)

    def _get_total(self, commit: Commit) -> int:
        return self.total

    def expire(self, session: Session) -> None:
        self.ended.append((session.id, self._executor.index, True))

    def close(self, session: Session) -> None:
        self.ended.append((session.id, self._executor.index, False))


class Cluster:
    """`size` members named a, b, c …, none of them open yet; `async with` opens all, and in the end closes everything.

    directory: where members keep their data, on real files; `faulty` instead on a FaultyDisk each; neither: in memory.
    tcp: over real sockets. make: makes a server of its own kind from a member, the list and options.
    options: for every server.
    """

    def __init__(
        self,
        size: int = 3,
        directory: Path | None = None,
        *,
        faulty: bool = False,
        tcp: bool = False,
        config: RaftConfig = QUICK,
        make: Callable[..., RaftServer] | None = None,
        **options: Any,
    ) -> None:
        self.network = Network(tcp=tcp)
        ports = free_ports(size) if tcp else range(5001, 5001 + size)
        self.members = {name: Member(name, "127.0.0.1", port) for name, port in zip("abcdefg", ports, strict=False)}
        for member in self.members.values():
            self.network.names[Address(member.host, member.port)] = member.id
        self.servers: dict[str, RaftServer] = {}
        self.transports: dict[str, NamedTransport] = {}
        self.disks: dict[str, SpoiltDisk] = {}
        self.machines: dict[str, Notebook] = {}
        self.fatal: dict[str, list[BaseException]] = {name: [] for name in self.members}
        self.clients: list[RaftClient] = []
        self.config = config
        self._directory = directory
        self._faulty = faulty
        self.storage_options: dict[str, Any] = {}  # for whoever is opened from now on
        self._options = options
        self._make = make if make is not None else RaftServer

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def new_server(self, name: str, **options: Any) -> RaftServer:
        """A server for the member `name`, not open yet; `options` are RaftServer's and override the cluster's."""
        transport = self.network.transport(name)
        options = {
            "members": list(self.members.values()),
            "storage": self.storage(name),
            "transport": transport,
            "config": self.config,
            "on_fatal": self.fatal[name].append,
            **self._options,
            **options,
        }
        if self._make is RaftServer:
            options.setdefault("machine", lambda: self._new_machine(name))
        server = self._make(name, options.pop("members"), **options)
        self.servers[name], self.transports[name] = server, transport
        return server

    def storage(self, name: str) -> Storage:
        """Where the member keeps its data: the same place at every start."""
        if self._directory is None and not self._faulty:
            return Storage(level=StorageLevel.MEMORY, **self.storage_options)
        disk = self.disks.setdefault(name, SpoiltDisk(FaultyDisk() if self._faulty else None))
        return Storage(name if self._directory is None else self._directory / name, disk=disk, **self.storage_options)

    def _new_machine(self, name: str) -> Notebook:
        machine = self.machines[name] = Notebook()
        return machine

    async def start(self, *names: str, timeout: float | None = OPEN_SECONDS, **options: Any) -> None:
        """Open these members, or all, and wait until each knows a leader."""
        servers = [self.new_server(name, **options) for name in names or self.members]
        async with asyncio.TaskGroup() as tasks:
            for server in servers:
                tasks.create_task(server.open(timeout))
            if not names and len(servers) > 1:
                tasks.create_task(self._hurry())

    async def _hurry(self) -> None:
        """Let the first election come as soon as the members' promises allow it, to save the tests' time."""
        await wait_until(lambda: all(server.driver is not None for server in self.servers.values()))
        drivers = [server.driver for server in self.servers.values() if server.driver is not None]
        allowed_ms = max(driver.raft.promised_until for driver in drivers) + self.config.heartbeat_ms
        role = drivers[0].raft.role
        if isinstance(role, Follower):
            role.deadline_ms = min(role.deadline_ms, allowed_ms)
            drivers[0].wake()

    async def stop(self, *names: str) -> None:
        """Close these members in order."""
        for name in names or list(self.servers):
            server = self.servers.pop(name, None)
            if server is not None:
                if name in self.disks:
                    self.disks[name].release_syncs()
                await server.close()
                await self.transports.pop(name).close()

    def hold_syncs(self, *names: str) -> None:
        """Let none of their syncs begin until released. They are made beside the loop, as after a slow one."""
        for name in names:
            self.disks[name].hold_syncs()
            driver = self.servers[name].driver
            assert driver is not None
            driver.flusher._beside = SLOW_FLUSHES

    async def crash(self, *names: str, chooser: random.Random, kept: float | None = None) -> None:
        """These members' machines lose power: what was not synced is gone, or part of it."""
        for name in names or list(self.servers):
            self.disks[name].crash(chooser, kept=kept)
        await self.stop(*names)
        for name in names or self.members:
            self.fatal[name].clear()  # what the dying said of it

    async def close(self) -> None:
        self.network.heal()
        for disk in self.disks.values():
            disk.heal()
        for client in self.clients:
            await client.close()
        await self.stop()

    # -- who leads ---------------------------------------------------------------------------------------------------

    def status(self, name: str) -> Status:
        return self.servers[name].status()

    def leader(self, among: Iterable[str] | None = None) -> str | None:
        """The leader all these members (or all that are open) know, if that is one of them and is ready."""
        names = list(among) if among is not None else list(self.servers)
        known = {self.status(name).leader for name in names}
        leader = next(iter(known)) if len(known) == 1 else None
        return leader if leader in names else None

    async def elected(self, among: Iterable[str] | None = None) -> str:
        """Wait until there is such a leader; returns it."""
        names = list(among) if among is not None else None
        await wait_until(lambda: self.leader(names))
        leader = self.leader(names)
        assert leader is not None
        return leader

    def others(self, *names: str) -> list[str]:
        """The open members that are none of these, in order."""
        return [name for name in self.servers if name not in names]

    def applied(self, name: str) -> int:
        return self.status(name).applied_index

    async def level(self, *names: str) -> None:
        """Wait until these members, or all that are open, have applied everything any of them holds."""
        chosen = names or tuple(self.servers)

        def is_level() -> bool:
            states = [self.status(name) for name in chosen]
            return len({state.applied_index for state in states} | {state.last_index for state in states}) == 1

        await wait_until(is_level)

    async def rounds(self, leader: str, count: int = 3) -> None:
        """Wait until the leader has heard of its members so often: time enough for whatever would have happened."""
        before = self.network.sent(Tag.APPEND_RESPONSE, target=leader)
        enough = before + count * (len(self.servers) - 1)
        await wait_until(lambda: self.network.sent(Tag.APPEND_RESPONSE, target=leader) >= enough)

    # -- clients -----------------------------------------------------------------------------------------------------

    def new_client(self, name: str = "client", *, to: Iterable[str] | None = None, **options: Any) -> RaftClient:
        """A client by that name on the network, not open yet, that talks to some members or to any."""
        members = [self.members[each] for each in to] if to is not None else list(self.members.values())
        options = {"session_timeout": 5.0, "discover": to is None, **options}
        client = RaftClient(members, transport=self.network.transport(name), **options)
        self.clients.append(client)
        return client

    async def client(self, name: str = "client", *, to: Iterable[str] | None = None, **options: Any) -> RaftClient:
        """The same, open."""
        return await self.new_client(name, to=to, **options).open()


def put(client: RaftClient, key: str, value: Any, **options: Any) -> asyncio.Future[Any]:
    """The previous value."""
    return client.command(0, 0, PUT, (key, value), what="put", **options)


def add(client: RaftClient, amount: int, **options: Any) -> asyncio.Future[int]:
    """The new total."""
    return client.command(0, 0, ADD, (amount,), what="add", **options)


def set_timer(client: RaftClient, delay_ms: int, word: str) -> asyncio.Future[None]:
    return client.command(0, 0, SET_TIMER, (delay_ms, word), what="set_timer")


def get(
    client: RaftClient, key: str, consistency: ConsistencyLevel = ConsistencyLevel.LINEARIZABLE, **options: Any
) -> asyncio.Future[Any]:
    return client.query(0, 0, GET, (key,), consistency=consistency, what="get", **options)
