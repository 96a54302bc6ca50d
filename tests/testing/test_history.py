"""History files: any checker can read what is written, and what cannot have happened is refused by its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.testing.history import (
    FAIL,
    FORMAT,
    INFO,
    INVOKE,
    OK,
    UNSTATED,
    Event,
    History,
    HistoryError,
    frozen,
    join,
    parse,
    read,
)

HEADER = json.dumps({"format": FORMAT})


def line(time: Any = 0, process: Any = 0, kind: Any = INVOKE, f: Any = "get", **facts: Any) -> str:
    return json.dumps({"time": time, "process": process, "type": kind, "f": f, **facts})


def parsed(*lines: str) -> History:
    return parse("".join(f"{each}\n" for each in (HEADER, *lines)).encode())


def event(time: int, process: int | str, kind: str, f: str = "get", **facts: Any) -> Event:
    return Event(time=time, process=process, type=kind, f=f, **facts)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_file_is_lines_of_json_with_what_is_known_and_nothing_else(tmp_path: Path) -> None:
    history = History(
        (
            event(1, 0, INVOKE, "put", resource="m", key="ann", value=41),
            event(2, 1, INVOKE, "get", resource="m", key="ann"),
            event(3, "nemesis", INFO, "stop", value="a"),
            event(4, 0, OK, "put", resource="m", key="ann", index=7),
            event(5, 1, FAIL, "get", resource="m", key="ann", error="no leader"),
        ),
        {"seed": 7},
    )

    history.write(tmp_path / "run.jsonl")

    assert (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines() == [
        '{"format": "copycat-history/1", "seed": 7}',
        '{"time": 1, "process": 0, "type": "invoke", "f": "put", "resource": "m", "key": "ann", "value": 41}',
        '{"time": 2, "process": 1, "type": "invoke", "f": "get", "resource": "m", "key": "ann"}',
        '{"time": 3, "process": "nemesis", "type": "info", "f": "stop", "value": "a"}',
        '{"time": 4, "process": 0, "type": "ok", "f": "put", "resource": "m", "key": "ann", "value": null, "index": 7}',
        '{"time": 5, "process": 1, "type": "fail", "f": "get", "resource": "m", "key": "ann", "error": "no leader"}',
    ]
    assert read(tmp_path / "run.jsonl") == history


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ANYTHING = JSON | st.binary() | st.tuples(st.integers(), st.binary()) | st.sets(st.integers(), max_size=1)


@given(key=ANYTHING, value=ANYTHING, answer=ANYTHING | st.just(UNSTATED), facts=st.dictionaries(st.text(), JSON))
def test_what_is_written_is_read(key: Any, value: Any, answer: Any, facts: dict[str, Any]) -> None:
    facts = json.loads(json.dumps(facts, allow_nan=True).replace("NaN", "0").replace("Infinity", "0"))
    facts.pop("format", None)
    key, value, answer = frozen(key), frozen(value), frozen(answer)
    about = {"f": "put", "resource": "r", "key": key}
    history = History(
        (
            Event(time=1, process=0, type=INVOKE, value=value, **about),
            Event(time=1, process=0, type=OK, value=answer, **about),
        ),
        facts,
    )

    text = "\n".join([json.dumps({"format": FORMAT, **facts}), *(each.to_json() for each in history.events)])

    assert parse(text.encode()) == history
    assert hash((key, value)) == hash((frozen(key), frozen(value)))


def test_a_value_that_is_left_out_of_an_answer_is_not_known_and_null_is_a_value() -> None:
    (unknown,) = parsed(line(1), line(2, kind=OK)).operations()
    (known,) = parsed(line(1), line(2, kind=OK, value=None)).operations()

    assert unknown.result is UNSTATED
    assert known.result is None


def test_members_with_other_names_are_passed_over() -> None:
    assert parsed(line(1, node="a"), line(2, kind=OK, node="a")) == parsed(line(1), line(2, kind=OK))


def test_a_last_line_that_was_cut_short_is_as_if_not_begun() -> None:
    whole = f"{HEADER}\n{line(1)}\n{line(2, kind=OK)}"
    for length in range(len(f"{HEADER}\n{line(1)}\n"), len(whole)):
        assert len(parse(whole[:length].encode())) == 1
    assert len(parse(whole.encode())) == len(parse(f"{whole}\n".encode())) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 2: not JSON: "),
        ([""], "line 2: not JSON: "),
        (["[" * 100_000], "line 2: not JSON: "),
        (["[]"], "line 2: not a JSON object"),
        ([line(1), line("x")], "line 3: time must be a whole number from 0 on, not 'x'"),
        ([line(-1)], "line 2: time must be"),
        ([line(True)], "line 2: time must be"),
        ([line(1.5)], "line 2: time must be"),
        ([json.dumps({"process": 0, "type": "invoke", "f": "get"})], "line 2: time must be"),
        ([line(1, -1)], 'line 2: process must be a number from 0 on, or "nemesis", not -1'),
        ([line(1, "client")], "line 2: process must be"),
        ([line(1, None)], "line 2: process must be"),
        ([line(1, True)], "line 2: process must be"),
        ([line(1, kind="done")], "line 2: type must be one of invoke, ok, fail, info, not 'done'"),
        ([line(1, kind=["ok"])], "line 2: type must be"),
        ([line(1, f="")], "line 2: f must be text, and not empty, not ''"),
        ([line(1, f=3)], "line 2: f must be"),
        ([line(1, resource=3)], "line 2: resource must be text, not 3"),
        ([line(1, error=3)], "line 2: error must be text, not 3"),
        ([line(1, index="7")], "line 2: index must be a whole number from 0 on, not '7'"),
        ([line(2), line(1, 1)], "line 3: time goes back from 2 to 1"),
        ([line(1), line(2, f="put")], "line 3: process 0 invokes put while its get is open"),
        ([line(1, kind=OK)], "line 2: process 0 ends get without having invoked it"),
        ([line(1), line(2, kind=OK), line(3, kind=FAIL)], "line 4: process 0 ends get without having invoked it"),
        ([line(1), line(2, kind=OK, f="put")], "line 3: process 0 ends put, but what it has open is get"),
        ([line(1, key="x"), line(2, kind=OK, key="y")], "line 3: process 0 ends get y, but what it has open is get x"),
        ([line(1, resource="r"), line(2, kind=OK)], "line 3: process 0 ends get, but what it has open is get r"),
        ([line(1), line(2, kind=INFO), line(3)], "line 4: process 0 is used again after info; go on with a number"),
        ([line(1), line(2, kind=INFO), line(3, kind=OK)], "line 4: process 0 is used again after info"),
        ([line(1, "nemesis")], "line 2: the nemesis has lines of type info only, not invoke"),
    ],
)
def test_what_cannot_be_is_refused_by_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(HistoryError) as caught:
        parsed(*lines)

    assert str(caught.value).startswith(message)
    assert caught.value.line == int(message.removeprefix("line ").partition(":")[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b'{"format"', "the file is empty"),
        (b"\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b'{"time": 0}\n', "the format is None; what can be read here is 'copycat-history/1'"),
        (b'{"format": "copycat-history/2"}\n', "the format is 'copycat-history/2'"),
        (b'{"format": "caf\xe9"}\n', "not JSON: 'utf-8' codec"),
    ],
)
def test_a_file_that_is_no_history_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(HistoryError, match=message) as caught:
        parse(data)

    assert caught.value.line == 1


def test_a_history_made_by_hand_keeps_the_same_rules() -> None:
    with pytest.raises(HistoryError, match=r"line 3: time goes back"):
        History((event(2, 0, INVOKE), event(1, 0, OK)))


# -- what it says ------------------------------------------------------------------------------------------------------


def test_operations_are_what_took_effect_or_may_have_in_the_order_of_invocation() -> None:
    history = parsed(
        line(10, 0, INVOKE, "put", key="x", value=[1, 2]),
        line(11, 1, INVOKE, "get"),
        line(12, "nemesis", INFO, "cut"),
        line(13, 2, INVOKE, "put"),
        line(14, 1, OK, "get", value={"b": 1, "a": [2]}, index=5),
        line(15, 2, FAIL, "put"),
        line(16, 3, INVOKE, "add"),
        line(17, 0, INFO, "put", key="x", error="lost"),
        line(18, 3, OK, "add", value=3, error="cannot be decoded"),
        line(19, 1, INVOKE, "get"),
    )

    put, get, add, opened = history.operations()

    assert (put.key, put.argument, put.result, put.ended, put.completed, put.error) == (
        "x",
        (1, 2),
        UNSTATED,
        None,
        None,
        "lost",
    )
    assert (put.begun, put.invoked, put.process) == (0, 10, 0)
    assert (get.result, get.begun, get.ended, get.completed, get.index) == ((("a", (2,)), ("b", 1)), 1, 4, 14, 5)
    assert (add.result, add.ended) == (UNSTATED, 8)
    assert (opened.ended, opened.begun) == (None, 9)
    assert history.counts() == {OK: 2, FAIL: 1, INFO: 2}


def test_an_operation_says_itself_in_words() -> None:
    put, get, open_ = parsed(
        line(1, 0, INVOKE, "cas", key="x", value=[1, 2]),
        line(2, 1, INVOKE, "get"),
        line(3, 0, OK, "cas", key="x", value=True),
        line(4, 1, OK, "get"),
        line(5, 1, INVOKE, "set", value=3),
    ).operations()

    assert [str(put), str(get), str(open_)] == [
        "process 0: cas('x', 1, 2) → True",
        "process 1: get() → ?",
        "process 1: set(3) → unknown",
    ]


def test_a_history_of_some_resources_keeps_the_faults() -> None:
    history = parsed(
        line(1, 0, resource="a"),
        line(2, 1, resource="b"),
        line(3, "nemesis", INFO, "stop"),
        line(4, 0, OK, resource="a"),
    )

    assert [each.time for each in history.only("a").events] == [1, 3, 4]
    assert [each.time for each in history.only("a", "b").events] == [1, 2, 3, 4]
    assert [each.time for each in history.only().events] == [3]


def test_histories_of_one_time_are_joined_and_what_touches_overlaps() -> None:
    first = History((event(1, 0, INVOKE), event(5, 0, OK), event(5, 0, INVOKE)), {"seed": 7})
    second = History((event(5, 1, INVOKE), event(6, 1, OK), event(6, "nemesis", INFO)), {"host": "b"})

    joined = join(first, second)

    assert [(each.time, each.process, each.type) for each in joined.events] == [
        (1, 0, INVOKE),
        (5, 1, INVOKE),
        (5, 0, OK),
        (5, 0, INVOKE),
        (6, 1, OK),
        (6, "nemesis", INFO),
    ]
    assert joined.facts == {"seed": 7, "host": "b"}


def test_histories_with_a_process_in_common_are_not_joined() -> None:
    one = History((event(1, 4, INVOKE),))
    with pytest.raises(HistoryError, match=r"process 4 is in two of the histories"):
        join(one, one)
