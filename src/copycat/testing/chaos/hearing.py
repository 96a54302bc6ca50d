"""What client processes listen to."""

from asyncio import Future
from collections.abc import Callable
from typing import Any, Final

from copycat.resource import Resource, ResourceContext
from copycat.testing.workload.ledger import APPEND, ENTRY, LISTEN, READ, LedgerMachine

LEDGER: Final = "ledger"
TOPIC: Final = "topic"
LAST: Final = "last"  # the entry and the message after which nothing comes


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
