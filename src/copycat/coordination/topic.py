"""DistributedTopic: what is published reaches every listener, once, in one order.

The state machine keeps who listens and nothing else: a message is in the log, and in the sessions' queues until it is
acknowledged there. Messages are canonical bytes on their way; servers never look inside.

Source: protocol §6, §7.1.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

from copycat.errors import CopycatError, Outcome, OverloadedError, UnknownResourceError
from copycat.resource import (
    Audience,
    Commit,
    Executor,
    HandoverFuture,
    OnGap,
    Resource,
    ResourceContext,
    Session,
    StateMachine,
    Timeout,
)
from copycat.util.listeners import Listener

M = TypeVar("M")

PUBLISH: Final = 1  # message -> how many handles will hear it
LISTEN: Final = 2
UNLISTEN: Final = 3

MESSAGE: Final = 1  # event: message
DELETED: Final = 2  # event: to every handle that listens, when the topic is gone

BEHIND_MAX: Final = 65_536
"""How many messages an iterator may fall behind before it gives up rather than take memory without bound."""


class TopicMachine(StateMachine, name="copycat.topic", version=1):
    """The topic on a server: the handles that listen."""

    def __init__(self) -> None:
        self._audience = Audience()

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(PUBLISH, self._publish)
        executor.register_command(LISTEN, self._listen)
        executor.register_command(UNLISTEN, self._unlisten)

    def close(self, session: Session) -> None:
        self._audience.leave(session)

    def delete(self) -> None:
        self._audience.end(self._executor, DELETED)

    def snapshot(self) -> Iterator[Any]:
        return self._audience.snapshot()

    def restore(self, parts: Iterable[Any]) -> None:
        for part in parts:
            self._audience.restore(self._executor, part)

    def _publish(self, commit: Commit, message: bytes) -> int:
        if message.__class__ is not bytes:
            raise TypeError("a topic takes messages as canonical bytes")
        return self._audience.publish(self._executor, MESSAGE, MESSAGE, message)

    def _listen(self, commit: Commit) -> None:
        self._audience.add(commit, MESSAGE)

    def _unlisten(self, commit: Commit) -> None:
        self._audience.remove(commit, MESSAGE)


class DistributedTopic(Resource, Generic[M], machine=TopicMachine):
    """A topic shared by path. `await cc.create("news", DistributedTopic[str])`.

    A message reaches every handle that listened, and whose session lived, when it was published: once, and in the order
    of publishing, which is the same for all; the publisher's own handle too, if it listens. Nothing is kept for later:
    who listens from now on hears what is published from now on.

    Messages are what the serializer encodes, at most 1 MiB, not None. With `DistributedTopic[News]` they arrive as
    News; those that are none are logged and passed over. Calls raise at once SerializationError, TooLargeError,
    ClosedError after `close()`. Futures raise what `Resource` says.
    """

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self._type: Any = context.type_arguments[0] if context.type_arguments else Any
        self._messages = self.subscription(
            "messages",
            lambda: self.command(LISTEN, what="on_message"),
            lambda: self.command(UNLISTEN, timeout=None, what="close a listener"),
        )
        self.on_event(MESSAGE, self._on_message)
        self.on_event(DELETED, self._on_deleted)

    def publish(self, message: M, *, timeout: Timeout = ...) -> Future[int]:
        """Publish. The result, once the message is committed, is how many handles it was sent to."""
        data = self.serializer.encode_value(message)
        return self.command(PUBLISH, data, timeout=timeout, what="publish")

    def on_message(
        self, callback: Callable[[M], object], *, on_gap: OnGap | None = None
    ) -> HandoverFuture[Listener[M]]:
        """Call `callback(message)` with every message published from now on. The result is the Listener, once it is
        certain that it hears them. Whoever stops waiting for it closes it.

        on_gap: called when messages may have been missed, because the session was lost and another began; None: logged.
        """
        self.check_open()
        return self._messages.add(callback, on_gap)

    async def messages(self) -> AsyncIterator[M]:
        """The messages published from the first `async for` step on, until the loop is left.

        Raises ClosedError when the handle or the client is closed, UnknownResourceError when the topic is deleted,
        OverloadedError when the loop falls 65,536 messages behind.
        """
        waiting: deque[M] = deque()
        ends: list[CopycatError] = []
        arrived = asyncio.Event()

        def take(message: M) -> None:
            if len(waiting) <= BEHIND_MAX:
                waiting.append(message)
            arrived.set()

        def end(why: CopycatError) -> None:
            ends.append(why)
            arrived.set()

        listener = await self._messages.add(take, on_end=end)
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                while waiting:
                    if len(waiting) > BEHIND_MAX:
                        raise OverloadedError(f"{self.path!r}: this loop is {BEHIND_MAX} messages behind, and ends")
                    yield waiting.popleft()
                if ends:
                    raise ends[0]
        finally:
            listener.close()

    def _on_message(self, _index: int, data: bytes) -> None:
        self._messages.notify(self.decode(data, self._type, "a message", Outcome.APPLIED))

    def _on_deleted(self, _index: int) -> None:
        self._messages.end(UnknownResourceError(f"topic {self.path!r} was deleted"))
