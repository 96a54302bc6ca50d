"""A client of a cluster: one session, over a connection to whichever server answers.

Source: protocol §5.
"""

import asyncio
import random as random_module
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable, Generator, Iterable, Sequence
from enum import StrEnum
from math import inf
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from copycat.errors import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    CopycatError,
    ThreadError,
    UsageError,
)
from copycat.io.serializer import Serializer
from copycat.io.transport.tcp import TcpTransport
from copycat.io.transport.transport import Transport
from copycat.raft.client.channels import ConnectionPool, pool_of
from copycat.raft.client.encoding import encode_operation
from copycat.raft.client.engine import ClientEngine, EventHandler
from copycat.raft.client.future import CopycatFuture
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.client.states import ClientState, Loss, Recovery
from copycat.raft.client.submitter import Submitter
from copycat.raft.inquiry.questions import ask_status
from copycat.raft.protocol.members import Member, parse_members
from copycat.raft.protocol.operations import ConsistencyLevel, Operation, Query
from copycat.raft.protocol.typed import TypedOperations
from copycat.util.address import Address
from copycat.util.builder import Buildable
from copycat.util.clock import Clock, SystemClock
from copycat.util.context import Context
from copycat.util.listeners import Listener, Listeners

if TYPE_CHECKING:
    from pathlib import Path

    from copycat.raft.client.backup import Backup

R = TypeVar("R")
E = TypeVar("E", bound=StrEnum)

MACHINE = 0
"""The target of a server with one state machine."""

SESSION_TIMEOUT_MAX = 2**32 / 1000
STATUS_SECONDS = 5.0
BACKUP_SECONDS = 30.0


class RaftClient(Buildable):
    """Submits operations to a cluster's state machines. Open it with `async with` or `await client.open()`.

    members: some or all servers: text ("h1:5001,h2:5001"), strings or Members. One that answers is enough.
    session_timeout: in seconds, after which the cluster ends a session it hears nothing from; within the servers'
        limits, 0.1 to 3600 by default.
    timeout: in seconds, of every call that names none; None: for ever.
    recovery: what to do when the session is lost.
    selection: which server to talk to, if there is a choice. strategy: what to do when none answers.
    discover: learn the addresses of the other servers from those that answer; False keeps to `members`, for servers
        behind a proxy or a port that is forwarded.
    transport: None for TCP. The clients of one event loop that have one transport, or none, share a connection to each
        server. serializer: for operations of your own types; None: the built-in types.
    random: the source of randomness; None for the operating system's.

    Used on the event loop that opened it. Raises ConfigurationError for what cannot be a member list, or a time that
    is not positive.
    """

    def __init__(
        self,
        members: str | Iterable[str | Member],
        *,
        transport: Transport | None = None,
        session_timeout: float = 5.0,
        timeout: float | None = 30.0,
        recovery: Recovery = Recovery.RECOVER,
        selection: ServerSelection = ServerSelection.ANY,
        strategy: ConnectionStrategy = ConnectionStrategy.EXPONENTIAL_BACKOFF,
        discover: bool = True,
        serializer: Serializer | None = None,
        random: random_module.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.members = parse_members(members)
        self.session_timeout = _positive("session_timeout", session_timeout, SESSION_TIMEOUT_MAX)
        self.timeout = None if timeout is None else _positive("timeout", timeout, inf)
        self.recovery = _one_of("recovery", Recovery, recovery)
        self.selection = _one_of("selection", ServerSelection, selection)
        self.strategy = _one_of("strategy", ConnectionStrategy, strategy)
        self.discover = discover
        self.serializer = serializer if serializer is not None else Serializer()
        self._typed = TypedOperations(self.serializer, "the state machine")
        self._given_transport = transport
        self._random = random if random is not None else random_module.SystemRandom()
        self._clock = clock if clock is not None else SystemClock()
        self._listeners: Listeners[ClientState] = Listeners("client states")
        self._loss_listeners: Listeners[Loss] = Listeners("session losses")
        self._recovery_listeners: Listeners[int] = Listeners("session recoveries")
        self._engine: ClientEngine | None = None
        self._submitter: Submitter
        self._pool: ConnectionPool | None = None
        self._loop: AbstractEventLoop | None = None  # where operations are taken; None while they are not
        self._context: Context | None = None  # where it was opened
        self._closing: Future[None] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self, timeout: float | None = 30.0) -> Self:
        """Connect and begin a session, within `timeout` seconds; None: wait for ever. Idempotent while it is open.

        Raises: ConnectError, when no server answers, or NoLeaderError, when none has a leader, saying what was tried
        and why each failed; ConfigurationError, when the servers do not grant the session timeout; ClosedError for a
        client that was closed. It is closed then.
        """
        if self._engine is None and self._closing is None:
            self._start()
        engine = self._engine
        if engine is None or self._loop is not get_running_loop():
            raise self._misuse()
        try:
            async with asyncio.timeout(timeout):
                await engine.wait_for_session()
        except TimeoutError:
            error = engine.connector.error(f"no session within {timeout:g} s")
            await self.close()
            raise error from None
        except BaseException:
            await self.close()
            raise
        return self

    def _start(self) -> None:
        loop = get_running_loop()
        self._loop, self._context = loop, Context(loop)
        pool = pool_of(self._given_transport)
        self._engine = ClientEngine(
            [member.address for member in self.members],
            pool,
            loop,
            timeout_ms=round(self.session_timeout * 1000),
            recovery=self.recovery,
            discover=self.discover,
            selection=self.selection,
            strategy=self.strategy,
            random=self._random,
            on_state=self._listeners.notify,
            on_stopped=self._stopped,
            on_loss=self._loss_listeners.notify,
            on_recovery=self._recovery_listeners.notify,
            clock=self._clock,
        )
        self._submitter = self._engine.submitter
        self._pool = pool
        pool.enter()
        self._engine.start()

    def _stopped(self) -> None:
        self._loop = None

    async def close(self) -> None:
        """End the session and let go of the servers. Idempotent; does nothing in a forked child.

        What was called before is sent, and answered if a leader is there to do it within 2 seconds. What is still
        unsent fails with ClosedError, what is unanswered with IndeterminateError.
        """
        if self._context is not None and self._context.is_inherited:
            return  # nothing here is this process's to end
        if self._loop is not None and self._loop is not get_running_loop():
            raise self._misuse()
        if self._closing is None:
            self._closing = get_running_loop().create_future()
            self._loop = None
            try:
                await self._let_go()
            finally:
                self._closing.set_result(None)
        else:
            await asyncio.shield(self._closing)

    async def _let_go(self) -> None:
        if self._engine is None:
            return
        try:
            await self._engine.close()
        finally:
            for listeners in (self._listeners, self._loss_listeners, self._recovery_listeners):
                await listeners.close()
            if self._pool is not None:
                await self._pool.leave()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state} session={self.session_id or None} leader={self.leader}>"

    # -- operations --------------------------------------------------------------------------------------------------

    def submit(
        self,
        operation: Operation[R],
        *,
        consistency: ConsistencyLevel | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> Future[R]:
        """Start an operation of a class that the servers' one state machine registered (see RaftServer `machine=`).

        consistency: of a query; None for what its class says. timeout: in seconds, None for ever, `...` the client's.

        Raises at once: ConfigurationError for what is no operation, has no id, or for a command with a level;
        SerializationError or TooLargeError for fields that cannot be sent; and what `command` raises at once.
        """
        kind = type(operation)
        data, decode = self._typed.encode(operation), self._typed.decoder(operation)
        if isinstance(operation, Query):
            level = operation.consistency if consistency is None else consistency
            return self.query(
                MACHINE,
                0,
                kind.operation_id,
                (data,),
                consistency=level,
                timeout=timeout,
                decode=decode,
                what=kind.__name__,
            )
        if consistency is not None:
            raise ConfigurationError(
                f"{kind.__name__} is a command: commands are always linearizable and take no consistency"
            )
        return self.command(MACHINE, 0, kind.operation_id, (data,), timeout=timeout, decode=decode, what=kind.__name__)

    def command(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        timeout: float | EllipsisType | None = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "command",
    ) -> CopycatFuture[R]:
        """Start a command: it leaves at the end of this turn of the loop, or sooner among many, in the order of calls.

        target: which state machine; 0 where there is one. instance: which handle of this client's calls.
        arguments: what MessagePack carries. timeout: in seconds, None for ever, `...` the client's.
        decode: makes the result from what arrived. what: names the call in messages.

        Raises at once: ClosedError, ThreadError or ForkedError when used where it is not open; SerializationError and
        TooLargeError for arguments that cannot be sent; ConfigurationError for a timeout that is not positive.
        The future raises: CommandTimeoutError, sent but unanswered in time, whose `operation` may be waited for;
        IndeterminateError, sent but the session ended; SessionExpiredError or ClosedError, not sent, so not applied;
        NoLeaderError, ConnectError or OverloadedError, not sent in time, so not applied; ApplicationError, what the
        state machine raised; DecodeError, applied but the result is no R.
        """
        try:
            loop: AbstractEventLoop | None = get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or loop is not self._loop:
            raise self._misuse()
        operation = encode_operation(target, instance, operation_id, arguments, what)
        return self._submitter.submit(operation, self.timeout if timeout is ... else timeout, decode, what)

    def query(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        consistency: ConsistencyLevel = ConsistencyLevel.LINEARIZABLE,
        timeout: float | EllipsisType | None = ...,
        decode: Callable[[Any], R] | None = None,
        what: str = "query",
    ) -> CopycatFuture[R]:
        """Start a query; as `command`, but it changes nothing, and may be repeated.

        It sees the commands called before it. Queries are answered in the order of calls, and no later one sees an
        earlier state.

        The future raises: QueryTimeoutError, ClosedError, ApplicationError, DecodeError.
        """
        try:
            loop: AbstractEventLoop | None = get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or loop is not self._loop:
            raise self._misuse()
        operation = encode_operation(target, instance, operation_id, arguments, what)
        return self._submitter.submit(operation, self.timeout if timeout is ... else timeout, decode, what, consistency)

    def _misuse(self) -> CopycatError:
        """Why an operation cannot be taken here and now."""
        try:
            if self._context is not None:
                self._context.check_process()
                self._context.check_thread()
        except UsageError as error:
            return error
        if self._loop is None:
            is_new = self._context is None and self._closing is None
            return ClosedError(
                "the client is not open: await its open()" if is_new else "the client is closed: open another"
            )
        return ThreadError(
            "the client belongs to another event loop, that it was opened on: use it there, or open one here"
        )

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> ClientState:
        """How the session stands."""
        return self._engine.state if self._engine is not None else ClientState.CLOSED

    def on_state_change(self, callback: Callable[[ClientState], object]) -> Listener[ClientState]:
        """Call `callback` with every new state, on the loop that opened this. Closing the listener ends that."""
        return self._listeners.add(callback)

    def on_loss(self, callback: Callable[[Loss], object]) -> Listener[Loss]:
        """Call `callback` whenever what rests on the session must be given up.

        That is when nothing this client sent in the last session timeout, less a twentieth, is known to have arrived,
        for then the cluster may have ended the session; and when it has ended it, or the client was closed. Should the
        session prove alive after the first, nothing is called.
        """
        return self._loss_listeners.add(callback)

    @property
    def is_lost(self) -> bool:
        """Whether what rests on the session must be given up, for now at least: see `on_loss`."""
        return self._engine is None or self._engine.is_lost

    def on_recovery(self, callback: Callable[[int], object]) -> Listener[int]:
        """Call `callback` with the new session's number when one has begun in the place of one the cluster ended."""
        return self._recovery_listeners.add(callback)

    def listen(self, target: int, instance: int, handler: EventHandler) -> None:
        """Call `handler(index, event id, arguments)` for every event published to this instance, in order, once.

        One handler for an instance, from now until `unlisten`. Raises what `command` raises at once, where it is not
        open.
        """
        if self._engine is None or self._loop is not get_running_loop():
            raise self._misuse()
        self._engine.handlers[target, instance] = handler

    def unlisten(self, target: int, instance: int) -> None:
        """Call the handler no more. Harmless when repeated."""
        if self._engine is not None:
            self._engine.handlers.pop((target, instance), None)

    @property
    def is_connected(self) -> bool:
        """Whether the servers are known to know that the session lives."""
        return self.state is ClientState.CONNECTED

    @property
    def session_id(self) -> int:
        """The session's number; 0 while there is none."""
        return self._engine.session.id if self._engine is not None else 0

    @property
    def floor(self) -> int:
        """The highest log index whose effects this client has been shown: its view never goes back behind it."""
        return self._engine.session.floor if self._engine is not None else 0

    @property
    def leader(self) -> str | None:
        """The id of the leader last heard of; None while none is known."""
        return (self._engine.session.notice.leader or None) if self._engine is not None else None

    @property
    def connected_to(self) -> str | None:
        """The id of the server this client talks to; None while there is none."""
        if self._engine is None or self._engine.connector.connection is None:
            return None
        return self._engine.connector.member

    async def status(self, timeout: float = STATUS_SECONDS) -> dict[str, Any]:
        """What the first server that answers says of itself and its cluster, the connected one first.

        `timeout` is in seconds and for each. Raises ConnectError with what was tried.
        """
        if self._engine is None or self._pool is None or self._loop is not get_running_loop():
            raise self._misuse()
        tried: dict[str, str] = {}
        for address in self._engine.connector.addresses:
            try:
                return await ask_status(self._pool.transport, Address.parse(address), timeout)
            except CopycatError as error:
                tried[address] = str(error)
        raise ConnectError(f"no server tells its status: {'; '.join(tried.values())}", tried=tried)

    async def backup(self, path: "str | Path", *, force: bool = False, timeout: float = BACKUP_SECONDS) -> "Backup":
        """Write a backup of the cluster's state to the new file `path`: all that was acknowledged before this is in it.

        It is one index: the leader takes a snapshot while commands go on, and its file is fetched, in bounded memory,
        verified whole, and only then given its name. `copycat restore` makes a new cluster of it. The client need not
        be open.

        force: replace a file that is there. timeout: in seconds, how long to look for a leader, and to wait for each of
        its answers.

        Raises: ConfigurationError if there is such a file; NoLeaderError, ConnectError; StorageError if the leader
        cannot take a snapshot, saying why, or the file cannot be written; CorruptionError. Nothing is left of it then.
        """
        from copycat.raft.client.backup import fetch_backup  # here, for other clients need no code for files

        transport = self._given_transport if self._given_transport is not None else TcpTransport()
        addresses = self._engine.connector.addresses if self._engine is not None else []
        try:
            known = [*addresses, *(member.address for member in self.members)]
            return await fetch_backup(transport, known, path, force=force, timeout=timeout)
        finally:
            if transport is not self._given_transport:
                await transport.close()

    async def status_of(self, member: str | Member, timeout: float = STATUS_SECONDS) -> dict[str, Any]:
        """What one server says of itself, within `timeout` seconds. The client need not be open.

        Raises: ConnectError, HandshakeError, ProtocolError; QueryTimeoutError.
        """
        target = member if isinstance(member, Member) else Member.parse(member)
        transport = self._given_transport if self._given_transport is not None else TcpTransport()
        try:
            return await ask_status(transport, Address(target.host, target.port), timeout)
        finally:
            if transport is not self._given_transport:
                await transport.close()


def _one_of(name: str, kind: type[E], choice: Any) -> E:
    try:
        return kind(choice)
    except ValueError:
        raise ConfigurationError(f"{name} is one of {', '.join(kind)}, not {choice!r}") from None


def _positive(name: str, seconds: Any, limit: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < limit:
        raise ConfigurationError(f"{name} is a positive number of seconds, not {seconds!r}")
    return float(seconds)
