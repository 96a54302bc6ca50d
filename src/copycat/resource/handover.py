"""Futures whose results must be taken: a listener that was added, a lock that was granted.

A task can be cancelled after its future is done and before it goes on. What an ordinary future brought is then lost to
everybody; here, whoever stops waiting gives it up.
"""

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Generator
from math import inf
from typing import Any, TypeVar

from copycat.raft.client.future import CopycatFuture

R = TypeVar("R")


class HandoverFuture(CopycatFuture[R]):
    """`on_abandoned` is called when it is cancelled, or a task that awaits it is, even after it is done.

    It may be called more than once.
    """

    __slots__ = ("on_abandoned",)

    on_abandoned: Callable[[], object]

    def __init__(self, what: str, on_abandoned: Callable[[], object]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.what, self.decode, self.deadline = what, None, inf
        self.on_abandoned = on_abandoned
        self.add_done_callback(lambda _: self.on_abandoned() if self.cancelled() else None)

    def __await__(self) -> Generator[Any, None, R]:
        try:
            return (yield from super().__await__())
        except CancelledError:
            self.on_abandoned()
            raise

    __iter__ = __await__
