"""The future of an operation: what it is to whoever awaits it, and to whoever does not."""

import asyncio
import gc
import logging
from collections.abc import Callable

import pytest

from copycat.errors import IndeterminateError
from copycat.raft.client.future import CopycatFuture
from tests.raft.client.loops import Cluster, ask, say, turn, virtual

Begin = Callable[[], "CopycatFuture[str]"]


@pytest.fixture
async def new() -> Begin:
    """Makes the future of one put."""
    loop = asyncio.get_running_loop()

    def begin() -> CopycatFuture[str]:
        future = CopycatFuture[str](loop=loop)
        future.what = "map 'users'.put"
        return future

    return begin


async def test_a_future_used_as_truth_value_raises_and_names_what_was_forgotten(new: Begin) -> None:
    with pytest.raises(TypeError, match=r"^map 'users'\.put was used as true or false without await; write: if await"):
        bool(new())
    done = new()
    done.set_result("anything")
    with pytest.raises(TypeError, match="without await"):
        bool(done)


async def test_whatever_takes_a_future_takes_this_one(new: Begin) -> None:
    first, second, third = new(), new(), new()
    asyncio.get_running_loop().call_soon(first.set_result, "a")
    assert await asyncio.wait_for(first, 10) == "a"
    second.set_result("b")
    assert [*await asyncio.gather(first, second, asyncio.shield(second))] == ["a", "b", "b"]
    done, pending = await asyncio.wait([first, third], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({first}, {third})
    assert [await each for each in asyncio.as_completed([first, second])]


async def test_a_failure_that_nobody_awaited_is_logged_once_with_what_failed_and_its_outcome(
    new: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    future = new()
    future.set_exception(IndeterminateError("the session ended"))
    del future
    gc.collect()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("copycat.raft.client.future", logging.ERROR)
    assert record.getMessage() == (
        "map 'users'.put failed and nobody awaited it: IndeterminateError: the session ended (outcome: unknown)"
    )
    assert (vars(record)["operation"], vars(record)["outcome"]) == ("map 'users'.put", "unknown")


async def test_a_failure_that_is_no_error_of_ours_is_logged_with_an_unknown_outcome(
    new: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    future = new()
    future.set_exception(KeyError("k"))
    del future
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "map 'users'.put failed and nobody awaited it: KeyError: 'k' (outcome: unknown)"
    ]


async def test_nothing_is_logged_of_what_was_awaited_or_looked_at_or_went_well_or_was_cancelled(
    new: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    awaited, looked_at, well, cancelled, pending = new(), new(), new(), new(), new()
    awaited.set_exception(IndeterminateError("x"))
    with pytest.raises(IndeterminateError):
        await awaited
    looked_at.set_exception(IndeterminateError("x"))
    assert looked_at.exception()
    well.set_result("x")
    cancelled.cancel()
    del awaited, looked_at, well, cancelled, pending
    gc.collect()
    assert caplog.records == []


# -- as a client makes them --------------------------------------------------------------------------------------------


@virtual
async def test_an_operation_starts_at_the_call_whether_it_is_awaited_or_not() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        say(client, "unawaited")
        await turn()
        assert list(cluster.model.executed) == ["unawaited"]


@virtual
async def test_cancelling_gives_up_the_result_and_nothing_else() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        before, cancelled, after = say(client, "a"), say(client, "b"), say(client, "c")
        question = ask(client)
        cancelled.cancel()
        question.cancel()
        assert await before < await after
        assert await ask(client) == 3
        assert list(cluster.model.executed) == ["a", "b", "c"]


@virtual
async def test_a_cancelled_task_does_not_take_back_what_it_sent() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.is_mute = True

        async def work() -> None:
            await say(client, "a")

        task = asyncio.get_running_loop().create_task(work())
        await turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cluster.a.is_mute = False
        cluster.a.announce()
        assert await say(client, "b")
        assert list(cluster.model.executed) == ["a", "b"]
