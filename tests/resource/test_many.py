"""Operations of one kind that came together may be done in one go: `many=` of what a machine registers."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.collections import DistributedMap
from copycat.collections.map_machine import ADDED, GET, LISTEN, PUT, REMOVE, MapMachine
from copycat.errors import InvariantError
from copycat.io.serializer import Serializer
from copycat.raft.machine.executor import Results
from copycat.raft.machine.host import Clockwork, Host
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.entries import ItemKind, pack_item
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.wire import decode_results, encode_operations
from copycat.resource import Commit, Executor, Resource, StateMachine
from copycat.resource.operations import CATALOG, CREATE
from copycat.testing.local import ResourceReplica
from copycat.testing.replicas import Block
from tests.resource.harness import Replicas

NOTE, LOOK = 1, 2
STOP, RAISE, SECRET = "stop", "raise", "secret"  # what it leaves to be done one by one
LIST, TWICE = "list", "twice"  # what it answers wrongly


class NotesMachine(StateMachine, name="test.notes", version=1):
    """Notes (word, index, handle), and which of them it was told of together."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, int]] = []
        self.together: list[str] = []

    def snapshot(self) -> list[Any]:
        return [self.notes]

    def configure(self, executor: Executor) -> None:
        executor.register_command(NOTE, self._note, many=self._note_many)
        executor.register_query(LOOK, self._look, many=self._look_many)

    def _note(self, commit: Commit, word: str) -> int:
        if word == SECRET:
            raise ValueError(word)
        self.notes.append((word, commit.index, commit.instance))
        return commit.index

    def _note_many(self, commit: Commit, operations: list[list[Any]], results: list[Any]) -> None:
        for number, (_, instance, _, word) in enumerate(operations):
            if word == STOP:
                return
            if word == RAISE:
                raise KeyError(word)
            if word == SECRET:
                raise ValueError(word)
            self.notes.append((word, commit.index + number, instance))
            self.together.append(word)
            results += [[word, number]] if word == LIST else [commit.index + number] * (2 if word == TWICE else 1)

    def _look(self, commit: Commit, word: str) -> int:
        return [each[0] for each in self.notes].count(word)

    def _look_many(self, commit: Commit, operations: list[list[Any]], results: list[Any]) -> None:
        self.together.append(f"looked at {commit.index}")
        results += [self._look(commit, operation[3]) for operation in operations]


class Notes(Resource, machine=NotesMachine):
    """Nothing more is needed here."""


class Log:
    """A replica with one resource, at index 3, and a session."""

    def __init__(self, *resources: Any, count: int = 1) -> None:
        self.replicas = Replicas(*resources, count=count)
        self.session = self.replicas.register()
        self.done = 0
        machine = resources[0].machine_class()
        self.send([CATALOG, 0, CREATE, "r", machine.type_name, machine.type_version, 1])
        self.target = self.replicas.index

    @property
    def replica(self) -> ResourceReplica:
        return self.replicas.replicas[0]

    @property
    def machine(self) -> Any:
        return self.replica.machine(self.target)

    def send(self, *operations: list[Any]) -> list[Any]:
        """The results of a batch."""
        count = len(operations)
        blob = encode_operations(list(operations))
        outcome = self.replicas.append(ItemKind.COMMANDS, self.session, self.done + 1, self.done, count, blob)
        self.done += count
        assert isinstance(outcome, Results)
        return decode_results(outcome.data)

    def send_apart(self, *operations: list[Any]) -> list[Any]:
        """The results of so many batches of one, in one block."""
        sequences = range(self.done + 1, self.done + 1 + len(operations))
        items = [
            pack_item(ItemKind.COMMANDS, self.session, sequence, sequence - 1, 1, encode_operations([operation]))
            for sequence, operation in zip(sequences, operations, strict=True)
        ]
        block = Block(self.replicas.index + 1, len(items), self.replicas.time, b"".join(items))
        self.replicas.blocks.append(block)
        self.done += len(items)
        outcomes = [each for each in self.replica.executor.apply(block) if isinstance(each, Results)]
        assert [(each.first, each.count) for each in outcomes] == [(sequence, 1) for sequence in sequences]
        return [result for each in outcomes for result in decode_results(each.data)]

    def note(self, *words: str, instance: int = 9) -> list[Any]:
        return self.send(*([self.target, instance, NOTE, word] for word in words))


@pytest.fixture
def log() -> Log:
    return Log(Notes)


def test_commands_that_came_together_are_done_together_each_at_its_own_index(log: Log) -> None:
    first = log.replicas.index + 1
    assert log.note("a", "b", "c") == [first, first + 1, first + 2]
    assert log.machine.notes == [("a", first, 9), ("b", first + 1, 9), ("c", first + 2, 9)]
    assert log.machine.together == ["a", "b", "c"]


@pytest.mark.parametrize("word", [STOP, RAISE])
def test_what_is_not_done_together_and_all_behind_it_is_done_one_by_one(log: Log, word: str) -> None:
    first = log.replicas.index + 1
    assert log.note("a", word, "c") == [first, first + 1, first + 2]
    assert [each[:2] for each in log.machine.notes] == [("a", first), (word, first + 1), ("c", first + 2)]
    assert log.machine.together == ["a"]


def test_a_failure_is_that_of_the_operation_done_by_itself(log: Log) -> None:
    first = log.replicas.index + 1
    assert log.note("a", SECRET, "c") == [first, Failure("ValueError", SECRET), first + 2]
    assert [each[0] for each in log.machine.notes] == ["a", "c"]


def test_one_alone_and_those_of_several_handles_or_kinds_are_done_one_by_one(log: Log) -> None:
    log.note("a")
    log.send([log.target, 1, NOTE, "b"], [log.target, 2, NOTE, "c"])
    assert log.send([log.target, 1, NOTE, "d"], [log.target, 1, 77])[1].kind == "UnknownOperation"
    assert [each[0] for each in log.machine.notes] == ["a", "b", "c", "d"]
    assert log.machine.together == []


def test_queries_are_done_together_at_the_last_index_and_not_as_commands(log: Log) -> None:
    log.note("a", "b")
    index = log.replicas.index
    looks = [[log.target, 9, LOOK, word] for word in ("a", "x")]
    data = log.replica.executor.query(None, encode_operations(looks), 2)
    assert data is not None
    assert decode_results(data) == [1, 0]
    assert log.machine.together == ["a", "b", f"looked at {index}"]
    assert [each.kind for each in log.send(*looks)] == ["UnknownOperation"] * 2
    assert len(log.machine.together) == 3


def test_operations_of_a_resource_that_is_not_there_fail_each(log: Log) -> None:
    assert [each.kind for each in log.send([99, 9, NOTE, "a"], [99, 9, NOTE, "b"])] == ["UnknownResourceError"] * 2


def test_a_result_that_could_change_is_sent_as_it_is_now(log: Log) -> None:
    first = log.replicas.index + 1
    assert log.note("a", LIST) == [first, [LIST, 1]]


def test_more_results_than_operations_stop_the_member(log: Log) -> None:
    with pytest.raises(InvariantError, match="operations have one result each"):
        log.note("a", TWICE)


def test_a_machine_without_resources_may_do_many_as_well() -> None:
    clockwork = Clockwork()
    machine = NotesMachine()
    single = SingleMachine(machine, clockwork, Serializer())
    session: Any = None
    assert single.execute(session, 5, [[0, 0, NOTE, "a"], [0, 0, NOTE, STOP]], alike=True) == [5, 6]
    assert [each[:2] for each in machine.notes] == [("a", 5), (STOP, 6)]
    assert single.query(session, [[0, 0, LOOK, "a"], [0, 0, LOOK, "x"]], alike=True) == [1, 0]
    assert machine.together == ["a", "looked at 6"]
    elsewhere = single.execute(session, 7, [[4, 0, NOTE, "a"]] * 2, alike=True)
    assert [each.kind for each in elsewhere] == ["UnknownResourceError"] * 2


# -- one alone ---------------------------------------------------------------------------------------------------------

TELL, KEEP, ANSWER, PUBLISH, SHOW = 1, 2, 3, 4, 32


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it cannot say what it is")


class OddMachine(StateMachine, name="test.odd", version=1):
    """Answers where it stands, with what it goes on changing, and with what cannot be sent."""

    kept: list[Any]

    def __init__(self) -> None:
        self.kept = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(TELL, self._tell)
        executor.register_command(KEEP, self._keep)
        executor.register_command(ANSWER, self._answer)
        executor.register_command(PUBLISH, self._publish)
        executor.register_query(SHOW, self._show)

    def _tell(self, commit: Commit) -> list[int]:
        session, clock = commit.session.id, (self.executor.index, self.executor.time)
        return [commit.index, commit.time, commit.instance, session, *clock]

    def _keep(self, commit: Commit, word: str) -> list[Any]:
        self.kept.append([word, commit.index])
        return self.kept

    def _answer(self, commit: Commit, what: str) -> object:
        if what == "raise":
            raise ValueError("no")
        if what == "silent":
            raise SilentError
        return {"object": object(), "failure": Failure("Odd", "on purpose"), "large": 1 << 70, "true": True}[what]

    def _publish(self, commit: Commit) -> None:
        self.executor.publish(commit.session, commit.instance, 1, commit.index)

    def _show(self, commit: Commit, what: str) -> object:
        return [*self.kept, commit.index, commit.session.id] if what == "kept" else self._answer(commit, what)


class Odd(Resource, machine=OddMachine):
    """Nothing more is needed here."""


answers = st.sampled_from(["raise", "silent", "object", "failure", "large", "true", "unheard of"])
odd_rows = st.one_of(
    st.just([TELL]),
    st.just([TELL, "too much"]),
    st.just([KEEP]),
    st.builds(lambda word: [KEEP, word], st.sampled_from(["a", "b"])),
    st.builds(lambda answer: [ANSWER, answer], answers),
    st.just([PUBLISH]),
    st.builds(lambda answer: [SHOW, answer], answers | st.just("kept")),
    st.just([999, 1]),
)
odd_operations = st.builds(
    lambda elsewhere, instance, row: [elsewhere, instance, *row],
    st.sampled_from([None, None, None, None, CATALOG, 99]),
    st.integers(1, 2),
    odd_rows,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(odd_operations, min_size=2, max_size=6))
def test_an_operation_comes_out_alone_as_it_does_among_others(operations: list[list[Any]]) -> None:
    """Each in a batch of its own, and all in one: results, state, events and index are the same."""
    alone, together = Log(Odd), Log(Odd)
    rows = [[alone.target if target is None else target, *row] for target, *row in operations]
    assert alone.send_apart(*rows) == together.send(*rows)
    assert together.machine.kept == alone.machine.kept
    assert together.replica.clockwork.index == alone.replica.clockwork.index
    sessions = [log.replica.session(log.session) for log in (alone, together)]
    heard = [
        session and session.events and [(each.index, each.previous, each.events) for each in session.events.waiting()]
        for session in sessions
    ]
    assert heard[0] == heard[1]

    answers = [alone.replica.executor.query(None, encode_operations([row]), 1) for row in rows]
    all_of_them = alone.replica.executor.query(None, encode_operations(rows), len(rows))
    assert [decode_results(each or b"")[0] for each in answers] == decode_results(all_of_them or b"")


# -- the map's own -----------------------------------------------------------------------------------------------------

keys = st.sampled_from([b"a", b"b", b"c", None, 5, "text", [b"list"]])
values = st.sampled_from([b"1", b"2", None, 7, [1]])
spans = st.sampled_from([0, 0, 0, 0, 300, -1, None, "x"])
puts = st.builds(lambda *row: [PUT, *row], keys, values, spans, st.sampled_from([0, 0, 0, 1, 9]))
good_puts = st.builds(lambda key, value: [PUT, key, value, 0, 0], st.sampled_from([b"a", b"b", b"c"]), values)
short_puts = st.builds(lambda key: [PUT, key], keys)
gets = st.builds(lambda *row: [GET, *row], keys)
removes = st.builds(lambda key: [REMOVE, key], keys)
listens = st.just([LISTEN, ADDED, None])
runs = st.one_of(*(st.lists(kind, min_size=1, max_size=6) for kind in (puts, good_puts, puts | short_puts, removes)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(runs, gets.map(lambda get: [get] * 3), listens.map(lambda row: [row])), max_size=8))
def test_a_map_does_many_puts_and_gets_as_it_does_them_one_by_one(batches: list[list[list[Any]]]) -> None:
    """The second of two replicas has forgotten how: the first is compared with it at every block."""
    log = Log(DistributedMap, count=2)
    machines: list[MapMachine] = []
    for replica in log.replicas.replicas:
        host: Host = replica.manager.hosts[log.target]
        machines.append(replica.machine(log.target))
        if replica is not log.replica:
            host._many.clear()
    for number, batch in enumerate(batches):
        rows = [[log.target, 1, *row] for row in batch]
        if batch[0][0] == GET:
            blob = encode_operations(rows)
            answers = [replica.executor.query(None, blob, len(rows)) for replica in log.replicas.replicas]
            assert answers[0] == answers[1]
        else:
            log.send(*rows)
        if number % 3 == 2:
            log.replicas.advance(0.2)
        parts = [[*machine.snapshot()] for machine in machines]
        assert parts[0] == parts[1]
        assert len({(machine._order.added, len(machine._lifetimes.by_key)) for machine in machines}) == 1
