"""How somebody who listens appears in a history, as `copycat.testing.delivery` reads it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from copycat.errors import CopycatError
from copycat.testing.recorder import Recorder

RETRY_SECONDS = 0.2


class Hearing:
    """A listener in the history: `listen`, then `receive` for each thing heard, until `close`.

    What is heard before the listening is known to have begun is written down after that.
    """

    def __init__(self, recorder: Recorder, path: str) -> None:
        self._caller = recorder.caller(path)
        self._waiting: list[Any] = []
        self._is_open = self._is_closed = False

    async def open(self, listen: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        """Begin, however often that has to be tried; what `listen` gives. options: of `Caller.record`."""
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
