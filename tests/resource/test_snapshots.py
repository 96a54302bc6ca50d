"""Whatever has happened to it, a replica that begins with a snapshot goes on as one that has applied everything.

For every shipped resource, and mixtures.
"""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copycat.collections import DistributedMap, map_machine
from copycat.collections import set as set_
from copycat.errors import SnapshotError
from copycat.io.serializer import encode_value
from copycat.raft.machine.executor import Results
from copycat.raft.machine.snapshot import Kind, capture, restore
from copycat.raft.protocol.chunks import decode_chunks, encode_chunks
from copycat.raft.protocol.entries import ItemKind
from copycat.raft.protocol.wire import decode_results, encode_operations
from copycat.resource import Executor, StateMachine
from copycat.resource.manager import MissingTypeError
from copycat.resource.operations import CATALOG, CREATE
from copycat.testing.portrait import picture, picture_differences
from copycat.testing.snapshots import check_snapshots
from tests.resource.harness import Replica, Replicas
from tests.resource.histories import EVENTFUL, KINDS, History, steps
from tests.resource.machines import ADD, SET_TIMER


def check(kinds: list[str], plan: list[tuple[Any, ...]]) -> None:
    history = History(kinds)
    for verb, *arguments in plan:
        getattr(history, verb)(*arguments)
    log = history.log
    check_snapshots(log, count=len(log.blocks))
    one, other = (list(encode_chunks(capture(replica.executor))) for replica in log.replicas)
    assert one == other


@pytest.mark.parametrize("kind", KINDS)
def test_a_replica_goes_on_from_any_snapshot_of_a_resource(kind: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(steps([kind]), max_size=18))
    @example(EVENTFUL[kind])
    def go_on(plan: list[tuple[Any, ...]]) -> None:
        check([kind], plan)

    go_on()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(steps(list(KINDS)), max_size=25))
def test_a_replica_goes_on_from_any_snapshot_of_many_resources(plan: list[tuple[Any, ...]]) -> None:
    check(list(KINDS), plan)


# -- one by one --------------------------------------------------------------------------------------------------------


def test_a_restored_map_and_a_restored_set_show_their_pages_in_order() -> None:
    history = History(["map", "set"])
    history.commands(0, 0, "map", [[map_machine.PUT, key, b"1", 0, 0] for key in (b"b", b"a", b"c")], False)
    history.commands(0, 0, "set", [[set_.ADD, key, 0, 0] for key in (b"b", b"a", b"c")], False)
    restored = again(history)

    pages = [
        [history.target("map"), 0, map_machine.PAGE, b"", b"", map_machine.KEYS],
        [history.target("set"), 0, set_.PAGE, b"", b""],
    ]
    data = restored.executor.query(None, encode_operations(pages), 2)
    assert data is not None
    assert decode_results(data) == [[None, b"a", b"b", b"c"]] * 2


def test_large_states_are_in_many_parts() -> None:
    history = History(["map", "set"])
    for number in range(40):
        key = b"%03d" % number * 300
        history.commands(0, 0, "map", [[map_machine.PUT, key, bytes(5_000), 9_000, number % 2]], True)
        history.commands(0, 0, "map", [[map_machine.LISTEN, map_machine.ADDED, key]], True)
        history.commands(0, 0, "set", [[set_.ADD, key, 0, 0]], True)
    records = list(capture(history.executor))

    assert sum(record[0] == Kind.PART for record in records) > 15
    check_snapshots(history.log, count=2)


def test_a_command_sent_again_is_answered_from_the_snapshot_and_not_executed_again() -> None:
    history = History(["counter"])
    history.commands(0, 0, "counter", [[ADD, 2], [ADD, 3]], False)
    restored = again(history)
    history.again(0, 0)
    (outcome,) = restored.executor.apply(history.log.blocks[-1])

    assert isinstance(outcome, Results)
    assert [result[0] for result in decode_results(outcome.data)] == [2, 5]
    assert restored.machine(history.target("counter")).total == 5


def test_a_resource_that_was_deleted_is_not_in_a_snapshot_nor_are_its_timers() -> None:
    history = History(["counter", "map"])
    history.commands(0, 0, "counter", [[SET_TIMER, 2_000]], False)
    assert len(again(history).clockwork.timers) == 1
    history.delete(0, "counter")

    restored = again(history)
    assert list(restored.manager.hosts) == [CATALOG, history.target("map")]
    assert len(restored.clockwork.timers) == 0


def test_a_member_without_a_type_of_the_snapshot_halts() -> None:
    history = History(["map", "counter"])
    records = list(capture(history.executor))
    other = Replicas(DistributedMap).make()

    with pytest.raises(MissingTypeError, match=r"'test\.counter' version 1 at 'counter', and this member was started"):
        restore(other.executor, records)


def test_a_state_that_cannot_be_encoded_is_named_by_path_type_attribute_and_value() -> None:
    history = History(["map", "counter"])
    history.log.replicas[0].machine(history.target("counter")).told = [7, NotImplemented]

    with pytest.raises(SnapshotError) as caught:
        capture(history.executor)
    text = str(caught.value)
    assert text.startswith(
        "resource 'counter' of type 'test.counter' version 1 cannot be put into a snapshot: attribute 'told' of "
        "CounterMachine cannot be encoded: a NotImplementedType"
    )
    assert text.endswith("; it is [7, NotImplemented]")


def test_what_cannot_be_restored_is_named() -> None:
    history = History(["map"])
    records = list(capture(history.executor))
    at = records.index([Kind.END]) + 2  # behind the catalog, and the head of the map
    records.insert(at, [Kind.PART, encode_value(["strange", []])])

    with pytest.raises(SnapshotError, match=r"resource 'map' of type .* cannot be restored .*: a map has no"):
        restore(history.log.make().executor, records)


def test_a_type_that_cannot_be_snapshotted_is_warned_of_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    class Forgetful(StateMachine, name="test.forgetful"):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def configure(self, executor: Executor) -> None:
            pass

    Replicas(Forgetful)
    assert "no snapshot can be taken while there is a 'test.forgetful': attribute 'notes' of Forgetful" in caplog.text


class Eager(StateMachine, name="test.eager", version=1):
    """Sets a timer and publishes while it is configured."""

    ticks: int = 0
    timer: int

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        self.timer = executor.schedule(300, self.tick, interval_ms=300).id
        for session in executor.sessions:
            executor.publish(session, 0, 1, "made")

    def tick(self) -> None:
        self.ticks += 1
        timer = self.executor.timer(self.timer)
        if self.ticks == 3 and timer is not None:
            timer.cancel()


def test_what_a_configure_has_set_off_is_not_set_off_again() -> None:
    log = Replicas(Eager)
    session = log.register()
    blob = encode_operations([[CATALOG, 0, CREATE, "eager", Eager.type_name, Eager.type_version, 1]])
    log.append(ItemKind.COMMANDS, session, 1, 0, 1, blob)
    for _ in range(6):
        log.advance(0.2)

    check_snapshots(log)
    assert log.replicas[0].machine(3).ticks == 3
    assert len(log.replicas[0].clockwork.timers) == 0


class Failing(StateMachine, name="test.failing", version=1):
    """Sets a timer, and is not made if there is a session."""

    def configure(self, executor: Executor) -> None:
        for _ in executor.sessions:
            executor.schedule(300, self.delete)
            raise ValueError("not with sessions")


def test_a_resource_that_fails_to_be_made_leaves_no_timer() -> None:
    log = Replicas(Failing)
    session = log.register()
    blob = encode_operations([[CATALOG, 0, CREATE, "failing", Failing.type_name, Failing.type_version, 1]])
    log.append(ItemKind.COMMANDS, session, 1, 0, 1, blob)

    assert len(log.replicas[0].clockwork.timers) == 0
    log.advance(1)
    check_snapshots(log)


def again(history: History) -> Replica:
    """A replica that begins with a snapshot of now."""
    fresh = history.log.make()
    restore(fresh.executor, decode_chunks(encode_chunks(capture(history.executor))))
    assert picture_differences(picture(history.executor), picture(fresh.executor)) == ""
    return fresh
