"""The records of a snapshot, and what a state machine must keep to so that it can be taken and restored."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from copycat.errors import InvariantError, SnapshotError
from copycat.io.serializer import Serializer
from copycat.raft.machine.snapshot import Kind, capture, restore
from copycat.raft.protocol.entries import BlockKind, ItemKind
from copycat.raft.protocol.state_machine import Commit, Executor, StateMachine
from copycat.raft.protocol.wire import encode_operations
from copycat.testing.portrait import picture, picture_differences
from copycat.testing.replicas import Block, Replica
from tests.raft.machine.restoring import log_of, machine_of, refusal

REPEAT, ONCE, TELL, STOP = 1, 2, 3, 4
WHAT_IS_REPEATED = ["a", {"b": (1, 2)}]


class Diary(StateMachine, name="test.diary", version=3):
    """Keeps what it is told and when its timers fired; one of them it can stop."""

    fired: list[tuple[int, Any]]
    repeating: int = 0  # the id of the timer

    def __init__(self) -> None:
        self.fired = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(REPEAT, self.repeat)
        executor.register_command(ONCE, self.once)
        executor.register_command(TELL, lambda commit, text: executor.publish(commit.session, 0, 1, text))
        executor.register_command(STOP, self.stop)

    def repeat(self, commit: Commit, interval: int) -> None:
        what = list(WHAT_IS_REPEATED)
        self.repeating = self.executor.schedule(interval, self.fire, what, interval_ms=interval).id
        what.clear()  # the timer has its own

    def once(self, commit: Commit, delay: int) -> None:
        self.executor.schedule(delay, self.fire, "once")

    def stop(self, commit: Commit) -> bool:
        timer = self.executor.timer(self.repeating)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def fire(self, what: Any) -> None:
        self.fired.append((self.executor.time, what))


class Driven:
    """A log of one machine, with a session that commands."""

    def __init__(self, make: Callable[[], StateMachine] = Diary) -> None:
        self.log = log_of(make)
        self.replica = self.log.replicas[0]
        self.session = self.log.register()
        self.sequence = 0

    @property
    def machine(self) -> Any:
        return machine_of(self.replica)

    def command(self, *row: Any) -> None:
        self.sequence += 1
        blob = encode_operations([[0, 0, *row]])
        self.log.append(ItemKind.COMMANDS, self.session, self.sequence, 0, 1, blob)

    def records(self) -> list[list[Any]]:
        return list(capture(self.replica.executor))

    def restored(self) -> Replica:
        fresh = self.log.make()
        restore(fresh.executor, self.records())
        assert picture_differences(picture(self.replica.executor), picture(fresh.executor)) == ""
        self.log.replicas.append(fresh)  # from here on, it must agree
        return fresh


# -- records -----------------------------------------------------------------------------------------------------------


def test_the_records_of_a_replica_are_these() -> None:
    driven = Driven()
    driven.command(TELL, "hello")
    driven.command(REPEAT, 500)
    nonce = (1).to_bytes(16, "big")
    encode = Serializer().encode_state

    head, session, first, second, events, timer, machine, *parts, end = driven.records()
    assert head == [Kind.HEAD, 1, 3, 1_000, 0, 1, 1, 1, 1]
    assert session == [Kind.SESSION, 1, nonce, bytes(16), 5_000, 2, 0, 3, 2, 0, 2, 1]
    assert first == [Kind.RUN, 1, 1, 2, 2, b"\x91\xc0"]
    assert second == [Kind.RUN, 2, 1, 3, 2, b"\x91\xc0"]
    assert events == [Kind.EVENTS, 2, 0, [encode([0, 0, 1, "hello"])]]
    assert timer == [Kind.TIMER, 1, 0, "fire", 1_500, 500, encode([WHAT_IS_REPEATED])]
    assert machine == [Kind.MACHINE, 0, "test.diary", 3]
    assert parts == [[Kind.PART, encode([name, encode(value)])] for name, value in (("fired", []), ("repeating", 1))]
    assert end == [Kind.END]


def test_a_restored_replica_fires_the_same_timers_at_the_same_times() -> None:
    driven = Driven()
    driven.command(REPEAT, 500)
    driven.command(ONCE, 2_000)
    driven.log.advance(0.7)
    fresh = driven.restored()
    driven.log.advance(2)
    driven.command(REPEAT, 300)
    driven.log.advance(0.3)

    times = [1_700, *[3_700] * 5, 4_000, 4_000]  # those that are due are fired at the next block
    assert [time for time, _ in machine_of(fresh).fired] == times
    assert machine_of(fresh).fired == driven.machine.fired
    assert machine_of(fresh).fired[0][1] == WHAT_IS_REPEATED


def test_a_snapshot_holds_timers_as_they_were_when_it_was_taken() -> None:
    driven = Driven()
    driven.command(REPEAT, 500)
    driven.command(ONCE, 600)
    expected, later = driven.records(), capture(driven.replica.executor)
    driven.log.advance(0.7)
    driven.command(STOP)

    assert list(later) == expected


def test_a_timer_that_cannot_be_encoded_names_its_machine() -> None:
    class Surrogate(Diary, name="test.surrogate"):
        def once(self, commit: Commit, delay: int) -> None:
            self.executor.schedule(delay, self.fire, "\ud800")

    driven = Driven(Surrogate)
    driven.command(ONCE, 100)
    with pytest.raises(SnapshotError, match=r"a timer of state machine 'test\.surrogate' version 1 .* lone surrogate"):
        driven.records()


def test_a_restored_machine_finds_its_timer_by_its_id() -> None:
    driven = Driven()
    driven.command(REPEAT, 500)
    fresh = driven.restored()
    driven.command(STOP)
    driven.command(STOP)
    driven.log.advance(2)

    assert machine_of(fresh).fired == []
    assert len(fresh.clockwork.timers) == 0


def test_events_that_were_acknowledged_are_not_in_a_snapshot_and_the_others_count() -> None:
    driven = Driven()
    for text in ("a", "b", "c"):
        driven.command(TELL, text)
    session = driven.replica.session(driven.session)
    assert session is not None
    session.acknowledge_events(3)
    fresh = driven.restored().session(driven.session)

    assert fresh is not None
    assert fresh.events is not None
    assert [batch.index for batch in fresh.events.after(0, 1 << 20)] == [4]
    assert fresh.events.count == 1


def test_the_time_of_a_restored_replica_does_not_fall() -> None:
    driven = Driven()
    driven.log.advance(3)
    fresh = driven.restored()
    fresh.executor.apply(Block(fresh.executor.applied_index + 1, 1, 10, b"", kind=BlockKind.INITIALIZE))

    assert fresh.clockwork.time == driven.replica.clockwork.time == 4_000


def test_a_snapshot_is_restored_into_a_new_executor_only() -> None:
    driven = Driven()
    with pytest.raises(InvariantError, match="into a new executor"):
        restore(driven.replica.executor, driven.records())


def test_a_snapshot_is_taken_between_two_blocks_only() -> None:
    driven = Driven()
    driven.replica.clockwork.applying = True
    with pytest.raises(InvariantError, match="between two blocks"):
        capture(driven.replica.executor)


def test_a_snapshot_of_another_machine_is_refused() -> None:
    class Other(Diary, name="test.diary", version=4):
        pass

    with pytest.raises(SnapshotError, match=r"'test\.diary' version 3, and this member runs state machine"):
        restore(log_of(Other).make().executor, Driven().records())


def changed(change: Callable[[list[list[Any]]], object]) -> list[list[Any]]:
    driven = Driven()
    driven.command(TELL, "hello")
    driven.command(REPEAT, 500)
    records = driven.records()
    change(records)
    return records


@pytest.mark.parametrize("at", range(9))
def test_a_record_of_a_kind_nobody_knows_is_never_skipped(at: int) -> None:
    records = changed(lambda records: records.insert(at, [99, "new"]))
    with pytest.raises(InvariantError, match="a newer version wrote it"):
        restore(log_of(Diary).make().executor, records)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6, 9])  # between them are parts, which are the machine's business
def test_no_record_can_be_missing_unseen(at: int) -> None:
    records = changed(lambda records: records.pop(at))
    with pytest.raises(InvariantError):
        restore(log_of(Diary).make().executor, records)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: records.append([Kind.END]), "goes on behind its end"),
        (lambda records: records.clear(), "ends before its end"),
        (lambda records: records[0].append(1), "of kind .* and 10 fields where HEAD of 9 is due"),
        (lambda records: records[0].__setitem__(1, 2), "has format 2"),
        (lambda records: records[6].__setitem__(1, 5), "a resource 5 that is not in its catalog"),
    ],
)
def test_records_that_are_wrong_halt_the_member(change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        restore(log_of(Diary).make().executor, changed(change))


# -- machines that hand over parts of their own ------------------------------------------------------------------------


class Own(StateMachine, name="test.own"):
    """Does what a test tells it."""

    parts: ClassVar[Any] = list
    taken: ClassVar[Any] = list

    def configure(self, executor: Executor) -> None:
        pass

    def snapshot(self) -> Iterable[Any]:
        made: Iterable[Any] = type(self).parts()
        return made

    def restore(self, parts: Iterable[Any]) -> None:
        type(self).taken(parts)


def test_a_list_is_encoded_at_once_and_an_iterator_when_it_is_asked() -> None:
    state = [1]

    class Listed(Own):
        parts = staticmethod(lambda: [state])

    class Iterated(Own):
        parts = staticmethod(lambda: iter([state]))

    views = [capture(log_of(make).make().executor) for make in (Listed, Iterated)]
    state.append(2)
    encode = Serializer().encode_state
    assert [list(view)[2] for view in views] == [[Kind.PART, encode([1])], [Kind.PART, encode([1, 2])]]


def test_parts_come_back_as_what_they_were() -> None:
    parts = [("a", 1), {b"k": {1, 2}}, 1 << 80, None, "x" * (2 << 20)]
    seen: list[Any] = []

    class Varied(Own):
        taken = staticmethod(seen.extend)

    Varied.parts = staticmethod(lambda: iter(parts))
    log = log_of(Varied)
    restore(log.make().executor, capture(log.make().executor))
    assert seen == parts


def test_a_generator_would_look_too_late_and_is_refused() -> None:
    class Late(Own):
        def snapshot(self) -> Iterator[Any]:
            yield 1

    assert "Late.snapshot is a generator, which looks at the state when it has changed" in refusal(Late)


def test_what_a_machine_raises_names_it() -> None:
    def fail() -> Iterator[Any]:
        yield 1
        raise RuntimeError("no more")

    class Failing(Own, name="test.failing"):
        parts = staticmethod(fail)

    message = "state machine 'test.failing' version 1 cannot be put into a snapshot: no more"
    assert refusal(Failing) == message


def test_a_part_that_cannot_be_encoded_names_the_machine() -> None:
    class Strange(Own, name="test.strange"):
        parts = staticmethod(lambda: iter([[NotImplemented]]))

    message = "state machine 'test.strange' version 1 cannot be put into a snapshot: a NotImplementedType"
    assert refusal(Strange).startswith(message)


def test_what_says_that_the_process_is_unwell_stays_what_it_is() -> None:
    def no_memory() -> list[Any]:
        raise MemoryError

    class Unwell(Own):
        parts = staticmethod(no_memory)

    with pytest.raises(MemoryError):
        capture(log_of(Unwell).make().executor)


def test_parts_that_a_machine_leaves_alone_are_an_error() -> None:
    class Lazy(Own):
        parts = staticmethod(lambda: [1, 2])
        taken = staticmethod(next)

    log = log_of(Lazy)
    with pytest.raises(SnapshotError, match=r"Lazy\.restore did not take all parts"):
        restore(log.make().executor, capture(log.make().executor))
