"""DistributedLock when its session, its handle or its path is gone."""

import asyncio
import logging

import pytest

from copycat.coordination import DistributedLock
from copycat.errors import (
    ClosedError,
    LockLostError,
    NotHeldError,
    SessionExpiredError,
    UnknownResourceError,
)
from tests.coordination.support import PATH, assert_nothing_is_left, client, handles, holder, turns, waiting
from tests.resource.harness import Replicas


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedLock, count=2)


@pytest.fixture
async def locks(replicas: Replicas) -> list[DistributedLock]:
    """Three programs on one lock."""
    return await handles(replicas, DistributedLock, 3)


# -- sessions that are lost --------------------------------------------------------------------------------------------


async def test_a_lock_goes_to_the_next_when_its_session_ends(locks: list[DistributedLock], replicas: Replicas) -> None:
    first = await locks[0].lock()
    waits = locks[1].lock()
    client(locks[0]).expire()

    assert await waits > first
    with pytest.raises(LockLostError, match="expired") as caught:
        locks[0].unlock()
    assert caught.value.token == first
    with pytest.raises(NotHeldError):  # told once
        locks[0].unlock()
    assert holder(replicas) == client(locks[1]).session


async def test_a_wait_ends_with_its_session(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].lock()
    waits = locks[1].lock()
    await turns()
    client(locks[1]).expire()

    with pytest.raises(SessionExpiredError, match="left the line"):
        await waits
    assert waiting(replicas) == []


async def test_a_wait_ends_with_its_client(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].lock()
    waits = locks[1].lock()
    await client(locks[1]).close()

    with pytest.raises(ClosedError, match="left the line"):
        await waits
    with pytest.raises(ClosedError):
        locks[1].lock()
    assert waiting(replicas) == []


async def test_a_lock_lost_by_the_client_s_clock_is_given_back_when_the_session_lives(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    client(locks[0]).lose()
    client(locks[0]).resume()
    await turns()

    assert_nothing_is_left(replicas, *locks)
    with pytest.raises(LockLostError, match="no contact with a majority"):
        locks[0].unlock()


async def test_a_loss_that_the_program_notices_first_is_given_back_too(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    client(locks[0])._is_lost = True  # time is up, and the client's timer has not fired
    with pytest.raises(LockLostError, match="may have ended"):
        locks[0].unlock()
    client(locks[0]).resume()  # and will not: the session proves alive
    await turns()

    assert_nothing_is_left(replicas, *locks)


async def test_a_grant_that_arrives_when_the_session_may_have_ended_is_not_believed(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    waits = locks[1].lock()
    client(locks[1]).lose()
    await locks[0].unlock()

    with pytest.raises(SessionExpiredError, match="granted, but the session may have ended"):
        await waits
    await turns()
    assert_nothing_is_left(replicas, *locks)


async def test_an_answer_to_a_claim_that_comes_too_late_is_not_believed(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    waits = locks[0].lock()
    client(locks[0]).lose()

    with pytest.raises(SessionExpiredError):
        await waits
    assert_nothing_is_left(replicas, *locks)


async def test_whoever_asks_again_after_a_loss_unlocks_what_it_was_granted_then(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    client(locks[0]).expire()
    await locks[0].lock()

    await locks[0].unlock()
    assert_nothing_is_left(replicas, *locks)


async def test_a_task_whose_lock_was_lost_does_not_unlock_that_of_another(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[0].lock()
    waits = locks[0].lock()  # another task, on the same handle
    client(locks[0]).lose()
    client(locks[0]).resume()
    token = await waits

    with pytest.raises(LockLostError):
        locks[0].unlock()
    assert holder(replicas) == client(locks[0]).session
    await locks[0].unlock(token)
    assert_nothing_is_left(replicas, *locks)


# -- handles, twins, and paths that are gone ---------------------------------------------------------------------------


async def test_closing_a_handle_releases_and_leaves_the_line(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].lock()
    waits = locks[1].lock()
    behind = locks[2].lock()
    await locks[1].close()
    with pytest.raises(ClosedError, match="the handle was closed"):
        await waits
    await locks[0].close()
    await locks[0].close()

    await behind
    assert waiting(replicas) == []
    for call in (locks[0].lock, locks[0].try_lock, locks[0].unlock, locks[0].is_locked):
        with pytest.raises(ClosedError):
            call()


async def test_a_twin_of_a_closed_handle_takes_no_claims(locks: list[DistributedLock], replicas: Replicas) -> None:
    twin = locks[0].with_timeout(5)
    await locks[1].lock()
    await locks[0].close()

    with pytest.raises(ClosedError):
        twin.lock()  # it would wait for ever: nobody tells a closed handle of its grants
    assert waiting(replicas) == []


async def test_what_a_twin_claimed_is_withdrawn_after_the_twin_was_closed(
    locks: list[DistributedLock], replicas: Replicas
) -> None:
    await locks[1].lock()
    twin = locks[0].with_timeout(5)
    waits = twin.lock()
    await twin.close()
    waits.cancel()
    await turns()

    assert waiting(replicas) == []


async def test_a_scope_of_a_twin_that_was_closed_is_released(locks: list[DistributedLock], replicas: Replicas) -> None:
    twin = locks[0].with_timeout(5)
    async with twin.hold():
        await twin.close()

    assert_nothing_is_left(replicas, *locks)


async def test_twins_are_one_participant(locks: list[DistributedLock], replicas: Replicas) -> None:
    await locks[0].with_timeout(5).lock()

    await locks[0].unlock()
    assert_nothing_is_left(replicas, *locks)


async def test_those_in_line_and_the_holder_hear_that_the_lock_was_deleted(locks: list[DistributedLock]) -> None:
    token = await locks[0].lock()
    waits = locks[1].lock()
    await locks[2].delete()

    with pytest.raises(UnknownResourceError, match="deleted"):
        await waits
    with pytest.raises(LockLostError, match="it was deleted") as caught:
        locks[0].unlock()
    assert caught.value.token == token
    with pytest.raises(UnknownResourceError):
        await locks[0].lock()


async def test_a_lock_of_a_closed_client_cannot_be_asked_for(locks: list[DistributedLock]) -> None:
    await client(locks[0]).close()

    with pytest.raises(ClosedError):
        locks[0].lock()


# -- what is held, asked from elsewhere --------------------------------------------------------------------------------


async def test_a_thread_may_ask_whether_the_lock_is_still_held(
    locks: list[DistributedLock], replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    seen: list[object] = []
    asyncio.get_running_loop().set_debug(True)  # which refuses what is not for other threads

    async def hold() -> None:
        async with locks[0].hold() as held:
            await asyncio.to_thread(lambda: seen.append(held.lost))
            client(locks[0])._is_lost = True  # and the loop has not noticed
            await asyncio.to_thread(lambda: seen.append(held.lost))
            await turns()  # the thread's question told it
            seen.append("never here")

    with pytest.raises(LockLostError):
        await hold()
    client(locks[0]).resume()
    await turns()

    assert seen == [False, True]
    assert not caplog.records
    assert_nothing_is_left(replicas, *locks)


async def test_repr_tells_how_it_stands(locks: list[DistributedLock]) -> None:
    async with locks[0].hold() as held:
        assert repr(held) == f"<HeldLock '{PATH}' token={held.token} held>"
        client(locks[0]).suspend()
        assert repr(held).endswith("in doubt>")
        client(locks[0]).resume()
    assert repr(held).endswith("given back>")
