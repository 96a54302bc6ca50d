"""Blocks that were appended and are not applied yet, kept in memory so that applying need not read and decode them."""

from collections import deque

from copycat.io.storage.log import Log
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import Block

RECENT_BYTES_MAX = 32 << 20


class RecentBlocks:
    """The newest of them, in order, up to RECENT_BYTES_MAX of bodies; those before are read from `log`."""

    def __init__(self, log: Log | MemoryLog) -> None:
        self._log = log
        self._blocks: deque[Block] = deque()
        self._bytes = 0

    def push(self, block: Block) -> None:
        """This one was appended."""
        self._blocks.append(block)
        self._bytes += len(block.body)
        while self._bytes > RECENT_BYTES_MAX:
            self._bytes -= self._blocks.popleft().size

    def take(self, first_index: int, last_index: int, max_bytes: int) -> list[Block]:
        """The blocks from `first_index` to `last_index` at most, at least one, about `max_bytes`: to be applied now."""
        waiting = self._blocks
        if not waiting or waiting[0].first_index != first_index:
            stop = waiting[0].first_index - 1 if waiting else last_index
            return self._log.read(first_index, min(stop, last_index), max_bytes)
        taken: list[Block] = []
        size = 0
        while waiting and waiting[0].last_index <= last_index and size < max_bytes:
            block = waiting.popleft()
            size += block.size
            taken.append(block)
        self._bytes -= size
        return taken

    def truncate_after(self, index: int) -> None:
        """The log was."""
        while self._blocks and self._blocks[-1].last_index > index:
            self._bytes -= self._blocks.pop().size

    def clear(self) -> None:
        """The log begins anew elsewhere."""
        self._blocks.clear()
        self._bytes = 0
