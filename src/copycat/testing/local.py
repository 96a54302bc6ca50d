"""A Copycat without servers, for tests of resources: `cc = await connect(Replicas(BankAccount))`.

Operations are encoded, put in blocks and applied by the real executor, all at the call; events and answers arrive in a
later turn of the loop, in their order. What can happen to a session is done to it by hand: `local_client(cc).expire()`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from copycat.errors import (
    ApplicationError,
    ClosedError,
    ConfigurationError,
    IndeterminateError,
    ResourceTypeError,
    SerializationError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
)
from copycat.handle import Copycat
from copycat.io.serializer import Serializer
from copycat.raft.client.backup import Backup
from copycat.raft.client.states import ClientState, Loss
from copycat.raft.machine.executor import Results
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.entries import ItemKind, pack_types
from copycat.raft.protocol.operations import ConsistencyLevel, Failure
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.protocol.wire import decode_events, decode_results, encode_events, encode_operations
from copycat.resource.loading import machines_of
from copycat.resource.manager import ResourceManager
from copycat.testing.replicas import Replica, ReplicatedLog
from copycat.util.listeners import Listener, Listeners

_log = logging.getLogger(__name__)

ERRORS: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (
        ConfigurationError,
        ResourceTypeError,
        SerializationError,
        TooLargeError,
        UnknownResourceError,
        UnknownResourceTypeError,
    )
}


class ResourceReplica(Replica):
    """A replica of many resources."""

    def __init__(self, machines: Sequence[type[StateMachine]]) -> None:
        clockwork = Clockwork()
        self.manager = ResourceManager(clockwork, Serializer(), machines)
        super().__init__(clockwork, self.manager)

    def machine(self, resource_id: int) -> Any:
        """The state machine of a resource. Raises KeyError."""
        return self.manager.machine(resource_id)


class Replicas(ReplicatedLog[ResourceReplica]):
    """`count` replicas that run resources of these classes."""

    def __init__(self, *resources: Any, count: int = 1) -> None:
        machines = machines_of(resources)
        super().__init__(lambda: ResourceReplica(machines), count=count, on_published=self._deliver)
        self.clients: dict[int, LocalClient] = {}  # by session
        self.append(ItemKind.TYPES, 0, 0, 0, 1, pack_types(self.replicas[0].manager.types))

    def _deliver(self, sessions: Iterable[int]) -> None:
        for session in sessions:
            if session in self.clients:
                self.clients[session].deliver()


class LocalClient:
    """A session on `replicas`. `calls` remembers what its operations asked for."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self.session = 0
        self.calls: list[dict[str, Any]] = []
        self.state: object = ClientState.CLOSED
        self.leader: str | None = None
        self._sequence = 0
        self._event_index = 0  # of the last event delivered
        self._is_lost = False
        self._unanswered: dict[asyncio.Future[Any], None] = {}
        self._states: Listeners[Any] = Listeners("states")
        self._losses: Listeners[Loss] = Listeners("losses")
        self._recoveries: Listeners[int] = Listeners("recoveries")
        self.handlers: dict[tuple[int, int], Callable[[int, int, list[Any]], object]] = {}

    # -- life, and what can happen to a session ------------------------------------------------------------------------

    async def open(self) -> None:
        self._register()
        self._become(ClientState.CONNECTED, "a")

    def _register(self) -> None:
        self._is_lost = False
        self.session = self.replicas.register()
        self._sequence = self._event_index = 0
        self.replicas.clients[self.session] = self

    async def close(self) -> None:
        session, self.session = self.session, 0
        if session:
            self.replicas.end(session)
            self._fail_unanswered("the client was closed")
            self._losses.notify(Loss("the client was closed", is_over=True, is_last=True))
        self._become(ClientState.CLOSED, None)

    def suspend(self) -> None:
        """Lose contact: the session may live or not."""
        self._become(ClientState.SUSPENDED, None)

    def resume(self) -> None:
        """Find that the session lives."""
        self._is_lost = False
        self._become(ClientState.CONNECTED, "a")

    def lose(self) -> None:
        """Count the session as lost by one's own clock; it may live on, for all this client knows."""
        self._is_lost = True
        self._losses.notify(Loss("no contact with a majority for 4.8 s of a 5 s session", is_over=False))

    def expire(self) -> None:
        """The cluster ends the session; another begins in its place."""
        self.replicas.end(self.session, expired=True)
        self._fail_unanswered("the session ended")
        self._register()  # what is called from now on is the new session's
        self._is_lost = True
        self._losses.notify(Loss("the session ended: expired", is_over=True))
        self._become(ClientState.EXPIRED, "a")
        self._is_lost = False
        self._recoveries.notify(self.session)
        self._become(ClientState.CONNECTED, "a")

    def _become(self, state: ClientState, leader: str | None) -> None:
        self.state, self.leader = state, leader
        self._states.notify(state)

    @property
    def is_connected(self) -> bool:
        return self.state is ClientState.CONNECTED

    @property
    def is_lost(self) -> bool:
        return self._is_lost or not self.session

    async def status(self) -> dict[str, Any]:
        return {"leader": self.leader}

    async def backup(self, path: str | Path, *, force: bool = False, timeout: float = 0.0) -> Backup:
        """Raises ConfigurationError: there are no servers."""
        raise ConfigurationError(f"{path}: there are no servers here, so there is nothing to back up")

    def on_state_change(self, callback: Callable[[Any], object]) -> Listener[Any]:
        return self._states.add(callback)

    def on_loss(self, callback: Callable[[Loss], object]) -> Listener[Loss]:
        return self._losses.add(callback)

    def on_recovery(self, callback: Callable[[int], object]) -> Listener[int]:
        return self._recoveries.add(callback)

    # -- events --------------------------------------------------------------------------------------------------------

    def listen(self, target: int, instance: int, handler: Callable[[int, int, list[Any]], object]) -> None:
        self.handlers[target, instance] = handler

    def unlisten(self, target: int, instance: int) -> None:
        self.handlers.pop((target, instance), None)

    def deliver(self) -> None:
        """What was published to the session leaves for its handles, behind whatever the loop has to do already."""
        session = self.replicas.replicas[0].session(self.session)
        if session is None or session.events is None:
            return
        batches = session.events.after(self._event_index, 1 << 40)
        self._event_index = session.event_index
        frame = encode_events(self.session, 0, batches)
        asyncio.get_running_loop().call_soon(self._dispatch, decode_events(frame))

    def _dispatch(self, batches: list[list[Any]]) -> None:
        for index, *events in batches:
            for target, instance, event_id, *arguments in events:
                handler = self.handlers.get((target, instance))
                if handler is None:
                    continue
                try:
                    handler(index, event_id, arguments)
                except Exception as error:
                    _log.exception("an event of resource %s could not be delivered: %r", target, error)

    # -- operations ----------------------------------------------------------------------------------------------------

    def command(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        timeout: float | None = None,
        decode: Callable[[Any], Any] | None = None,
        what: str = "",
    ) -> asyncio.Future[Any]:
        self._begin(target=target, instance=instance, id=operation_id, timeout=timeout, what=what, consistency=None)
        self._sequence += 1
        blob = encode_operations([[target, instance, operation_id, *arguments]])
        outcome = self.replicas.append(ItemKind.COMMANDS, self.session, self._sequence, self._sequence - 1, 1, blob)
        if not isinstance(outcome, Results):
            raise TypeError(outcome)
        return self._answer(outcome.data, decode)

    def query(
        self,
        target: int,
        instance: int,
        operation_id: int,
        arguments: Sequence[Any],
        *,
        consistency: ConsistencyLevel,
        timeout: float | None = None,
        decode: Callable[[Any], Any] | None = None,
        what: str = "",
    ) -> asyncio.Future[Any]:
        self._begin(
            target=target, instance=instance, id=operation_id, timeout=timeout, what=what, consistency=consistency
        )
        blob = encode_operations([[target, instance, operation_id, *arguments]])
        executor = self.replicas.replicas[0].executor
        return self._answer(executor.query(executor.sessions.get(self.session), blob, 1) or b"", decode)

    def _begin(self, **call: Any) -> None:
        if not self.session:
            raise ClosedError("the session is closed")
        self.calls.append(call)

    def _answer(self, data: bytes, decode: Callable[[Any], Any] | None) -> asyncio.Future[Any]:
        """What a client makes of the results of one operation, in a later turn, behind the events before it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._unanswered[future] = None
        loop.call_soon(self._resolve, future, data, decode)
        return future

    def _resolve(self, future: asyncio.Future[Any], data: bytes, decode: Callable[[Any], Any] | None) -> None:
        self._unanswered.pop(future, None)
        if future.done():
            return
        try:
            result = result_of(data)
            future.set_result(result if decode is None else decode(result))
        except Exception as error:
            future.set_exception(error)

    def _fail_unanswered(self, why: str) -> None:
        unanswered, self._unanswered = self._unanswered, {}
        for future in unanswered:
            if not future.done():
                future.set_exception(IndeterminateError(f"sent, but {why} unanswered"))


def result_of(data: bytes) -> Any:
    """The result of one operation. Raises what a client makes of a failure."""
    (result,) = decode_results(data)
    if isinstance(result, Failure):
        known = ERRORS.get(result.kind)
        raise known(result.message) if known else ApplicationError(result.message, kind=result.kind)
    return result


async def connect(replicas: Replicas, **options: Any) -> Copycat:
    """An open Copycat with a session of its own. `options` are Copycat's."""
    return await Copycat(LocalClient(replicas), **options).open()


def local_client(cc: Copycat) -> LocalClient:
    """The session below a Copycat made by `connect`, to `suspend`, `resume`, `lose` or `expire`."""
    client = cc._client
    if not isinstance(client, LocalClient):
        raise TypeError(f"{cc!r} was not made by copycat.testing.connect")
    return client
