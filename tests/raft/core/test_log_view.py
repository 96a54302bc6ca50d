"""What the core knows of the log, block by block."""

import pytest

from copycat.errors import InvariantError
from copycat.raft.core.log_view import LogView


@pytest.fixture
def log() -> LogView:
    """Entries 1 to 10 in blocks of two: terms 1, 1, 3, 3, 4; chains 101 to 105; sizes 10 to 50."""
    log = LogView()
    for number, term in enumerate((1, 1, 3, 3, 4)):
        log.append(1 + 2 * number, 2, term, 101 + number, 10 * (number + 1))
    return log


def test_an_empty_log_ends_before_the_first_entry() -> None:
    log = LogView()
    assert (log.base_index, log.base_term, log.base_chain) == (0, 0, 0)
    assert (log.last_index, log.last_term, log.last_chain) == (0, 0, 0)
    assert (log.term_at(0), log.chain_at(0), log.term_at(1), log.chain_at(1)) == (0, 0, None, None)
    assert (log.boundary_at_or_below(0), log.boundary_at_or_below(9), log.before_term_of(0)) == (0, 0, 0)


def test_a_log_knows_the_term_of_every_entry_and_the_chain_where_blocks_end(log: LogView) -> None:
    assert (log.last_index, log.last_term, log.last_chain) == (10, 4, 105)
    assert [log.term_at(index) for index in range(-1, 12)] == [None, 0, 1, 1, 1, 1, 3, 3, 3, 3, 4, 4, None]
    assert [log.chain_at(index) for index in range(12)] == [
        *(0, None, 101, None, 102, None, 103, None, 104, None, 105, None)
    ]


def test_a_boundary_is_where_a_block_ends(log: LogView) -> None:
    assert [log.boundary_at_or_below(index) for index in range(13)] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 10]


def test_an_append_may_follow_the_end_of_a_block_or_the_base(log: LogView) -> None:
    assert [log.boundary_at(index) for index in range(-1, 12)] == [
        *(None, (0, 0), None, (1, 101), None, (1, 102), None, (3, 103), None, (3, 104), None, (4, 105), None)
    ]
    log.discard_to(4)
    assert [log.boundary_at(index) for index in range(2, 8)] == [None, None, (1, 102), None, (3, 103), None]
    log.reset(20, 5, 7)
    assert [log.boundary_at(index) for index in (4, 19, 20, 21)] == [None, None, (5, 7), None]


def test_the_hint_lies_before_the_first_entry_of_the_term(log: LogView) -> None:
    assert [log.before_term_of(index) for index in range(11)] == [0, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    for index in (-1, 11):
        with pytest.raises(InvariantError, match="outside the log"):
            log.before_term_of(index)


def test_a_run_is_of_whole_blocks_up_to_the_limit_and_of_one_at_least(log: LogView) -> None:
    assert log.run(1, 1) == (2, 10)
    assert log.run(1, 29) == (2, 10)
    assert log.run(1, 30) == (4, 30)
    assert log.run(3, 20 + 30 + 40) == (8, 90)
    assert log.run(3, 1 << 20) == (10, 140)
    assert log.run(9, 1 << 20) == (10, 50)


@pytest.mark.parametrize("first", [0, 2, 10, 11])
def test_a_run_begins_with_a_block(log: LogView, first: int) -> None:
    with pytest.raises(InvariantError, match="begins with a block"):
        log.run(first, 100)


def test_truncation_drops_the_blocks_behind_and_the_log_goes_on_from_there(log: LogView) -> None:
    log.truncate_after(4)
    assert (log.last_index, log.last_term, log.last_chain) == (4, 1, 102)
    assert (log.term_at(5), log.chain_at(6), log.run(3, 1 << 20)) == (None, None, (4, 20))
    log.append(5, 1, 2, 99, 7)
    assert (log.last_index, log.last_term, log.last_chain, log.run(1, 1 << 20)) == (5, 2, 99, (5, 37))
    log.truncate_after(0)
    assert (log.last_index, log.last_term, log.last_chain) == (0, 0, 0)


@pytest.mark.parametrize("index", [1, 3, 9, 11])
def test_truncation_falls_between_blocks(log: LogView, index: int) -> None:
    with pytest.raises(InvariantError, match="between blocks"):
        log.truncate_after(index)
    assert log.last_index == 10


@pytest.mark.parametrize(("first", "count", "term"), [(10, 1, 4), (12, 1, 4), (11, 0, 4), (11, 1, 3)])
def test_what_does_not_follow_is_refused(log: LogView, first: int, count: int, term: int) -> None:
    with pytest.raises(InvariantError):
        log.append(first, count, term, 7, 7)
    assert log.last_index == 10


def test_a_log_may_begin_behind_a_base() -> None:
    log = LogView(base_index=7, base_term=2, base_chain=77)
    assert (log.last_index, log.last_term, log.last_chain) == (7, 2, 77)
    assert (log.term_at(7), log.chain_at(7), log.before_term_of(7)) == (2, 77, 7)
    log.append(8, 2, 2, 88, 5)
    assert [log.term_at(index) for index in (6, 7, 8, 9, 10)] == [None, 2, 2, 2, None]
    assert [log.chain_at(index) for index in (6, 7, 8, 9, 10)] == [None, 77, None, 88, None]
    log.append(10, 1, 2, 99, 5)
    assert [log.boundary_at_or_below(index) for index in (3, 7, 8, 9)] == [7, 7, 7, 9]
    assert log.before_term_of(9) == 7
    with pytest.raises(InvariantError, match="outside the log"):
        log.before_term_of(6)


def test_a_log_lets_go_of_what_a_snapshot_stands_for_and_knows_what_it_follows() -> None:
    log = LogView()
    for first, term in ((1, 1), (3, 1), (5, 2)):
        log.append(first, 2, term, first * 10, 7)
    log.discard_to(4)
    assert (log.base_index, log.base_term, log.base_chain, log.last_index) == (4, 1, 30, 6)
    assert (log.term_at(3), log.term_at(4), log.term_at(5), log.chain_at(4)) == (None, 1, 2, 30)
    assert log.run(5, 100) == (6, 7)
    log.discard_to(6)
    assert (log.last_index, log.last_term, log.last_chain) == (6, 2, 50)
    log.append(7, 1, 2, 70, 7)
    assert log.term_at(7) == 2


@pytest.mark.parametrize("index", [3, 7])
def test_only_whole_blocks_are_let_go_of(index: int) -> None:
    log = LogView()
    for first in (1, 3, 5):
        log.append(first, 2, 1, first, 7)
    with pytest.raises(InvariantError, match=f"end of a block, which {index} is not"):
        log.discard_to(index)


def test_a_log_is_begun_anew_behind_a_snapshot() -> None:
    log = LogView()
    log.append(1, 2, 5, 10, 7)
    log.reset(9, 3, 90)
    assert (log.base_index, log.last_index, log.last_term, log.last_chain) == (9, 9, 3, 90)
    assert log.term_at(2) is None
