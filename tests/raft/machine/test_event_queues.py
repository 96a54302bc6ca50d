"""The events of one session, kept until they are acknowledged: as a list that grows behind and shrinks in front."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.raft.machine import event_queues
from copycat.raft.machine.event_queues import EventQueue

ALL = 1 << 60


def queue(*indices: int) -> EventQueue:
    """One event per index, or more where an index is repeated; each event says its index."""
    made = EventQueue()
    for index in indices:
        made.add(index, str(index).encode())
    return made


def seen(events: EventQueue, after: int = 0, size_max: int = ALL) -> list[tuple[int, int, list[bytes]]]:
    """(index, the one before, events) of each batch."""
    return [(batch.index, batch.previous, batch.events) for batch in events.after(after, size_max)]


def test_the_events_of_an_index_are_one_batch_that_names_the_one_before() -> None:
    assert seen(queue(3, 3, 7)) == [(3, 0, [b"3", b"3"]), (7, 3, [b"7"])]
    assert seen(queue(3, 3, 7), after=3) == [(7, 3, [b"7"])]
    assert seen(queue(3, 3, 7), after=5) == [(7, 3, [b"7"])]
    assert seen(queue(3, 3, 7), after=7) == []
    assert seen(EventQueue()) == []


def test_acknowledged_events_are_forgotten_and_the_rest_remembers_what_was_before() -> None:
    events = queue(3, 5, 5, 9)
    events.acknowledge(5)

    assert seen(events) == [(9, 5, [b"9"])]
    assert (events.count, events.size, events.ack, events.index) == (1, 1, 5, 9)


def test_acknowledging_again_or_less_forgets_nothing_more() -> None:
    events = queue(3, 5, 9)
    for ack in (5, 5, 3, 0):
        events.acknowledge(ack)

    assert seen(events) == [(9, 5, [b"9"])]
    assert events.ack == 5


def test_what_was_never_published_cannot_be_acknowledged() -> None:
    events = queue(3)
    events.acknowledge(1 << 60)
    assert events.ack == 3
    events.add(4, b"4")

    assert seen(events) == [(4, 3, [b"4"])]


def test_a_queue_goes_on_after_everything_was_acknowledged() -> None:
    events = queue(3)
    events.acknowledge(3)
    events.add(8, b"8")

    assert seen(events, after=events.ack) == [(8, 3, [b"8"])]


def test_a_frame_holds_about_so_much_and_one_batch_at_least() -> None:
    events = queue(10, 11, 12)

    assert [len(seen(events, size_max=size)) for size in (0, 1, 2, 3, 4, 5, 6)] == [1, 1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("limit", "value", "fit"), [("EVENTS_COUNT_MAX", 3, 3), ("EVENTS_BYTES_MAX", 3, 3), ("BATCH_BYTES_MAX", 1, 9)]
)
def test_a_queue_overflows_beyond_its_limits(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, fit: int) -> None:
    monkeypatch.setattr(event_queues, limit, value)
    events = queue()
    overflows = [events.overflows]
    for index in [*range(1, fit + 1), fit]:
        events.add(index, b"1")
        overflows.append(events.overflows)
    events.clear()

    assert overflows == [False] * (fit + 1) + [True]
    assert (events.overflows, seen(events)) == (False, [])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 2)),
            st.tuples(st.just("ack"), st.integers(0, 30)),
        ),
        max_size=60,
    ),
    st.integers(0, 3),
)
def test_a_queue_is_the_list_it_seems_to_be(steps: list[tuple[str, int]], forgotten_max: int) -> None:
    model: list[tuple[int, bytes]] = []
    events, index, ack = EventQueue(), 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_queues, "FORGOTTEN_MAX", forgotten_max)
        for number, (verb, argument) in enumerate(steps):
            if verb == "add":
                index = (
                    max(1, index + argument) if index > ack else index + 1 + argument
                )  # an ack comes in a later entry
                event = str(number).encode()
                model.append((index, event))
                events.add(index, event)
            else:
                ack = max(ack, min(argument, index))
                model = [(at, each) for at, each in model if at > ack]
                events.acknowledge(argument)
            found = events.after(0, ALL)
            assert [(batch.index, event) for batch in found for event in batch.events] == model
            assert (events.count, events.size) == (len(model), sum(len(event) for _, event in model))
            assert events.ack == ack
            assert all(after.previous == before.index for before, after in pairwise(found))
            assert not found or found[0].previous <= ack or found[0].previous == 0
            for after in range(index + 2):
                behind = [batch.index for batch in events.after(after, ALL)]
                assert behind == [batch.index for batch in found if batch.index > after]
