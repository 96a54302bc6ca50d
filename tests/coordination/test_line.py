"""The line on the servers is what its docstring says: for every history, and in every replay."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from copycat.coordination.line import (
    CLAIM,
    GRANTED,
    HOLDS,
    REFUSED,
    RELEASE,
    TIMED_OUT,
    TOKEN,
    WAITING,
    WITHDRAW,
)
from copycat.coordination.lock import LockMachine
from copycat.errors import ApplicationError
from copycat.raft.machine import event_queues
from copycat.testing import Event, StateMachineHarness

INSTANCES = st.integers(1, 2)


class LineModel(RuleBasedStateMachine):
    """First come, first served, in a list."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.line = StateMachineHarness(LockMachine)
        self.now = self.line.time
        self.requests = 0
        self.holder: tuple[Any, int, int] | None = None  # session, instance, request
        self.waiting: list[tuple[Any, int, int]] = []
        self.due: dict[int, int] = {}  # by request
        self.tokens: list[int] = []
        self.told: dict[int, list[tuple[int, int]]] = {}  # by session: event, request

    @rule(target=sessions)
    def begin(self) -> Any:
        session = self.line.session()
        self.told[session.id] = []
        return session

    @rule(session=sessions, instance=INSTANCES, wait=st.sampled_from([-1, 0, 1, 5, 1000]))
    def claim(self, session: Any, instance: int, wait: int) -> None:
        if not session.is_open:
            return
        self.requests += 1
        key = (session, instance, self.requests)
        answer = self.line.apply(CLAIM, self.requests, wait, session=session, instance=instance)
        if self.holder is None:
            self.granted(key, answer)
        elif wait == 0:
            assert answer == REFUSED
        else:
            assert answer == WAITING
            self.waiting.append(key)
            if wait > 0:
                self.due[self.requests] = self.now + wait

    @rule(session=sessions, instance=INSTANCES, back=st.integers(0, 5))
    def withdraw(self, session: Any, instance: int, back: int) -> None:
        if session.is_open:
            key = (session, instance, self.requests - back)
            self.line.apply(WITHDRAW, key[2], session=session, instance=instance)
            self.gone(lambda each: each == key)

    @precondition(lambda self: self.tokens)
    @rule(session=sessions, back=st.integers(0, 2))
    def release(self, session: Any, back: int) -> None:
        if not session.is_open:
            return
        token = self.tokens[max(-len(self.tokens), -1 - back)]
        holds = self.holder is not None and self.holder[0] is session and token == self.tokens[-1]
        assert self.line.query(HOLDS, token, session=session) is holds
        assert self.line.apply(RELEASE, token, session=session) is holds
        if holds:
            self.gone(lambda each: each == self.holder)

    @rule(session=sessions, expired=st.booleans())
    def end(self, session: Any, expired: bool) -> None:
        if session.is_open:
            (self.line.expire if expired else self.line.close)(session)
            self.gone(lambda each: each[0] is session)

    @rule(milliseconds=st.sampled_from([1, 4, 1000]))
    def advance(self, milliseconds: int) -> None:
        self.line.advance(milliseconds / 1000)
        self.now += milliseconds
        for due, request in sorted((due, request) for request, due in self.due.items()):
            if due <= self.now:
                (key,) = [each for each in self.waiting if each[2] == request]
                self.waiting.remove(key)
                del self.due[request]
                self.told[key[0].id].append((TIMED_OUT, request))

    def gone(self, is_gone: Any) -> None:
        """These claims have ended; if one was the holder's, the next is granted."""
        for key in [each for each in self.waiting if is_gone(each)]:
            self.waiting.remove(key)
            self.due.pop(key[2], None)
        if self.holder is None or not is_gone(self.holder):
            return
        self.holder = None
        if self.waiting:
            key = self.waiting.pop(0)
            self.due.pop(key[2], None)
            self.told[key[0].id].append((GRANTED, key[2]))
            self.granted(key, self.line.query(TOKEN))

    def granted(self, key: tuple[Any, int, int], token: int) -> None:
        assert token > max(self.tokens, default=0)
        self.holder = key
        self.tokens.append(token)

    @invariant()
    def it_is_the_same(self) -> None:
        machine = self.line.machine
        holder = machine._holder
        assert (None if holder is None else (holder.session, holder.instance, holder.request)) == self.holder
        assert [(each.session, each.instance, each.request) for each in machine._line.values()] == self.waiting
        assert self.line.query(TOKEN) == (self.tokens[-1] if self.holder else 0)
        for session in {key[0] for key in [*self.waiting, *([self.holder] if self.holder else [])]}:
            assert [(event.id, event.arguments[0]) for event in self.line.events(session)] == self.told[session.id]

    def teardown(self) -> None:
        self.line.check_replay()


LineModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestLineModel = LineModel.TestCase


@pytest.fixture
def line() -> StateMachineHarness:
    return StateMachineHarness(LockMachine)


def test_a_grant_is_told_to_the_handle_that_asked_with_request_and_token(line: StateMachineHarness) -> None:
    first, second = line.session(), line.session()
    token = line.apply(CLAIM, 1, -1, session=first)
    line.apply(CLAIM, 7, -1, session=second, instance=4)
    line.apply(RELEASE, token, session=first)

    assert line.events(second) == [Event(line.index, 4, GRANTED, (7, line.index))]
    assert line.query(TOKEN) == line.index


def test_two_grants_at_one_index_have_two_tokens(line: StateMachineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is granted something and ends of it, for its events overflow, makes room at the same index."""
    sessions = [line.session() for _ in range(3)]
    first = line.apply(CLAIM, 1, -1, session=sessions[0])
    for session in sessions[1:]:
        line.apply(CLAIM, 1, -1, session=session)
    monkeypatch.setattr(event_queues, "EVENTS_COUNT_MAX", 0)
    line.apply(RELEASE, first, session=sessions[0])

    assert [session.is_open for session in sessions] == [True, False, False]
    assert line.machine._token == line.index + 1
    assert line.query(TOKEN) == 0


def test_a_claim_is_numbered_once(line: StateMachineHarness) -> None:
    session = line.session()
    line.apply(CLAIM, 1, 1000, session=session)
    line.apply(CLAIM, 2, 1000, session=session)

    for request in (1, 2):
        with pytest.raises(ApplicationError, match=f"a claim with the number {request} already"):
            line.apply(CLAIM, request, -1, session=session)
    line.apply(CLAIM, 1, -1, session=session, instance=2)


@pytest.mark.parametrize("arguments", [("1", -1), (1, 1.5), (True, -1), (1, None)])
def test_a_claim_is_two_numbers(line: StateMachineHarness, arguments: tuple[Any, Any]) -> None:
    with pytest.raises(ApplicationError, match="has a number"):
        line.apply(CLAIM, *arguments)
    assert line.query(TOKEN) == 0
