"""The check of deliveries: once, in one order, nothing missing, nothing else."""

import pytest

from copycat.testing.delivery import check_delivery
from copycat.testing.history import FAIL, INFO, INVOKE, OK, Event, History, HistoryError


def history(*steps: str) -> History:
    """Steps such as `0 publish a` (invoked and answered), `0 publish? a` (invoked), `0 publish! a` (answered),
    `0 publish- a` (failed), `0 publish~ a` (unknown); `1 receive a 7` with an index."""
    events = []
    marks = {"?": [INVOKE], "!": [OK], "-": [INVOKE, FAIL], "~": [INVOKE, INFO]}
    for time, step in enumerate(steps):
        process, f, *rest = step.split()
        value = rest[0] if rest else None
        index = int(rest[1]) if len(rest) > 1 else None
        for kind in marks.get(f[-1], [INVOKE, OK]):
            shown = value if kind == (INVOKE if f.startswith("publish") else OK) else None
            events.append(
                Event(
                    time=time,
                    process=int(process),
                    type=kind,
                    f=f.rstrip("?!-~"),
                    value=shown,
                    index=index if kind == OK else None,
                )
            )
    return History(tuple(events))


@pytest.mark.parametrize(
    "steps",
    [
        [],
        ["0 publish a"],
        ["1 listen", "0 publish a", "1 receive a"],
        ["0 publish a", "1 listen", "0 publish b", "1 receive b"],
        ["1 listen?", "0 publish a", "1 listen!", "1 receive a"],
        ["1 listen", "0 publish a", "0 publish b", "1 receive a 4", "1 receive b 6"],
        ["1 listen", "0 publish? a", "1 receive a", "0 publish! a"],
        [
            "1 listen",
            "2 listen",
            "0 publish? a",
            "3 publish? b",
            "1 receive b",
            "1 receive a",
            "2 receive b",
            "2 receive a",
        ],
        ["1 listen", "0 publish~ a", "1 receive a"],
        ["1 listen", "0 publish~ a"],
        ["1 listen", "0 publish- a"],
        ["1 listen", "0 publish? a"],
        ["1 listen", "0 publish a", "1 close"],
        ["1 listen", "1 close?", "0 publish a"],
        ["1 listen", "0 publish a", "1 receive a", "1 receive~", "0 publish b"],
        ["1 listen", "1 close", "0 publish a", "1 listen", "0 publish b", "1 receive b"],
    ],
    ids=" / ".join,
)
def test_what_a_topic_may_do_passes(steps: list[str]) -> None:
    assert check_delivery(history(*steps)) == []


@pytest.mark.parametrize(
    ("steps", "violation"),
    [
        (["1 listen", "0 publish a", "1 receive a", "1 receive a"], "process 1 received 'a' twice"),
        (["1 listen", "1 receive a"], "process 1 received 'a', which nobody published"),
        (
            ["1 listen", "0 publish- a", "1 receive a"],
            "process 1 received 'a', of which its publisher was told that it never took effect",
        ),
        (["1 listen", "0 publish a"], "process 1 never received 'a'"),
        (["1 listen", "1 close", "1 listen", "0 publish a"], "process 1 never received 'a'"),
        (
            ["1 listen", "0 publish a", "0 publish b", "1 receive b", "1 close"],
            "process 1 never received 'a', but what came after it",
        ),
        (
            ["1 listen", "2 listen", "0 publish? a", "3 publish? b", "1 receive a", "1 receive b", "2 receive b"],
            "process 2 never received 'a', but what came after it",
        ),
        (["1 listen", "2 listen", "0 publish~ a", "1 receive a"], "process 2 never received 'a'"),
        (
            ["1 listen", "0 publish? a", "3 publish? b", "1 receive a 7", "1 receive b 7"],
            "process 1 received 'b' of index 7 after index 7",
        ),
    ],
)
def test_what_a_listener_did_and_should_not_have_is_found(steps: list[str], violation: str) -> None:
    assert check_delivery(history(*steps)) == [violation]


@pytest.mark.parametrize(
    "steps",
    [
        ["1 listen", "0 publish a", "0 publish b", "1 receive b", "1 receive a"],
        ["1 listen", "1 receive a", "0 publish a"],
        [
            "1 listen",
            "2 listen",
            "0 publish? a",
            "3 publish? b",
            "1 receive a",
            "1 receive b",
            "2 receive b",
            "2 receive a",
        ],
        ["1 listen", "2 listen", "0 publish? a", "1 receive a", "3 publish b", "2 receive b", "2 receive a"],
    ],
    ids=["against time", "before its cause", "two orders", "after another had it"],
)
def test_what_no_one_order_explains_is_found(steps: list[str]) -> None:
    (violation,) = [each for each in check_delivery(history(*steps)) if "never" not in each]

    assert violation.startswith("no order of publishing explains what was received when: see 'a'") or "'b'" in violation


def test_what_may_still_come_is_not_missed_in_a_history_that_is_not_settled() -> None:
    steps = ["1 listen", "0 publish a", "0 publish b", "0 publish c", "1 receive b"]

    assert check_delivery(history(*steps), settled=False) == ["process 1 never received 'a', but what came after it"]


def test_topics_are_told_apart() -> None:
    events = [
        Event(time=0, process=0, type=INVOKE, f="publish", resource="news", value="a"),
        Event(time=0, process=1, type=INVOKE, f="receive", resource="news"),
        Event(time=0, process=1, type=OK, f="receive", resource="news", value="a"),
        Event(time=0, process=2, type=INVOKE, f="receive", resource="old"),
        Event(time=0, process="nemesis", type=INFO, f="stop"),
        Event(time=0, process=2, type=OK, f="receive", resource="old", value="a"),
    ]

    assert check_delivery(History(tuple(events))) == ["old: process 2 received 'a', which nobody published"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["0 publish a", "1 publish a"], r"line 4: 'a' is published twice"),
        (["0 put a"], r"line 2: a topic knows no operation 'put'"),
    ],
)
def test_a_history_that_is_none_of_a_topic_is_refused(steps: list[str], message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        check_delivery(history(*steps))
