"""A cluster in a dict: operations are encoded, put in blocks, applied by the real executor, and answered. No server.

Several replicas may apply the same blocks; `Replicas.state` shows that they agree. Time stands still until `advance`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from copycat.errors import (
    ApplicationError,
    ClosedError,
    ConfigurationError,
    ResourceTypeError,
    SerializationError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
)
from copycat.handle import Copycat
from copycat.io.serializer import Serializer
from copycat.raft.client.states import ClientState, Loss
from copycat.raft.machine.executor import Ended, Executor, Outcome, Registered, Results
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.entries import REGISTER, BlockKind, End, ItemKind, pack_item, pack_types
from copycat.raft.protocol.operations import ConsistencyLevel, Failure
from copycat.raft.protocol.wire import (
    decode_events,
    decode_operations,
    decode_results,
    encode_events,
    encode_msgpack,
    encode_operations,
    encode_results,
)
from copycat.resource.loading import machines_of
from copycat.resource.manager import ResourceManager
from copycat.util.listeners import Listener, Listeners

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


@dataclass
class Block:
    """A block as the executor reads it."""

    first_index: int
    count: int
    time: int
    body: bytes
    kind: int = BlockKind.ITEMS
    wall_ms: int = 0


class Replica:
    """One member's replicated half."""

    def __init__(self, resources: Iterable[Any]) -> None:
        self.clockwork = Clockwork()
        self.manager = ResourceManager(self.clockwork, Serializer(), machines_of(resources))
        self.executor = Executor(
            clockwork=self.clockwork,
            machines=self.manager,
            decode_operations=decode_operations,
            encode_results=encode_results,
            encode_event=encode_msgpack,
        )

    def machine(self, resource_id: int) -> Any:
        """The state machine of a resource."""
        return self.manager._hosts[resource_id].machine


class Replicas:
    """`count` replicas of one log, kept in `blocks`."""

    def __init__(self, *resources: Any, count: int = 1) -> None:
        self.resources = resources
        self.replicas = [Replica(resources) for _ in range(count)]
        self.blocks: list[Block] = []
        self.time = 1_000
        self.nonces = 0
        self.clients: dict[int, LocalClient] = {}  # by session
        self.append(ItemKind.TYPES, 0, 0, 0, 1, pack_types(self.replicas[0].manager.types))

    def append(self, kind: ItemKind, session: int, sequence: int, ack: int, count: int, blob: bytes) -> Outcome:
        """One item becomes a block, and every replica applies it alike."""
        last = self.blocks[-1].first_index + self.blocks[-1].count - 1 if self.blocks else 0
        body = pack_item(kind, session, sequence, ack, count, blob)
        self.blocks.append(Block(last + 1, count, self.time, body))
        outcomes = [replica.executor.apply(self.blocks[-1]) for replica in self.replicas]
        first = outcomes[0]
        if not isinstance(first[0] if first else None, Registered):  # a session is equal to itself only
            assert all(each == first for each in outcomes)
        published = [replica.executor.take_published() for replica in self.replicas]
        assert all(each == published[0] for each in published)
        for each in published[0]:
            if each in self.clients:
                self.clients[each].deliver()
        return first[0] if first else Ended(0, End.UNKNOWN)

    def advance(self, seconds: float) -> None:
        """Let log time pass, as a tick of the leader would."""
        self.time += round(seconds * 1000)
        self.append(ItemKind.TICK, 0, 0, 0, 1, b"")

    def register(self) -> int:
        """A new session's id."""
        self.nonces += 1
        blob = REGISTER.pack(self.nonces.to_bytes(16, "big"), bytes(16), 5_000)
        outcome = self.append(ItemKind.REGISTER, 0, 0, 0, 1, blob)
        assert isinstance(outcome, Registered)
        return outcome.session.id

    def end(self, session: int, *, expired: bool = False) -> None:
        """End a session, in good order or because it fell silent."""
        kind = ItemKind.EXPIRE if expired else ItemKind.UNREGISTER
        self.append(kind, session, 0, 1 << 60, 1, b"")

    def replay(self) -> Replica:
        """A replica that starts anew and applies the whole log."""
        fresh = Replica(self.resources)
        for block in self.blocks:
            fresh.executor.apply(block)
        return fresh


class LocalClient:
    """A session on `replicas`. Operations take effect at the call; `calls` remembers what they asked for."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self.session = 0
        self.sequence = 0
        self.calls: list[dict[str, Any]] = []
        self.listeners: Listeners[Any] = Listeners("state")
        self.losses: Listeners[Loss] = Listeners("losses")
        self.recoveries: Listeners[int] = Listeners("recoveries")
        self.handlers: dict[tuple[int, int], Callable[[int, int, list[Any]], object]] = {}
        self.event_index = 0  # of the last event delivered
        self._is_lost = False
        self.state: object = ClientState.CLOSED
        self.leader: str | None = None

    async def open(self) -> None:
        self._register()
        self._become(ClientState.CONNECTED, "a")

    def _register(self) -> None:
        self._is_lost = False
        self.session = self.replicas.register()
        self.sequence = self.event_index = 0
        self.replicas.clients[self.session] = self

    async def close(self) -> None:
        if self.session:
            self.replicas.end(self.session)
            self.losses.notify(Loss("the client was closed", is_over=True))
        self.session = 0
        self._become(ClientState.CLOSED, None)

    # -- events, and what can happen to a session ----------------------------------------------------------------------

    def listen(self, target: int, instance: int, handler: Callable[[int, int, list[Any]], object]) -> None:
        self.handlers[target, instance] = handler

    def unlisten(self, target: int, instance: int) -> None:
        self.handlers.pop((target, instance), None)

    def on_loss(self, callback: Callable[[Loss], object]) -> Listener[Loss]:
        return self.losses.add(callback)

    def on_recovery(self, callback: Callable[[int], object]) -> Listener[int]:
        return self.recoveries.add(callback)

    def deliver(self) -> None:
        """What was published to the session leaves for its handles, behind whatever the loop has to do already."""
        session = self.replicas.replicas[0].executor.sessions.get(self.session)
        if session is None or session.events is None:
            return
        batches = session.events.after(self.event_index, 1 << 40)
        self.event_index = session.event_index
        frame = encode_events(self.session, 0, batches)
        asyncio.get_running_loop().call_soon(self._dispatch, decode_events(frame))

    def _dispatch(self, batches: list[list[Any]]) -> None:
        for index, *events in batches:
            for target, instance, event_id, *arguments in events:
                handler = self.handlers.get((target, instance))
                if handler is not None:
                    handler(index, event_id, arguments)

    @property
    def is_connected(self) -> bool:
        return self.state is ClientState.CONNECTED

    @property
    def is_lost(self) -> bool:
        return self._is_lost or not self.session

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
        self.losses.notify(Loss("no contact with a majority for 4.8 s of a 5 s session", is_over=False))

    def expire(self) -> None:
        """The cluster ends the session; another begins in its place."""
        self.replicas.end(self.session, expired=True)
        self.losses.notify(Loss("the session ended: expired", is_over=True))
        self._become(ClientState.EXPIRED, "a")
        self._register()
        self.recoveries.notify(self.session)
        self._become(ClientState.CONNECTED, "a")

    async def status(self) -> dict[str, Any]:
        return {"leader": self.leader}

    def on_state_change(self, callback: Callable[[Any], object]) -> Listener[Any]:
        return self.listeners.add(callback)

    def _become(self, state: ClientState, leader: str | None) -> None:
        self.state, self.leader = state, leader
        self.listeners.notify(state)

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
        self.sequence += 1
        blob = encode_operations([[target, instance, operation_id, *arguments]])
        outcome = self.replicas.append(ItemKind.COMMANDS, self.session, self.sequence, self.sequence - 1, 1, blob)
        assert isinstance(outcome, Results)
        return _resolved(outcome.data, decode)

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
        return _resolved(executor.query(executor.sessions.get(self.session), blob, 1) or b"", decode)

    def _begin(self, **call: Any) -> None:
        if not self.session:
            raise ClosedError("the session is closed")
        self.calls.append(call)


def _resolved(data: bytes, decode: Callable[[Any], Any] | None) -> asyncio.Future[Any]:
    """What a client makes of the results of one operation."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    (result,) = decode_results(data)
    if isinstance(result, Failure):
        known = ERRORS.get(result.kind)
        future.set_exception(known(result.message) if known else ApplicationError(result.message, kind=result.kind))
        return future
    try:
        future.set_result(result if decode is None else decode(result))
    except Exception as error:
        future.set_exception(error)
    return future


async def connect(replicas: Replicas, **options: Any) -> Copycat:
    """An open Copycat with a session of its own."""
    return await Copycat(LocalClient(replicas), **options).open()
