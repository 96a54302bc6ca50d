"""The judge finds nothing in a history in which everything held, and each breach in one that was doctored."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from copycat.testing.chaos.hearing import LEDGER, TOPIC
from copycat.testing.chaos.judge import judge, kind_of, longest_stop
from copycat.testing.chaos.processes import cut_short
from copycat.testing.history import FAIL, INFO, INVOKE, OK, Event, History
from tests.chaos.histories import Writer, good

CHECKS = [
    "map: linearizable",
    "value: linearizable",
    "counter: linearizable",
    "lock: linearizable",
    "lock: one holder",
    "ledger: exactly once, nothing lost, in order",
    "ledger: events once, in order, no gap",
    "topic: messages once, in one order, none missing",
]


def broken(history: History) -> dict[str, str]:
    """The promises that are not kept, and what is said of the first breach."""
    return {each.name: "; ".join(each.breaches) for each in judge(history) if not each.is_kept}


def changed(history: History, which: Callable[[Event], bool], **facts: object) -> History:
    """The history with these facts at the last event that is meant."""
    at = max(number for number, event in enumerate(history.events) if which(event))
    events = list(history.events)
    events[at] = replace(events[at], **facts)  # type: ignore[arg-type]  # facts of an Event
    return History(tuple(events), history.facts)


def answer(f: str, resource: str) -> Callable[[Event], bool]:
    return lambda event: (event.f, event.resource, event.type) == (f, resource, OK)


def test_a_history_in_which_everything_held_passes_every_check() -> None:
    checks = judge(good().history())

    assert [each.name for each in checks] == CHECKS
    assert all(each.is_kept for each in checks), [each.breaches for each in checks]


def test_a_check_that_has_nothing_to_look_at_is_not_passed() -> None:
    assert set(broken(History(()))) == set(CHECKS)


def test_a_search_that_runs_out_of_steps_is_not_passed() -> None:
    (found, *_) = judge(good().history(), steps_max=1)

    assert not found.is_kept
    assert "undecided" in found.breaches[0]


def test_an_acknowledged_write_that_is_gone_after_the_last_restart_is_found() -> None:
    doctored = changed(good().history(), answer("get", "map"), value=None)

    assert list(broken(doctored)) == ["map: linearizable"]


def test_a_counter_that_counted_twice_is_found() -> None:
    doctored = changed(good().history(), answer("increment", "counter-0"), value=2)

    assert list(broken(doctored)) == ["counter: linearizable"]


def test_a_token_that_is_granted_twice_is_found() -> None:
    doctored = changed(good().history(), answer("lock", "lock-0"), value=11)

    assert set(broken(doctored)) == {"lock: linearizable", "lock: one holder"}


def test_a_holder_that_is_sure_of_its_lock_while_another_has_it_is_found() -> None:
    log = good()
    log.call(2000, "use", "lock-0", 11, 11)

    assert broken(log.history()) == {"lock: one holder": "lock-0: held by token 11 when another had been granted 15"}


def test_a_holder_that_looked_before_the_other_was_granted_the_lock_may_say_so_afterwards() -> None:
    """It may have been stopped between looking and writing that down."""
    log = Writer()
    log.call(1, "lock", "lock-0", None, 11)
    log.line(1, INVOKE, "use", "lock-0", value=11)
    log.call(2, "lock", "lock-0", None, 15)
    log.line(1, OK, "use", "lock-0", value=11)

    assert "lock: one holder" not in broken(log.history())


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        (("1.1-1", "0.0-2", "last"), "0.0-1 was acknowledged at 0 and is gone"),
        (("0.0-1", "1.1-1", "0.0-2", "last", "0.0-1"), "0.0-1 is there 2 times"),
        (("0.0-1", "1.1-1", "0.0-2", "last", "9.9-1"), "9.9-1 is there, and nobody appended it"),
        (("1.1-1", "0.0-1", "0.0-2", "last"), "0.0-1 was acknowledged at 0 and is at 1"),
    ],
)
def test_a_ledger_that_is_not_what_was_acknowledged_is_found(entries: tuple[str, ...], what: str) -> None:
    assert what in broken(good(entries=entries).history())["ledger: exactly once, nothing lost, in order"]


def appended(*lines: tuple[int, str, str, object], entries: tuple[str, ...]) -> str:
    """What is said of a ledger with these lines of appends: process, type, token, position."""
    log = Writer()
    for process, kind, token, position in lines:
        value = token if kind == INVOKE else position
        log.line(process, kind, "append", LEDGER, value=value)
    log.call(999, "read", LEDGER, None, entries)
    return broken(log.history()).get("ledger: exactly once, nothing lost, in order", "")


def test_what_was_refused_must_not_be_there_and_what_is_unknown_may() -> None:
    refused = appended((1, INVOKE, "0.0-1", None), (1, FAIL, "0.0-1", None), entries=("0.0-1",))
    unknown = appended((1, INVOKE, "0.0-1", None), (1, INFO, "0.0-1", None), entries=("0.0-1",))
    absent = appended((1, INVOKE, "0.0-1", None), (1, INFO, "0.0-1", None), entries=())

    assert refused == "0.0-1 was said not to be applied and is at 0"
    assert (unknown, absent) == ("", "")


def test_what_one_client_called_first_must_come_first() -> None:
    lines = [(1, INVOKE, "0.0-1", None), (2, INVOKE, "0.0-2", None), (1, OK, "", 1), (2, OK, "", 0)]

    assert appended(*lines, entries=("0.0-2", "0.0-1")) == (
        "0.0-2 is at 0, before what its client appended earlier, at 1"
    )


def test_what_was_answered_comes_before_what_was_called_after_that() -> None:
    lines = [(1, INVOKE, "0.0-1", None), (1, OK, "", 1), (2, INVOKE, "1.1-1", None), (2, OK, "", 0)]

    assert "1.1-1 is at 0, but when it was appended position 1 had been answered" in appended(
        *lines, entries=("1.1-1", "0.0-1")
    )


def heard(*received: tuple[int, str], listen: int = 0, close: bool = False) -> str:
    """What is said of somebody who heard this of three entries."""
    log = Writer()
    log.call(5, "listen", LEDGER, None, listen)
    for number, token in enumerate(("t-1", "t-2", "t-3")):
        log.call(1, "append", LEDGER, token, number)
    for each in received:
        log.call(5, "receive", LEDGER, None, each)
    if close:
        log.line(5, INVOKE, "close", LEDGER)
    log.call(999, "read", LEDGER, None, ("t-1", "t-2", "t-3"))
    return broken(log.history()).get("ledger: events once, in order, no gap", "")


def test_events_are_heard_once_in_order_without_a_gap_and_to_the_end() -> None:
    first, second, third = (0, "t-1"), (1, "t-2"), (2, "t-3")

    assert heard(first, second, third) == ""
    assert heard(third, listen=2) == ""
    assert heard(first, second, close=True) == ""
    assert heard(first, third) == "process 5 heard of 2 when 1 was next"
    assert "process 5 heard of 0 when 1 was next" in heard(first, first, second, third)
    assert heard(second, third) == "process 5 heard of 1 when 0 was next"
    assert heard((0, "t-2"), second, third) == "process 5 heard t-2 at 0, where there is another"
    assert heard(first, second) == "process 5 heard nothing from 2 on, of 3 entries"


def test_a_message_that_is_missing_is_found() -> None:
    log = good()
    log.call(2000, "publish", TOPIC, "later", 1)

    assert "later" in broken(log.history())["topic: messages once, in one order, none missing"]


def test_the_longest_stop_is_between_two_acknowledged_writes_until_the_end_that_is_asked_for() -> None:
    log = Writer()
    log.call(1, "put", "map", "x", None, key="k")
    for _ in range(10):
        log.call(1, "get", "map", None, "x", key="k")
    log.call(1, "put", "map", "y", "x", key="k")

    assert longest_stop(log.history(), 10**12) == 0.022
    assert longest_stop(log.history(), 10_000_000) == 0.0


def test_eras_of_a_kind_are_one_kind() -> None:
    assert [kind_of(path) for path in ("map", "value-12", "lock-0")] == ["map", "value", "lock"]


def test_listeners_of_a_killed_process_need_hear_no_more_and_what_it_had_begun_is_unknown() -> None:
    log = Writer()
    log.call(5, "listen", LEDGER, None, 0)
    log.call(6, "listen", TOPIC, None, None)
    log.call(7, "listen", TOPIC, None, None)
    log.line(7, INVOKE, "close", TOPIC)
    log.line(6, INVOKE, "receive", TOPIC)
    log.line(8, INVOKE, "put", "map", key="k", value="x")

    ends = cut_short(log.history(), 10**9).events[len(log.events) :]

    assert [(end.process, end.type, end.f, end.time) for end in ends] == [
        (5, INVOKE, "close", 10**9),
        (6, INFO, "receive", 10**9),
    ]
