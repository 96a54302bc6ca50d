"""What may have been lost is sent again, unchanged and in order; what a server refuses is sent when it wants it."""

from copycat.raft.protocol.wire import Reason
from tests.raft.client.frames import (
    leader,
    read,
    rejected,
    results,
)
from tests.raft.client.sessions import Client, resolved


def test_at_every_notice_of_a_leader_the_very_same_bytes_leave_again_behind_a_keep_alive(client: Client) -> None:
    client.call("a")
    first = client.frames()
    client.call("b", "c")
    second = client.frames()
    for notice in (leader(), leader("b", 2), leader("b", 2)):
        client.hear(notice)
        again = client.frames()
        assert read(again[0]) == ("KEEP_ALIVE", 7, 0)
        assert again[1:] == first + second
    client.session.suspend()
    assert client.frames() == []
    client.hear(leader("c", 3))
    assert client.frames()[1:] == first + second


def test_what_was_answered_is_not_sent_again_and_borders_stay(client: Client) -> None:
    for said in ("a", "bc", "d"):
        client.call(*said)
        client.frames()
    client.hear(results(1, "A"), results(4, "D"))
    client.hear(leader())
    assert client.sent() == [("KEEP_ALIVE", 7, 1), ("BATCH", 2, 0, ["b", "c"])]


def test_commands_called_while_suspended_follow_those_that_are_sent_again(client: Client) -> None:
    client.call("a")
    client.frames()
    client.session.suspend()
    client.call("b")
    assert client.frames() == []
    client.hear(leader("b", 2))
    assert client.sent_batches() == [(1, ["a"]), (2, ["b"])]


def test_a_gap_is_filled_at_once_and_only_once_for_all_batches_behind_it(client: Client) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    for _ in "bc":
        client.hear(rejected(1, Reason.GAP))
    assert client.sent_batches() == [(1, ["a"]), (2, ["b"]), (3, ["c"])]
    assert client.frames() == []


def test_a_gap_that_stays_is_filled_again_after_a_pause(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(rejected(1, Reason.GAP))
    client.frames()
    client.hear(rejected(1, Reason.GAP))
    assert client.frames() == []
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["a"])]


def test_an_overloaded_server_gets_everything_from_the_refused_batch_on_after_a_pause(client: Client) -> None:
    for word in "ab":
        client.call(word)
        client.frames()
    client.hear(rejected(1, Reason.OVERLOADED), rejected(1, Reason.GAP))
    client.call("c")
    assert client.frames() == []
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["a"]), (2, ["b"]), (3, ["c"])]


def test_a_batch_refused_behind_one_that_is_still_unanswered_is_sent_again_too(client: Client) -> None:
    for word in "ab":
        client.call(word)
        client.frames()
    client.hear(rejected(2, Reason.OVERLOADED))
    client.wait_for_retry()
    assert (2, ["b"]) in client.sent_batches()


def test_pauses_grow_while_a_server_stays_overloaded_and_are_short_again_after_an_answer(client: Client) -> None:
    client.call("a")
    client.frames()

    def pause(sequence: int) -> float:
        client.hear(rejected(sequence, Reason.OVERLOADED))
        before = client.now
        client.wait_for_retry()
        assert client.frames()
        return client.now - before

    waited = [pause(1) for _ in range(6)]
    assert waited[0] <= 0.01
    assert waited[-1] >= 0.16
    client.hear(results(1, "A"))
    client.call("b")
    client.frames()
    assert pause(2) <= 0.01


def test_what_was_answered_during_the_pause_is_not_sent_again(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(rejected(1, Reason.OVERLOADED))
    client.hear(results(1, "A"))
    client.wait_for_retry()
    assert client.frames() == []


def test_a_notice_ends_the_pause(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(rejected(1, Reason.OVERLOADED))
    client.hear(leader("b", 2))
    client.call("b")
    assert client.sent_batches() == [(1, ["a"]), (2, ["b"])]


def test_a_refusal_for_want_of_a_leader_waits_for_one(client: Client) -> None:
    client.call("a")
    client.frames()
    assert client.hear(rejected(1, Reason.NO_LEADER)) == []
    assert (client.session.is_ready, client.is_bound()) == (False, False)
    client.hear(leader("b", 2))
    assert client.sent_batches() == [(1, ["a"])]


def test_refusals_of_what_was_answered_and_of_other_sessions_are_ignored(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(results(1, "A"))
    client.call("b")
    client.frames()
    assert client.hear(rejected(1, Reason.TOO_LARGE), rejected(2, Reason.TOO_LARGE, session=8)) == []
    assert client.hear(results(2, "B")) == [resolved("b")]
