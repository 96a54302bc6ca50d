"""StateMachineHarness runs a machine as a server does, and finds what makes replicas differ."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from copycat.errors import ApplicationError, ConfigurationError, DecodeError, SnapshotError
from copycat.io.serializer import Serializer
from copycat.resource import Command, Commit, Derived, Executor, Query, Session, StateMachine
from copycat.testing import Event, StateMachineHarness
from copycat.testing.portrait import differences, portrait
from tests.resource.machines import ADD, TELL, Balance, Bank, Broken, CounterMachine, Deposit, Receipt


@dataclass
class Enter(Command[int], id=1):
    who: str


@dataclass
class Count(Query[int], id=2):
    pass


class Room(StateMachine, name="test.room"):
    """Those inside are told of everybody who enters; whoever says nothing for ten seconds is shown out."""

    inside: dict[int, int]  # session -> instance
    shown_out: list[tuple[int, int]]
    hooks: list[tuple[str, int]]

    def __init__(self) -> None:
        self.inside = {}
        self.shown_out = []
        self.hooks = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register(Enter, self.enter)
        executor.register(Count, lambda commit, query: len(self.inside))

    def register(self, session: Session) -> None:
        self.hooks.append(("register", session.id))

    def expire(self, session: Session) -> None:
        self.hooks.append(("expire", session.id))

    def close(self, session: Session) -> None:
        self.hooks.append(("close", session.id))
        self.inside.pop(session.id, None)

    def enter(self, commit: Commit, command: Enter) -> int:
        for session_id, instance in self.inside.items():
            session = self.executor.session(session_id)
            assert session is not None
            self.executor.publish(session, instance, 7, command.who)
        self.inside[commit.session.id] = commit.instance
        self.executor.schedule(10_000, self.show_out, commit.session.id)
        return len(self.inside)

    def show_out(self, session_id: int) -> None:
        if self.inside.pop(session_id, None) is not None:
            self.shown_out.append((session_id, self.executor.time))


@pytest.fixture
def room() -> StateMachineHarness:
    return StateMachineHarness(Room)


# -- operations --------------------------------------------------------------------------------------------------------


def test_operations_are_objects_of_their_classes_and_results_what_these_promise() -> None:
    bank = StateMachineHarness(Bank)

    assert bank.apply(Deposit(5)) == Receipt(5, index=2)
    assert bank.apply(Deposit(6)).balance == 11
    assert bank.query(Balance()) == 11
    assert bank.machine.balance == 11


def test_operations_are_ids_with_arguments() -> None:
    counter = StateMachineHarness(CounterMachine)

    assert counter.apply(ADD, 5, instance=3) == [5, counter.index, 3]
    assert counter.query(TELL) == [["register", 1]]


def test_what_the_machine_raises_is_raised_as_programs_see_it() -> None:
    with pytest.raises(ApplicationError, match="must be positive") as caught:
        StateMachineHarness(Bank).apply(Deposit(-1))
    assert caught.value.kind == "ValueError"


def test_a_result_that_is_not_what_its_class_promises_is_an_error() -> None:
    with pytest.raises(DecodeError, match="the result of Broken"):
        StateMachineHarness(Bank).query(Broken())


@pytest.mark.parametrize(
    ("method", "operation"), [("apply", Balance()), ("query", Deposit(5)), ("apply", "deposit"), ("apply", True)]
)
def test_what_is_no_operation_of_that_kind_is_refused(method: str, operation: Any) -> None:
    bank = StateMachineHarness(Bank)
    with pytest.raises(ConfigurationError, match="an operation is a"):
        getattr(bank, method)(operation)


def test_an_operation_object_takes_no_arguments() -> None:
    bank: Any = StateMachineHarness(Bank)
    with pytest.raises(ConfigurationError):
        bank.apply(Deposit(5), 6)


def test_a_query_does_not_add_to_the_log(room: StateMachineHarness) -> None:
    assert room.query(Count()) == 0
    assert room.index == 0


def test_a_query_that_changes_the_machine_is_found() -> None:
    class Careless(StateMachine):
        asked = 0

        def configure(self, executor: Executor) -> None:
            executor.register_query(1, self.ask)

        def ask(self, commit: Commit) -> int:
            self.asked += 1
            return self.asked

    with pytest.raises(AssertionError, match="a query changes nothing"):
        StateMachineHarness(Careless).query(1)


# -- sessions, time, events --------------------------------------------------------------------------------------------


def test_the_machine_hears_of_sessions(room: StateMachineHarness) -> None:
    ann, bob = room.session(), room.session()
    room.close(ann)
    room.expire(bob)

    begins = [("register", ann.id), ("register", bob.id)]
    assert room.machine.hooks == [*begins, ("close", ann.id), ("expire", bob.id), ("close", bob.id)]
    assert (ann.is_open, bob.is_open) == (False, False)


def test_a_session_that_has_ended_does_nothing_more(room: StateMachineHarness) -> None:
    ann = room.session()
    room.close(ann)

    for use in (room.close, room.expire, lambda session: room.apply(Enter("ann"), session=session)):
        with pytest.raises(ConfigurationError, match="has ended"):
            use(ann)


def test_timers_fire_when_log_time_has_passed_and_never_before(room: StateMachineHarness) -> None:
    ann = room.session()
    room.apply(Enter("ann"), session=ann)
    due = room.time + 10_000
    room.advance(9.999)
    assert room.machine.shown_out == []
    room.advance(0.001)

    assert room.machine.shown_out == [(ann.id, due)]
    with pytest.raises(ConfigurationError, match="positive seconds"):
        room.advance(0)


def test_events_are_those_published_to_the_session_in_order(room: StateMachineHarness) -> None:
    ann, bob = room.session(), room.session()
    room.apply(Enter("ann"), session=ann, instance=2)
    room.apply(Enter("bob"), session=bob)
    first = Event(room.index, 2, 7, ("bob",))
    room.apply(Enter("bob again"), session=bob)

    assert room.events(ann) == [first, Event(room.index, 2, 7, ("bob again",))]
    assert [event.arguments for event in room.events(bob)] == [("bob again",)]
    room.close(ann)
    assert len(room.events(ann)) == 2


def test_what_hooks_and_timers_raise_is_raised() -> None:
    class Clumsy(StateMachine):
        def configure(self, executor: Executor) -> None:
            self.executor = executor
            executor.register_command(1, self.start)

        def start(self, commit: Commit) -> None:
            self.executor.schedule(1000, self.fire)

        def fire(self) -> None:
            raise RuntimeError("of the timer")

        def close(self, session: Session) -> None:
            raise RuntimeError("of the hook")

    harness = StateMachineHarness(Clumsy)
    harness.apply(1)
    with pytest.raises(RuntimeError, match="of the timer"):
        harness.advance(1)
    harness = StateMachineHarness(Clumsy)
    session = harness.session()
    with pytest.raises(RuntimeError, match="of the hook"):
        harness.close(session)


# -- replays -----------------------------------------------------------------------------------------------------------


def test_a_machine_that_goes_by_its_log_replays(room: StateMachineHarness) -> None:
    ann, bob = room.session(), room.session()
    for session in (ann, bob, ann):
        room.apply(Enter("somebody"), session=session)
        room.advance(4)
    room.expire(bob)

    room.check_replay()


class Whim(StateMachine):
    """Does what it is told on command."""

    seen: list[Any]

    def __init__(self) -> None:
        self.seen = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        for number, does in enumerate(WHIMS):
            executor.register_command(number, getattr(self, does))

    def answers_the_time(self, commit: Commit) -> int:
        return time.monotonic_ns()

    def keeps_a_random_number(self, commit: Commit) -> None:
        self.seen.append(random.SystemRandom().random())

    def publishes_an_address(self, commit: Commit) -> None:
        self.executor.publish(commit.session, 0, 1, id(self))

    def sets_a_timer_at_random(self, commit: Commit) -> None:
        self.executor.schedule(1 + random.SystemRandom().randrange(1 << 40), self.fired)

    def counts_in_its_class(self, commit: Commit) -> None:
        Whim.counted += 1
        self.seen.append({"counted": Whim.counted})

    def fired(self) -> None:
        pass

    counted = 0


WHIMS = {
    "answers_the_time": "command 1 came out as",
    "keeps_a_random_number": "another state: seen",
    "publishes_an_address": "was told",
    "sets_a_timer_at_random": "other timers",
    "counts_in_its_class": "another state: seen",
}


@pytest.mark.parametrize("whim", WHIMS)
def test_a_machine_that_goes_by_anything_else_is_found(whim: str) -> None:
    harness = StateMachineHarness(Whim)
    harness.apply(list(WHIMS).index(whim))

    with pytest.raises(AssertionError, match=WHIMS[whim]):
        harness.check_replay()


class Fragile(StateMachine):
    """Does what it is told to its state; its snapshots are not always good."""

    state: Any
    counted: int = 0

    def __init__(self) -> None:
        self.state = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(0, self.set)
        executor.register_command(1, lambda commit: self.state)

    def set(self, commit: Commit) -> None:
        self.counted += 1
        self.state.append(self.counted)


class Forgets(Fragile):
    def snapshot(self) -> Iterable[Any]:
        return [self.counted]

    def restore(self, parts: Iterable[Any]) -> None:
        (self.counted,) = parts


class Changes(Fragile):
    def snapshot(self) -> Iterable[Any]:
        return iter([self.counted, self.state])

    def restore(self, parts: Iterable[Any]) -> None:
        self.counted, self.state = parts


class Alters(Fragile):
    def restore(self, parts: Iterable[Any]) -> None:
        super().restore(parts)
        self.state = tuple(self.state)


class Diverges(Fragile):
    """What a restore loses is only seen later: by what the next command does."""

    def __init__(self) -> None:
        super().__init__()
        self.order = Order(0)

    def set(self, commit: Commit) -> None:
        self.order.value += 1
        self.state.append(self.order.value)


class Hides(Fragile):
    def __init__(self) -> None:
        super().__init__()
        self.hidden: list[int] = []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            Forgets,
            AssertionError,
            r"index 2 was restored as another state: .* .Forgets. version 1\.state: \[1\] and \[\]",
        ),
        (Changes, AssertionError, "index 1 changed while commands went on: the state machine"),
        (Alters, AssertionError, "restored as another state"),
        (Diverges, AssertionError, "from the snapshot at index 2 on, index 4 came out as"),
        (Hides, SnapshotError, "attribute 'hidden' of Hides is not annotated"),
    ],
)
def test_a_snapshot_that_is_not_the_state_is_found(
    make: type[StateMachine], error: type[Exception], message: str
) -> None:
    harness = StateMachineHarness(make)
    for operation in (0, 0, 1):
        harness.apply(operation)

    with pytest.raises(error, match=message):
        harness.check_replay()


def test_a_machine_with_its_state_in_its_snapshots_replays_also_with_types_of_its_own() -> None:
    @dataclass
    class Account:
        owner: str

    class Register(Fragile):
        accounts: dict[str, Account]

        def __init__(self) -> None:
            super().__init__()
            self.accounts = {}

        def set(self, commit: Commit) -> None:
            self.accounts["a"] = Account("ann")

    harness = StateMachineHarness(Register, serializer=Serializer().register(Account, id=7))
    harness.apply(0)
    harness.check_replay()


# -- portraits ---------------------------------------------------------------------------------------------------------


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Order(Derived):
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def cyclic(value: Any) -> list[Any]:
    made: list[Any] = [value]
    made.append(made)
    return made


MAKERS: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: (value,),
    lambda value: {value: 1},
    lambda value: {"key": value},
    lambda value: {value},
    lambda value: deque([value]),
    Plain,
    Slotted,
    lambda value: Plain([Slotted({"deep": value})]),
    cyclic,
]
DIFFERENT: list[Any] = [None, 0, 1, True, 1.0, "1", b"1", -0.0, 0.0, Decimal(1), UUID(int=1), (), frozenset()]


def test_what_follows_from_the_rest_is_no_part_of_a_portrait() -> None:
    assert portrait(Plain(Order(1))) == portrait(Plain(Order(2)))
    assert portrait(Order(1)) != portrait(Plain(1))


@pytest.mark.parametrize("make", MAKERS)
def test_portraits_are_equal_for_what_was_made_alike_and_for_nothing_else(make: Callable[[Any], Any]) -> None:
    portraits = [portrait(make(value)) for value in DIFFERENT]

    assert portraits == [portrait(make(value)) for value in DIFFERENT]
    for number, first in enumerate(portraits):
        assert all(first != second for second in portraits[number + 1 :])


def test_the_order_of_a_dict_is_part_of_it_and_that_of_a_set_is_not() -> None:
    assert portrait({"a": 1, "b": 2}) != portrait({"b": 2, "a": 1})
    assert portrait({"a", "b", "c"}) == portrait({"c", "b", "a"})


def test_kinds_of_collections_differ_and_one_nan_is_another() -> None:
    kinds = [portrait(kind([1])) for kind in (list, tuple, deque, set, frozenset)]
    assert len(set(kinds)) == 5
    assert portrait(float("nan")) == portrait(float("nan"))


def test_a_difference_is_told_by_where_it_is() -> None:
    first, second = Plain(Slotted([1, {"a": b"x"}])), Plain(Slotted([1, {"a": b"y"}]))

    assert differences(portrait(first), portrait(second)) == "value.value: [1, {'a': b'x'}] and [1, {'a': b'y'}]"
    assert differences(portrait(first), portrait(first)) == ""
    assert differences(portrait({1}), portrait({2, (3,)})).startswith("the object: {1} and ")
