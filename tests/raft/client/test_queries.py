"""Queries: which leave together and when, and that what they show is in the order of calls and never goes back."""

import random
from typing import Any

import pytest

from copycat.errors import ProtocolError
from copycat.raft.client.encoding import BATCH_COUNT_FIRST
from copycat.raft.client.events import EventInbox
from copycat.raft.client.outcomes import QueriesRefused, Resolved
from copycat.raft.client.queries import Queries
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import Reason
from copycat.util.backoff import Backoff
from tests.raft.client.frames import answer, leader, operation, query_refused, read_all, results
from tests.raft.client.sessions import Client

SERIALIZABLE = ConsistencyLevel.SERIALIZABLE
LEASE = ConsistencyLevel.LINEARIZABLE_LEASE
LINEARIZABLE = ConsistencyLevel.LINEARIZABLE


class Asker:
    """Queries of one client in a time that stands still until moved; tokens are the words they say."""

    def __init__(self) -> None:
        self.now = 100.0
        self.floor = 0
        self.last_sent = 0
        self.queries = Queries(Backoff(0.01, 0.5, random=random.Random(1)))

    def ask(self, *said: str, level: int = SERIALIZABLE, after: int = 0) -> None:
        for word in said:
            self.queries.add(operation(word), word, level, after)

    def sent(self) -> list[tuple[Any, ...]]:
        """(request, sequence, floor, level, words) of each frame that leaves now."""
        return [each[1:] for each in read_all(self.queries.take_frames(7, self.last_sent, self.floor, self.now))]

    def hear(self, *frames: bytes) -> list[tuple[str, Any]]:
        """Answers come; returns what is shown then, as pairs of token and result."""
        for frame in frames:
            self.queries.answered(frame)
        released, self.floor = self.queries.release(self.floor, EventInbox(), self.now)
        assert not any(each.are_commands for each in released)
        return [pair for each in released for pair in zip(each.tokens, each.results, strict=True)]

    def refuse(self, request: int, reason: Reason, detail: str = "") -> QueriesRefused | None:
        return self.queries.refused(request, reason, detail, self.now)


@pytest.fixture
def asker() -> Asker:
    return Asker()


# -- what leaves -------------------------------------------------------------------------------------------------------


def test_queries_of_one_level_called_one_after_another_leave_together(asker: Asker) -> None:
    asker.ask("a", "b")
    asker.ask("c", level=LINEARIZABLE)
    asker.ask("d")
    assert asker.sent() == [
        (1, 0, 0, SERIALIZABLE, ["a", "b"]),
        (2, 0, 0, LINEARIZABLE, ["c"]),
        (3, 0, 0, SERIALIZABLE, ["d"]),
    ]
    assert asker.sent() == []


def test_a_query_does_not_join_what_has_left(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    asker.ask("b")
    assert asker.sent() == [(2, 0, 0, SERIALIZABLE, ["b"])]


def test_a_query_waits_for_the_commands_called_before_it_to_leave(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LINEARIZABLE, after=3)
    asker.ask("c", after=5)
    assert asker.sent() == [(1, 0, 0, SERIALIZABLE, ["a"])]
    asker.last_sent = 3
    assert asker.sent() == [(2, 3, 0, LINEARIZABLE, ["b"])]
    asker.last_sent = 7
    assert asker.sent() == [(3, 5, 0, SERIALIZABLE, ["c"])]


def test_a_group_asks_for_the_sequence_before_its_last_query(asker: Asker) -> None:
    asker.ask("a", after=1)
    asker.ask("b", after=2)
    asker.last_sent = 2
    assert asker.sent() == [(1, 2, 0, SERIALIZABLE, ["a", "b"])]


def test_a_group_is_bounded_by_bytes_and_by_count(asker: Asker) -> None:
    large = ["x" * 600_000, "y" * 600_000]
    asker.ask(*large)
    asker.ask(*map(str, range(130)))
    assert [len(said) for *_, said in asker.sent()] == [1, 128, 3]


def test_groups_are_larger_after_small_answers_and_smaller_after_large_ones(asker: Asker) -> None:
    asker.ask(*map(str, range(128)))
    asker.sent()
    asker.hear(answer(1, 1, *[None] * 128))
    asker.ask(*map(str, range(300)))
    assert [len(said) for *_, said in asker.sent()] == [256, 44]
    asker.hear(answer(2, 1, *["x" * 100_000] * 120, *[None] * 136))
    asker.ask(*map(str, range(100)))
    assert [len(said) for *_, said in asker.sent()] == [89, 11]


# -- the order of what is shown ----------------------------------------------------------------------------------------


def test_answers_are_shown_in_the_order_of_calls(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LEASE)
    asker.ask("c")
    asker.sent()
    assert asker.hear(answer(3, 9, "C")) == []
    assert asker.hear(answer(2, 8, "B")) == []
    assert asker.hear(answer(1, 7, "A")) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert asker.floor == 9


def test_an_answer_from_before_the_floor_is_dropped_and_asked_for_again_at_linearizable(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LEASE)
    asker.sent()
    assert asker.hear(answer(1, 7, "A"), answer(2, 6, "old")) == [("a", "A")]
    assert asker.sent() == [(3, 0, 7, LINEARIZABLE, ["b"])]
    assert asker.hear(answer(2, 8, "of the first asking")) == []
    assert asker.hear(answer(3, 7, "B")) == [("b", "B")]


def test_an_answer_below_the_floor_holds_back_later_ones(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LEASE)
    asker.sent()
    asker.floor = 7
    assert asker.hear(answer(2, 9, "B"), answer(1, 6, "old")) == []
    assert asker.hear(answer(*[row[0] for row in asker.sent()], 8, "A")) == [("a", "A"), ("b", "B")]


def test_an_answer_that_nobody_waits_for_is_ignored(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    assert asker.hear(answer(5, 9, "?")) == []
    assert asker.hear(answer(1, 1, "A"), answer(1, 2, "again")) == [("a", "A")]
    assert asker.floor == 1


def test_results_that_do_not_fit_the_queries_raise_and_the_answer_may_still_come(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    with pytest.raises(ProtocolError, match="1 queries were answered with 2 results"):
        asker.hear(answer(1, 1, "A", "?"))
    assert asker.hear(answer(1, 1, "A")) == [("a", "A")]


def test_a_query_called_after_a_command_is_asked_with_what_that_command_has_shown() -> None:
    client = Client()
    client.hear(leader())
    client.register()
    client.call("a")
    client.ask("q")
    client.ask("r", LINEARIZABLE)
    assert client.sent()[1:] == [("QUERY", 1, 1, 0, SERIALIZABLE, ["q"]), ("QUERY", 2, 1, 0, LINEARIZABLE, ["r"])]
    client.hear(results(1, "A", index=9))
    assert client.hear(answer(1, 8, "from before the command")) == []
    assert client.sent() == [("QUERY", 3, 1, 9, LINEARIZABLE, ["q"])]
    client.hear(answer(2, 12, "R"))
    assert client.hear(answer(3, 11, "Q")) == [
        Resolved(["q"], ["Q"], are_commands=False),
        Resolved(["r"], ["R"], are_commands=False),
    ]
    assert client.session.floor == 12


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_fresh_enough_is_asked_at_linearizable(asker: Asker) -> None:
    asker.ask("a", level=LEASE)
    asker.sent()
    assert asker.refuse(1, Reason.STALE) is None
    assert asker.sent() == [(2, 0, 0, LINEARIZABLE, ["a"])]


def test_an_overloaded_server_is_asked_again_after_a_pause_that_grows(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LEASE)
    waited = []
    for _ in range(7):
        for request, *_ in asker.sent():
            assert asker.refuse(request, Reason.OVERLOADED) is None
        assert asker.sent() == []
        assert not asker.queries.are_waiting
        waited.append(asker.queries.retry_at - asker.now)
        asker.now = asker.queries.retry_at
    assert waited[0] <= 0.01
    assert waited[-1] >= 0.25
    assert [said for *_, said in asker.sent()] == [["a"], ["b"]]
    assert asker.queries.retry_at == float("inf")


def test_a_query_called_during_the_pause_leaves_at_once(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    asker.refuse(1, Reason.OVERLOADED)
    asker.ask("b", level=LEASE)
    assert [said for *_, said in asker.sent()] == [["b"]]


def test_a_query_refused_for_want_of_a_leader_is_asked_again(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    assert asker.refuse(1, Reason.NO_LEADER) is None
    assert asker.sent() == [(2, 0, 0, SERIALIZABLE, ["a"])]


def test_answers_too_large_together_are_asked_for_in_two_halves_and_again(asker: Asker) -> None:
    asker.ask("a", "b", "c", after=2)
    asker.last_sent = 2
    asker.ask("d", level=LEASE)
    asker.sent()
    assert asker.refuse(1, Reason.TOO_LARGE) is None
    assert asker.sent() == [(3, 2, 0, SERIALIZABLE, ["a"]), (4, 2, 0, SERIALIZABLE, ["b", "c"])]
    asker.refuse(4, Reason.TOO_LARGE)
    assert asker.sent() == [(5, 2, 0, SERIALIZABLE, ["b"]), (6, 2, 0, SERIALIZABLE, ["c"])]
    assert asker.hear(answer(2, 3, "D"), answer(6, 3, "C"), answer(3, 3, "A")) == [("a", "A")]
    assert asker.hear(answer(5, 3, "B")) == [("b", "B"), ("c", "C"), ("d", "D")]


def test_after_a_split_groups_are_no_larger_than_what_may_fit(asker: Asker) -> None:
    asker.ask("a", "b", "c", "d")
    asker.sent()
    asker.refuse(1, Reason.TOO_LARGE)
    asker.sent()
    asker.ask(*"efghi")
    assert [said for *_, said in asker.sent()] == [["e", "f"], ["g", "h"], ["i"]]


@pytest.mark.parametrize(("said", "reason"), [("a", Reason.TOO_LARGE), ("ab", Reason.MALFORMED)])
def test_what_no_server_will_answer_is_given_up_and_later_queries_go_on(
    asker: Asker, said: str, reason: Reason
) -> None:
    asker.ask(*said)
    asker.ask("z", level=LEASE)
    asker.sent()
    assert asker.hear(answer(2, 1, "Z")) == []
    assert asker.refuse(1, reason, "no") == QueriesRefused([*said], reason, "no")
    assert asker.hear() == [("z", "Z")]


def test_what_was_held_back_by_a_refused_query_is_shown_with_the_refusal() -> None:
    client = Client()
    client.hear(leader())
    client.register()
    client.ask("q")
    client.ask("r", LEASE)
    client.frames()
    client.hear(answer(2, 1, "R"))
    assert client.hear(query_refused(1, Reason.MALFORMED, "no")) == [
        QueriesRefused(["q"], Reason.MALFORMED, "no"),
        Resolved(["r"], ["R"], are_commands=False),
    ]


def test_a_server_without_a_leader_is_asked_nothing_more_until_it_names_one() -> None:
    client = Client()
    client.hear(leader())
    client.register()
    client.ask("q")
    client.frames()
    client.ask("r")
    assert client.hear(query_refused(1, Reason.NO_LEADER)) == []
    assert client.frames() == []
    client.hear(leader("b", 2))
    assert [each[-1] for each in client.sent() if each[0] == "QUERY"] == [["q"], ["r"]]


def test_a_refusal_that_nobody_waits_for_is_ignored(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    assert asker.refuse(9, Reason.MALFORMED) is None
    assert asker.hear(answer(1, 1, "A")) == [("a", "A")]
    assert asker.refuse(1, Reason.MALFORMED) is None


# -- sent again, taken back, given up ----------------------------------------------------------------------------------


def test_everything_unanswered_is_asked_anew_and_old_answers_count_no_more(asker: Asker) -> None:
    asker.ask("a")
    asker.ask("b", level=LEASE)
    asker.ask("c")
    asker.sent()
    asker.hear(answer(2, 5, "B"))
    asker.refuse(3, Reason.OVERLOADED)
    asker.queries.send_again()
    assert asker.sent() == [(4, 0, 0, SERIALIZABLE, ["a"]), (5, 0, 0, SERIALIZABLE, ["c"])]
    assert asker.hear(answer(1, 6, "late")) == []
    assert asker.hear(answer(4, 4, "A"), answer(5, 6, "C")) == [("a", "A"), ("b", "B"), ("c", "C")]


def test_commands_taken_back_are_not_waited_for(asker: Asker) -> None:
    asker.ask("a", after=1)
    asker.ask("b", level=LEASE, after=3)
    asker.ask("c", after=5)
    asker.queries.withdrawn([2, 3, 5])
    asker.last_sent = 2
    assert asker.sent() == [
        (1, 1, 0, SERIALIZABLE, ["a"]),
        (2, 1, 0, LEASE, ["b"]),
        (3, 2, 0, SERIALIZABLE, ["c"]),
    ]


def test_after_the_session_its_commands_are_not_waited_for(asker: Asker) -> None:
    asker.ask("a", after=4)
    assert asker.sent() == []
    asker.queries.forget_sequences()
    assert asker.sent() == [(1, 0, 0, SERIALIZABLE, ["a"])]


def test_groups_nobody_waits_for_are_dropped_and_hold_up_nobody(asker: Asker) -> None:
    asker.ask("a")  # on its way
    asker.ask("b", level=LEASE)  # for later
    asker.ask("c", "x")
    asker.sent()
    asker.refuse(2, Reason.OVERLOADED)
    asker.ask("d", level=LINEARIZABLE, after=9)  # not sent
    asker.queries.drop({"a", "b", "c", "d"}.__contains__)
    assert list(asker.queries.waiting()) == [["c", "x"]]
    assert asker.hear(answer(1, 1, "A")) == []
    assert asker.hear(answer(3, 1, "C", "X")) == [("c", "C"), ("x", "X")]
    asker.now, asker.last_sent = asker.now + 1, 9
    assert asker.sent() == []
    assert not asker.queries.are_waiting


def test_an_answer_held_back_by_queries_nobody_waits_for_is_shown_when_they_are_dropped() -> None:
    client = Client()
    client.hear(leader())
    client.register()
    client.ask("q")
    client.ask("r", LEASE)
    client.frames()
    assert client.hear(answer(2, 5, "R")) == []
    assert client.session.drop_queries({"q"}.__contains__, client.now) == [Resolved(["r"], ["R"], are_commands=False)]
    assert client.session.floor == 5


def test_taking_all_leaves_nothing(asker: Asker) -> None:
    asker.ask("a")
    asker.sent()
    asker.ask("b", level=LEASE, after=1)
    assert asker.queries.take_all() == ["a", "b"]
    asker.last_sent = 1
    assert asker.sent() == []
    assert asker.hear(answer(1, 1, "A")) == []
    assert not asker.queries.are_waiting


def test_what_is_called_after_unsent_queries_were_given_up_is_asked_and_shown(asker: Asker) -> None:
    asker.ask("a")
    asker.queries.drop({"a"}.__contains__)
    asker.ask("b")
    assert asker.queries.take_all() == ["b"]
    asker.ask("c")
    assert asker.sent() == [(1, 0, 0, SERIALIZABLE, ["c"])]
    assert asker.hear(answer(1, 1, "c")) == [("c", "c")]


def test_many_queries_of_one_turn_keep_their_order_across_the_groups_they_are_cut_into(asker: Asker) -> None:
    said = [str(number) for number in range(3 * BATCH_COUNT_FIRST + 1)]
    asker.ask(*said[:-1])
    asker.ask(said[-1], level=LINEARIZABLE)
    sent = asker.sent()
    assert [len(words) for *_, words in sent] == [BATCH_COUNT_FIRST] * 3 + [1]
    shown = [pair for request, *_, words in reversed(sent) for pair in asker.hear(answer(request, 1, *words))]
    assert shown == [(word, word) for word in said]
