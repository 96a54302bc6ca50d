"""A session's commands: what leaves, in which order, how often, and what comes back."""

import pytest

from copycat.raft.client import session as session_module
from copycat.raft.client.outcomes import Kept, RegistrationRefused
from copycat.raft.protocol.entries import SESSION_WINDOW
from copycat.raft.protocol.wire import Reason
from tests.raft.client.frames import (
    answer,
    kept,
    leader,
    register_refused,
    registered,
    results,
)
from tests.raft.client.sessions import Client, resolved

# -- the beginning -----------------------------------------------------------------------------------------------------


def test_nothing_leaves_before_a_leader_is_named() -> None:
    client = Client()
    client.call("a")
    assert client.frames() == []
    client.hear(leader(""))
    assert client.frames() == []
    assert client.session.due == float("inf")
    client.hear(leader("a"))
    assert [kind for kind, *_ in client.sent()] == ["REGISTER"]


def test_a_registration_asks_for_the_timeout_and_is_repeated_with_the_same_nonce() -> None:
    client = Client(timeout_ms=1234)
    client.hear(leader())
    ((kind, nonce, timeout_ms),) = client.sent()
    assert (kind, timeout_ms) == ("REGISTER", 1234)
    assert client.frames() == []
    client.session.suspend()
    client.hear(leader())
    assert client.sent() == [("REGISTER", nonce, 1234)]


def test_commands_called_before_the_session_began_leave_when_it_has() -> None:
    client = Client()
    client.call("a", "b")
    client.hear(leader())
    client.register()
    assert client.sent() == [("BATCH", 1, 0, ["a", "b"])]


def test_the_timeout_the_servers_granted_decides_how_often_the_session_is_kept_alive() -> None:
    client = Client(timeout_ms=9000)
    client.hear(leader())
    client.hear(registered(client.nonce(), timeout_ms=600))
    assert client.session.due == client.now + 0.2


def test_a_second_answer_to_the_registration_and_one_to_anothers_are_ignored(client: Client) -> None:
    assert client.hear(registered(b"x" * 16, 99)) == []
    assert client.session.id == 7
    other = Client()
    other.hear(leader())
    assert other.hear(registered(b"x" * 16, 99)) == []
    assert other.session.id == 0
    assert other.hear(register_refused(b"x" * 16, Reason.MALFORMED, "no")) == []


def test_a_refused_registration_is_told_with_the_servers_words() -> None:
    client = Client()
    client.hear(leader())
    assert client.hear(register_refused(client.nonce(), Reason.MALFORMED, "100 to 200 ms")) == [
        RegistrationRefused("100 to 200 ms")
    ]


def test_an_overloaded_server_is_asked_for_a_session_again_a_little_later_and_then_more_rarely() -> None:
    client = Client()
    client.hear(leader())
    nonce = client.nonce()
    waited = []
    for _ in range(8):
        assert client.hear(register_refused(nonce, Reason.OVERLOADED)) == []
        assert client.frames() == []
        before = client.now
        client.wait_for_retry()
        waited.append(client.now - before)
        assert client.nonce() == nonce
    assert 0.005 <= waited[0] <= 0.01
    assert waited[-1] >= 0.25


def test_a_registration_refused_for_want_of_a_leader_waits_for_one() -> None:
    client = Client()
    client.hear(leader())
    nonce = client.nonce()
    client.hear(register_refused(nonce, Reason.NO_LEADER))
    assert not client.session.is_ready
    client.hear(leader("b", 2))
    assert client.nonce() == nonce


# -- batches and results -----------------------------------------------------------------------------------------------


def test_what_was_called_leaves_together_in_the_order_of_calls(client: Client) -> None:
    client.call("a", "b")
    client.call("c")
    assert client.sent() == [("BATCH", 1, 0, ["a", "b", "c"])]
    client.call("d")
    assert client.sent() == [("BATCH", 4, 0, ["d"])]
    assert client.frames() == []


def test_results_come_back_with_their_tokens(client: Client) -> None:
    client.call("a", "b")
    client.frames()
    assert client.hear(results(1, "A", "B")) == [resolved("a", "b")]
    assert client.session.floor == 2


def test_a_result_of_none_is_a_result(client: Client) -> None:
    client.call("a")
    client.frames()
    assert client.hear(results(1, None)) == [resolved("a", values=[None])]


def test_results_are_shown_in_order_though_an_earlier_answer_comes_later(client: Client) -> None:
    for word in "abc":
        client.call(word)
        client.frames()
    assert client.hear(results(3, "C"), results(2, "B")) == []
    assert client.session.ack == 0
    assert client.hear(results(1, "A")) == [resolved("a"), resolved("b"), resolved("c")]
    assert (client.session.ack, client.session.floor) == (3, 3)


def test_an_answer_that_comes_twice_is_shown_once(client: Client) -> None:
    client.call("a")
    client.frames()
    client.call("b")
    client.frames()
    assert client.hear(results(1, "A"), results(1, "A")) == [resolved("a")]
    assert client.hear(results(1, "?", session=8), results(9, "?")) == []


def test_the_acknowledgement_rides_on_batches_and_on_keep_alives(client: Client) -> None:
    client.call("a", "b")
    client.frames()
    client.hear(results(1, "A", "B"))
    client.call("c")
    assert client.sent() == [("BATCH", 3, 2, ["c"])]
    client.hear(results(3, "C"))
    client.now += 1.0
    assert client.sent() == [("KEEP_ALIVE", 7, 3)]


def test_an_acknowledgement_never_covers_a_result_that_was_not_shown(client: Client) -> None:
    for word in "ab":
        client.call(word)
        client.frames()
    client.hear(results(2, "B"))
    client.call("c")
    assert client.sent() == [("BATCH", 3, 0, ["c"])]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_no_more_than_the_window_is_unacknowledged(client: Client) -> None:
    client.call(*map(str, range(SESSION_WINDOW + 100)))
    batches = client.sent_batches()
    assert [first for first, _ in batches] == [
        1 + sum(len(said) for _, said in batches[:at]) for at in range(len(batches))
    ]
    assert sum(len(said) for _, said in batches) == SESSION_WINDOW
    assert client.frames() == []
    client.hear(results(1, *[None] * len(batches[0][1])))
    assert sum(len(said) for _, said in client.sent_batches()) == min(100, len(batches[0][1]))


def test_bytes_in_flight_are_limited_until_earlier_ones_are_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "IN_FLIGHT_BYTES_MAX", 300)
    for word in "abcd":
        client.call(word * 100)
        client.frames()
    assert client.session.unsent == ["d" * 100]
    client.hear(results(1, "A"))
    assert client.sent_batches() == [(4, ["d" * 100])]


def test_a_batch_holds_at_most_one_mebibyte_but_a_larger_command_goes_alone(client: Client) -> None:
    large = ["x" * 500_000, "y" * 500_000, "z" * 500_000]
    client.call(*large, "small")
    assert client.sent_batches() == [(1, large[:2]), (3, [large[2], "small"])]


def test_batches_hold_more_after_small_results_and_fewer_after_large_ones(client: Client) -> None:
    client.call(*map(str, range(300)))
    sizes = [len(said) for _, said in client.sent_batches()]
    assert sizes == [128, 128, 44]
    client.hear(results(1, *[None] * 128))
    client.call(*map(str, range(300)))
    assert [len(said) for _, said in client.sent_batches()] == [256, 44]
    client.hear(results(129, *["x" * (1 << 20)] * 12, *[None] * 116))
    client.call(*map(str, range(50)))
    assert [len(said) for _, said in client.sent_batches()] == [42, 8]


# -- kept alive --------------------------------------------------------------------------------------------------------


def test_an_idle_session_is_kept_alive_three_times_a_timeout(client: Client) -> None:
    for _ in range(3):
        assert client.session.due == client.now + 1.0
        client.now += 1.0
        assert client.sent() == [("KEEP_ALIVE", 7, 0)]
        assert client.is_waiting()
        assert client.hear(kept(5, 7)) == [Kept()]
        assert not client.is_waiting()


def test_answered_commands_spare_the_keep_alive_counted_from_when_they_were_sent(client: Client) -> None:
    client.now += 0.9
    client.call("a")
    client.frames()
    sent_at = client.now
    client.now += 0.05
    client.hear(results(1, "A"))
    assert client.session.due == sent_at + 1.0


def test_commands_that_stay_unanswered_do_not_spare_it(client: Client) -> None:
    client.call("a")
    client.frames()
    client.now += 1.0
    assert client.sent() == [("KEEP_ALIVE", 7, 0)]


def test_a_list_of_kept_sessions_without_ours_says_nothing(client: Client) -> None:
    client.hear(leader("b", 2))
    client.frames()
    assert client.hear(kept(5, 8), kept()) == []
    assert not client.is_bound()
    client.hear(kept(7))
    assert client.is_bound()


def test_the_session_is_in_doubt_from_a_new_leader_until_it_answers(client: Client) -> None:
    assert client.is_bound()
    client.hear(leader())
    assert client.is_bound()
    client.hear(leader("b", 2))
    assert not client.is_bound()
    client.call("a")
    client.frames()
    client.hear(results(1, "A"))
    assert client.is_bound()
    client.hear(leader("", 3))
    assert not client.is_bound()


# -- whether a server owes something -----------------------------------------------------------------------------------


def test_a_client_waits_until_everything_it_asked_is_answered() -> None:
    client = Client()
    assert client.is_waiting()
    client.hear(leader())
    assert client.is_waiting()
    client.register()
    assert not client.is_waiting()
    client.call("a")
    client.ask("q")
    client.frames()
    client.hear(results(1, "A"))
    assert client.is_waiting()
    client.hear(answer(1, 1, "Q"))
    assert not client.is_waiting()
    client.session.suspend()
    assert client.is_waiting()
