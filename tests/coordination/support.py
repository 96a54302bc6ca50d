"""What the servers hold, as seen from above, and turns of the loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from copycat.coordination import DistributedLeaderElection, Term
from copycat.resource import Resource
from copycat.testing import LocalClient
from tests.resource.harness import Replicas, connect

RESOURCE_ID = 3  # of the first resource: the log begins with the types, a session and its creation
TURNS = 20  # more than anything here takes once nothing more happens
PATH = "the one"

R = TypeVar("R", bound=Resource)


async def turns(count: int = TURNS) -> None:
    """Let whatever is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def handles(replicas: Replicas, kind: type[R], count: int) -> list[R]:
    """Handles on the one resource, each in a process of its own."""
    return [await (await connect(replicas)).create(PATH, kind) for _ in range(count)]


def client(handle: Resource) -> LocalClient:
    """The session a handle stands on, to suspend, lose or expire."""
    session = handle.session
    assert isinstance(session, LocalClient)
    return session


def machine(replicas: Replicas) -> Any:
    """The state machine of the one resource."""
    return replicas.replicas[0].machine(RESOURCE_ID)


def waiting(replicas: Replicas) -> list[int]:
    """The sessions in line, in order; the holder's is not in it."""
    return [claim.session.id for claim in machine(replicas)._line.values()]


def holder(replicas: Replicas) -> int | None:
    """The session that holds."""
    claim = machine(replicas)._holder
    return None if claim is None else claim.session.id


def assert_nothing_is_left(replicas: Replicas, *claimants: Any) -> None:
    """Nobody holds, nobody waits, no timer runs, and the handles remember nothing."""
    assert (holder(replicas), waiting(replicas)) == (None, [])
    assert len(replicas.replicas[0].clockwork.timers) == 0
    for claimant in claimants:
        assert (claimant._claims, claimant._grants) == ({}, {})


def call_first(future: Any, first: Callable[[Any], object]) -> None:
    """Call `first` when the future is done, before those who wait for it already."""
    callbacks = list(future._callbacks or ())
    for callback, _ in callbacks:
        future.remove_done_callback(callback)
    future.add_done_callback(first)
    for callback, context in callbacks:
        future.add_done_callback(callback, context=context)


async def for_ever(term: Term) -> None:
    await asyncio.get_running_loop().create_future()


async def running(
    election: DistributedLeaderElection, function: Callable[[Term], Awaitable[Any]] = for_ever
) -> asyncio.Task[Any]:
    """`run(function)` under way: the function has begun, or this waits to be elected."""
    task = asyncio.ensure_future(election.run(function))
    await turns()
    return task


async def stopped(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
