"""What the leader knows of one member, and what a majority has reached."""

import pytest

from copycat.raft.core.progress import Progress
from copycat.raft.core.quorum import agreed, majority


@pytest.fixture
def streaming() -> Progress:
    """A member that has accepted an append, and has two more of 100 bytes on the way."""
    progress = Progress(next_index=4, contact_ms=0, match_index=3, probing=False)
    progress.sent(5, 100)
    progress.sent(8, 100)
    return progress


def test_a_member_is_probed_at_first_with_nothing_known_of_it() -> None:
    progress = Progress(next_index=9, contact_ms=5)
    assert (progress.match_index, progress.probing, progress.probe_sent) == (0, True, False)
    assert (progress.reachable, progress.refilling) == (True, False)
    assert (progress.acknowledged_round, progress.told_commit, progress.echo_ms) == (0, 0, 0)
    assert (progress.inflight_bytes, len(progress.inflight)) == (0, 0)


def test_a_probe_is_sent_once_and_moves_nothing_until_it_is_answered() -> None:
    progress = Progress(next_index=4, contact_ms=0)
    progress.sent(6, 50)
    assert (progress.probe_sent, progress.next_index, progress.inflight_bytes) == (True, 4, 50)
    progress.matched(3)
    progress.pipeline()
    assert (progress.probing, progress.probe_sent, progress.next_index) == (False, False, 7)


def test_an_answered_heartbeat_probe_streams_from_where_it_stood() -> None:
    progress = Progress(next_index=4, contact_ms=0)
    progress.pipeline()
    assert (progress.probing, progress.next_index) == (False, 4)


def test_a_stream_moves_on_with_what_is_sent(streaming: Progress) -> None:
    assert (streaming.next_index, streaming.inflight_bytes, streaming.probe_sent) == (9, 200, False)
    streaming.pipeline()
    assert streaming.next_index == 9


def test_what_is_matched_is_no_longer_in_flight(streaming: Progress) -> None:
    streaming.matched(4)
    assert (streaming.match_index, streaming.inflight_bytes) == (4, 200)
    streaming.matched(5)
    assert (streaming.match_index, streaming.next_index, streaming.inflight_bytes) == (5, 9, 100)
    streaming.matched(4)
    assert (streaming.match_index, streaming.inflight_bytes) == (5, 100)
    streaming.matched(12)
    assert (streaming.match_index, streaming.next_index, streaming.inflight_bytes) == (12, 13, 0)


def test_a_new_probe_forgets_what_was_on_the_way_and_stays_above_what_matches(streaming: Progress) -> None:
    streaming.probe(7)
    assert (streaming.probing, streaming.probe_sent, streaming.next_index) == (True, False, 7)
    assert (streaming.inflight_bytes, len(streaming.inflight)) == (0, 0)
    streaming.probe(2)
    assert streaming.next_index == 4


def test_what_a_member_has_lost_it_no_longer_matches(streaming: Progress) -> None:
    streaming.lost(5)
    assert streaming.match_index == 3
    streaming.lost(1)
    assert streaming.match_index == 1


def test_a_majority_is_more_than_half() -> None:
    assert [majority(voters) for voters in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7], 7), ([7, 3], 3), ([3, 9, 5], 5), ([4, 1, 3, 2], 2), ([5, 1, 4, 2, 3], 3), ([8, 8, 0], 8)],
)
def test_agreed_is_the_highest_value_that_a_majority_has_reached(values: list[int], expected: int) -> None:
    assert agreed(values) == expected
