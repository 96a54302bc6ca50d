"""How a session ends, and what is then known of each command."""

import pytest

from copycat.raft.client.outcomes import Ended
from copycat.raft.protocol.entries import End
from copycat.raft.protocol.wire import Reason
from tests.raft.client.frames import (
    ended,
    leader,
    names,
    query_refused,
    registered,
    rejected,
    results,
)
from tests.raft.client.sessions import SERIALIZABLE, Client, resolved


def test_when_the_session_has_ended_it_is_said_of_each_command_what_is_known(client: Client) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    client.hear(results(1, "A"), results(3, "C"))
    client.session.suspend()
    client.call("d")
    client.hear(leader("b", 2))
    client.hear(rejected(2, Reason.OVERLOADED))  # so that d stays
    assert client.hear(ended(End.EXPIRED)) == [
        resolved("c"),
        Ended(why="expired", sent=["b"], unsent=["d"], refused=[]),
    ]


def test_results_shown_at_the_end_raise_the_floor_like_any_other(client: Client) -> None:
    for word in "ab":
        client.call(word)
        client.frames()
    client.hear(results(2, "B", index=50))
    client.hear(ended())
    assert client.session.floor == 50


def test_a_new_session_begins_with_another_nonce_and_with_sequence_one_and_keeps_the_floor(client: Client) -> None:
    first_nonce = Client()
    first_nonce.hear(leader())
    client.call("a")
    client.frames()
    client.hear(results(1, "A", index=30))
    client.call("lost")
    client.frames()
    client.hear(ended())
    assert (client.session.id, client.session.floor, client.is_bound()) == (0, 30, False)
    client.call("b")
    nonce = client.nonce()
    assert nonce != first_nonce.nonce()
    client.hear(registered(nonce, 40))
    client.ask("q")
    assert client.sent() == [("BATCH", 1, 0, ["b"]), ("QUERY", 1, 1, 30, SERIALIZABLE, ["q"])]
    assert client.hear(results(1, "?"), rejected(1, Reason.TOO_LARGE), ended()) == []
    assert client.hear(results(1, "B", session=40, index=41)) == [resolved("b")]


def test_an_end_while_no_leader_is_known_registers_when_one_is(client: Client) -> None:
    client.session.suspend()
    (outcome,) = client.session.end("the test says so")
    assert outcome == Ended(why="the test says so", sent=[], unsent=[], refused=[])
    assert client.frames() == []
    client.hear(leader())
    client.register(9)
    assert client.session.id == 9


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (ended(End.UNKNOWN), "unknown"),
        (ended(End.UNREGISTERED), "unregistered"),
        (rejected(1, Reason.UNKNOWN_SESSION, "long gone"), "long gone"),
        (rejected(1, Reason.UNKNOWN_SESSION), "unknown to the servers"),
    ],
)
def test_a_session_the_servers_do_not_know_has_ended(client: Client, frame: bytes, why: str) -> None:
    client.call("a")
    client.frames()
    assert client.hear(frame) == [Ended(why=why, sent=["a"], unsent=[], refused=[])]


def test_a_query_refused_because_the_session_has_ended_tells_so_and_is_asked_in_the_next_one(client: Client) -> None:
    client.call("a")
    client.ask("q")
    client.frames()
    assert client.hear(query_refused(9, Reason.UNKNOWN_SESSION)) == []
    assert client.hear(query_refused(1, Reason.UNKNOWN_SESSION, "session 7 has ended")) == [
        Ended(why="session 7 has ended", sent=["a"], unsent=[], refused=[])
    ]
    client.register(9)
    assert client.sent() == [("QUERY", 2, 0, 0, SERIALIZABLE, ["q"])]


@pytest.mark.parametrize("reason", [Reason.TOO_LARGE, Reason.MALFORMED])
def test_a_batch_that_will_never_be_taken_ends_the_session_and_the_later_ones_never_happened(
    client: Client, reason: Reason
) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    client.session.suspend()
    client.call("d")
    assert client.hear(rejected(2, reason, "too much")) == [
        Ended(why="too much", sent=["a"], refused=["b"], unsent=["c", "d"], reason=reason)
    ]


def test_leaving_ends_the_session_behind_what_was_sent_and_sends_nothing_new(client: Client) -> None:
    client.call("a")
    batch = client.frames()
    client.call("b")
    client.session.leave()
    assert client.sent() == [("UNREGISTER", 7)]
    client.hear(leader("b", 2))
    again = client.frames()
    assert names(again) == ["KEEP_ALIVE", "BATCH", "UNREGISTER"]
    assert again[1:2] == batch
    assert client.is_waiting()
    assert client.hear(results(1, "A"), ended(End.UNREGISTERED)) == [
        resolved("a"),
        Ended(why="unregistered", sent=[], unsent=["b"], refused=[]),
    ]
    client.hear(leader("c", 3))
    assert client.frames() == []


def test_leaving_while_no_leader_is_known_says_so_to_the_next_one(client: Client) -> None:
    client.session.suspend()
    client.session.leave()
    assert client.frames() == []
    client.hear(leader("b", 2))
    assert names(client.frames()) == ["KEEP_ALIVE", "UNREGISTER"]


def test_leaving_before_there_is_a_session_sends_nothing() -> None:
    client = Client()
    client.session.leave()
    client.hear(leader())
    assert client.frames() == []


def test_unsent_commands_can_be_taken_back_and_the_others_close_up(client: Client) -> None:
    client.session.suspend()
    client.call("a", "b", "c")
    client.ask("q")
    client.session.withdraw({"a", "c"}.__contains__)
    assert client.session.unsent == ["b"]
    client.hear(leader("b", 2))
    assert client.sent()[1:] == [("BATCH", 1, 0, ["b"]), ("QUERY", 1, 1, 0, SERIALIZABLE, ["q"])]


def test_what_was_sent_cannot_be_taken_back(client: Client) -> None:
    client.call("a")
    client.frames()
    client.session.withdraw({"a"}.__contains__)
    assert list(client.session.sent()) == [["a"]]
    assert client.hear(results(1, "A")) == [resolved("a")]
