"""A server: opens a member's data, finds the others, forms or rejoins the cluster, and runs until it is closed."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence

from copycat.errors import (
    ClosedError,
    ConfigurationError,
    CopycatError,
    ForeignDirectoryError,
    InvariantError,
    NoLeaderError,
    StorageError,
)
from copycat.io.serializer import Serializer
from copycat.io.storage.storage import Storage, StorageLevel, explain
from copycat.io.transport.tcp import TcpTransport
from copycat.io.transport.transport import Connection, Server, Transport
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.events import Reachable, Unreachable
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.handshake import decode_hello, encode_hello
from copycat.raft.protocol.members import Member, parse_members
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.protocol.wire import HEADER_STATUS, Tag, encode_msgpack
from copycat.raft.server.arguments import listen_address, machines_given, milliseconds_between_checks
from copycat.raft.server.assembly import assemble
from copycat.raft.server.belonging import Belonging
from copycat.raft.server.desk import Desk
from copycat.raft.server.directory import Directory
from copycat.raft.server.disk_worker import DiskThread, MakeDiskWorker
from copycat.raft.server.driver import Driver
from copycat.raft.server.executors import MakeMachines, new_executor
from copycat.raft.server.fatal import end_process
from copycat.raft.server.identity import Identity
from copycat.raft.server.inbound import Inbound
from copycat.raft.server.limits import ServerLimits
from copycat.raft.server.peers import Peers
from copycat.raft.server.status import Status, describe
from copycat.util.address import Address
from copycat.util.builder import Buildable
from copycat.util.clock import Clock, SystemClock
from copycat.util.tasks import TaskOwner

_log = logging.getLogger(__name__)

CHECK_SECONDS = 600
OPEN_NOTICE_S = 3.0
CLOSE_SECONDS = 5.0


class RaftServer(Buildable):
    """One member of a cluster, with one state machine, or with whatever `machines` makes.

    member: this member's id, or the Member itself.
    members: every member of the cluster, this one included: text, strings or Members (see `parse_members`).
    machine: makes the state machine, each time the server is opened. machines: instead of it, makes all of them.
    storage: where data is kept. With StorageLevel.MEMORY the member is a new one at each start.
    doors: more transports to listen on, each at an address of its own: for clients within this process.
    listen: the address to listen on; None: the advertised one if it is an IP address or localhost, else all.
    transport: None for TCP.
    config: times of consensus. limits: what is taken from clients.
    join: with a new directory, ask the cluster that `members`, or some of them, belong to, to let this one in, instead
        of forming one with them. vote: and for a vote, as soon as it is level.
    check_interval: while it leads, members compare their states so often, in seconds; one whose state differs halts.
        0: never, and this member takes part in none; it then also starts with a state that was found to differ.
    random: the only source of randomness; None for the operating system's.
    worker: makes who does the disk's jobs: a thread, unless in a simulation.
    on_fatal: called with the error when the member cannot go on. None: a disk that fails ends the process, because
        nothing may be written to it again and nothing read back be trusted; anything else halts the member.

    Used on the event loop that opened it. Raises ConfigurationError for members that contradict each other.
    """

    def __init__(
        self,
        member: str | Member,
        members: str | Iterable[str | Member],
        machine: Callable[[], StateMachine] | None = None,
        *,
        machines: MakeMachines | None = None,
        storage: Storage | None = None,
        listen: str | Address | None = None,
        transport: Transport | None = None,
        doors: Sequence[tuple[Transport, Address]] = (),
        config: RaftConfig | None = None,
        limits: ServerLimits | None = None,
        serializer: Serializer | None = None,
        join: bool = False,
        vote: bool = True,
        check_interval: float = CHECK_SECONDS,
        random: random.Random | None = None,
        clock: Clock | None = None,
        worker: MakeDiskWorker = DiskThread,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.members = parse_members(members)
        self.member = self._own(member)
        self.storage = storage if storage is not None else Storage(level=StorageLevel.MEMORY)
        self.config = config if config is not None else RaftConfig()
        self.limits = limits if limits is not None else ServerLimits()
        self.serializer = serializer if serializer is not None else Serializer()
        self._make_machines = machines_given(machine, machines)
        self._joins, self._wants_vote = join, vote
        self._check_ms = milliseconds_between_checks(check_interval)
        self._doors = doors
        self._listen = listen_address(self.member, listen)
        self._given_transport = transport
        self._random = random if random is not None else _system_random()
        self._clock = clock if clock is not None else SystemClock()
        self._make_worker = worker
        self._on_fatal = on_fatal if on_fatal is not None else end_process
        self._state = "new"
        self._tasks = TaskOwner(f"{self.member.id}-server")
        self._listeners: list[Server] = []
        self._directory: Directory | None = None
        self._peers: Peers | None = None
        self.belonging: Belonging
        self._changed = asyncio.Event()
        self.failure: BaseException | None = None
        self.driver: Driver | None = None
        self.desk: Desk | None = None
        self.identity: Identity

    def _own(self, member: str | Member) -> Member:
        if isinstance(member, Member):
            if member not in self.members:
                raise _not_listed(str(member), self.members)
            return member
        for candidate in self.members:
            if member in (candidate.id, str(candidate)):
                return candidate
        raise _not_listed(repr(member), self.members)

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self, timeout: float | None = 30.0) -> "RaftServer":
        """Start, and wait until a leader is known; up to `timeout` seconds, None: for ever.

        Raises: NoLeaderError when the time is up, saying who was heard and why the others were not; the server then
        runs on and may be waited for with `wait_for_leader`. ConfigurationError (a port in use), DirectoryInUseError,
        ForeignDirectoryError, CorruptionError, StorageError; the server is then closed.
        """
        if self._state != "new":
            raise ClosedError(f"server {self.member.id} is {self._state}; make a new one to open again")
        self._state = "open"
        try:
            await self._start()
            await self.wait_for_leader(timeout)
        except NoLeaderError:
            raise
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self) -> None:
        self._directory = Directory(self.storage, self.member, self.members, self._random)
        self.identity = self._directory.open()
        self._directory.require_undiverged(checks=self._check_ms > 0)
        self.identity.types = tuple(self._make_machines(Clockwork(), self.serializer).types)
        self._transport = self._given_transport if self._given_transport is not None else TcpTransport()
        self._peers = Peers(
            transport=self._transport,
            identity=self.identity,
            handler=lambda link, frames: self._inbound.on_frames(link, frames),
            greet=self._greet,
            on_up=self._on_up,
            on_down=self._on_down,
            chance=self._random,
            dial_timeout=max(1.0, 2 * self.config.election_timeout_ms / 1000),
        )
        max_body = self.storage.max_entry_size + self.limits.max_batch_bytes
        self._inbound = Inbound(self, self._random, max_body, self._clock.boottime_ms, self._peers.called)
        self.belonging = Belonging(
            identity=self.identity,
            directory=self._directory,
            peers=self._peers,
            transport=self._transport,
            given=self.members,
            changed=self._changed,
            form=self.formed,
            fail=self._fail,
            hang_up_on_removed=self._inbound.hang_up_on_removed,
        )
        self.identity.joins = self._joins and not self.identity.is_formed
        if self.identity.is_formed:
            if self._joins:
                await self.belonging.require_same_cluster()
            self._start_driver()
        for transport, address in [(self._transport, self._listen), *self._doors]:
            self._listeners.append(await transport.listen(address, self._inbound.accept, self._inbound.on_frames))
        if self.identity.joins:
            self._tasks.start(self.belonging.join(vote=self._wants_vote), name="join")
            return
        self._peers.start()
        if self.identity.awaits_vote:
            self._tasks.start(self.belonging.get_vote(), name="vote")
        if self.identity.form_if_all_heard():
            self.formed()

    def _start_driver(self) -> None:
        directory, peers = self._directory, self._peers
        if directory is None or peers is None:
            raise InvariantError("a driver needs its directory and its peers")
        driver, desk = assemble(
            directory=directory,
            peers=peers,
            identity=self.identity,
            given=self.members,
            storage=self.storage,
            config=self.config,
            limits=self.limits,
            clock=self._clock,
            chance=self._random,
            make_executor=self._make_executor,
            make_worker=self._make_worker,
            check_ms=self._check_ms,
            fail=self._fail,
        )
        desk.on_notice = self._changed.set
        desk.on_members = self.belonging.members_changed
        desk.on_configured = self.belonging.configured
        self.belonging.driver = driver
        self.driver, self.desk = driver, desk
        self._inbound.admit_early_callers(desk)
        driver.start()

    def _make_executor(self) -> Executor:
        """A state to begin with, or to read a snapshot into."""
        return new_executor(self._make_machines, self.serializer)

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop. Membership and data are kept, so the same member may be started again. Harmless when repeated.

        A leader lets another lead first, for which it waits up to `timeout` seconds; 0: it does not.
        """
        if hasattr(self, "belonging") and self._state == "open" and self.failure is None and timeout > 0:
            await self.belonging.hand_over(None, min(timeout, 2 * self.config.election_timeout_ms / 1000))
        self._state = "closed"
        self._changed.set()
        await self._tasks.close()
        await self._hang_up()
        if self.driver is not None:
            await self.driver.close()
        if self._given_transport is None and hasattr(self, "_transport"):
            await self._transport.close()
        if self._directory is not None:
            self._directory.close()

    # -- members -----------------------------------------------------------------------------------------------------

    async def transfer_leadership(self, member: str | None = None, timeout: float = CLOSE_SECONDS) -> None:
        """Let `member` lead, None: whoever holds most, and wait until this server does not, up to `timeout` seconds.

        Raises: NoLeaderError when this server does not lead, or still does when the time is up; ConfigurationError for
        a member without a vote, or this one; ClosedError.
        """
        self._check_lives()
        raft = self.driver.raft if self.driver is not None else None
        if raft is None or not raft.is_leader:
            raise NoLeaderError(f"server {self.member.id} does not lead: ask the leader, {self.status().leader}")
        if member is not None and member not in raft.electors:
            raise ConfigurationError(f"{member} cannot lead next: other members with a vote are {raft.electors}")
        if not await self.belonging.hand_over(member, timeout):
            raise NoLeaderError(f"server {self.member.id} still leads: no other is level and can be reached")

    async def leave(self, timeout: float = 30.0) -> None:
        """Leave the cluster for good, then stop. The directory is of no more use, and the id never returns.

        Raises: ConfigurationError when this is the only member with a vote; NoLeaderError when no leader let it go
        within `timeout` seconds, IndeterminateError when that is not known; the server is then as it was. ClosedError.
        """
        self._check_lives()
        await self.belonging.leave(timeout)
        await self.close(0)

    async def _hang_up(self) -> None:
        """Speak and listen to nobody any more."""
        if self._peers is not None:
            await self._peers.close()
        for listener in self._listeners:
            await listener.close()

    async def __aenter__(self) -> "RaftServer":
        try:
            return await self.open()
        except NoLeaderError:
            await self.close()  # or nobody would: the block is not entered
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def wait_for_leader(self, timeout: float | None = 30.0) -> None:
        """Wait until this server can reach a leader, for `timeout` seconds; None: for ever.

        Raises: NoLeaderError; StorageError or InvariantError when the member has halted; ClosedError.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        told = False
        while True:
            self._check_lives()
            if self.status().leader:
                return
            passed = loop.time() - started
            if timeout is not None and passed >= timeout:
                raise NoLeaderError(f"no leader within {timeout:g} s: {self.status().why_no_leader}")
            if passed >= OPEN_NOTICE_S and not told:
                told = True
                _log.warning("still no leader after %d s: %s", OPEN_NOTICE_S, self.status().why_no_leader)
            self._changed.clear()
            rest = OPEN_NOTICE_S - passed if not told else (timeout or passed + 60) - passed
            if timeout is not None:
                rest = min(rest, timeout - passed)
            try:
                async with asyncio.timeout(max(0.0, rest)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _check_lives(self) -> None:
        if self.failure is not None:
            if isinstance(self.failure, CopycatError):
                raise self.failure
            raise StorageError(f"member {self.member.id} has halted: {self.failure}") from self.failure
        if self._state != "open":
            raise ClosedError(f"server {self.member.id} is {self._state}")

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._changed.set()
        _log.critical("member %s cannot go on: %s", self.member.id, error, exc_info=error)
        if not self._tasks.is_closed:
            self._tasks.start(self._hang_up(), name="hang-up")  # clients and members turn to others at once
        self._on_fatal(error)

    async def take_snapshot(self) -> int:
        """Take a snapshot of this member's state now, and wait until it is durable; gives the last index it covers.

        Nothing is taken when the newest one already covers all that is applied. Members take snapshots by themselves,
        see `Storage`; this is for a moment of one's own choice, such as before a planned restart.

        Raises: SnapshotError, naming the resource whose state cannot be encoded; StorageError when there is no room;
        ClosedError when the server is not open, or closes meanwhile; NoLeaderError while its cluster has not formed.
        """
        self._check_lives()
        driver = self.driver
        if driver is None:
            raise NoLeaderError(f"server {self.member.id} has no state yet: its cluster has not formed")
        asked = driver.snapshots.taker.ask()
        driver.wake()
        try:
            return await asked
        except OSError as error:
            raise explain(self.storage.directory, error) from error
        except asyncio.CancelledError:
            if driver.is_running:
                raise
            raise ClosedError(f"server {self.member.id} has closed") from None

    # -- what the links report ---------------------------------------------------------------------------------------

    def _greet(self, link: Connection) -> None:
        hello = decode_hello(link.peer_hello)
        self._inbound.greet(hello)
        self._inbound.hear_from(hello, link)

    def _on_up(self, member: str) -> None:
        if self.driver is not None and self.desk is not None:
            self.driver.post(Reachable(member))
            if self.driver.raft.leader == member:
                self.desk.announce(again=True)

    def _on_down(self, member: str, refused: bool) -> None:
        if self.driver is not None and self.desk is not None:
            self.driver.post(Unreachable(member, refused))
            if self.driver.raft.leader == member:
                self.desk.announce()

    def formed(self) -> None:
        """The cluster has formed: remember it durably, tell the others, and start to take part.

        Whoever's hello brought this about is not to blame when it fails: the member has failed.
        """
        directory, peers = self._directory, self._peers
        if directory is None or peers is None:
            raise InvariantError("a cluster forms when a member is open")
        try:
            directory.save_formed(self.identity)
            _log.info("%s: cluster %s has formed", self.member.id, self.identity.cluster_name)
            peers.send_all(bytes([Tag.IDENTITY]) + encode_hello(self.identity.hello()))
            self._start_driver()
        except Exception as error:
            self._fail(error)
            return
        for member in peers.up:
            self._on_up(member)

    def refused_for_good(self, error: ForeignDirectoryError) -> None:
        """The cluster knows another member of this id, or none any more."""
        if self.failure is None and not self.belonging.is_leaving:
            self._fail(error)

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """What this server knows: role, term, leader, members, indexes, sessions, and why there is no leader.

        After `close`: what it knew last. Raises ClosedError before `open`.
        """
        if not hasattr(self, "identity"):
            raise ClosedError(f"server {self.member.id} is not open")
        errors = sum(listener.statistics().protocol_errors for listener in self._listeners)
        return describe(self.identity, self.driver, self.desk, self._peers, self.failure, errors)

    def status_frame(self, request: int) -> bytes:
        return HEADER_STATUS.pack(Tag.STATUS_ANSWER, request) + encode_msgpack(self.status().as_dict())

    @property
    def transport(self) -> Transport:
        """What it dials the others with, on its loop. Raises ClosedError before `open`."""
        if not hasattr(self, "_transport"):
            raise ClosedError(f"server {self.member.id} is not open")
        return self._transport

    @property
    def address(self) -> Address:
        """Where it listens while it is open. Raises ClosedError before and after."""
        if self._state != "open" or not self._listeners:
            raise ClosedError(f"server {self.member.id} is not open")
        return self._listeners[0].address

    def __repr__(self) -> str:
        return f"<RaftServer {self.member} {self._state}>"


def _not_listed(member: str, members: Sequence[Member]) -> ConfigurationError:
    names = ", ".join(map(str, members))
    return ConfigurationError(
        f"member {member} is not in the member list {names}: name it there, or give the id of one that is"
    )


def _system_random() -> random.Random:
    return random.SystemRandom()
