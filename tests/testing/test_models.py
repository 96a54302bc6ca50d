"""The models do what the resources say: every operation, what it answers and what it leaves."""

from typing import Any

import pytest

from copycat.testing.history import UNSTATED, HistoryError, Operation
from copycat.testing.linearizability import IMPOSSIBLE, Model, check
from copycat.testing.models import CounterModel, LockModel, MapModel, SetModel, ValueModel
from tests.testing.histories import op


def one_after_another(*calls: Operation) -> list[Operation]:
    return [
        op(each.f, 2 * n, 2 * n + 1, each.argument, each.result, key=each.key, process=n)
        for n, each in enumerate(calls)
    ]


def call(f: str, argument: Any = None, *, key: Any = None, gives: Any = UNSTATED) -> Operation:
    return op(f, 0, 1, argument, gives, key=key)


def assert_only(model: Model[Any], *calls: Operation) -> None:
    """The calls, one after another, are allowed; and with any other answer to any one of them they are not."""
    assert check(one_after_another(*calls), model)
    for n, each in enumerate(calls):
        for wrong in (None, True, False, 3, "wrong", 0):
            if wrong != each.result:
                spoiled = op(each.f, 0, 1, each.argument, wrong, key=each.key)
                verdict = check(one_after_another(*calls[:n], spoiled, *calls[n + 1 :]), model)
                assert not verdict, f"{spoiled} passes"


def test_a_map() -> None:
    assert_only(
        MapModel(),
        call("get", key="k", gives=None),
        call("put", 7, key="k", gives=None),
        call("put", 8, key="k", gives=7),
        call("get", key="k", gives=8),
        call("put_if_absent", 9, key="k", gives=8),
        call("put_if_absent", 9, key="l", gives=None),
        call("contains_key", key="l", gives=True),
        call("replace", 10, key="k", gives=8),
        call("replace", 10, key="m", gives=None),
        call("contains_key", key="m", gives=False),
        call("replace_value", (9, 11), key="k", gives=False),
        call("replace_value", (10, 11), key="k", gives=True),
        call("cas", (11, 12), key="k", gives=True),
        call("cas", (None, 12), key="m", gives=False),
        call("remove_value", 11, key="k", gives=False),
        call("remove_value", 12, key="k", gives=True),
        call("remove", key="k", gives=None),
        call("remove", key="l", gives=9),
        call("get", key="l", gives=None),
    )


def test_a_map_as_a_whole() -> None:
    assert check(
        one_after_another(
            call("is_empty", gives=True),
            call("put", 7, key="k", gives=None),
            call("put", 8, key="l", gives=None),
            call("size", gives=2),
            call("is_empty", gives=False),
            call("contains_value", 8, gives=True),
            call("contains_value", 9, gives=False),
            call("clear", gives=None),
            call("size", gives=0),
            call("get", key="k", gives=None),
        ),
        MapModel(),
    )
    for wrong in (call("size", gives=0), call("is_empty", gives=True), call("contains_value", 7, gives=False)):
        assert not check(one_after_another(call("put", 7, key="k", gives=None), wrong), MapModel())


def test_a_value() -> None:
    assert_only(
        ValueModel("first"),
        call("get", gives="first"),
        call("read", gives="first"),
        call("set", 7, gives=None),
        call("write", 8, gives=None),
        call("get_and_set", 9, gives=8),
        call("compare_and_set", (8, 10), gives=False),
        call("compare_and_set", (9, 10), gives=True),
        call("cas", (10, None), gives=True),
        call("cas", (None, 11), gives=True),
        call("get", gives=11),
    )


def test_a_counter() -> None:
    assert check(
        one_after_another(
            call("get", gives=0),
            call("increment", gives=1),
            call("add", 10, gives=11),
            call("decrement", gives=10),
            call("get_and_add", 5, gives=10),
            call("get", gives=15),
            call("set", 4, gives=None),
            call("get", gives=4),
        ),
        CounterModel(),
    )
    for f in ("increment", "decrement", "add", "get_and_add", "get"):
        assert not check([call(f, 3, gives=99)], CounterModel())


def test_a_set() -> None:
    calls = (
        call("contains", "e", gives=False),
        call("add", "e", gives=True),
        call("add", "e", gives=False),
        call("contains", "e", gives=True),
        call("remove", "e", gives=True),
        call("remove", "e", gives=False),
    )
    whole = (
        call("add", "a", gives=True),
        call("size", gives=1),
        call("clear", gives=None),
        call("is_empty", gives=True),
    )

    assert check(one_after_another(*calls), SetModel())
    assert check(one_after_another(*calls, call("add", "other", gives=True)), SetModel()).parts == 2
    assert check(one_after_another(*calls, *whole), SetModel()).parts == 1
    for n, each in enumerate(calls):
        spoiled = call(each.f, each.argument, gives=not each.result)
        assert not check(one_after_another(*calls[:n], spoiled, *calls[n + 1 :]), SetModel())
    assert not check(one_after_another(*whole[:-1], call("size", gives=1)), SetModel())


@pytest.mark.parametrize("model", [MapModel(), ValueModel(), CounterModel(), SetModel(), LockModel()])
def test_what_a_model_says_it_only_reads_leaves_the_state(model: Model[Any]) -> None:
    assert model.reads
    for f in model.reads:
        assert model.step(model.initial(), op(f, 0, None)) == model.initial()


@pytest.mark.parametrize("model", [MapModel(), ValueModel()])
@pytest.mark.parametrize("argument", [None, 1, (1,), (1, 2, 3)])
def test_a_compare_and_set_without_two_values_is_told_so(model: Model[Any], argument: Any) -> None:
    with pytest.raises(HistoryError, match=r"cas\(.*its value must be a list of the expected and the new value"):
        check([call("cas", argument, gives=True)], model)


@pytest.mark.parametrize("model", [MapModel(), ValueModel(), CounterModel(), SetModel(), LockModel()])
def test_a_stranger_is_refused_by_name(model: Model[Any]) -> None:
    with pytest.raises(HistoryError, match=rf"{type(model).__name__} knows no operation 'frobnicate'"):
        model.step(model.initial(), op("frobnicate", 0, 1))


# -- the lock ----------------------------------------------------------------------------------------------------------


def locked(token: int) -> Operation:
    return call("lock", gives=token)


def unlocked(token: int, gives: Any = None) -> Operation:
    return call("unlock", token, gives=gives)


def test_a_lock_has_one_holder_and_tokens_that_grow() -> None:
    assert check(one_after_another(locked(4), unlocked(4), locked(9), unlocked(9, True)), LockModel())


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ((locked(4), locked(9)), "the lock is held by token 4"),
        ((locked(4), call("try_lock", gives=9)), "the lock is held by token 4"),
        ((locked(4), unlocked(4), locked(4)), "its token must be above 4"),
        ((locked(4), unlocked(4), locked(3)), "its token must be above 4"),
        ((locked(4), unlocked(5)), "that token does not hold it"),
        ((locked(4), unlocked(4, False)), "that token holds it"),
        ((locked(4), unlocked(4), unlocked(4)), "that token does not hold it"),
        ((locked(4), call("lost", 5)), "that token does not hold it"),
        ((call("try_lock", gives=None),), "the lock is free"),
        ((call("is_locked", gives=True),), "the lock is free"),
        ((locked(4), call("is_locked", gives=False)), "the lock is held by token 4"),
    ],
)
def test_a_lock_that_breaks_its_promise_is_found(calls: tuple[Operation, ...], reason: str) -> None:
    verdict = check(one_after_another(*calls), LockModel())

    assert not verdict
    assert reason in verdict.explanation


def test_a_lock_whose_holder_is_lost_goes_to_the_next() -> None:
    assert check(one_after_another(locked(4), call("lost", 4), unlocked(4, False), locked(9)), LockModel())


def test_a_holder_that_was_killed_may_have_lost_the_lock_from_then_on_but_not_before() -> None:
    killed = op("lost", 2, None, 4)
    assert check([op("lock", 0, 1, result=4), killed, op("lock", 3, 4, result=9)], LockModel())
    assert not check([op("lock", 0, 1, result=4), op("lock", 2, 3, result=9), op("lost", 4, None, 4)], LockModel())


def test_a_grant_of_which_nobody_knows_leaves_a_lock_that_may_be_held() -> None:
    lost = op("lock", 0, None)
    for then in (op("try_lock", 1, 2, result=None), op("is_locked", 1, 2, result=True), op("lock", 1, 2, result=4)):
        assert check([lost, then], LockModel())
    assert check([lost, op("try_lock", 1, 2, result=None), op("unlock", 3, 4, 7, None), locked_at(5, 8)], LockModel())
    assert not check([lost, op("unlock", 1, 2, 7, None), locked_at(5, 6)], LockModel())
    assert check([lost, op("try_lock", 1, 2, result=None), op("is_locked", 3, 4, result=False)], LockModel())


@pytest.mark.parametrize("f", ["unlock", "lost"])
def test_a_grant_of_which_nobody_knows_has_a_token_above_those_before(f: str) -> None:
    before = [op("lock", 0, 1, result=4), op("unlock", 2, 3, 4, None), op("lock", 4, None)]
    assert check([*before, op(f, 5, 6, 5, None)], LockModel())
    assert not check([*before, op(f, 5, 6, 3, None)], LockModel())


def test_an_attempt_of_which_nobody_knows_may_have_found_the_lock_held() -> None:
    assert check(one_after_another(locked(4), call("try_lock"), unlocked(4)), LockModel())
    assert not check(one_after_another(locked(4), call("lock"), unlocked(4)), LockModel())


def locked_at(begun: int, token: int) -> Operation:
    return op("lock", begun, begun + 1, result=token)


def test_a_release_of_which_nobody_knows_may_have_happened() -> None:
    released = op("unlock", 2, None, 4)
    assert check([op("lock", 0, 1, result=4), released, op("lock", 3, 4, result=9)], LockModel())
    assert check([op("lock", 0, 1, result=4), released, op("is_locked", 3, 4, result=True)], LockModel())


def test_a_grant_without_a_token_is_told_so() -> None:
    with pytest.raises(HistoryError, match=r"the result of a grant is its token"):
        check([call("lock", gives=None)], LockModel())


def test_what_cannot_be_says_impossible() -> None:
    assert LockModel().step((4, 4), locked(9)) is IMPOSSIBLE
    assert ValueModel().step(1, call("get", gives=2)) is IMPOSSIBLE
