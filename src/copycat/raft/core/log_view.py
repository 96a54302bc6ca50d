"""What the core knows of the log: where each block begins, its term, chain and size. Never its bytes.

Four flat arrays and a bisect: a log of millions of blocks costs no objects, so the collector has nothing to walk
(docs/decisions/0007-the-block-is-the-unit.md).
"""

from array import array
from bisect import bisect_left, bisect_right

from copycat.errors import InvariantError, broken, check


class LogView:
    """Blocks in order, contiguous from `base_index + 1`. Position 0 is before the first entry: term 0, chain 0.

    The base is the last entry that a snapshot stands for; its term and chain are kept, so that an append may follow it.
    """

    __slots__ = ("_chains", "_firsts", "_sizes", "_terms", "base_chain", "base_index", "base_term", "last_index")

    def __init__(self, base_index: int = 0, base_term: int = 0, base_chain: int = 0) -> None:
        self.base_index, self.base_term, self.base_chain = base_index, base_term, base_chain
        self.last_index = base_index
        self._firsts, self._terms = array("Q"), array("Q")
        self._chains, self._sizes = array("I"), array("I")

    @property
    def last_term(self) -> int:
        return self._terms[-1] if self._terms else self.base_term

    @property
    def last_chain(self) -> int:
        return self._chains[-1] if self._chains else self.base_chain

    def append(self, first_index: int, count: int, term: int, chain: int, size: int) -> None:
        """Add the next block. It must begin right after the last and its term may not fall."""
        if first_index != self.last_index + 1:
            raise broken("a block must follow the last", first_index, self.last_index)
        if count <= 0:
            raise broken("a block holds at least one entry", first_index)
        if term < (self._terms[-1] if self._terms else self.base_term):
            raise broken("terms in a log never fall", term, self.last_term)
        self._firsts.append(first_index)
        self._terms.append(term)
        self._chains.append(chain)
        self._sizes.append(size)
        self.last_index = first_index + count - 1

    def truncate_after(self, index: int) -> None:
        """Drop the blocks after `index`, which must end a block."""
        keep = bisect_right(self._firsts, index)
        check(self.boundary_at_or_below(index) == index, "truncation must fall between blocks", index)
        for column in (self._firsts, self._terms, self._chains, self._sizes):
            del column[keep:]
        self.last_index = index

    def discard_to(self, index: int) -> None:
        """Forget the blocks up to `index`, which must end one: it is the base from now on."""
        term, chain = self.term_at(index), self.chain_at(index)
        if term is None or chain is None:
            raise InvariantError(f"a log is discarded up to the end of a block, which {index} is not")
        gone = bisect_right(self._firsts, index)
        for column in (self._firsts, self._terms, self._chains, self._sizes):
            del column[:gone]
        self.base_index, self.base_term, self.base_chain = index, term, chain

    def reset(self, index: int, term: int, chain: int) -> None:
        """Forget every block: the log begins behind `index`, the last entry of a snapshot."""
        for column in (self._firsts, self._terms, self._chains, self._sizes):
            del column[:]
        self.base_index, self.base_term, self.base_chain = index, term, chain
        self.last_index = index

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None when the log does not hold it."""
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index:
            return None
        return self._terms[bisect_right(self._firsts, index) - 1]

    def chain_at(self, index: int) -> int | None:
        """The chain after the block that ends at `index`; None when no block ends there."""
        if index == self.base_index:
            return self.base_chain
        block = bisect_right(self._firsts, index) - 1
        return self._chains[block] if block >= 0 and self._end(block) == index else None

    def boundary_at(self, index: int) -> tuple[int, int] | None:
        """The term of the block that ends at `index`, and the chain after it; None when no block ends there."""
        if index == self.base_index:
            return self.base_term, self.base_chain
        firsts = self._firsts
        block = bisect_right(firsts, index) - 1
        end = firsts[block + 1] - 1 if block + 1 < len(firsts) else self.last_index
        return (self._terms[block], self._chains[block]) if block >= 0 and end == index else None

    def boundary_at_or_below(self, index: int) -> int:
        """The highest index at or below `index` that ends a block, or the base."""
        if index >= self.last_index:
            return self.last_index
        block = bisect_right(self._firsts, index) - 1
        if block < 0:
            return self.base_index
        return index if self._end(block) == index else self._firsts[block] - 1

    def before_term_of(self, index: int) -> int:
        """The end of the last block before the first entry of the term that `index` has: the backtracking hint."""
        check(self.base_index <= index <= self.last_index, "no term at an index outside the log", index)
        if index == self.base_index:
            return index
        return self._firsts[bisect_left(self._terms, self._terms[bisect_right(self._firsts, index) - 1])] - 1

    def run(self, first_index: int, size_max: int) -> tuple[int, int]:
        """The last index and the bytes of a run of whole blocks from `first_index`, one block at least."""
        firsts, sizes = self._firsts, self._sizes
        block = bisect_right(firsts, first_index) - 1
        if block < 0 or firsts[block] != first_index:
            raise broken("a run begins with a block", first_index)
        size = sizes[block]
        block += 1
        while block < len(firsts) and size + sizes[block] <= size_max:
            size += sizes[block]
            block += 1
        return firsts[block] - 1 if block < len(firsts) else self.last_index, size

    def size_after(self, index: int) -> int:
        """The bytes of the blocks that begin after `index`."""
        return sum(self._sizes[bisect_right(self._firsts, index) :])

    def _end(self, block: int) -> int:
        return self._firsts[block + 1] - 1 if block + 1 < len(self._firsts) else self.last_index
