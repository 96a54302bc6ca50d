"""Audience: who listens, for state machines of everybody."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from copycat.resource import Audience, Executor, Session, StateMachine
from copycat.testing import StateMachineHarness

LISTEN, UNLISTEN, TELL, END = 1, 2, 3, 4


class Herald(StateMachine, name="test.herald", version=1):
    """Tells whoever listens to a topic."""

    def __init__(self) -> None:
        self.audience = Audience()

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(LISTEN, lambda commit, topic: self.audience.add(commit, topic))
        executor.register_command(UNLISTEN, lambda commit, topic: self.audience.remove(commit, topic))
        executor.register_command(TELL, lambda commit, topic, *news: self.audience.publish(executor, topic, 7, *news))
        executor.register_command(END, lambda commit: self.audience.end(executor, 8))

    def close(self, session: Session) -> None:
        self.audience.leave(session)

    def snapshot(self) -> Iterator[Any]:
        return self.audience.snapshot()

    def restore(self, parts: Iterable[Any]) -> None:
        for part in parts:
            self.audience.restore(self.executor, part)


@pytest.fixture
def herald() -> StateMachineHarness:
    return StateMachineHarness(Herald)


def told(herald: StateMachineHarness, session: Session) -> list[Any]:
    return [(event.instance, event.id, *event.arguments) for event in herald.events(session)]


def test_handles_are_told_of_their_topics_in_the_order_they_came(herald: StateMachineHarness) -> None:
    first, second = herald.session(), herald.session()
    herald.apply(LISTEN, "a", session=second, instance=1)
    herald.apply(LISTEN, "a", session=first, instance=2)
    herald.apply(LISTEN, "b", session=first, instance=1)

    assert [herald.apply(TELL, topic, "news", 1) for topic in "abc"] == [2, 1, 0]
    assert told(herald, first) == [(2, 7, "news", 1), (1, 7, "news", 1)]
    assert told(herald, second) == [(1, 7, "news", 1)]
    assert list(herald.machine.audience.by_topic["a"]) == [(second.id, 1), (first.id, 2)]
    herald.check_replay()


def test_a_handle_that_listens_twice_is_told_once_and_leaves_once(herald: StateMachineHarness) -> None:
    session = herald.session()
    for _ in range(2):
        herald.apply(LISTEN, "a", session=session)
    assert herald.apply(TELL, "a") == 1

    for _ in range(2):
        herald.apply(UNLISTEN, "a", session=session)
    assert herald.apply(TELL, "a") == 0
    assert herald.machine.audience.by_topic == {}


def test_who_leaves_leaves_the_others(herald: StateMachineHarness) -> None:
    first, second = herald.session(), herald.session()
    for session in (first, second):
        for instance in (1, 2):
            herald.apply(LISTEN, "a", session=session, instance=instance)
    herald.apply(LISTEN, "b", session=first, instance=1)
    herald.apply(UNLISTEN, "a", session=first, instance=1)
    herald.apply(UNLISTEN, "b", session=second, instance=1)
    assert (herald.apply(TELL, "a"), herald.apply(TELL, "b")) == (3, 1)

    herald.expire(first)
    assert (herald.apply(TELL, "a"), herald.apply(TELL, "b")) == (2, 0)
    assert list(herald.machine.audience.by_topic) == ["a"]
    herald.close(second)
    assert (herald.machine.audience.by_topic, herald.machine.audience._topics) == ({}, {})
    herald.check_replay()


def test_the_end_is_told_to_every_handle_once(herald: StateMachineHarness) -> None:
    first, second = herald.session(), herald.session()
    for topic in ("a", "b"):
        herald.apply(LISTEN, topic, session=first, instance=1)
    herald.apply(LISTEN, "b", session=second, instance=3)
    herald.apply(END)
    herald.apply(END)
    herald.apply(TELL, "a")

    assert told(herald, first) == [(1, 8)]
    assert [(event.instance, event.id) for event in herald.events(second)] == [(3, 8)]
    herald.close(first)  # which is known no longer
    assert (herald.machine.audience.by_topic, herald.machine.audience._topics) == ({}, {})
