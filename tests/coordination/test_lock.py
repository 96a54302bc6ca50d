"""DistributedLock: lock, try_lock, unlock."""

import asyncio
from typing import Any

import pytest

from copycat.coordination import DistributedLock
from copycat.errors import (
    ConfigurationError,
    LockLostError,
    LockTimeoutError,
    NotHeldError,
)
from tests.coordination.support import PATH, assert_nothing_is_left, client, handles, holder, turns, waiting
from tests.resource.harness import Replicas, connect


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedLock, count=2)


@pytest.fixture
async def locks(replicas: Replicas) -> list[DistributedLock]:
    """Three programs on one lock."""
    return await handles(replicas, DistributedLock, 3)


# -- holding, in turn --------------------------------------------------------------------------------------------------


async def test_a_free_lock_is_granted_at_once_and_answers_a_token(locks: list[DistributedLock]) -> None:
    token = await locks[0].lock()

    assert token > 0
    assert await locks[1].is_locked()
    await locks[0].unlock()
    assert not await locks[1].is_locked()


async def test_a_lock_that_is_held_goes_to_those_who_wait_in_the_order_of_asking(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    granted: list[int] = []

    async def ask(number: int) -> None:
        await locks[number].lock()
        granted.append(number)

    tasks = [asyncio.ensure_future(ask(number)) for number in (2, 1, 2)]
    await turns()

    await locks[0].unlock()
    await turns()
    assert granted == [2]
    await locks[2].unlock()
    await turns()
    assert granted == [2, 1]
    await locks[1].unlock()
    await turns()
    assert granted == [2, 1, 2]
    assert all(task.done() for task in tasks)
    await locks[2].unlock()
    assert_nothing_is_left(replicas, *locks)


async def test_tokens_only_grow(locks: list[DistributedLock]) -> None:
    tokens = []
    for lock in locks * 2:
        tokens.append(await lock.lock())
        await lock.unlock()

    assert tokens == sorted(set(tokens))


async def test_a_lock_deleted_and_made_again_goes_on_with_greater_tokens(replicas: Replicas) -> None:
    cc = await connect(replicas)
    first = await cc.create(PATH, DistributedLock)
    before = await first.lock()
    await first.delete()

    assert await (await cc.create(PATH, DistributedLock)).lock() > before


async def test_a_handle_waits_for_itself_too(locks: list[DistributedLock]) -> None:
    await locks[0].lock()

    assert await locks[0].try_lock() is None


# -- not waiting, and waiting a while ----------------------------------------------------------------------------------


async def test_try_lock_answers_none_while_another_holds(locks: list[DistributedLock], replicas: Replicas) -> None:
    token = await locks[0].try_lock()

    assert token is not None
    assert await locks[1].try_lock() is None
    assert waiting(replicas) == []


async def test_lock_without_waiting_raises_while_another_holds(locks: list[DistributedLock]) -> None:
    await locks[0].lock()

    with pytest.raises(LockTimeoutError, match="held by another"):
        await locks[1].lock(timeout=0)
    assert (await locks[1].try_lock(), await locks[0].is_locked()) == (None, True)


async def test_a_wait_that_is_over_by_the_client_s_clock_leaves_the_line(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()

    with pytest.raises(LockTimeoutError, match=r"not granted within 0\.01 s; the claim is withdrawn") as caught:
        await locks[1].lock(timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert await locks[2].try_lock(timeout=0.01) is None
    assert waiting(replicas) == []


async def test_a_wait_that_is_over_by_the_log_s_clock_leaves_the_line(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    waits, tries = locks[1].lock(timeout=30), locks[2].try_lock(timeout=31)
    replicas.advance(30)
    await turns()

    with pytest.raises(LockTimeoutError, match="nothing is held"):
        waits.result()
    assert not tries.done()
    replicas.advance(1)
    assert await tries is None
    assert waiting(replicas) == []


async def test_a_grant_that_meets_the_end_of_the_wait_is_given_back(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    waits = locks[1].lock(timeout=30)
    await turns()
    locks[0].unlock()  # the grant is on its way
    locks[1]._run_out(1, 30, False)  # and the time is up

    with pytest.raises(LockTimeoutError):
        await waits
    await turns()
    assert_nothing_is_left(replicas, *locks[1:])


async def test_a_claim_nobody_answers_raises_within_the_timeout_of_the_handle(
    locks: list[DistributedLock], replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent: list[asyncio.Future[Any]] = []

    def command(*arguments: Any, **options: Any) -> asyncio.Future[Any]:
        silent.append(asyncio.get_running_loop().create_future())
        return silent[-1]

    monkeypatch.setattr(locks[0], "_submit_command", command)
    hurried = locks[0].with_timeout(0.01)

    with pytest.raises(LockTimeoutError, match="no answer"):
        await hurried.try_lock()
    assert len(silent) == 2  # the claim, and that it is withdrawn


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True, 10**12])
async def test_a_wait_that_cannot_be_is_refused_at_the_call(locks: list[DistributedLock], timeout: Any) -> None:
    for call in (locks[0].lock, locks[0].try_lock):
        with pytest.raises(ConfigurationError, match="a time to wait is in seconds"):
            call(timeout=timeout)
    with pytest.raises(ConfigurationError):
        async with locks[0].hold(timeout=timeout):
            pass


# -- unlocking ---------------------------------------------------------------------------------------------------------


async def test_unlocking_what_is_not_held_raises_at_the_call(locks: list[DistributedLock]) -> None:
    await locks[0].lock()

    with pytest.raises(NotHeldError, match="not held by this handle"):
        locks[1].unlock()
    with pytest.raises(NotHeldError, match="by token 1"):
        locks[0].unlock(1)
    await locks[0].unlock()
    with pytest.raises(NotHeldError):
        locks[0].unlock()


async def test_unlock_by_token_releases_that_lock(locks: list[DistributedLock], replicas: Replicas) -> None:
    token = await locks[0].lock()

    await locks[0].unlock(token)
    assert_nothing_is_left(replicas, *locks)


async def test_unlock_does_not_take_the_lock_from_a_scope(locks: list[DistributedLock]) -> None:
    async with locks[0].hold() as held:
        with pytest.raises(NotHeldError):
            locks[0].unlock()
        assert not held.lost
        assert await locks[1].is_locked()


async def test_unlocking_after_the_cluster_ended_it_says_so(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].lock()
    replicas.end(client(locks[0]).session, expired=True)
    client(locks[0])._register()  # and nobody was told of the loss

    with pytest.raises(LockLostError, match="held no longer when it was to be released"):
        await locks[0].unlock()


# -- cancelling --------------------------------------------------------------------------------------------------------


async def test_cancelling_a_wait_leaves_the_line(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].lock()
    waits = locks[1].lock()
    waits.cancel()
    await turns()

    assert waiting(replicas) == []


async def test_cancelling_a_task_after_its_lock_was_granted_releases_it(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    claim = locks[1].lock()
    claim.add_done_callback(lambda _: task.cancel())  # granted, and the task has not gone on
    task = asyncio.ensure_future(awaited(claim))
    await turns()
    await locks[0].unlock()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert claim.result() > 0
    assert_nothing_is_left(replicas, *locks)
    with pytest.raises(NotHeldError):
        locks[1].unlock()


async def test_a_grant_that_meets_the_cancelling_goes_to_the_next(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    waits, behind = locks[1].lock(), locks[2].lock()
    await turns()
    locks[0].unlock()  # the grant is on its way
    waits.cancel()

    await behind
    assert holder(replicas) == client(locks[2]).session


async def awaited(claim: asyncio.Future[Any]) -> Any:
    return await claim
