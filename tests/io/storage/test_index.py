"""What the log remembers in memory: recent records, terms, and where old records are."""

import pytest

from copycat.errors import InvariantError
from copycat.io.storage.index import SPARSE_BYTES, RecordCache, SparseIndex, TermRuns


def cache_of(*sizes: int, limit: int | None = None) -> RecordCache:
    """Blocks of two indices each, from 1 on, with records of these sizes and the chains 101, 102 and so on."""
    cache = RecordCache(limit)
    for number, size in enumerate(sizes):
        cache.push(1 + 2 * number, 101 + number, bytes([number % 256]) * size)
    return cache


def cached(cache: RecordCache) -> list[int]:
    """The first index of each cached block."""
    return [cache._firsts[position] for position in range(cache._head, cache.end())]


def test_an_empty_cache_holds_nothing() -> None:
    cache = RecordCache(100)
    assert (len(cache), cache.first_index, cache.size_bytes, cache.end(), cache.find(1)) == (0, None, 0, 0, None)
    cache.evict(0)
    cache.truncate_after(0)
    assert len(cache) == 0


def test_a_block_is_found_by_every_index_it_holds() -> None:
    cache = cache_of(5, 6, 7)
    assert (len(cache), cache.first_index, cache.size_bytes, cache.end()) == (3, 1, 18, 3)
    assert [cache.find(index) for index in range(7)] == [None, 0, 0, 1, 1, 2, 2]
    assert (cache.record(1), cache.chain(1)) == (b"\x01" * 6, 102)


def test_a_cache_without_a_limit_never_forgets() -> None:
    cache = cache_of(*[1 << 20] * 5)
    cache.evict(10)
    assert len(cache) == 5


def test_the_oldest_are_evicted_until_the_rest_fits() -> None:
    cache = cache_of(10, 10, 10, 10, limit=25)
    cache.evict(8)
    assert (cached(cache), cache.size_bytes, cache.first_index) == ([5, 7], 20, 5)
    assert [cache.find(index) for index in (4, 5, 8)] == [None, 2, 3]
    assert cache._records[:2] == [b"", b""]


def test_what_just_fits_stays() -> None:
    cache = cache_of(10, 10, limit=20)
    cache.evict(4)
    assert len(cache) == 2


@pytest.mark.parametrize(("durable", "left"), [(0, 4), (1, 4), (2, 3), (3, 3), (4, 2), (6, 1), (8, 1)])
def test_what_is_not_durable_and_the_last_block_are_never_evicted(durable: int, left: int) -> None:
    cache = cache_of(10, 10, 10, 10, limit=1)
    cache.evict(durable)
    assert len(cache) == left
    assert cache.size_bytes == 10 * left


def test_truncation_drops_the_blocks_behind_an_index() -> None:
    cache = cache_of(10, 20, 30)
    cache.truncate_after(4)
    assert (cached(cache), cache.size_bytes) == ([1, 3], 30)
    cache.truncate_after(4)
    assert len(cache) == 2
    cache.push(5, 7, b"new")
    assert (cache.find(5), cache.chain(2), cache.record(2), cache.size_bytes) == (2, 7, b"new", 33)
    cache.truncate_after(0)
    assert (len(cache), cache.first_index, cache.size_bytes) == (0, None, 0)


def test_truncation_below_what_is_cached_leaves_an_empty_cache() -> None:
    cache = cache_of(10, 10, 10, limit=10)
    cache.evict(6)
    cache.truncate_after(2)
    assert (len(cache), cache.first_index, cache.find(2)) == (0, None, None)


def test_evicted_places_are_given_up_when_they_are_many_and_more_than_half() -> None:
    cache = cache_of(*[1] * 1_500, limit=700)
    cache.evict(3_000)
    assert (cache._head, len(cache), len(cache._records)) == (800, 700, 1_500)
    cache = cache_of(*[1] * 3_000, limit=1_500)
    cache.evict(6_000)
    assert (cache._head, len(cache)) == (1_500, 1_500)
    cache.limit_bytes = 1_499
    cache.evict(6_000)
    assert (cache._head, len(cache), len(cache._records)) == (0, 1_499, 1_499)
    assert cache.first_index == 2 * 1_501 + 1
    assert (cache.find(cache.first_index), cache.chain(0)) == (0, 101 + 1_501)
    assert len(cache._firsts) == len(cache._chains) == 1_499


def test_terms_are_known_for_every_index() -> None:
    runs = TermRuns()
    assert runs.term_at(0) == runs.term_at(5) == 0
    for first, term in ((1, 2), (3, 2), (4, 5), (9, 6)):
        runs.push(first, term)
    assert [runs.term_at(index) for index in range(11)] == [0, 2, 2, 2, 5, 5, 5, 5, 5, 6, 6]
    assert len(runs._firsts) == len(runs._terms) == 3


def test_terms_never_fall_along_the_log() -> None:
    runs = TermRuns()
    runs.push(1, 2)
    runs.push(2, 5)
    with pytest.raises(InvariantError, match="terms never fall"):
        runs.push(3, 4)


@pytest.mark.parametrize(
    ("index", "terms"), [(9, [2, 5, 6]), (8, [2, 5, 5]), (4, [2, 5, 5]), (3, [2, 2, 2]), (0, [0] * 3)]
)
def test_truncated_terms_are_forgotten(index: int, terms: list[int]) -> None:
    runs = TermRuns()
    for first, term in ((1, 2), (4, 5), (9, 6)):
        runs.push(first, term)
    runs.truncate_after(index)
    assert [runs.term_at(each) for each in (1, 4, 9)] == terms
    runs.push(index + 1, 6)
    assert runs.term_at(index + 1) == 6


def note(index: SparseIndex, first: int, position: int, segment_first: int = 1) -> None:
    index.push(first, position, segment_first=segment_first, segment_start=4096)


def before(index: SparseIndex, first: int, segment_first: int = 1) -> int:
    return index.position_before(first, segment_first=segment_first, segment_start=4096)


def test_a_block_is_noted_once_far_enough_from_the_last_one_noted() -> None:
    index = SparseIndex()
    note(index, 1, 4096)
    note(index, 2, 4096 + SPARSE_BYTES - 1)
    assert len(index._firsts) == 0
    note(index, 3, 4096 + SPARSE_BYTES)
    note(index, 4, 4096 + 2 * SPARSE_BYTES - 1)
    note(index, 5, 4096 + 2 * SPARSE_BYTES)
    assert list(index._firsts) == [3, 5]
    assert [before(index, first) for first in (1, 2, 3, 4, 5, 6)] == [
        *(4096, 4096),
        *(4096 + SPARSE_BYTES, 4096 + SPARSE_BYTES),
        *(4096 + 2 * SPARSE_BYTES, 4096 + 2 * SPARSE_BYTES),
    ]


def test_each_segment_counts_from_its_own_start() -> None:
    index = SparseIndex()
    note(index, 5, 4096 + 3 * SPARSE_BYTES)
    note(index, 10, 4096, segment_first=10)
    assert list(index._firsts) == [5]
    assert before(index, 10, segment_first=10) == 4096
    note(index, 12, 4096 + SPARSE_BYTES, segment_first=10)
    assert list(index._firsts) == [5, 12]
    assert before(index, 11, segment_first=10) == 4096
    assert before(index, 12, segment_first=10) == 4096 + SPARSE_BYTES


def test_truncated_places_are_forgotten() -> None:
    index = SparseIndex()
    for first in (3, 5, 7):
        note(index, first, first * SPARSE_BYTES)
    index.truncate_after(5)
    assert list(index._firsts) == [3, 5]
    assert before(index, 9) == 5 * SPARSE_BYTES
    index.truncate_after(4)
    assert (list(index._firsts), list(index._positions)) == ([3], [3 * SPARSE_BYTES])
    index.truncate_after(0)
    assert (len(index._firsts), len(index._positions), before(index, 9)) == (0, 0, 4096)


def test_places_are_noted_every_64_kibibytes() -> None:
    assert SPARSE_BYTES == 64 * 1024
