"""The recorder: what is done becomes lines, and an error ends an operation by what is known of its outcome."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from copycat.collections import DistributedMap
from copycat.errors import (
    ApplicationError,
    CommandTimeoutError,
    CopycatError,
    LockLostError,
    NoLeaderError,
    Outcome,
    QueryTimeoutError,
    SerializationError,
)
from copycat.testing import Replicas, connect
from copycat.testing.history import FAIL, INFO, INVOKE, NEMESIS, OK, UNSTATED, HistoryError, join, read
from copycat.testing.linearizability import check
from copycat.testing.models import MapModel
from copycat.testing.recorder import Caller, Recorder
from copycat.util.clock import ManualClock


def raising(error: BaseException) -> Callable[[], Awaitable[Any]]:
    async def start() -> Any:
        raise error

    return start


async def answering(answer: Any) -> Any:
    return answer


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(clock=ManualClock())


@pytest.fixture
def caller(recorder: Recorder) -> Caller:
    return recorder.caller("users")


async def test_a_call_is_written_before_it_is_made_and_after_its_answer_is_here() -> None:
    clock = ManualClock()
    recorder = Recorder(clock=clock, seed=7)
    caller = recorder.caller("users")

    async def put() -> int:
        assert [each.type for each in recorder.history.events] == [INVOKE]
        clock.advance(0.5)
        return 40

    assert await caller.record("put", put, key="ann", value=41) == 40

    begun, ended = recorder.history.events
    assert (begun.time, begun.process, begun.f, begun.resource, begun.key, begun.value) == (
        0,
        0,
        "put",
        "users",
        "ann",
        41,
    )
    assert (ended.time, ended.type, ended.value) == (500_000_000, OK, 40)
    assert recorder.history.facts == {"seed": 7}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NoLeaderError("none"), FAIL, "NoLeaderError: none"),
        (QueryTimeoutError("late"), FAIL, "QueryTimeoutError: late"),
        (SerializationError(""), FAIL, "SerializationError"),
        (ApplicationError("raised"), OK, "ApplicationError: raised"),
        (CopycatError("too large to answer", outcome=Outcome.APPLIED), OK, "CopycatError: too large to answer"),
        (CommandTimeoutError("late"), INFO, "CommandTimeoutError: late"),
        (LockLostError("gone"), INFO, "LockLostError: gone"),
        (asyncio.CancelledError(), INFO, "CancelledError"),
        (ValueError("whoever raised this"), INFO, "ValueError: whoever raised this"),
        (KeyboardInterrupt(), INFO, "KeyboardInterrupt"),
    ],
)
async def test_an_error_ends_an_operation_by_its_outcome(
    recorder: Recorder, caller: Caller, error: BaseException, kind: str, words: str
) -> None:
    with pytest.raises(type(error)):
        await caller.record("put", raising(error), key="ann", value=41)

    _, ended = recorder.history.events
    assert (ended.type, ended.error, ended.key, ended.resource) == (kind, words, "ann", "users")
    assert ended.value is (UNSTATED if kind == OK else None)


async def test_an_error_at_the_call_ends_the_operation_too(recorder: Recorder, caller: Caller) -> None:
    def start() -> Awaitable[Any]:
        raise SerializationError("a float is no key")

    with pytest.raises(SerializationError):
        await caller.record("get", start)

    assert [each.type for each in recorder.history.events] == [INVOKE, FAIL]


async def test_a_caller_goes_on_with_a_number_of_its_own_after_an_unknown_outcome_only(recorder: Recorder) -> None:
    first, second = recorder.caller(), recorder.caller()
    await first.record("get", lambda: answering(1))
    await second.record("get", lambda: answering(1))
    for error in (NoLeaderError(), ApplicationError(), CommandTimeoutError(), NoLeaderError()):
        with pytest.raises(CopycatError):
            await first.record("put", raising(error))
    await second.record("get", lambda: answering(1))

    assert [each.process for each in recorder.history.events if each.type == INVOKE] == [0, 1, 0, 0, 0, 2, 1]


async def test_a_caller_does_one_thing_at_a_time(recorder: Recorder, caller: Caller) -> None:
    caller.invoke("get")
    with pytest.raises(HistoryError, match=r"process 0 invokes put while its get is open"):
        await caller.record("put", lambda: answering(1))
    caller.ok(1)

    assert [(each.f, each.type) for each in recorder.history.events] == [("get", INVOKE), ("get", OK)]


@pytest.mark.parametrize("end", [Caller.ok, Caller.fail, Caller.info])
def test_nothing_ends_that_is_not_open(caller: Caller, end: Callable[[Caller], None]) -> None:
    with pytest.raises(HistoryError, match=r"ends an operation, and this caller has none open"):
        end(caller)


def test_what_does_not_await_records_by_itself(recorder: Recorder, caller: Caller) -> None:
    caller.invoke("put", key="ann", value=41, resource="others")
    caller.ok(40, index=7)

    begun, ended = recorder.history.events
    assert (begun.resource, ended.resource, ended.value, ended.index) == ("others", "others", 40, 7)


async def test_an_answer_is_written_as_json_has_it_or_as_is_wanted(recorder: Recorder, caller: Caller) -> None:
    await caller.record("get", lambda: answering([1, {"b": b"x"}]), key=b"k")
    await caller.record("get", lambda: answering({"age": 41}), result=lambda user: user["age"])

    assert [each.value for each in recorder.history.events if each.type == OK] == [(1, (("b", "b'x'"),)), 41]
    assert recorder.history.events[0].key == "b'k'"


def test_faults_are_lines_of_the_nemesis(recorder: Recorder) -> None:
    recorder.fault("cut", ["a", "b"])
    recorder.fault("heal")

    assert [(each.process, each.type, each.f, each.value) for each in recorder.history.events] == [
        (NEMESIS, INFO, "cut", ("a", "b")),
        (NEMESIS, INFO, "heal", None),
    ]


async def test_a_file_has_every_line_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Recorder(path, seed=7) as recorder:
        caller = recorder.caller()
        assert read(path).facts == {"seed": 7}
        caller.invoke("get")
        assert [each.type for each in read(path).events] == [INVOKE]
        caller.ok(1)
        assert [each.type for each in read(path).events] == [INVOKE, OK]
        with pytest.raises(HistoryError, match=r"this history is in the file .*run\.jsonl; read that"):
            assert recorder.history
    assert len(read(path)) == 2


def test_a_file_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("of yesterday\n" * 9, encoding="utf-8")
    with Recorder(path):
        pass

    assert json.loads(path.read_text(encoding="utf-8")) == {"format": "copycat-history/1"}


def test_the_format_is_no_fact_to_give_and_nothing_is_opened_for_it(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"not a fact to be given"):
        Recorder(tmp_path / "run.jsonl", format="mine")
    assert not list(tmp_path.iterdir())


async def test_several_recorders_count_without_meeting() -> None:
    recorders = [Recorder(clock=ManualClock(), first=number, step=2) for number in range(2)]
    for recorder in recorders:
        caller = recorder.caller()
        for _ in range(3):
            caller.invoke("get")
            caller.info()

    assert [each.process for each in join(*(each.history for each in recorders)).events if each.type == INFO] == [
        0, 2, 4, 1, 3, 5,
    ]  # fmt: skip


async def test_a_map_used_at_once_by_many_is_recorded_and_linearizable(recorder: Recorder) -> None:
    users = await (await connect(Replicas(DistributedMap))).create("users", DistributedMap[str, int])

    async def use(caller: Caller, number: int) -> None:
        for age in range(10 * number, 10 * number + 5):
            await caller.record("put", partial(users.put, "ann", age), key="ann", value=age)
            await caller.record("get", lambda: users.get("ann"), key="ann")

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(use(recorder.caller("users"), number))

    verdict = check(recorder.history, MapModel())
    assert verdict, verdict.explanation
    assert verdict.operations == 40
