"""The checker: against trying everything, on histories written out, and on long ones with one result spoiled."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.testing.history import OK, UNSTATED, Event, History, HistoryError, Operation
from copycat.testing.linearizability import WHOLE, Conclusion, Model, check
from copycat.testing.models import CounterModel, LockModel, MapModel, ValueModel
from tests.testing.histories import Simulation, is_linearizable, op, overlapping, register_calls

VALUES = st.integers(0, 1)
MAYBE_VALUES = st.none() | VALUES

# -- against trying everything -----------------------------------------------------------------------------------------

REGISTER = (
    st.tuples(st.just("set"), st.none(), VALUES, st.none())
    | st.tuples(st.just("get"), st.none(), st.none(), MAYBE_VALUES)
    | st.tuples(st.just("cas"), st.none(), st.tuples(MAYBE_VALUES, VALUES), st.booleans())
)
KEYS = st.sampled_from("xy")
MAP = (
    st.tuples(st.just("put"), KEYS, VALUES, MAYBE_VALUES | st.just(UNSTATED))
    | st.tuples(st.just("get"), KEYS, st.none(), MAYBE_VALUES)
    | st.tuples(st.just("remove"), KEYS, st.none(), MAYBE_VALUES)
    | st.tuples(st.just("put_if_absent"), KEYS, VALUES, MAYBE_VALUES)
)
WHOLE_MAP = MAP | st.tuples(st.just("size"), st.none(), st.none(), st.integers(0, 2))
COUNTER = st.tuples(st.just("increment"), st.none(), st.none(), st.integers(1, 3)) | st.tuples(
    st.just("get"), st.none(), st.none(), st.integers(0, 3)
)
TOKENS = st.integers(1, 3)
LOCK = (
    st.tuples(st.just("lock"), st.none(), st.none(), TOKENS)
    | st.tuples(st.just("try_lock"), st.none(), st.none(), st.none() | TOKENS)
    | st.tuples(st.just("unlock"), st.none(), TOKENS, st.none() | st.booleans())
    | st.tuples(st.just("lost"), st.none(), TOKENS, st.none())
    | st.tuples(st.just("is_locked"), st.none(), st.none(), st.booleans())
)
MODELS: list[tuple[Any, Model[Any]]] = [
    (REGISTER, ValueModel()),
    (MAP, MapModel()),
    (WHOLE_MAP, MapModel()),
    (COUNTER, CounterModel()),
    (LOCK, LockModel()),
]


@pytest.mark.parametrize(("calls", "model"), MODELS, ids=["value", "map", "whole map", "counter", "lock"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_verdict_is_that_of_trying_every_order(calls: Any, model: Model[Any], data: st.DataObject) -> None:
    operations = data.draw(overlapping(calls))

    verdict = check(operations, model)

    assert verdict.conclusion is not Conclusion.UNKNOWN
    assert bool(verdict) == is_linearizable(operations, model)


@settings(max_examples=150, deadline=None)
@given(overlapping(REGISTER))
def test_the_order_of_a_failure_is_allowed_and_none_of_the_stuck_can_be_next(operations: list[Operation]) -> None:
    for failure in check(operations, ValueModel()).failures:
        model, state = ValueModel(), ValueModel().initial()
        for each in failure.order:
            state = model.step(state, each)
        assert state == failure.state
        first, *_ = failure.stuck
        assert all(each in failure.order for each in operations if each.ended is not None and each.ended < first.begun)
        assert is_linearizable(failure.order, model)
        assert not any(is_linearizable([*failure.order, each], model) for each in failure.stuck)


# -- written out -------------------------------------------------------------------------------------------------------


def test_nothing_is_linearizable_and_says_how_little_that_is() -> None:
    verdict = check(History(()), ValueModel())

    assert verdict
    assert (verdict.operations, verdict.parts) == (0, 0)


def test_overlapping_operations_may_take_effect_in_either_order() -> None:
    for seen in (1, 2):
        assert check([op("set", 0, 3, 1), op("set", 1, 2, 2), op("get", 4, 5, result=seen)], ValueModel())


def test_a_stale_read_is_found() -> None:
    assert not check([op("set", 0, 1, 1), op("set", 2, 3, 2), op("get", 4, 5, result=1)], ValueModel())


def test_a_read_of_what_a_later_read_does_not_see_is_found() -> None:
    writing = op("set", 0, 9, 1)
    assert check([writing, op("get", 1, 2), op("get", 3, 4, result=1)], ValueModel())
    assert not check([writing, op("get", 1, 2, result=1), op("get", 3, 4, result=None)], ValueModel())


def test_a_lost_update_is_found() -> None:
    assert not check([op("increment", 0, 3, result=1), op("increment", 1, 2, result=1)], CounterModel())


def test_an_operation_without_an_end_may_take_effect_late_or_never_but_not_before_it_began() -> None:
    lost = op("set", 2, None, 1)
    assert check([lost, op("get", 3, 4, result=None), op("get", 5, 6, result=1)], ValueModel())
    assert check([lost, op("get", 3, 4, result=None), op("get", 5, 6, result=None)], ValueModel())
    assert not check([op("get", 0, 1, result=1), lost], ValueModel())


def test_which_of_those_without_an_end_took_effect_may_show_late() -> None:
    """Both explain the first read, but the later one only the set: to have come to 1 by it is to fail at the end."""
    lost = [op("set", 0, None, 1), op("cas", 1, None, (None, 1))]
    seen = [op("get", 2, 3, result=1), op("set", 4, 5, 2), op("get", 6, 7, result=1)]
    assert check([*lost, *seen], ValueModel())
    assert not check([*lost, *seen, op("set", 8, 9, 2), op("get", 10, 11, result=1)], ValueModel())


def test_an_operation_without_an_end_takes_effect_once() -> None:
    lost = op("increment", 0, None)
    assert check([lost, op("get", 1, 2, result=0), op("get", 3, 4, result=1)], CounterModel())
    assert not check([lost, op("get", 1, 2, result=2)], CounterModel())


def test_an_operation_that_took_effect_with_an_unknown_answer_did_so_before_its_end() -> None:
    assert check([op("set", 0, 1, 1, UNSTATED), op("get", 2, 3, result=1)], ValueModel())
    assert not check([op("set", 0, 1, 1, UNSTATED), op("get", 2, 3, result=None)], ValueModel())


def test_reads_without_an_end_are_left_out() -> None:
    assert check([op("get", 0, None), op("set", 1, 2, 1)], ValueModel()).operations == 1


def test_keys_and_resources_are_checked_each_by_itself_and_any_may_fail() -> None:
    operations = [
        op("put", 0, 1, 1, None, key="x", resource="a"),
        op("get", 2, 3, None, 1, key="x", resource="a"),
        op("put", 4, 5, 2, None, key="y", resource="a"),
        op("put", 6, 7, 3, 4, key="x", resource="b"),
    ]

    verdict = check(operations, MapModel())

    assert verdict.parts == 3
    assert [failure.part for failure in verdict.failures] == [("b", "x")]


def test_an_operation_on_all_keys_has_its_resource_checked_in_one_piece() -> None:
    puts = [op("put", 0, 1, 1, None, key="x"), op("put", 2, 3, 1, None, key="y")]
    elsewhere = op("put", 4, 5, 1, None, key="x", resource="other")
    verdict = check([*puts, op("size", 6, 7, result=1), elsewhere], MapModel())

    assert verdict.parts == 2
    assert [failure.part for failure in verdict.failures] == [("", WHOLE)]
    assert check([*puts, op("size", 6, 7, result=2), elsewhere], MapModel())


def test_operations_may_be_given_in_any_order() -> None:
    assert check([op("get", 2, 3, result=1), op("set", 0, 1, 1)], ValueModel())


def test_an_operation_that_the_model_does_not_know_is_no_pass() -> None:
    with pytest.raises(HistoryError, match=r"ValueModel knows no operation 'frobnicate'"):
        check([op("frobnicate", 0, 1)], ValueModel())


# -- what it says ------------------------------------------------------------------------------------------------------


def test_an_explanation_shows_the_order_so_far_and_what_would_have_been_possible() -> None:
    operations = [
        op("put", 0, 1, 41, None, key="ann", resource="users", process=2),
        op("put", 2, 9, 42, 41, key="ann", resource="users", process=3),
        op("get", 3, 4, None, 40, key="ann", resource="users", process=1),
        op("get", 10, 11, None, 42, key="ann", resource="users", process=1),
    ]

    verdict = check(operations, MapModel())

    assert verdict.explanation == "\n".join(
        [
            "users 'ann': no order of its 4 operations explains their results.",
            "The order that gets furthest has 2 of them. It ends with",
            "    process 2: put('ann', 41) → None",
            "    process 3: put('ann', 42) → 41",
            "and leaves {'ann': 42}. What would have to be next, and cannot be:",
            "    process 1: get('ann') → 40: it would have to answer 42",
        ]
    )


def test_what_cannot_be_next_is_named_by_its_end() -> None:
    (failure,) = check([op("get", 0, 9, result=7), op("get", 1, 2, result=8)], ValueModel()).failures

    assert [each.result for each in failure.stuck] == [8, 7]


def test_an_explanation_without_any_order_says_what_there_is_at_first() -> None:
    explanation = check([op("get", 0, 1, result=1)], ValueModel()).explanation

    assert "At first there is None. What would have to be first, and cannot be:" in explanation
    assert "process 0: get() → 1: it would have to answer None" in explanation


def test_a_pass_says_what_was_checked() -> None:
    assert check([op("set", 0, 1, 1)], ValueModel()).explanation == "1 operations in 1 parts are linearizable"


# -- long histories ----------------------------------------------------------------------------------------------------


def simulated(seed: int, count: int = 300, clients: int = 5, unknown: float = 0.0) -> History:
    chooser = random.Random(seed)
    return Simulation(ValueModel(), chooser, clients=clients, unknown=unknown).run(register_calls(chooser), count)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("unknown", [0.0, 0.1])
def test_what_keeps_to_the_model_is_linearizable(seed: int, unknown: float) -> None:
    verdict = check(simulated(seed, unknown=unknown), ValueModel())

    assert verdict, verdict.explanation


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("unknown", [0.0, 0.03])
def test_one_value_that_nobody_wrote_is_found_and_named(seed: int, unknown: float) -> None:
    history = simulated(seed, unknown=unknown)
    reads = [place for place, event in enumerate(history.events) if (event.f, event.type) == ("get", OK)]
    place = random.Random(seed).choice(reads)

    verdict = check(with_value(history, place, 77), ValueModel())

    (failure,) = verdict.failures
    assert verdict.conclusion is Conclusion.NOT_LINEARIZABLE
    assert failure.stuck[0].ended == place
    assert str(failure.stuck[0]) in verdict.explanation


@pytest.mark.parametrize("seed", range(20))
def test_one_count_that_is_off_by_one_is_found(seed: int) -> None:
    chooser = random.Random(seed)
    simulation = Simulation(CounterModel(), chooser, clients=5)
    history = simulation.run(iter(lambda: ("increment", None, None), None), 200)
    place = chooser.choice([place for place, event in enumerate(history.events) if event.type == OK])

    assert check(history, CounterModel())
    for change in (-1, 1):
        spoiled = with_value(history, place, history.events[place].value + change)
        assert check(spoiled, CounterModel()).conclusion is Conclusion.NOT_LINEARIZABLE


def with_value(history: History, place: int, value: Any) -> History:
    events: list[Event] = list(history.events)
    events[place] = replace(events[place], value=value)
    return History(tuple(events))


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_operations_of_five_clients_take_a_few_steps_each(seed: int) -> None:
    verdict = check(simulated(seed, count=1000), ValueModel(), steps_max=10_000)

    assert verdict, verdict.explanation
    assert verdict.operations == 1000


@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_operations_do_not_take_more_steps_each_than_a_thousand(seed: int) -> None:
    assert check(simulated(seed, count=10_000), ValueModel(), steps_max=100_000)


def test_steps_that_run_out_are_a_verdict_of_their_own_and_no_pass() -> None:
    history = simulated(1)
    needed = check(history, ValueModel()).steps

    verdict = check(history, ValueModel(), steps_max=needed - 1)

    assert check(history, ValueModel(), steps_max=needed)
    assert verdict.conclusion is Conclusion.UNKNOWN
    assert not verdict
    assert verdict.explanation == "the history: undecided, for the steps have run out"


def test_one_part_that_fails_decides_whatever_the_steps_of_another() -> None:
    long = [op("put", 10 * n, 10 * n + 1, n, key="long") for n in range(20)]

    verdict = check([*long, op("get", 1000, 1001, result=7, key="wrong")], MapModel(), steps_max=10)

    assert verdict.conclusion is Conclusion.NOT_LINEARIZABLE
    assert [failure.part for failure in verdict.failures] == [("", "wrong")]
    assert verdict.undecided == (("", "long"),)


def test_operations_without_an_end_that_are_the_same_are_as_one() -> None:
    lost = [op("increment", n, None) for n in range(60)]
    seen = [op("get", 100 + 2 * n, 101 + 2 * n, result=n // 2) for n in range(121)]

    assert check([*lost, *seen], CounterModel(), steps_max=1000)
    assert check([*lost, *seen, op("get", 999, 1000, result=61)], CounterModel(), steps_max=10_000).failures


def test_many_operations_without_an_end_cost_nothing_while_nobody_sees_them() -> None:
    lost = [op("set", n, None, 100 + n) for n in range(100)]
    seen = [
        each
        for n in range(100)
        for each in (op("set", 200 + 4 * n, 201 + 4 * n, n), op("get", 202 + 4 * n, 203 + 4 * n, result=n))
    ]

    assert check([*lost, *seen], ValueModel(), steps_max=1000)
