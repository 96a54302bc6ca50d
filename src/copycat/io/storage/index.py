"""What the log remembers in memory: recent records, and where the others are. Never an object per old block.

Source: docs/decisions/0007-the-block-is-the-unit.md.
"""

from array import array
from bisect import bisect_left, bisect_right

from copycat.errors import check

SPARSE_BYTES = 64 << 10  # one index entry per this much file: at most this is scanned before the record sought


class RecordCache:
    """The newest records of the log as encoded bytes, which the garbage collector does not look into.

    Contiguous up to the last block. `limit_bytes` None never evicts.
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._firsts = array("Q")
        self._chains = array("I")
        self._records: list[bytes] = []
        self._head = 0  # blocks before it are evicted and wait to be compacted

    def __len__(self) -> int:
        return len(self._records) - self._head

    @property
    def first_index(self) -> int | None:
        """The first cached index; None if nothing is cached."""
        return self._firsts[self._head] if len(self) else None

    def push(self, first_index: int, chain: int, record: bytes) -> None:
        self._firsts.append(first_index)
        self._chains.append(chain)
        self._records.append(record)
        self.size_bytes += len(record)

    def find(self, index: int) -> int | None:
        """The position of the block holding `index`, given that the log reaches that far; None if evicted."""
        position = bisect_right(self._firsts, index, lo=self._head) - 1
        return position if position >= self._head else None

    def newest(self, first_index: int) -> bytes | None:
        """The last record, if its block begins at `first_index`."""
        return self._records[-1] if self._firsts and self._firsts[-1] == first_index else None

    def record(self, position: int) -> bytes:
        return self._records[position]

    def chain(self, position: int) -> int:
        return self._chains[position]

    def end(self) -> int:
        """The position after the last."""
        return len(self._records)

    def evict(self, durable_index: int) -> None:
        """Shrink to the limit, sparing the last block and all that is not durable, for those are nowhere else."""
        limit = self.limit_bytes
        if limit is None:
            return
        if self.size_bytes <= limit:
            return
        while self.size_bytes > limit and len(self) > 1 and self._firsts[self._head + 1] - 1 <= durable_index:
            self._drop_head()
        self._compact()

    def discard_before(self, index: int) -> None:
        """Forget the blocks before the one holding `index`, given that the log reaches that far."""
        position = self.find(index)
        while position is not None and self._head < position:
            self._drop_head()
        self._compact()

    def clear(self) -> None:
        del self._firsts[:], self._chains[:], self._records[:]
        self._head = self.size_bytes = 0

    def _drop_head(self) -> None:
        self.size_bytes -= len(self._records[self._head])
        self._records[self._head] = b""
        self._head += 1

    def _compact(self) -> None:
        if self._head > 1024 and self._head * 2 > len(self._records):
            del self._firsts[: self._head]
            del self._chains[: self._head]
            del self._records[: self._head]
            self._head = 0

    def truncate_after(self, index: int) -> None:
        while len(self) and self._firsts[-1] > index:
            self._firsts.pop()
            self._chains.pop()
            self.size_bytes -= len(self._records.pop())


class TermRuns:
    """The term of every index, as the first index of each run. Terms change rarely, so this stays tiny."""

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._terms = array("Q")

    def push(self, first_index: int, term: int) -> None:
        if not self._terms or self._terms[-1] != term:
            check(not self._terms or term > self._terms[-1], "terms never fall along the log", term)
            self._firsts.append(first_index)
            self._terms.append(term)

    def term_at(self, index: int) -> int:
        position = bisect_right(self._firsts, index) - 1
        return self._terms[position] if position >= 0 else 0

    def truncate_after(self, index: int) -> None:
        while self._firsts and self._firsts[-1] > index:
            self._firsts.pop()
            self._terms.pop()

    def discard_before(self, index: int) -> None:
        """Forget the runs that end before `index`."""
        runs = max(0, bisect_right(self._firsts, index) - 1)
        del self._firsts[:runs], self._terms[:runs]

    def clear(self) -> None:
        del self._firsts[:], self._terms[:]


class SparseIndex:
    """Positions of some blocks within their segments, at least one per SPARSE_BYTES."""

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._positions = array("Q")

    def push(self, first_index: int, position: int, *, segment_first: int, segment_start: int) -> None:
        """Note a block if the last noted one of the same segment is far enough back."""
        newest_first = self._firsts[-1] if self._firsts else 0
        newest_position = self._positions[-1] if newest_first >= segment_first else segment_start
        if position - newest_position >= SPARSE_BYTES:
            self._firsts.append(first_index)
            self._positions.append(position)

    def position_before(self, index: int, *, segment_first: int, segment_start: int) -> int:
        """A place in the segment starting at `segment_first` from which `index` is found by walking records."""
        position = bisect_right(self._firsts, index) - 1
        if position >= 0 and self._firsts[position] >= segment_first:
            return self._positions[position]
        return segment_start

    def truncate_after(self, index: int) -> None:
        while self._firsts and self._firsts[-1] > index:
            self._firsts.pop()
            self._positions.pop()

    def discard_before(self, index: int) -> None:
        """Forget the blocks noted before `index`, which begins a segment."""
        places = bisect_left(self._firsts, index)
        del self._firsts[:places], self._positions[:places]

    def clear(self) -> None:
        del self._firsts[:], self._positions[:]
