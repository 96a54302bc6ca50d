"""A whole cluster in one event loop and in virtual time: real servers and clients, on hosts that fail as real ones do.

    def test_a_counter_survives_its_leader() -> None:
        async def scenario(cluster: SimulatedCluster) -> None:
            client = await cluster.client()
            hits = await client.create("hits", DistributedMap[str, int])
            await hits.put("page", 1)
            cluster.crash(cluster.leader())
            assert await hits.get("page") == 1

        simulate(scenario, members=3, seed=7)

Nothing here waits for real time, and nothing is left to chance but through `seed`: the same seed does the same again,
to the byte, as `trace` tells.

Source: reliability §3 "Simulator".
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from copycat.client import CopycatClient
from copycat.errors import ConfigurationError, ForeignDirectoryError, check
from copycat.io.transport.transport import Transport
from copycat.raft.client.engine import ClientEngine
from copycat.raft.core.config import RaftConfig
from copycat.raft.protocol.members import Member
from copycat.raft.server.executors import MakeMachines
from copycat.replica import machines_for
from copycat.testing.invariants import Invariants
from copycat.testing.loop import Host, VirtualLoop
from copycat.testing.membership import SimulatedMembership
from copycat.testing.network import LinkRule, SimulatedNetwork
from copycat.testing.node import Node
from copycat.testing.streams import Streams
from copycat.testing.trace import Trace

R = TypeVar("R")

_log = logging.getLogger(__name__)

LEADER_SECONDS = 60.0  # the cluster must find a leader within this, once nothing hinders it
POLL_SECONDS = 0.02
EXPIRY_SHARE_MIN = 0.97  # of a session's timeout: two clocks may drift apart by what `faults` lets them
FIRST_PORT = 5001
MEMBERS_MAX = 7
NAMES = "abcdefghijklmnopqrstuvwxyz"  # of members, in order


class SimulationError(AssertionError):
    """The cluster did what it must never do, or something in it failed that nobody waited for."""


class SimulatedCluster:
    """`members` members named a, b, c …, and as many clients as are asked for, on a VirtualLoop; see `simulate`.

    seed: all that is left to chance. resources: classes of your own to allow, as for CopycatReplica.
    machines: instead of resources, what the servers run. config: times of consensus. rule: how links carry.
    storage, options: of each member's Storage, such as `{"snapshot_log_size": 4096}`, and of its RaftServer.
    `async with` starts all members, waits for a leader, and in the end lets everything go and checks it.

    `network`, `membership`, `invariants`, `trace` and `streams` are there to be used; so is `nodes`, with each member's
    `disk`, `clock` and `server`, also of those that have joined and left.
    """

    def __init__(
        self,
        members: int = 3,
        *,
        seed: int = 0,
        resources: Iterable[Any] = (),
        machines: MakeMachines | None = None,
        config: RaftConfig | None = None,
        rule: LinkRule | None = None,
        storage: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise ConfigurationError("a simulated cluster lives on a VirtualLoop: run it with copycat.testing.simulate")
        if not 1 <= members <= MEMBERS_MAX:
            raise ConfigurationError(f"a simulated cluster has 1 to {MEMBERS_MAX} members, not {members}")
        self.loop = loop
        self.streams = Streams(seed)
        self.trace = Trace()
        self.healings = 0  # how often all was mended: a fault that goes on by itself ends with that
        self.faults: Counter[str] = Counter()
        self.problems: list[str] = []
        self.network = SimulatedNetwork(loop, self.streams["network"], rule=rule, on_delivery=self._delivered)
        self.network.faults = self.faults
        self.invariants = Invariants()
        self.invariants.on_expired = self._expired
        self.config = config if config is not None else RaftConfig()
        self.members = [Member(name, f"host-{name}", FIRST_PORT) for name in NAMES[:members]]
        self.membership = SimulatedMembership(self)
        self._storage = storage if storage is not None else {}
        self.nodes = {member.id: self._node(member) for member in self.members}
        self.hosts: dict[str, Host] = {}  # of the clients
        self._transports: dict[str, Transport] = {}  # likewise
        self.clients: dict[str, CopycatClient] = {}
        self._machines = machines if machines is not None else machines_for(resources)
        self._options = dict(options or {})
        self._starts = 0
        self._is_closing = False

    def _node(self, member: Member, **options: Any) -> Node:
        return Node(
            member,
            loop=self.loop,
            network=self.network,
            disk_chooser=self.streams[f"disk {member.id}"],
            on_disk=self._disk_done,
            on_fatal=self._fatal,
            storage=self._storage,
            **options,
        )

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.loop.set_exception_handler(self._unhandled)
        self.start(*self.nodes)
        await self.elected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        if error is None:
            self.check()

    async def close(self) -> None:
        """Close the clients and the servers that run, and bury the dead."""
        if self._is_closing:
            return
        self.heal()
        self.trace.record(self.loop.now, "close")
        if not self.loop.has_failed:
            await self._close_the_living()
        self._is_closing = True  # what comes now is of no importance
        hosts = [host for node in self.nodes.values() for host, _ in node.past]
        hosts += [node.host for node in self.nodes.values() if node.host is not None]
        hosts += [self.membership.host] if self.membership.host is not None else []
        for host in (*hosts, *dict.fromkeys(self.hosts.values())):
            await host.bury()

    async def _close_the_living(self) -> None:
        for name, client in self.clients.items():
            if not self.hosts[name].is_dead:
                await self.hosts[name].start(client.close(), name=f"{name}-close")
        for node in self.nodes.values():
            if node.server is not None and node.host is not None:
                await node.host.start(node.server.close(), name=f"{node.name}-close")

    def check(self) -> None:
        """Raise SimulationError if anything went wrong by now that must not."""
        if self.problems:
            raise SimulationError(f"seed {self.streams.seed}: " + "; ".join(self.problems))

    # -- what the hosts report ---------------------------------------------------------------------------------------

    def _delivered(self, source: str, target: str, connection: int, data: bytes) -> None:
        self.trace.record(self.loop.now, "delivery", source, target, connection, data=data)
        if source in self.hosts:
            self.invariants.marks.spoke(source, target)

    def _disk_done(self, node: Node) -> None:
        self.trace.record(self.loop.now, "disk", node.name, node.disk.operations)

    def _fatal(self, node: Node, error: BaseException) -> None:
        """A server cannot go on. A failed disk ends the process, and so does having been removed, as it must; anything
        else is a fault of ours."""
        self.trace.record(self.loop.now, "fatal", node.name, type(error).__name__)
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError) or node.is_lost:
            self.faults["process ended by itself"] += 1
            self.invariants.marks.failed()
            node.kill(self.streams["crash"], power=False)
        elif self.membership.has_left(node.name) and (
            isinstance(error, ForeignDirectoryError)
            # It was let in, and removed, before it heard of either.
            or (isinstance(error, ConfigurationError) and node.server is not None and node.server.driver is None)
        ):
            self.faults["member ended, for it was removed"] += 1
            self.invariants.marks.left()
            node.has_left = True
            node.kill(self.streams["crash"], power=False)
        else:
            self.problems.append(f"at {self.loop.now:.3f} s, member {node.name}: {type(error).__name__}: {error}")

    def _expired(self, session: int) -> None:
        """18: a session ends no earlier than its timeout after what its client knows the cluster to have heard."""
        for name, client in self.clients.items():
            engine, host = engine_of(client), self.hosts[name]
            if engine is None or engine.session.id != session or not host.is_running:
                continue  # or one that sleeps, whose clock will have counted that when it wakes
            silence = host.call(engine._now) - engine.session.keep_alive.confirmed_at
            check(
                silence >= engine.session.keep_alive.timeout * EXPIRY_SHARE_MIN,
                "18: a session was ended too early, in seconds of its client's clock",
                name,
                silence,
                engine.session.keep_alive.timeout,
            )

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._is_closing:
            error = context.get("exception")
            self.problems.append(f"at {self.loop.now:.3f} s: {context.get('message')}: {error!r}")

    def note(self, what: str, *facts: object) -> None:
        """A fault begins: count it, and make it part of the trace."""
        self.faults[what] += 1
        self.trace.record(self.loop.now, what, *facts)
        _log.info("%.3f s: %s %s", self.loop.now, what, " ".join(map(str, facts)))

    # -- clients -----------------------------------------------------------------------------------------------------

    async def client(self, name: str | None = None, *, beside: str | None = None, **options: Any) -> CopycatClient:
        """A client on a host of its own, open; or in one process with the client `beside`, sharing its connections.

        Options are those of CopycatClient.
        """
        name = name if name is not None else f"client-{len(self.clients) + 1}"
        if name in self.hosts or name in self.nodes:
            raise ConfigurationError(f"there is a host {name} already")
        host = self.hosts[name] = Host(self.loop, name) if beside is None else self.hosts[beside]
        self._transports[name] = self.network.transport(host) if beside is None else self._transports[beside]
        options.setdefault("transport", self._transports[name])
        options.setdefault("random", self.streams[f"client {name}"])
        options.setdefault("clock", host.clock)
        client = self.clients[name] = host.call(lambda: CopycatClient(self.membership.members, **options))
        client.on_state_change(lambda state: self.invariants.marks.became(name, state, shares=self._shares(client)))
        return await host.start(client.open(), name=f"{name}-open")

    def _shares(self, client: CopycatClient) -> bool:
        """Whether another client has the same connection."""
        engines = map(engine_of, (client, *self.clients.values()))
        mine, *others = [None if each is None else each.connector.connection for each in engines]
        return mine is not None and any(each is not mine and each.shared is mine.shared for each in others if each)

    def run_on(self, name: str, work: Coroutine[Any, Any, R]) -> "asyncio.Task[R]":
        """Begin a task on the host of this client, so that it stops, and ends, with it."""
        return self.hosts[name].start(work, name=f"{name}-work")

    def stranded(self) -> list[str]:
        """The clients that live, and were away while everybody they know of left: nobody can tell them who is there."""
        there = {str(node.member.address) for node in self.nodes.values() if node.may_start}
        engines = {name: engine_of(each) for name, each in self.clients.items()}
        return [
            name
            for name, engine in engines.items()
            if engine is not None and not self.hosts[name].is_dead and there.isdisjoint(engine.connector.addresses)
        ]

    # -- who leads ---------------------------------------------------------------------------------------------------

    def leader(self) -> str:
        """The member that leads, in the highest term; the first member when none does."""
        leading = [
            (node.server.driver.raft.term, name)
            for name, node in self.nodes.items()
            if node.server is not None and node.server.driver is not None and node.server.driver.raft.is_leader
        ]
        return max(leading)[1] if leading else self.members[0].id

    def term(self, name: str) -> int:
        """The term that this member is in; 0 when it is down or has just begun."""
        server = self.nodes[name].server
        return server.driver.raft.term if server is not None and server.driver is not None else 0

    async def elected(self, seconds: float = LEADER_SECONDS) -> str:
        """Wait until every member that runs knows one leader, which is ready; returns it."""

        def known() -> str | None:
            servers = [node.server for node in self.nodes.values() if node.server is not None and not node.is_lost]
            names = {server.status().leader if hasattr(server, "identity") else None for server in servers}
            leader = next(iter(names)) if len(names) == 1 else None
            return leader if leader in self.nodes and self.nodes[leader].is_up else None

        return await self.until(known, seconds, "a leader that all know")

    async def level(self, seconds: float = LEADER_SECONDS) -> int:
        """Wait until every member that runs has applied all that any of them has; returns the index.

        Then all of them are compared.
        """

        def same() -> int:
            servers = [node.server for node in self.nodes.values() if node.server is not None]
            if not all(hasattr(server, "identity") for server in servers):
                return 0  # one has only just begun
            states = [server.status() for server in servers]
            seen = {state.applied_index for state in states} | {state.last_index for state in states}
            return seen.pop() if len(seen) == 1 else 0

        index = await self.until(same, seconds, "members that are level")
        for name, node in self.nodes.items():
            if node.server is not None and node.server.driver is not None:
                self.invariants.compare_state(name, node.server.driver.executor)
        return index

    async def until(
        self, condition: Callable[[], R | None], seconds: float, what: str, *, every: float = POLL_SECONDS
    ) -> R:
        """Wait until the condition, asked so often, gives something true; returns that. Raises SimulationError when
        time is up."""
        end = self.loop.now + seconds
        while not (found := condition()):
            if self.problems:
                self.check()
            if self.loop.now >= end:
                raise SimulationError(f"seed {self.streams.seed}: waited {seconds:g} s for {what}: {self.describe()}")
            await asyncio.sleep(every)
        return found

    def describe(self) -> str:
        """How each member is, for people."""
        return "; ".join(
            f"{name} is down" if node.server is None else f"{name}: {_brief(node)}" for name, node in self.nodes.items()
        )

    # -- faults ------------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start members that do not run: for the first time, or again, with what is on their disks."""
        for name in names:
            if self.nodes[name].is_stopping:
                self.crash(name)
            if not self.nodes[name].is_up:
                self._starts += 1
                self.trace.record(self.loop.now, "start", name)
                chooser = self.streams[f"member {name}, start {self._starts}"]
                node = self.nodes[name]
                known = self.members if node.member in self.members else [*self.membership.members, node.member]
                node.start(
                    list(dict.fromkeys(known)),
                    self._machines,
                    self.config,
                    self.invariants,
                    chooser,
                    **self._options,
                )

    def join(self, name: str, *, vote: bool = True) -> None:
        """Start a member more, of a name that nobody has had; it asks to be let in and, with `vote`, for a vote."""
        if name in self.nodes or name in self.hosts:
            raise ConfigurationError(f"there is a host {name} already")
        self.note("members: join", name, vote)
        self.nodes[name] = self._node(Member(name, f"host-{name}", FIRST_PORT), joins=True, vote=vote)
        self.start(name)
        self.membership.joins(name, vote=vote)

    def crash(self, *names: str, power: bool = False) -> None:
        """Kill these at once, members or clients, none when they are down. `power`: unsynced writes are lost, or not,
        and nobody is told; else as `kill -9` does, where the system lives on."""
        for name in names:
            if name in self.hosts:
                host = self.hosts[name]
                self.note("client killed", name)
                host.kill()
                self.network.went_down(host, dark=power)
            elif self.nodes[name].is_up:
                self.note("power lost" if power else "process killed", name)
                self.nodes[name].kill(self.streams["crash"], power=power)

    def stop(self, name: str) -> None:
        """Let a member end in order; its process lives until `crash`, or until it is started again."""
        node = self.nodes[name]
        if node.server is not None and node.host is not None and not node.host.is_dead:
            self.note("process stopped in order", name)
            node.is_stopping = True
            node.host.start(node.server.close(), name=f"{name}-close")

    def rot(self, name: str, kind: str, place: float) -> None:
        """Kill a member, and damage its disk: see `Node.rot`."""
        self.crash(name)
        self.note(f"rot: {kind}", name, self.nodes[name].rot(kind, place))

    def pause(self, *names: str) -> None:
        """Let nothing run on these hosts until `resume`; time goes on there. As SIGSTOP does."""
        for name in names:
            self.note("process paused", name)
            self._host(name).pause()

    def resume(self, *names: str) -> None:
        """Undo one `pause`."""
        for name in names:
            self.trace.record(self.loop.now, "resume", name)
            self._host(name).resume()

    def suspend(self, name: str, seconds: float) -> None:
        """Put a machine to sleep, as virtual machines are: its timers stand still, and it wakes to a later time."""
        self.note("machine suspended", name)
        self._host(name).suspend(seconds)

    def skew(self, name: str, *, jump: float = 0.0, rate: float | None = None) -> None:
        """Set a wall clock forward by `jump` seconds, or back; let all clocks there run at `rate` from now on."""
        clock = self.nodes[name].clock if name in self.nodes else self.hosts[name].clock
        if jump:
            self.note("wall clock jumped", name, jump)
            clock.jump(jump)
        if rate is not None:
            self.note("clock drifts", name, rate)
            clock.set_rate(rate)

    def partition(self, *groups: Iterable[str], one_way: bool = False, refusing: bool = False) -> Callable[[], None]:
        """Cut these groups of hosts off from one another, from the first to the others only if `one_way`.

        refusing: they hear of it at once, for their connections are reset, and others refused; else nobody does.
        Returns what mends it; so does `heal`. Raises ConfigurationError: what refuses does so both ways.
        """
        sides = [list(group) for group in groups]
        if refusing:
            if one_way:
                raise ConfigurationError("a partition that refuses does so both ways")
            self.note("refusing partition", *map(tuple, sides))
            return self.network.refuse(*sides)
        self.note("one-way partition" if one_way else "partition", *map(tuple, sides))
        return self.network.separate(*sides, one_way=one_way)

    def isolate(self, name: str) -> Callable[[], None]:
        """Cut one host off from all others. Returns what mends it."""
        return self.partition([name], [other for other in (*self.nodes, *self.hosts) if other != name])

    def wipe(self, name: str) -> None:
        """Kill a member and lose its disk. Under its id it is never again let in."""
        self.crash(name)
        self.note("disk wiped", name)
        self.nodes[name].wipe()

    def heal(self) -> None:
        """Mend the network, the disks and the clocks' rates, and let the paused go on. The dead stay dead."""
        self.trace.record(self.loop.now, "heal")
        self.healings += 1
        self.network.heal()
        for node in self.nodes.values():
            node.heal()
        for host in (*(node.host for node in self.nodes.values()), *self.hosts.values()):
            if host is not None and not host.is_dead:
                host.clock.set_rate(1.0)
                while host.is_paused:
                    host.resume()

    def _host(self, name: str) -> Host:
        host = self.nodes[name].host if name in self.nodes else self.hosts[name]
        if host is None:
            raise ConfigurationError(f"{name} was never started")
        return host


def _brief(node: Node) -> str:
    server = node.server
    if server is None or not hasattr(server, "identity"):
        return "starts"
    status = server.status()
    return (
        f"{status.role} in term {status.term}, leader {status.leader}, applied {status.applied_index} of "
        f"{status.last_index}" + (f", {status.failure}" if status.failure else "")
    )


def engine_of(client: CopycatClient) -> ClientEngine | None:
    """What runs a client; None when it is not open."""
    engine: ClientEngine | None = client._client._engine  # type: ignore[attr-defined]  # as a test may look
    return engine


def simulate(
    scenario: Callable[[SimulatedCluster], Coroutine[Any, Any, R]], members: int = 3, *, seed: int = 0, **options: Any
) -> R:
    """Run `scenario` on a cluster of its own, in virtual time; returns what it returns.

    options: those of SimulatedCluster. Raises what the scenario raises; SimulationError when an invariant was broken,
    or something failed that nobody waited for.
    """

    async def main() -> R:
        async with SimulatedCluster(members, seed=seed, **options) as cluster:
            return await scenario(cluster)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
