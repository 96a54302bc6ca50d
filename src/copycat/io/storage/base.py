"""What every log does alike: the order of blocks, reading, and telling what is durable.

Blocks can be read as soon as they are appended and are durable later. Appends collect; `take_flush` hands all of them
to a job that may run on any thread; `flushed` on the loop's thread then advances `durable_index`. One job is out at
a time. A truncation while a job is out lowers what that job may prove, because its indices may be rewritten.

A log need not begin at index 1: it may stand on a snapshot. Then its base is the position before its first block, and
what lies below is not missing but elsewhere. The base moves up as segments are discarded, and by a reset.

Source: protocol §1, §1.7; docs/decisions/0008-flushing-beside-the-loop.md.
"""

import zlib
from collections.abc import Iterator

import msgspec

from copycat.errors import LogError, check
from copycat.io.storage.index import RecordCache, TermRuns
from copycat.io.storage.record import (
    BODY_BYTES_MAX,
    HEADER_BYTES,
    Block,
    Header,
    decode_header,
    decode_record,
    encode_record,
)

# first index, count, term, kind, body size in bytes, chain after, log time: a block without its body
BlockInfo = tuple[int, int, int, int, int, int, int]


class LogBase(msgspec.Struct, frozen=True):
    """A place in a log to stand on: the end of a committed block, and all that the next block must follow.

    `index` is 0 for the beginning of all logs, and then so is everything else. `time` is log time in milliseconds.
    """

    index: int
    term: int
    chain: int
    time: int


ORIGIN = LogBase(0, 0, 0, 0)


class Flush:
    """Work that makes blocks up to `last_index` durable. `run` on any thread, then `Log.flushed` on the loop's."""

    def __init__(self, last_index: int, size_bytes: int) -> None:
        self.last_index = last_index
        self.size_bytes = size_bytes

    def run(self) -> None:
        """Write and sync. An OSError means the disk has failed: end the process, never run another flush."""


class BaseLog:
    """Blocks in order from `first_index`. Used on one thread, except for the jobs it hands out.

    `base` is where the first block begins. `last_index`, `last_term`, `last_time` and `last_chain` belong to the last
    block, to the base where there is none. `durable_index` is never above `last_index` nor below the base.
    `faulty_from` is the first index once durable and now lost, or None.
    """

    def __init__(self, cache_bytes: int | None, base: LogBase) -> None:
        self.base = base
        self.last_index = base.index
        self.last_term = base.term
        self.last_time = base.time
        self.last_chain = base.chain
        self.durable_index = base.index
        self.faulty_from: int | None = None
        self.pending_bytes = 0
        self._must_flush = False  # though nothing was appended
        self._floor = base.index
        self._cache = RecordCache(cache_bytes)
        self._terms = TermRuns()
        self._flush: Flush | None = None
        self._flush_cap = 0  # the highest index the outstanding flush may prove

    @property
    def first_index(self) -> int:
        """The first index that can be read, or the next to be appended to an empty log."""
        return self.base.index + 1

    @property
    def is_faulty(self) -> bool:
        """Whether blocks once durable were lost: the member must not vote until it is refilled."""
        return self.faulty_from is not None

    @property
    def flushing(self) -> bool:
        return self._flush is not None

    @property
    def needs_flush(self) -> bool:
        """Whether `take_flush` would find work, were none outstanding."""
        return self._must_flush or self.pending_bytes > 0

    def append(self, block: Block) -> None:
        """Add `block` behind the last; readable at once. Raises: LogError unless it follows exactly."""
        if block.first_index != self.last_index + 1:
            raise LogError(f"block {block.first_index} does not follow index {self.last_index}")
        if block.chain_before != self.last_chain:
            raise LogError(f"block {block.first_index} follows another log: its chain differs at {self.last_index}")
        if block.term < self.last_term:
            raise LogError(f"block {block.first_index} has term {block.term}, the log has reached {self.last_term}")
        if zlib.crc32(block.body, block.chain_before) != block.chain:
            # Written like this it would look torn or rotten at the next start, and an acknowledged block be lost.
            raise LogError(f"block {block.first_index} carries a chain that is not its body's")
        record = encode_record(block, self.durable_index)
        self._place(block.first_index, record)
        self.pending_bytes += len(record)
        self._remember(block, record)

    def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Block]:
        """Whole blocks from the one holding `first_index` to `last_index`, at least one, about `max_bytes` long.

        Empty if `first_index` is beyond the log. Raises: CorruptionError if a block has rotted on disk; LogError if
        `first_index` was compacted.
        """
        return [decode_record(record, 0, BODY_BYTES_MAX) for record in self._select(first_index, last_index, max_bytes)]

    def read_records(self, first_index: int, last_index: int, max_bytes: int) -> tuple[bytes, int]:
        """As `read`, but the encoded records joined for the wire, and the last index they reach.

        (b"", first_index - 1) if `first_index` is beyond the log.
        """
        if last_index == self.last_index and (newest := self._cache.newest(first_index)) is not None:
            return newest, last_index  # as nearly always
        records = self._select(first_index, last_index, max_bytes)
        if not records:
            return b"", first_index - 1
        return b"".join(records), decode_header(records[-1], 0, BODY_BYTES_MAX).last_index

    def blocks_info(self) -> Iterator[BlockInfo]:
        """Every block in order, without bodies. The log must not change meanwhile."""
        for record in self._records_from(self.first_index):
            header = header_of(record)
            yield (
                header.first_index,
                header.count,
                header.term,
                header.kind,
                header.body_bytes,
                header.chain,
                header.time,
            )

    def term_at(self, index: int) -> int:
        """The term of `index`, which the log or its base holds; 0 for index 0. Raises: LogError outside the log."""
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last_index:
            raise self._outside(index)
        return self._terms.term_at(index)

    def chain_at(self, index: int) -> int:
        """The chain after `index`, which ends a block or is the base; 0 for index 0. Raises: LogError elsewhere."""
        if index == self.last_index:
            return self.last_chain
        return self._block_ending_at(index).chain

    def protect(self, index: int) -> None:
        """Promise that nothing up to `index` is ever truncated, because it is committed. Never lowered."""
        self._floor = max(self._floor, index)

    def truncate_after(self, index: int) -> None:
        """Remove all blocks above `index`, which ends a block or is the base's; nothing if the log ends there.

        Raises: LogError inside a block; InvariantError below the base and what `protect` promised.
        """
        if index >= self.last_index:
            return
        check(index >= self._floor, "committed blocks are never truncated", index, self._floor)
        last = self._block_ending_at(index)
        self._terms.truncate_after(index)
        self._cache.truncate_after(index)
        self.last_index = index
        self.last_term = self.term_at(index)
        self.last_time = last.time
        self.last_chain = last.chain
        self.durable_index = min(self.durable_index, index)
        self._flush_cap = min(self._flush_cap, index)
        self._cut(index)

    def discard_before(self, index: int) -> None:
        """Forget what lies wholly before `index`, as far as it is stored apart from the rest: the base moves up.

        The caller vouches that a durable snapshot covers every index below `index`, and so does the one that would be
        used if that had rotted: it names the *older* of the two that are kept. What is not durable stays whatever
        `index` is; so does the end of the log, and all of a faulty log, for a repair may want it.
        """
        index = min(index, self.durable_index + 1)
        if self.is_faulty or index <= self.first_index:
            return
        base = self._drop(index)
        if base.index > self.base.index:
            self.base = base
            self._floor = max(self._floor, base.index)
            self._terms.discard_before(self.first_index)
            self._cache.discard_before(self.first_index)

    def reset(self, base: LogBase) -> None:
        """Void all there is: the log stands on the snapshot that ends at `base`, which is durable, and is empty.

        All up to the base is durable at once, for the snapshot vouches for it; the files follow with the next flush,
        and a start before that finds the snapshot and does the same. A flush that is out proves nothing any more.

        A faulty log stays faulty, from the base on if not further up: the snapshot has what was lost below it, but the
        member may have vouched for more than that, and nothing tells how much. `clear_fault` ends it, when the member
        holds again all that its leader had.

        Raises: InvariantError below the base and what `protect` promised.
        """
        check(base.index >= self._floor, "a log is never reset to below what is committed", base.index, self._floor)
        check(base.index >= 1, "a log is reset to the end of a snapshot", base.index)
        self._stand_on(base)
        self._flush_cap = 0
        self.pending_bytes = 0
        if self.faulty_from is not None:
            self.faulty_from = max(self.faulty_from, self.first_index)
        self._void()

    def take_flush(self) -> Flush | None:
        """All pending bytes as one job; None if there are none or a job is outstanding."""
        if self._flush is not None or not (self.pending_bytes or self._must_flush):
            return None
        flush = self._make_flush()
        self._flush = flush
        self._flush_cap = flush.last_index
        self.pending_bytes = 0
        return flush

    def flushed(self, flush: Flush) -> tuple[int, int]:
        """Take note that `flush` ran; returns the durable index and its term, to be told to the core."""
        check(flush is self._flush, "the flush that ends is the one outstanding")
        self._flush = None
        durable = self.durable_index = max(self.durable_index, self._flush_cap)
        check(durable <= self.last_index, "nothing is durable beyond the log", durable)
        self._cache.evict(durable)
        return durable, self.last_term if durable == self.last_index else self.term_at(durable)

    def close(self) -> None:
        """Let go of the files. Flushes nothing; no job may be running."""

    def _stand_on(self, base: LogBase) -> None:
        """Be an empty log on this base, in memory."""
        self._terms.clear()
        self._cache.clear()
        self.base = base
        self.last_index = self.durable_index = base.index
        self.last_term, self.last_time, self.last_chain = base.term, base.time, base.chain
        self._floor = max(self._floor, base.index)

    def _remember(self, block: Block | Header, record: bytes) -> None:
        self._terms.push(block.first_index, block.term)
        self._cache.push(block.first_index, block.chain, record)
        self.last_index = block.last_index
        self.last_term = block.term
        self.last_time = block.time
        self.last_chain = block.chain
        self._cache.evict(self.durable_index)

    def _select(self, first_index: int, last_index: int, max_bytes: int) -> list[bytes]:
        check(first_index >= 1, "reading starts within the log", first_index)
        if first_index < self.first_index:
            raise self._outside(first_index)
        records: list[bytes] = []
        size = 0
        for record in self._records_from(first_index):
            size += len(record)
            if records and (size > max_bytes or decode_header(record, 0, BODY_BYTES_MAX).last_index > last_index):
                break
            records.append(record)
            if size >= max_bytes:
                break
        return records

    def _records_from(self, index: int) -> Iterator[bytes]:
        """The records from the one holding `index` to the end."""
        if index > self.last_index:
            return
        position = self._cache.find(index)
        if position is None:
            yield from self._stored_records(index, self._cache.first_index or self.last_index + 1)
            position = self._cache.find(self._cache.first_index or self.last_index + 1)
        if position is not None:
            for cached in range(position, self._cache.end()):
                yield self._cache.record(cached)

    def _block_ending_at(self, index: int) -> Header:
        """The header of the block that ends at `index`, with its chain; one made up for the base. Raises: LogError."""
        base = self.base
        if index == base.index:
            return Header(0, 0, index, 1, base.term, base.time, 0, 0, 0, base.chain)
        if 0 <= index < base.index:
            raise self._outside(index)
        if base.index < index <= self.last_index:
            header = header_of(next(self._records_from(index)))
            if header.last_index == index:
                return header
        raise LogError(f"index {index} does not end a block of the log, which ends at {self.last_index}")

    def _outside(self, index: int) -> LogError:
        if 0 <= index < self.first_index:
            return LogError(f"index {index} was compacted: the log begins at {self.first_index}, after a snapshot")
        return LogError(f"index {index} is outside the log, which ends at {self.last_index}")

    def _place(self, first_index: int, record: bytes) -> None:
        """Plan where a new record goes."""

    def _cut(self, index: int) -> None:
        """Plan what follows a truncation to `index`."""

    def _drop(self, index: int) -> LogBase:
        """Forget what lies before `index` and can go; where the log begins then."""
        raise NotImplementedError

    def _void(self) -> None:
        """Plan what follows a reset."""

    def _make_flush(self) -> Flush:
        return Flush(self.last_index, self.pending_bytes)

    def _stored_records(self, index: int, stop_index: int) -> Iterator[bytes]:
        """Records no longer cached, from the one holding `index` up to `stop_index`, exclusive."""
        raise NotImplementedError


def header_of(record: bytes) -> Header:
    """The header of a sound record, its chain read rather than computed."""
    header = decode_header(record, 0, BODY_BYTES_MAX)
    chain_offset = HEADER_BYTES + header.body_bytes
    header.chain = int.from_bytes(record[chain_offset : chain_offset + 4], "little")
    return header
