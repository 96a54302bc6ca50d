"""`async with lock.hold()`: the body is cancelled when the lock is lost, and nobody else's cancelling is swallowed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from copycat.coordination import DistributedLock, HeldLock
from copycat.errors import IndeterminateError, LockLostError, LockTimeoutError, UsageError
from tests.coordination.support import assert_nothing_is_left, call_first, client, handles, holder, turns, waiting
from tests.resource.harness import Replicas, connect


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedLock, count=2)


@pytest.fixture
async def locks(replicas: Replicas) -> list[DistributedLock]:
    return await handles(replicas, DistributedLock, 2)


@pytest.fixture
def lock(locks: list[DistributedLock]) -> DistributedLock:
    return locks[0]


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def within(lock: DistributedLock, body: Callable[[HeldLock], Awaitable[Any]]) -> Any:
    async with lock.hold() as held:
        return await body(held)


def start(lock: DistributedLock, body: Callable[[HeldLock], Awaitable[Any]]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(within(lock, body))


async def entered(lock: DistributedLock, body: Callable[[HeldLock], Awaitable[Any]]) -> asyncio.Task[Any]:
    """A task that is in its scope, waiting for whatever the body waits for."""
    task = start(lock, body)
    await turns()
    assert not task.done()
    return task


# -- in good order -----------------------------------------------------------------------------------------------------


async def test_the_lock_is_held_in_the_body_and_released_behind_it(lock: DistributedLock, replicas: Replicas) -> None:
    async with lock.hold() as held:
        assert holder(replicas) == client(lock).session
        assert (held.lost, held.in_doubt) == (False, False)
        held.check()

    assert_nothing_is_left(replicas, lock)


async def test_what_the_body_raises_is_raised_and_the_lock_released(lock: DistributedLock, replicas: Replicas) -> None:
    with pytest.raises(KeyError, match="of the body"):
        async with lock.hold():
            raise KeyError("of the body")

    assert_nothing_is_left(replicas, lock)


async def test_what_was_given_back_is_held_no_longer(lock: DistributedLock) -> None:
    async with lock.hold() as held:
        pass

    assert held.lost
    with pytest.raises(LockLostError, match="was given back"):
        held.check()


async def test_entering_waits_for_the_lock_and_no_longer_than_it_was_told(locks: list[DistributedLock]) -> None:
    async with locks[0].hold():
        with pytest.raises(LockTimeoutError):
            async with locks[1].hold(timeout=0.01):
                pass
        with pytest.raises(LockTimeoutError):
            async with locks[1].hold(timeout=0):
                pass


async def test_a_scope_is_entered_once(lock: DistributedLock) -> None:
    scope = lock.hold()
    async with scope:
        with pytest.raises(UsageError, match="a scope is entered once"):
            async with scope:
                pass


async def test_a_suspended_session_puts_the_lock_in_doubt_and_nothing_more(lock: DistributedLock) -> None:
    async with lock.hold() as held:
        client(lock).suspend()
        assert (held.in_doubt, held.lost) == (True, False)
        client(lock).resume()
        assert not held.in_doubt


# -- losing it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["lose", "expire"])
async def test_a_loss_cancels_the_body_and_is_raised(lock: DistributedLock, replicas: Replicas, loss: str) -> None:
    tokens: list[int] = []

    async def body(held: HeldLock) -> None:
        tokens.append(held.token)
        await for_ever()

    task = await entered(lock, body)
    getattr(client(lock), loss)()

    with pytest.raises(LockLostError, match="another may have it now") as caught:
        await task
    assert [caught.value.token] == tokens
    assert task.cancelling() == 0
    client(lock).resume()
    await turns()
    assert_nothing_is_left(replicas, lock)


async def test_a_lock_that_is_deleted_or_closed_cancels_the_body(locks: list[DistributedLock]) -> None:
    task = await entered(locks[0], lambda held: for_ever())
    await locks[1].delete()
    with pytest.raises(LockLostError, match="it was deleted"):
        await task


async def test_closing_the_handle_cancels_the_body(lock: DistributedLock, replicas: Replicas) -> None:
    task = await entered(lock, lambda held: for_ever())
    await lock.close()

    with pytest.raises(LockLostError, match="the handle was closed"):
        await task
    assert_nothing_is_left(replicas, lock)


async def test_a_body_that_closes_its_own_handle_is_told_at_its_end(lock: DistributedLock, replicas: Replicas) -> None:
    async def body(held: HeldLock) -> None:
        await lock.close()  # without a turn of the loop

    with pytest.raises(LockLostError, match="the handle was closed"):
        await within(lock, body)
    await turns()  # nothing cancels this task behind the scope
    assert_nothing_is_left(replicas, lock)


async def test_a_body_that_closes_its_own_handle_and_goes_on_is_cancelled(lock: DistributedLock) -> None:
    async def body(held: HeldLock) -> None:
        await lock.close()
        await for_ever()

    with pytest.raises(LockLostError):
        await within(lock, body)


async def test_a_body_that_notices_the_loss_itself_leaves_no_cancelling_behind(
    lock: DistributedLock, replicas: Replicas
) -> None:
    async def body(held: HeldLock) -> None:
        client(lock)._is_lost = True  # time is up, and nobody has been told
        held.check()

    with pytest.raises(LockLostError):
        await within(lock, body)
    client(lock).resume()
    await turns()  # would raise CancelledError
    assert_nothing_is_left(replicas, lock)


async def test_a_loss_between_the_grant_and_the_body_keeps_the_body_from_beginning(
    lock: DistributedLock, replicas: Replicas
) -> None:
    begun: list[HeldLock] = []

    async def body(held: HeldLock) -> None:
        begun.append(held)

    task = start(lock, body)
    await asyncio.sleep(0)
    (claim,) = lock._claims.values()
    call_first(claim, lambda _: client(lock).lose())

    with pytest.raises(LockLostError):
        await task
    assert not begun
    client(lock).resume()
    await turns()
    assert_nothing_is_left(replicas, lock)


async def test_a_session_that_ends_while_the_lock_is_given_back_changes_nothing(
    lock: DistributedLock, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(held: HeldLock) -> str:
        monkeypatch.setattr(lock, "_submit_command", lambda *_, **__: unanswered)
        return "done"

    unanswered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = await entered(lock, body)
    client(lock).expire()
    unanswered.set_exception(IndeterminateError("sent, but the session ended"))

    assert await task == "done"
    assert_nothing_is_left(replicas, lock)


async def test_a_lock_the_cluster_had_ended_before_it_was_given_back_is_raised(
    lock: DistributedLock, replicas: Replicas
) -> None:
    async def body(held: HeldLock) -> None:
        replicas.end(client(lock).session, expired=True)
        client(lock)._register()  # and nobody was told

    with pytest.raises(LockLostError, match="held no longer when it was to be given back"):
        await within(lock, body)


async def test_a_body_that_swallows_the_cancelling_learns_of_the_loss_at_its_end(lock: DistributedLock) -> None:
    went_on: list[bool] = []

    async def body(held: HeldLock) -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            await turns()
            went_on.append(held.lost)
        return "as if nothing were"

    task = await entered(lock, body)
    client(lock).lose()

    with pytest.raises(LockLostError):
        await task
    assert (went_on, task.cancelling()) == ([True], 0)


async def test_what_a_body_raises_when_it_is_cancelled_goes_before_the_loss(lock: DistributedLock) -> None:
    async def body(held: HeldLock) -> None:
        try:
            await for_ever()
        finally:
            raise KeyError("of the clean-up")

    task = await entered(lock, body)
    client(lock).lose()

    with pytest.raises(KeyError, match="of the clean-up"):
        await task
    assert task.cancelling() == 0


# -- when others cancel, too -------------------------------------------------------------------------------------------


async def test_cancelling_the_task_cancels_the_body_and_releases(lock: DistributedLock, replicas: Replicas) -> None:
    task = await entered(lock, lambda held: for_ever())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_is_left(replicas, lock)


@pytest.mark.parametrize("first", ["loss", "cancel"])
async def test_whoever_cancels_the_task_when_the_lock_is_lost_gets_it_cancelled(
    lock: DistributedLock, first: str
) -> None:
    task = await entered(lock, lambda held: for_ever())
    for each in [first, "cancel" if first == "loss" else "loss"]:
        if each == "loss":
            client(lock).lose()
        else:
            task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_a_timeout_around_the_scope_that_meets_the_loss_is_a_timeout(lock: DistributedLock) -> None:
    async def hurried() -> None:
        async with asyncio.timeout(None) as deadline:
            async with lock.hold():
                deadline.reschedule(asyncio.get_running_loop().time())
                await asyncio.sleep(0)
                client(lock).lose()
                await for_ever()

    task = asyncio.ensure_future(hurried())
    with pytest.raises((TimeoutError, LockLostError)):
        await task
    assert task.cancelling() == 0


async def test_a_timeout_within_the_body_is_its_own(lock: DistributedLock, replicas: Replicas) -> None:
    async with lock.hold() as held:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await for_ever()
        held.check()

    assert_nothing_is_left(replicas, lock)


async def test_scopes_within_each_other_all_end_with_the_outer_loss(replicas: Replicas) -> None:
    cc = await connect(replicas)
    outer, inner = await cc.create("outer", DistributedLock), await cc.create("inner", DistributedLock)
    seen: list[BaseException] = []

    async def body(held: HeldLock) -> None:
        try:
            await within(inner, lambda held: for_ever())
        except BaseException as error:
            seen.append(error)
            raise

    task = await entered(outer, body)
    client(outer).lose()  # both: they share a session

    with pytest.raises(LockLostError, match="'outer'"):
        await task
    assert [type(error) for error in seen] == [asyncio.CancelledError]
    assert task.cancelling() == 0


async def test_an_inner_loss_leaves_the_outer_scope(locks: list[DistributedLock], replicas: Replicas) -> None:
    other = await (await connect(replicas)).create("another", DistributedLock)

    async with locks[0].hold() as held:
        task = await entered(other, lambda held: for_ever())
        client(other).lose()
        with pytest.raises(LockLostError, match="'another'"):
            await task
        held.check()


async def test_a_body_with_tasks_of_its_own_ends_them(lock: DistributedLock) -> None:
    ended: list[int] = []

    async def child(number: int) -> None:
        try:
            await for_ever()
        finally:
            ended.append(number)

    async def body(held: HeldLock) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(2):
                tasks.create_task(child(number))

    task = await entered(lock, body)
    client(lock).lose()

    with pytest.raises(LockLostError):
        await task
    assert sorted(ended) == [0, 1]


async def test_a_cancel_while_the_lock_is_given_back_does_not_keep_it(
    lock: DistributedLock, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(held: HeldLock) -> None:
        monkeypatch.setattr(lock, "_submit_command", unanswered)
        asyncio.get_running_loop().call_soon(task.cancel)  # during the release

    submit = lock._submit_command

    def unanswered(*arguments: Any, **options: Any) -> asyncio.Future[Any]:
        submit(*arguments, **options)
        return asyncio.get_running_loop().create_future()

    task = start(lock, body)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_is_left(replicas, lock)


async def test_a_scope_left_while_nobody_answers_is_left_in_time(
    lock: DistributedLock, replicas: Replicas, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hurried = lock.with_timeout(0.01)
    async with hurried.hold():
        monkeypatch.setattr(lock, "_submit_command", lambda *_, **__: asyncio.get_running_loop().create_future())

    assert "not known to be given back yet" in caplog.text


async def test_the_next_in_line_is_granted_what_a_scope_gave_back(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    async with locks[0].hold() as first:
        task = start(locks[1], tokens_of)
        await turns()
        assert waiting(replicas) == [client(locks[1]).session]

    assert await task > first.token


async def tokens_of(held: HeldLock) -> int:
    return held.token
