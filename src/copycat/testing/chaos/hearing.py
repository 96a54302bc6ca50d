"""What client processes listen to, and how listening appears in a history."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any, Final

from copycat.errors import CopycatError
from copycat.resource import Resource, ResourceContext
from copycat.testing.recorder import Recorder
from copycat.testing.workload.ledger import APPEND, ENTRY, LISTEN, READ, LedgerMachine

LEDGER: Final = "ledger"
TOPIC: Final = "topic"
LAST: Final = "last"  # the entry and the message after which nothing comes
RETRY_SECONDS = 0.2


class Ledger(Resource, machine=LedgerMachine):
    """The handle on the ledger. `on_entry` is called with position and token of every entry once `listen` is done."""

    def __init__(self, context: ResourceContext) -> None:
        super().__init__(context)
        self.on_entry: Callable[[int, str], object] = lambda _position, _token: None
        self.on_event(ENTRY, lambda _index, position, token: self.on_entry(position, token))

    def append(self, token: str, **options: Any) -> "Future[int]":
        """Its position."""
        return self.command(APPEND, token, what="append", **options)

    def read(self, **options: Any) -> "Future[list[str]]":
        """All of it."""
        return self.query(READ, what="read", **options)

    def listen(self) -> "Future[int]":
        """Hear of every entry from now on, in this session. The result is the position of the first."""
        return self.command(LISTEN, what="listen", timeout=None)


class Hearing:
    """A listener in the history: `listen`, then `receive` for each thing heard, until `close`.

    What is heard before the listening is known to have begun is written down after that.
    """

    def __init__(self, recorder: Recorder, path: str) -> None:
        self._caller = recorder.caller(path)
        self._waiting: list[Any] = []
        self._is_open = self._is_closed = False

    async def open(self, listen: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        """Begin, however often that has to be tried; what `listen` gives."""
        answer = await self._begin(listen, **options)
        self._is_open = True
        waiting, self._waiting = self._waiting, []
        for value in waiting:
            self._receive(value)
        if self._is_closed:
            self._caller.invoke("close")
        return answer

    async def _begin(self, listen: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        while True:
            try:
                return await self._caller.record("listen", listen, **options)
            except CopycatError:
                await asyncio.sleep(RETRY_SECONDS)

    def take(self, value: Any) -> None:
        """Something was heard."""
        if self._is_closed:
            return
        if self._is_open:
            self._receive(value)
        else:
            self._waiting.append(value)

    def close(self) -> None:
        """Nothing need be heard from now on."""
        if self._is_open and not self._is_closed:
            self._caller.invoke("close")
        self._is_closed = True

    def _receive(self, value: Any) -> None:
        self._caller.invoke("receive")
        self._caller.ok(value)
