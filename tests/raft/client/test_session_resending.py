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


# -- for want of room --------------------------------------------------------------------------------------------------


def refused(sequence: int) -> bytes:
    return rejected(sequence, Reason.NO_SPACE, "no room")


def test_what_has_no_room_is_as_if_it_had_never_left_when_its_only_copy_was_refused(client: Client) -> None:
    client.call("a", "b")
    client.frames()
    client.hear(refused(1))
    assert client.session.unsent == ["a", "b"]
    assert not list(client.session.sent())
    client.call("c")
    assert client.frames() == []
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["a"])]  # one finds out whether there is room now
    client.hear(refused(1))
    client.session.withdraw({"a"}.__contains__)
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["b"])]
    client.hear(results(1, "B"))
    assert client.session.obstacle == ""
    assert client.sent_batches() == [(2, ["c"])]


def test_those_behind_it_go_back_with_it_when_each_was_refused(client: Client) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    client.hear(refused(1), refused(2))
    assert client.session.unsent == []
    client.hear(refused(3))
    assert client.session.unsent == ["a", "b", "c"]
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["a"])]


def test_one_that_was_let_in_keeps_its_place_and_only_those_behind_it_go_back(client: Client) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    client.hear(refused(2), refused(3))
    assert (list(client.session.sent()), client.session.unsent) == ([["a"]], ["b", "c"])
    assert client.hear(results(1, "A")) == [resolved("a")]
    client.wait_for_retry()
    assert client.sent_batches() == [(2, ["b", "c"])]


def test_what_may_have_another_copy_somewhere_is_never_taken_back_but_sent_again(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(leader("b", 2))
    assert client.sent_batches() == [(1, ["a"])]
    client.hear(refused(1))
    assert (list(client.session.sent()), client.session.unsent) == ([["a"]], [])
    client.call("b")
    client.wait_for_retry()
    assert client.sent_batches() == [(1, ["a"])]
    assert client.hear(results(1, "A")) == [resolved("a")]
    assert client.sent_batches() == [(2, ["b"])]


def test_a_gap_behind_what_had_no_room_says_that_there_is_room_again(client: Client) -> None:
    for word in "ab":
        client.call(word)
        client.frames()
    client.hear(refused(1), rejected(1, Reason.GAP))
    assert client.sent_batches() == [(1, ["a"]), (2, ["b"])]
    assert client.hear(results(1, "A"), results(2, "B")) == [resolved("a"), resolved("b")]


def test_a_query_that_waits_for_a_command_taken_back_is_asked_again(client: Client) -> None:
    client.call("a")
    client.ask("q")
    assert client.sent()[-1][0] == "QUERY"
    client.hear(refused(1))
    assert client.session.queries.are_waiting  # for the command, if there will be room
    client.session.withdraw({"a"}.__contains__)
    (asked,) = [each for each in client.sent() if each[0] == "QUERY"]
    assert asked[2] == 0  # it waits for no command any more
