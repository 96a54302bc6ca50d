"""What committed entries do, the same on every replica: protocol §4 and §5."""

from dataclasses import dataclass
from typing import Any

import pytest

from copycat.errors import ConfigurationError, InvariantError, ProtocolError
from copycat.raft.machine.executor import Ended, Kept, Refused, Registered, Results
from copycat.raft.protocol.entries import SESSION_WINDOW, BlockKind, End, ItemKind, pack_item, pack_types, unpack_types
from copycat.raft.protocol.operations import Command, Failure, Query
from copycat.raft.protocol.state_machine import Commit, Executor, Session, StateMachine
from copycat.raft.protocol.wire import decode_results, encode_operations, encode_results
from tests.raft.machine.replica import Replica, commands, internal, keep_alive, register

ADD, FAIL, GET, ODD, LATER = 1, 2, 3, 4, 5


@dataclass
class Deposit(Command[int], id=20):
    who: str
    amount: int


@dataclass
class Balance(Query[int], id=21):
    who: str


@dataclass
class Reset(Command[None], id=22):
    pass


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Ledger(StateMachine, name="test.ledger"):
    """Adds up, and writes down whatever happens to it."""

    def __init__(self) -> None:
        self.total = 0
        self.accounts: dict[str, int] = {}
        self.seen: list[tuple[Any, ...]] = []
        self.dates: list[int] = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(ADD, self.add)
        executor.register_command(FAIL, self.fail)
        executor.register_command(ODD, lambda commit: object())
        executor.register_command(LATER, self.later)
        executor.register_query(GET, lambda commit: self.total)
        executor.register(Deposit, self.deposit)
        executor.register(Balance, lambda commit, query: self.accounts.get(query.who, 0))
        executor.register(Reset, lambda commit, reset: self.accounts.clear())

    def add(self, commit: Commit, amount: int) -> int:
        self.seen.append(("add", commit.index, self.executor.time, commit.session.id, self.executor.index))
        self.dates.append(commit.time)
        self.total += amount
        return self.total

    def fail(self, commit: Commit, kind: str) -> None:
        errors = {"value": ValueError("no such thing"), "memory": MemoryError(), "import": ImportError("gone")}
        raise errors.get(kind, SpeechlessError())

    def later(self, commit: Commit, delay: int, interval: int, word: str) -> None:
        self.timer = self.executor.schedule(delay, self.ring, word, interval_ms=interval)

    def ring(self, word: str) -> None:
        self.seen.append(("ring", word, self.executor.time))
        if word == "broken":
            raise ValueError(word)
        if word == "memory":
            raise MemoryError

    def deposit(self, commit: Commit, operation: Deposit) -> int:
        self.accounts[operation.who] = self.accounts.get(operation.who, 0) + operation.amount
        return self.accounts[operation.who]

    def register(self, session: Session) -> None:
        self.seen.append(("register", session.id))

    def expire(self, session: Session) -> None:
        self.seen.append(("expire", session.id))

    def close(self, session: Session) -> None:
        self.seen.append(("close", session.id, session.is_open))


def results(outcomes: list[Any]) -> list[Any]:
    """What the only batch of a block returned."""
    (outcome,) = outcomes
    assert isinstance(outcome, Results)
    return decode_results(outcome.data)


@pytest.fixture
def replica() -> Replica:
    return Replica(Ledger)


def ledger(replica: Replica) -> Ledger:
    assert isinstance(replica.machine, Ledger)
    return replica.machine


def test_commands_of_a_batch_take_consecutive_indices_and_the_time_of_their_block(replica: Replica) -> None:
    session = replica.session()
    outcomes = replica.apply(commands(session.id, 1, [ADD, 5], [ADD, 6]), time=70)
    assert results(outcomes) == [5, 11]
    assert ledger(replica).seen[-2:] == [("add", 2, 70, session.id, 2), ("add", 3, 70, session.id, 3)]
    assert outcomes == [Results(session.id, 1, 2, 3, 0, outcomes[0].data)]  # type: ignore[union-attr]  # as checked above
    assert replica.executor.applied_index == 3


def test_log_time_never_falls_whatever_a_block_says(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [ADD, 1]), time=90)
    replica.apply(commands(session.id, 2, [ADD, 1]), time=40)
    assert [time for _, _, time, *_ in ledger(replica).seen[-2:]] == [90, 90]


def test_a_commit_carries_the_leaders_wall_clock_which_never_goes_back_and_moves_no_timer(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [LATER, 10, 0, "bell"]), time=5, wall_ms=1_700_000_000_000)
    for sequence, wall_ms in enumerate([1_800_000_000_000, 1_600_000_000_000], 2):
        replica.apply(commands(session.id, sequence, [ADD, 1]), time=5, wall_ms=wall_ms)
    assert ledger(replica).dates == [1_800_000_000_000] * 2
    assert not [event for event in ledger(replica).seen if event[0] == "ring"]


def test_a_batch_applied_twice_takes_effect_once_and_answers_alike(replica: Replica) -> None:
    session = replica.session()
    batch = commands(session.id, 1, [ADD, 5], [ADD, 6])
    first = replica.apply(batch)
    again = replica.apply(batch)
    assert again == first
    assert ledger(replica).total == 11


def test_an_acknowledged_batch_is_never_executed_again_and_has_no_answer_any_more(replica: Replica) -> None:
    session = replica.session()
    batch = commands(session.id, 1, [ADD, 5])
    replica.apply(batch)
    replica.apply(keep_alive((session.id, 1)))
    assert replica.apply(batch) == [Refused(session.id, 1, known=True)]
    assert ledger(replica).total == 5
    assert not session.runs


def test_an_acknowledgement_rides_on_the_next_batch(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [ADD, 5]))
    replica.apply(commands(session.id, 2, [ADD, 6], ack=1))
    assert [run[0] for run in session.runs] == [2]
    assert session.ack == 1


def test_an_acknowledgement_of_results_nobody_has_yet_raises_no_sequence(replica: Replica) -> None:
    session = replica.session()
    replica.apply(keep_alive((session.id, 99)))
    assert (session.sequence, session.ack) == (0, 0)
    assert results(replica.apply(commands(session.id, 1, [ADD, 5]))) == [5]


def test_a_batch_after_a_gap_is_not_executed(replica: Replica) -> None:
    session = replica.session()
    assert replica.apply(commands(session.id, 2, [ADD, 5])) == [Refused(session.id, 2, known=True)]
    assert ledger(replica).total == 0


def test_a_batch_beyond_the_window_is_not_executed(replica: Replica) -> None:
    session = replica.session()
    too_many = commands(session.id, 1, *[[ADD, 1]] * (SESSION_WINDOW + 1))
    assert replica.apply(too_many) == [Refused(session.id, 1, known=True)]
    assert results(replica.apply(commands(session.id, 1, *[[ADD, 1]] * SESSION_WINDOW)))[-1] == SESSION_WINDOW
    replica.apply(keep_alive((session.id, SESSION_WINDOW)))
    assert results(replica.apply(commands(session.id, SESSION_WINDOW + 1, [ADD, 1]))) == [SESSION_WINDOW + 1]


def test_a_batch_of_an_unknown_session_is_not_executed(replica: Replica) -> None:
    assert replica.apply(commands(77, 1, [ADD, 5])) == [Refused(77, 1, known=False)]
    assert ledger(replica).total == 0


def test_what_a_handler_raises_is_the_result_and_the_rest_of_the_batch_goes_on(replica: Replica) -> None:
    session = replica.session()
    assert results(replica.apply(commands(session.id, 1, [FAIL, "value"], [ADD, 5]))) == [
        Failure("ValueError", "no such thing"),
        5,
    ]


def test_an_error_that_cannot_say_what_it_is_becomes_a_result_without_a_message(replica: Replica) -> None:
    session = replica.session()
    assert results(replica.apply(commands(session.id, 1, [FAIL, "speechless"], [ADD, 5]))) == [
        Failure("SpeechlessError", ""),
        5,
    ]


@pytest.mark.parametrize(("kind", "error"), [("memory", MemoryError), ("import", ImportError)])
def test_what_says_that_this_process_is_unwell_halts_the_member(
    replica: Replica, kind: str, error: type[Exception]
) -> None:
    session = replica.session()
    with pytest.raises(error):
        replica.apply(commands(session.id, 1, [FAIL, kind]))


def test_a_result_that_cannot_be_encoded_is_a_failure_in_its_place(replica: Replica) -> None:
    session = replica.session()
    odd, total = results(replica.apply(commands(session.id, 1, [ODD], [ADD, 5])))
    assert (odd.kind, total) == ("SerializationError", 5)


@pytest.mark.parametrize(
    ("blob", "kind"),
    [
        (b"\xc1", "ProtocolError"),
        (encode_operations([[0, 0, ADD, 1]]), "ProtocolError"),
        (encode_operations([[0, 0, ADD, 1], [0, 0]]), "ProtocolError"),
        (encode_operations([[0, 0, ADD, 1], [0, "x", ADD]]), "ProtocolError"),
        (encode_operations([[0, 0, 999], [0, 0, GET]]), "UnknownOperation"),
        (encode_operations([[8, 0, ADD, 1], [8, 0, ADD, 1]]), "UnknownResourceError"),
        (encode_operations([[0, 0, ADD], [0, 0, ADD, 1, 2]]), "TypeError"),
        (b"\x92" + b"\x94\x00\x00\x01\xa1\xff" * 2, "ProtocolError"),  # a text that is not UTF-8
        (b"\x92" + (b"\x94\x00\x00\x01" + b"\x91" * 64 + b"\xc0") * 2, "TypeError"),
        (b"\x92" + (b"\x94\x00\x00\x01" + b"\x91" * 65 + b"\xc0") * 2, "ProtocolError"),  # a number decides, not C
        (b"\x92" + (b"\x94\x00\x00\x01" + b"\x81" + b"\x91" * 64 + b"\xc0\xc0") * 2, "ProtocolError"),
        (b"\x92" + (b"\x94\x00\x00\x01" + b"\x81\xa0" * 65 + b"\xc0") * 2, "ProtocolError"),
        (b"\x92" + (b"\x94\x00\x00\x01" + b"\x91" * 9999 + b"\xc0") * 2, "ProtocolError"),
    ],
)
def test_whatever_a_blob_holds_apply_is_total_and_the_sequence_advances(
    replica: Replica, blob: bytes, kind: str
) -> None:
    session = replica.session()
    found = results(replica.apply((2, pack_item(ItemKind.COMMANDS, session.id, 1, 0, 2, blob))))
    assert [failure.kind for failure in found] == [kind, kind]
    assert ledger(replica).total == 0
    assert results(replica.apply(commands(session.id, 3, [ADD, 5]))) == [5]


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [[0, 0, ADD, 1]] * 2,
        *([head] for head in ([], [0], [0, 0], [True, 0, ADD, 1], [0, 0.0, ADD, 1], [0, 0, "x"], [0, None, ADD, 1])),
        *([[*row, 1]] for row in ([0, 0, True], [0, [0], ADD], [b"", 0, ADD])),
    ],
)
def test_what_is_not_one_operation_that_begins_with_three_integers_fails_by_itself(
    replica: Replica, operations: list[Any]
) -> None:
    session = replica.session()
    blob = encode_operations(operations)
    refused = Failure("ProtocolError", "a batch is not the operations it claims to be")
    assert results(replica.apply((1, pack_item(ItemKind.COMMANDS, session.id, 1, 0, 1, blob)))) == [refused]
    assert replica.executor.query(session, blob, 1) == encode_results([refused])
    assert ledger(replica).total == 0
    assert (session.sequence, session.activity_index, replica.clockwork.index) == (1, 2, 2)
    assert results(replica.apply(commands(session.id, 2, [ADD, 5]))) == [5]


def test_operation_classes_are_decoded_and_their_results_encoded(replica: Replica) -> None:
    session = replica.session()
    batch = commands(session.id, 1, [20, b"['ann', 5]"], [20, b"['ann', 2]"], [22, b"[]"])
    assert results(replica.apply(batch)) == [b"5", b"7", None]
    answer = replica.executor.query(session, encode_operations([[0, 0, 21, b"['ann']"]]), 1)
    assert decode_results(answer or b"") == [b"0"]


def test_queries_read_and_do_not_change(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [ADD, 5]))
    for asker in (session, None):
        answer = replica.executor.query(asker, encode_operations([[0, 0, GET], [0, 0, ADD, 1], [9, 0, GET]]), 3)
        total, unknown, elsewhere = decode_results(answer or b"")
        assert (total, unknown.kind, elsewhere.kind) == (5, "UnknownOperation", "UnknownResourceError")
    assert ledger(replica).total == 5
    assert replica.executor.query(session, b"\xc1", 1)


# -- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_is_named_after_its_index_and_a_retry_returns_the_same(replica: Replica) -> None:
    first, second = replica.session("one"), replica.session("two")
    assert (first.id, second.id) == (1, 2)
    assert replica.apply(register("one")) == [Registered(first)]
    assert first.activity_index == 3
    assert ledger(replica).seen == [("register", 1), ("register", 2)]
    assert [session.id for session in ledger(replica).executor.sessions] == [1, 2]


def test_a_keep_alive_has_one_outcome_a_session(replica: Replica) -> None:
    session = replica.session()
    assert replica.apply(keep_alive((session.id, 0), (99, 0))) == [Kept([session.id], [99])]
    assert session.activity_index == 2


def test_a_session_ends_in_order_once(replica: Replica) -> None:
    session = replica.session()
    assert replica.apply(internal(ItemKind.UNREGISTER, session.id)) == [Ended(session.id, End.UNREGISTERED)]
    assert replica.apply(internal(ItemKind.UNREGISTER, session.id)) == [Ended(session.id, End.UNREGISTERED)]
    assert ledger(replica).seen == [("register", 1), ("close", 1, False)]
    assert (session.is_closed, session.is_expired) == (True, False)
    assert "closed" in repr(session)


def test_an_expiry_tells_expire_before_close(replica: Replica) -> None:
    session = replica.session()
    assert replica.apply(internal(ItemKind.EXPIRE, session.id, ack=session.activity_index)) == [
        Ended(session.id, End.EXPIRED)
    ]
    assert ledger(replica).seen == [("register", 1), ("expire", 1), ("close", 1, False)]
    assert session.is_expired


def test_an_expiry_is_void_after_later_activity_and_for_a_session_already_gone(replica: Replica) -> None:
    session = replica.session()
    known = session.activity_index
    replica.apply(keep_alive((session.id, 0)))
    assert replica.apply(internal(ItemKind.EXPIRE, session.id, ack=known)) == []
    assert session.is_open
    assert replica.apply(internal(ItemKind.EXPIRE, 99, ack=known)) == []


def test_a_nonce_may_begin_another_session_once_the_first_has_ended(replica: Replica) -> None:
    session = replica.session()
    replica.apply(internal(ItemKind.UNREGISTER, session.id))
    assert replica.session().id == 3


# -- time ------------------------------------------------------------------------------------------------------------


def test_timers_fire_before_the_first_entry_whose_time_reaches_them_in_order_of_due_time(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [LATER, 50, 0, "late"], [LATER, 20, 0, "soon"], [LATER, 20, 0, "same"]))
    replica.apply(internal(ItemKind.TICK), time=19)
    assert ledger(replica).seen == [("register", 1)]
    replica.apply(commands(session.id, 4, [ADD, 1]), time=60)
    assert [entry[:2] for entry in ledger(replica).seen[1:]] == [
        ("ring", "soon"),
        ("ring", "same"),
        ("ring", "late"),
        ("add", 6),
    ]


def test_a_repeating_timer_fires_for_every_interval_passed_until_cancelled(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [LATER, 10, 10, "again"]))
    replica.apply(internal(ItemKind.TICK), time=35)
    assert len(ledger(replica).seen) == 1 + 3
    ledger(replica).timer.cancel()
    ledger(replica).timer.cancel()
    replica.apply(internal(ItemKind.TICK), time=99)
    assert len(ledger(replica).seen) == 1 + 3


def test_what_a_timer_raises_is_passed_over_unless_the_process_is_unwell(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [LATER, 10, 0, "broken"], [LATER, 20, 0, "memory"]))
    replica.apply(internal(ItemKind.TICK), time=10)
    assert ledger(replica).seen[-1] == ("ring", "broken", 10)
    with pytest.raises(MemoryError):
        replica.apply(internal(ItemKind.TICK), time=20)


@pytest.mark.parametrize(("delay", "interval"), [(0, 0), (-1, 0), (5, -1)])
def test_a_timer_without_a_positive_delay_is_refused_as_a_result(replica: Replica, delay: int, interval: int) -> None:
    session = replica.session()
    (failure,) = results(replica.apply(commands(session.id, 1, [LATER, delay, interval, "x"])))
    assert failure.kind == "ConfigurationError"


def test_a_timer_calls_only_methods_of_its_own_machine(replica: Replica) -> None:
    replica.clockwork.applying = True
    with pytest.raises(ConfigurationError, match="a method of its own state machine"):
        ledger(replica).executor.schedule(5, lambda: None)


def test_a_timer_set_while_nothing_is_applied_breaks_an_invariant(replica: Replica) -> None:
    with pytest.raises(InvariantError):
        ledger(replica).executor.schedule(5, ledger(replica).ring, "x")


# -- what must never be passed over ----------------------------------------------------------------------------------


def test_a_block_or_an_entry_of_a_newer_version_halts_the_member(replica: Replica) -> None:
    with pytest.raises(InvariantError, match="a newer version wrote it"):
        replica.apply(kind=9)
    with pytest.raises(InvariantError, match="a newer version wrote it"):
        replica.apply(internal(99))


def test_blocks_out_of_order_and_counts_that_lie_halt_the_member(replica: Replica) -> None:
    replica.apply(kind=BlockKind.INITIALIZE)
    with pytest.raises(InvariantError, match="applied in order"):
        replica.executor.apply(replica.log[0])
    with pytest.raises(InvariantError, match="count is not that of its items"):
        replica.apply((3, register("one")[1]))


@pytest.mark.parametrize("body", [b"short", register("one")[1][:-1]])
def test_a_body_that_is_not_items_halts_the_member(replica: Replica, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        replica.apply((1, body))


# -- types -----------------------------------------------------------------------------------------------------------


def test_a_replica_of_one_machine_creates_nothing(replica: Replica) -> None:
    replica.apply(internal(ItemKind.TYPES, blob=pack_types([("map", 1)])))
    assert replica.executor.machines.types == replica.executor.machines.allowed == []


def test_types_are_packed_and_read_back() -> None:
    types = [("copycat.map", 1), ("ü", 65535)]
    assert unpack_types(pack_types(types)) == types
    for bad in (pack_types(types)[:-1] + b"\xff", pack_types(types)[:-2], b"\x01"):
        with pytest.raises(ProtocolError):
            unpack_types(bad)


# -- registering operations ------------------------------------------------------------------------------------------


def test_an_operation_registered_twice_or_without_an_id_is_refused() -> None:
    class Twice(StateMachine, name="test.twice"):
        def configure(self, executor: Executor) -> None:
            executor.register_command(1, print)
            executor.register_query(1, print)

    class Nameless(Command[None]):
        pass

    class Without(StateMachine, name="test.without"):
        def configure(self, executor: Executor) -> None:
            executor.register(Nameless, print)

    with pytest.raises(ConfigurationError, match="registers operation 1 twice"):
        Replica(Twice)
    with pytest.raises(ConfigurationError, match="has no id"):
        Replica(Without)


def test_every_replay_of_a_log_comes_out_the_same(replica: Replica) -> None:
    session = replica.session()
    replica.apply(commands(session.id, 1, [LATER, 10, 7, "again"], [ADD, 3]))
    replica.apply(commands(session.id, 3, [FAIL, "value"], [20, b"['ann', 5]"]), time=33)
    replica.apply(internal(ItemKind.EXPIRE, session.id, ack=99))
    other = Replica(Ledger)
    for block in replica.log:
        other.executor.apply(block)
    assert ledger(other).seen == ledger(replica).seen
    assert ledger(other).accounts == ledger(replica).accounts == {"ann": 5}
