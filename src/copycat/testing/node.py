"""One member of a simulated cluster: a host, a disk, a clock, and the server that runs there, if one does."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from copycat.errors import ClosedError
from copycat.io.storage.base import LogBase
from copycat.io.storage.log import Log
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.storage import Storage
from copycat.raft.core.config import RaftConfig
from copycat.raft.machine.executor import Executor
from copycat.raft.protocol.members import Member
from copycat.raft.server.executors import MakeMachines
from copycat.raft.server.server import RaftServer
from copycat.testing.clock import SimulatedClock
from copycat.testing.disk import FaultyDisk
from copycat.testing.invariants import Invariants
from copycat.testing.loop import Host, VirtualLoop
from copycat.testing.network import SimulatedNetwork
from copycat.testing.rot import damage
from copycat.testing.worker import SimulatedWorker
from copycat.util.address import Address

DISK_SECONDS = (0.0001, 0.002)
SEGMENT_BYTES = 1 << 14
"""Far less than one would want: a minute fills several, and whoever starts again does not read megabytes of zeros."""

CHUNK_BYTES = 512
"""So that even a small state is written bit by bit, while commands go on."""


class WatchedServer(RaftServer):
    """A RaftServer whose every step is looked at."""

    invariants: Invariants
    disk: FaultyDisk

    def _start_driver(self) -> None:
        super()._start_driver()
        if self.driver is not None:
            self.driver.snapshots.taker.chunk_bytes = CHUNK_BYTES
            self.invariants.watch(self.driver, self.disk)

    def _make_executor(self) -> Executor:
        """Watched, too, be it the first or one that takes the place of another."""
        executor = super()._make_executor()
        self.invariants.watch_executor(executor, lambda: self.driver)
        return executor


class SmallSegments(Storage):
    """A Storage whose segments have SEGMENT_BYTES."""

    __slots__ = ()

    def open_log(
        self, name: str = "copycat", *, cluster_id: bytes = b"", base: LogBase | None = None
    ) -> Log | MemoryLog:
        log = super().open_log(name, cluster_id=cluster_id, base=base)
        if isinstance(log, Log):
            log.max_segment_size = SEGMENT_BYTES
        return log


class Node:
    """A member. It outlives its crashes: with its disk and its clock, on a new host each time.

    joins: it asks to be let in, and with `vote` for one, until it has been. storage: options of Storage; unless they
    say so, nobody looks how much room there is.
    disk_seconds: how long a job of the disk takes, from and to. on_fatal(node, error): its server cannot go on.
    """

    def __init__(
        self,
        member: Member,
        *,
        loop: VirtualLoop,
        network: SimulatedNetwork,
        disk_chooser: Random,
        on_disk: Callable[["Node"], object],
        on_fatal: Callable[["Node", BaseException], object],
        storage: Mapping[str, Any],
        joins: bool = False,
        vote: bool = True,
    ) -> None:
        self.member = member
        self.name = member.id
        self.clock = SimulatedClock(lambda: loop.now)
        self.disk = FaultyDisk()
        self.disk_seconds = DISK_SECONDS
        self.host: Host | None = None
        self.server: WatchedServer | None = None
        self.failure: BaseException | None = None  # why its server has ended by itself
        self.past: list[tuple[Host, WatchedServer]] = []  # what ran here before
        self.is_lost = False  # its disk was wiped: the others will not have it back
        self.has_left = False  # it was removed, and knows
        self.is_stopping = False  # it was told to end in order, and its process is still there
        self.is_damaged = False  # its disk has rotted, and it was not seen whole again
        self._loop = loop
        self._network = network
        self._disk_chooser = disk_chooser
        self._on_disk = on_disk
        self._on_fatal = on_fatal
        self._workers: list[SimulatedWorker] = []
        self._storage = {"free_space_min": 0, **storage}
        self._joins, self._wants_vote = joins, vote

    @property
    def is_up(self) -> bool:
        """Whether its server runs, be it paused."""
        return self.server is not None

    @property
    def may_start(self) -> bool:
        """Whether it is still of use."""
        return not (self.is_lost or self.has_left)

    def start(
        self,
        members: Sequence[Member],
        machines: MakeMachines,
        config: RaftConfig,
        invariants: Invariants,
        chooser: Random,
        **options: Any,
    ) -> None:
        """Start the server, on a new host. It waits for a leader by itself. Unless the options say so, members do not
        compare their states: whoever watches them does."""
        host = self.host = Host(self._loop, self.name, self.clock)
        self.failure = None
        self._workers = []
        self._network.came_up(host)
        disk = self.disk
        disk.delay = self._dawdle
        server = self.server = WatchedServer(
            self.member,
            members,
            machines=machines,
            listen=Address(self.member.host, self.member.port),
            storage=SmallSegments(self.name, disk=disk, **self._storage),
            transport=self._network.transport(host),
            config=config,
            clock=self.clock,
            random=chooser,
            worker=lambda _name, _loop: self._new_worker(host),
            on_fatal=lambda error: self._failed(server, error),
            join=self._joins,
            vote=self._wants_vote,
            **{"check_interval": 0, **options},
        )
        server.invariants, server.disk = invariants, disk
        host.start(self._open(server), name=f"{self.name}-open")

    async def _open(self, server: WatchedServer) -> None:
        try:
            await server.open(None)
        except ClosedError:
            pass  # the simulation ended while it waited for a leader
        except Exception as error:
            self._failed(server, error)

    def _failed(self, server: WatchedServer, error: BaseException) -> None:
        if self.server is server:
            self.failure = error
            self._on_fatal(self, error)

    def _new_worker(self, host: Host) -> SimulatedWorker:
        worker = SimulatedWorker(host, self.disk, self._job_seconds, lambda: self._on_disk(self))
        self._workers.append(worker)
        return worker

    def _job_seconds(self) -> float:
        return self._disk_chooser.uniform(*self.disk_seconds)

    def _dawdle(self, operation: str) -> None:
        """A sync on the loop keeps the whole process waiting."""
        host = Host.current()
        if (
            operation == "sync"
            and host is self.host
            and host is not None
            and not any(w.is_at_work for w in self._workers)
        ):
            host.block(self._job_seconds())

    def kill(self, chooser: Random, *, power: bool) -> None:
        """End the process as -9 does or, with `power`, the machine: its disk keeps what it likes of the unsynced."""
        if self.host is None or self.server is None:
            return
        self.host.kill()
        self._network.went_down(self.host, dark=power)
        for worker in self._workers:
            worker.tear(chooser)
        if power:
            self.disk.crash(chooser)
        else:
            self.disk.end_process()
        self.past.append((self.host, self.server))
        self.server = None
        self.is_stopping = False

    def heal(self) -> None:
        """Its disk is as fast as it should be."""
        self.disk_seconds = DISK_SECONDS
        self.disk.heal()

    @property
    def is_whole(self) -> bool:
        """Whether its disk holds all it ever vouched for, as far as can be seen."""
        driver = self.server.driver if self.server is not None else None
        if self.is_damaged and driver is not None and driver.raft.role.name != "passive":
            self.is_damaged = False
        return not (self.is_lost or self.is_damaged)

    def rot(self, kind: str, place: float) -> str:
        """Damage its disk, while nothing runs; returns what was damaged. place: from 0 to 1, where.

        kind: "bit", one is flipped; "sector", one is lost; "misdirected", one was written over another; all of them
        where the log can tell that it was durable; "metadata", one of two copies; or "snapshot", the newest.
        """
        damaged = damage(self.disk, self.name, kind, place)
        self.is_damaged = self.is_damaged or kind != "metadata"
        return damaged

    def wipe(self) -> None:
        """Lose everything on the disk, while nothing runs."""
        self.disk = FaultyDisk()
        self.is_lost = True
