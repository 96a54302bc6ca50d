"""What the log costs: framing a block, flushing it, reading it back, and starting from it."""

import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.micro import Timer, micro, time_with_pyperf
from copycat.io.storage.base import ORIGIN, BaseLog
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.log import Log
from copycat.io.storage.record import BODY_BYTES_MAX, Block, decode_record, encode_record

ITEMS = 2  # the kind of block that holds commands; the log does not look
COMMAND_BYTES = 130  # a put of 100 B, as it is in a block
MANY = 256
BLOCKS = 1_000


def next_block(log: BaseLog, commands: int) -> Block:
    """A block of so many commands behind the log's last."""
    body = bytes(commands * COMMAND_BYTES)
    chain = zlib.crc32(body, log.last_chain)
    return Block(log.last_index + 1, commands, 1, ITEMS, log.last_time, 0, log.last_chain, chain, body)


class Scratch:
    """A log on a real disk, in a directory that goes when this does."""

    def __init__(self, **options: Any) -> None:
        self._directory = tempfile.mkdtemp(prefix="copycat-benchmark-")
        self._options = options
        self.log = self.open()
        weakref.finalize(self, let_go, self.log, self._directory)

    def open(self) -> Log:
        """The log as it is on disk."""
        return Log.open(OsDisk(), self._directory, **self._options)

    def append(self, commands: int, *, count: int = 1) -> None:
        """Append blocks and flush them together, prewriting as a server does."""
        for _ in range(count):
            self.log.append(next_block(self.log, commands))
        prewrite = self.log.take_prewrite()
        if prewrite is not None:
            prewrite.run()
            self.log.prewritten(prewrite)
        flush = self.log.take_flush()
        if flush is not None:
            flush.run()
            self.log.flushed(flush)

    def reopen(self) -> None:
        """Start from the log as it is on disk, and let go of it."""
        self.open().close()


def let_go(log: Log, directory: str) -> None:
    """Close a log and remove it."""
    log.close()
    shutil.rmtree(directory, ignore_errors=True)


def flushed(commands: int) -> Timer:
    """Append a block and wait for the disk; microseconds for the whole block."""

    def make() -> Callable[[], Any]:
        scratch = Scratch()
        scratch.append(1)
        return partial(scratch.append, commands)

    return Timer(make)


def filled(**options: Any) -> Scratch:
    """A log of so many blocks on disk."""
    scratch = Scratch(**options)
    scratch.append(1, count=BLOCKS)
    return scratch


def read_all(**options: Any) -> Timer:
    """Read every block, as for a follower that is behind."""

    def make() -> Callable[[], Any]:
        scratch = filled(**options)
        return lambda: scratch.log.read_records(1, BLOCKS, 1 << 30)

    return Timer(make, BLOCKS)


def recover() -> Callable[[], Any]:
    """Open the log again and again."""
    return filled().reopen


def encode(commands: int) -> Timer:
    return Timer(lambda: partial(encode_record, next_block(BaseLog(None, ORIGIN), commands), 0))


def decode(commands: int) -> Timer:
    record = encode_record(next_block(BaseLog(None, ORIGIN), commands), 0)
    return Timer(lambda: partial(decode_record, record, 0, BODY_BYTES_MAX))


TIMERS = {
    "encode a block of 1 command": encode(1),
    f"encode a block of {MANY} commands": encode(MANY),
    "decode a block of 1 command": decode(1),
    f"decode a block of {MANY} commands": decode(MANY),
    "append and flush a block of 1 command": flushed(1),
    f"append and flush a block of {MANY} commands": flushed(MANY),
    "read a block from memory": read_all(),
    "read a block from disk": read_all(cache_size=0),
    "recover a block": Timer(recover, BLOCKS),
}

BENCHMARK = micro(
    "storage", "Microseconds for one block; flushes wait for the disk that holds temporary files.", TIMERS
)

if __name__ == "__main__":
    time_with_pyperf("benchmarks.storage", TIMERS)
