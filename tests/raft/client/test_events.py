"""A session's events on the client: each once, in order, and before the answers that come after them."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import ProtocolError
from copycat.raft.client import events
from copycat.raft.client.events import ASK_SECONDS, EventInbox
from copycat.raft.client.outcomes import Delivered, Resolved
from copycat.raft.machine.event_queues import EventQueue
from copycat.raft.protocol.wire import (
    HEADER_ANSWER,
    HEADER_EVENTS_AFTER,
    HEADER_KEEP_ALIVE,
    HEADER_RESULTS,
    KEPT_ALIVE,
    Tag,
    encode_events,
    encode_msgpack,
    encode_results,
    unpack,
)
from tests.raft.client.frames import leader, names, registered
from tests.raft.client.sessions import Client, resolved

SESSION = 7


def queue(*indices: int) -> EventQueue:
    made = EventQueue()
    for index in indices:
        made.add(index, encode_msgpack([3, 1, 9, index]))
    return made


def frame(kept: EventQueue, after: int, size_max: int = 1 << 60, session: int = SESSION) -> bytes:
    batches = kept.after(after, size_max)
    return encode_events(session, batches[0].previous, batches)


def indices(batches: list[list[Any]]) -> list[int]:
    return [batch[0] for batch in batches]


# -- the inbox ---------------------------------------------------------------------------------------------------------


def test_what_follows_is_delivered_and_what_was_delivered_is_not() -> None:
    inbox, kept = EventInbox(), queue(3, 5, 5, 9)

    assert inbox.receive(frame(kept, 0, 1)) == [[3, [3, 1, 9, 3]]]
    assert inbox.receive(frame(kept, 0)) == [[5, [3, 1, 9, 5], [3, 1, 9, 5]], [9, [3, 1, 9, 9]]]
    assert inbox.receive(frame(kept, 3)) == []
    assert inbox.index == 9


def test_what_does_not_follow_is_asked_for_at_once() -> None:
    inbox, kept = EventInbox(), queue(3, 5, 9)
    assert inbox.receive(frame(kept, 5)) == []

    assert inbox.ask_at == 0
    asked = inbox.ask(SESSION, 10.0)
    assert HEADER_EVENTS_AFTER.unpack(asked) == (Tag.EVENTS_AFTER, SESSION, 0)
    assert inbox.ask_at == pytest.approx(10.0 + ASK_SECONDS)  # and again, should the answer be lost
    assert indices(inbox.receive(frame(kept, 0))) == [3, 5, 9]
    assert inbox.ask_at == float("inf")


def test_an_answer_waits_for_the_event_it_speaks_of_and_asks_after_a_heartbeat() -> None:
    inbox, kept = EventInbox(), queue(3)

    assert not inbox.wait_for(0, 10.0)
    assert inbox.wait_for(3, 10.0)
    assert inbox.wait_for(3, 10.05)
    assert inbox.ask_at == pytest.approx(10.0 + ASK_SECONDS)
    inbox.receive(frame(kept, 0))
    assert not inbox.wait_for(3, 10.06)


def test_many_unacknowledged_events_call_for_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "UNACKNOWLEDGED_MAX", 3)
    inbox, kept = EventInbox(), queue(3, 3, 5, 5)
    many = []
    for after, size in ((0, 1), (3, 100)):
        inbox.receive(frame(kept, after, size))
        many.append(inbox.are_many)
    acknowledged = inbox.acknowledge()

    assert [*many, inbox.are_many] == [False, True, False]
    assert acknowledged == 5


@pytest.mark.parametrize("bad", [b"", b"\xc1", encode_msgpack(1), encode_msgpack([1]), encode_msgpack([[1, [2]]])])
def test_what_is_no_events_is_an_error(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        EventInbox().receive(frame(queue(3), 0)[:17] + bad)


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 3), min_size=1, max_size=20))
def test_whatever_is_lost_repeated_or_late_each_event_is_delivered_once_and_in_order(
    chance: random.Random, steps: list[int]
) -> None:
    """The server sends parts of its queue, some from far back; the client acknowledges now and then."""
    kept, inbox, published, delivered, under_way = EventQueue(), EventInbox(), [0], [], []
    for step in steps:
        published.append(published[-1] + step)
        kept.add(published[-1], encode_msgpack([3, 1, 9]))
        under_way += [
            frame(kept, chance.randint(kept.ack, published[-1] - 1), chance.randrange(20))
            for _ in range(chance.randrange(3))
        ]
        chance.shuffle(under_way)
        for _ in range(chance.randrange(len(under_way) + 1)):
            delivered += indices(inbox.receive(under_way.pop()))
        if chance.randrange(3) == 0:
            kept.acknowledge(inbox.acknowledge())
    if kept.after(inbox.index, 1):
        delivered += indices(inbox.receive(frame(kept, inbox.index)))

    assert delivered == published[1:]


# -- the session -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    made = Client()
    made.hear(leader())
    made.register(SESSION)
    made.frames()
    return made


def results(first: int, event_index: int, *values: Any) -> bytes:
    last = first + len(values) - 1
    return HEADER_RESULTS.pack(Tag.RESULTS, SESSION, first, len(values), last, event_index) + encode_results([*values])


def answer(request: int, event_index: int, *values: Any) -> bytes:
    return HEADER_ANSWER.pack(Tag.ANSWER, request, 1, event_index) + encode_results([*values])


def test_events_come_before_the_results_that_speak_of_them(client: Client) -> None:
    client.call("a")
    client.frames()
    assert client.hear(results(1, 3, "A")) == []

    (delivered, released) = client.hear(frame(queue(3), 0))
    assert isinstance(delivered, Delivered)
    assert released == resolved("a")


def test_results_without_new_events_wait_for_nothing(client: Client) -> None:
    client.hear(frame(queue(3), 0))
    client.call("a")
    client.frames()

    assert client.hear(results(1, 3, "A")) == [resolved("a")]


def test_answers_to_queries_wait_for_events_too(client: Client) -> None:
    client.ask("q")
    client.frames()
    assert client.hear(answer(1, 3, "Q")) == []

    _, released = client.hear(frame(queue(3), 0))
    assert isinstance(released, Resolved)
    assert released.tokens == ["q"]


def test_a_session_asks_for_the_events_an_answer_spoke_of(client: Client) -> None:
    client.call("a")
    client.frames()
    client.hear(results(1, 3, "A"))
    assert client.frames() == []
    client.now = client.session.due

    (asked,) = client.frames()
    assert HEADER_EVENTS_AFTER.unpack(asked) == (Tag.EVENTS_AFTER, SESSION, 0)


def test_a_session_acknowledges_with_its_keep_alive_and_at_once_when_there_are_many(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.hear(frame(queue(3), 0))
    assert client.frames() == []
    monkeypatch.setattr(events, "UNACKNOWLEDGED_MAX", 2)
    client.hear(frame(queue(3, 5), 3))

    (kept_alive,) = client.frames()
    assert KEPT_ALIVE.unpack_from(kept_alive, HEADER_KEEP_ALIVE.size)[3] == 5
    client.hear(frame(queue(3, 5, 6, 7), 5))
    assert client.frames() == []  # one is under way


def test_events_of_an_earlier_session_are_not_delivered(client: Client) -> None:
    assert client.hear(frame(queue(3), 0, session=6)) == []
    client.session.end("lost")
    assert client.hear(frame(queue(3), 0)) == []
    assert client.session.events.index == 0


def test_the_next_session_begins_with_no_events(client: Client) -> None:
    client.hear(frame(queue(3), 0))
    client.session.end("lost")
    (register,) = [each for each in client.frames() if names([each]) == ["REGISTER"]]
    client.hear(registered(register[1:17], 20))

    (delivered,) = client.hear(frame(queue(21), 0, session=20))
    assert isinstance(delivered, Delivered)


def test_a_notice_of_a_leader_is_answered_with_the_last_event_delivered(client: Client) -> None:
    client.hear(frame(queue(3), 0), leader("b", 2))

    (kept_alive, *_) = client.frames()
    assert names([kept_alive]) == ["KEEP_ALIVE"]
    assert KEPT_ALIVE.unpack_from(kept_alive, HEADER_KEEP_ALIVE.size)[3] == 3
    assert unpack(HEADER_KEEP_ALIVE, kept_alive)[1] == 1
