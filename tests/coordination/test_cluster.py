"""Locks and elections on real servers: who is cut off lets go before another is let in, and who returns gives back."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from copycat.coordination import DistributedLeaderElection, DistributedLock, DistributedTopic, Term
from copycat.errors import LockLostError, NotHeldError, ThreadError
from copycat.handle import Copycat
from copycat.raft.client.client import RaftClient
from copycat.raft.client.states import ClientState, Recovery
from copycat.replica import make_server
from copycat.resource import Resource
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster

R = TypeVar("R", bound=Resource)

SESSION_SECONDS = 0.5
PAIRS, ROUNDS = 10, 5


async def handle(cluster: Cluster, name: str, path: str, kind: type[R], session_timeout: float = 60.0) -> R:
    """A handle in a program by that name."""
    client = cluster.new_client(name, session_timeout=session_timeout)
    return await (await Copycat(client).open()).create(path, kind)


def client(of: Resource) -> RaftClient:
    session = of.session
    assert isinstance(session, RaftClient)
    return session


def cut(cluster: Cluster, *names: str) -> None:
    """Nothing gets from or to these programs."""
    cluster.network.separate(names, cluster.members)


async def for_ever(_: Any = None) -> None:
    await asyncio.get_running_loop().create_future()


# -- cut off -----------------------------------------------------------------------------------------------------------


async def hold_until_lost(lock: DistributedLock, diary: list[str], held: asyncio.Event) -> None:
    try:
        async with lock.hold():
            diary.append("held")
            held.set()
            try:
                await for_ever()
            finally:
                diary.append("cancelled")
    except LockLostError:
        diary.append("lost")


async def hold_next(lock: DistributedLock, diary: list[str]) -> None:
    async with lock.hold():
        diary.append("granted to the next")


@pytest.mark.slow
async def test_a_holder_that_is_cut_off_has_let_go_before_the_next_is_let_in() -> None:
    """Fifty of fifty: ten at a time."""
    async with Cluster(3, make=make_server) as cluster:
        await cluster.elected()
        for round_number in range(ROUNDS):
            diaries: list[list[str]] = [[] for _ in range(PAIRS)]
            tasks = []
            names = []
            for number, diary in enumerate(diaries):
                path = f"{round_number}/{number}"
                names.append(f"holder {path}")
                holding = await handle(cluster, names[-1], path, DistributedLock, SESSION_SECONDS)
                held = asyncio.Event()
                tasks.append(asyncio.create_task(hold_until_lost(holding, diary, held)))
                await held.wait()
                following = await handle(cluster, f"next {path}", path, DistributedLock)
                tasks.append(asyncio.create_task(hold_next(following, diary)))
            cut(cluster, *names)
            await asyncio.gather(*tasks)
            cluster.network.heal()

            assert diaries == [["held", "cancelled", "lost", "granted to the next"]] * PAIRS


async def test_a_lock_that_its_holder_counts_as_lost_is_given_back_when_the_session_proves_alive() -> None:
    async with Cluster(3, make=make_server) as cluster:
        holding = await handle(cluster, "holder", "lock", DistributedLock, SESSION_SECONDS)
        following = await handle(cluster, "next", "lock", DistributedLock)
        session = client(holding).session_id
        token = await holding.lock()
        granted = following.lock()
        losses: list[bool] = []
        client(holding).on_loss(lambda loss: losses.append(loss.is_over))
        for member in cluster.members:  # the keep-alives arrive, and their answers do not
            cluster.network.cut.add((member, "holder"))
        await wait_until(lambda: losses)
        assert not granted.done()
        cluster.network.heal()

        assert await granted > token
        assert (losses, client(holding).session_id, client(holding).is_lost) == ([False], session, False)
        with pytest.raises(LockLostError, match="no contact with a majority"):
            holding.unlock()


async def test_a_session_that_is_cut_off_is_in_doubt_before_it_is_lost() -> None:
    async with Cluster(3, make=make_server) as cluster:
        lock = await handle(cluster, "holder", "lock", DistributedLock)
        async with lock.hold() as held:
            assert (held.in_doubt, held.lost) == (False, False)
            for member in cluster.members:
                cluster.network.break_links("holder", member)
            cut(cluster, "holder")
            await wait_until(lambda: held.in_doubt)
            assert not held.lost
            cluster.network.heal()
            await wait_until(lambda: not held.in_doubt)
            held.check()


# -- leaders that are lost ---------------------------------------------------------------------------------------------


async def test_locks_terms_and_places_in_line_outlive_the_leader_of_the_cluster() -> None:
    async with Cluster(3, faulty=True, make=make_server) as cluster:
        leader = await cluster.elected()
        lock = await handle(cluster, "one", "lock", DistributedLock)
        other = await handle(cluster, "two", "lock", DistributedLock)
        election = await handle(cluster, "three", "election", DistributedLeaderElection)
        terms: list[Term] = []

        async def lead(term: Term) -> None:
            terms.append(term)
            await for_ever()

        leading = asyncio.create_task(election.run(lead))
        async with lock.hold() as held:
            waiting = other.lock()
            await wait_until(lambda: terms)
            await cluster.stop(leader)
            await cluster.elected()
            assert await election.is_leader(terms[0].epoch)
            assert await other.is_locked()
            assert not waiting.done()
            held.check()
        assert await waiting > held.token
        assert len(terms) == 1
        leading.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_increments_under_a_lock_are_never_lost_while_leaders_and_holders_come_and_go(seed: int) -> None:
    """Each holder reads the last number a topic was told, and publishes the next: two at a time would repeat one."""
    async with Cluster(3, faulty=True, make=make_server) as cluster:
        numbers: list[int] = []
        register = await handle(cluster, "register", "numbers", DistributedTopic)
        await register.on_message(numbers.append)
        workers = [
            (
                await handle(cluster, f"worker {number}", "lock", DistributedLock),
                await handle(cluster, f"writer {number}", "numbers", DistributedTopic),
            )
            for number in range(4)
        ]

        async def work(lock: DistributedLock, topic: DistributedTopic[int]) -> None:
            heard: list[int] = []
            await topic.on_message(heard.append)
            for _ in range(15):
                async with lock.hold() as held:
                    await topic.publish(-held.token)  # what came before has been heard when this is answered
                    newest = max([number for number in heard if number > 0], default=0)
                    await topic.publish(newest + 1)

        async with asyncio.TaskGroup() as tasks:
            for lock, topic in workers:
                tasks.create_task(work(lock, topic))
            await wait_until(lambda: len(numbers) > 20)
            leader = await cluster.elected()
            await cluster.stop(leader)
            await wait_until(lambda: len(numbers) > 40)
            await cluster.start(leader)
            for _ in range(seed):
                cluster.network.break_links("worker 1", await cluster.elected())
        await wait_until(lambda: len(numbers) == 120)

        counted = [number for number in numbers if number > 0]
        tokens = [-number for number in numbers if number < 0]
        assert sorted(set(counted)) == counted
        assert tokens == sorted(set(tokens))


async def test_an_election_goes_to_the_next_when_the_leader_s_program_closes() -> None:
    async with Cluster(3, make=make_server) as cluster:
        first = await handle(cluster, "one", "election", DistributedLeaderElection)
        second = await handle(cluster, "two", "election", DistributedLeaderElection)
        epochs: list[int] = []
        await first.on_election(epochs.append)
        await wait_until(lambda: epochs)
        await second.on_election(epochs.append)
        await client(first).close()

        await wait_until(lambda: len(epochs) == 2)
        assert epochs[0] < epochs[1]
        with pytest.raises(NotHeldError):
            second.resign(epochs[0])


async def test_everything_that_waits_ends_when_the_client_closes() -> None:
    async with Cluster(3, make=make_server) as cluster:
        lock = await handle(cluster, "one", "lock", DistributedLock)
        other = await handle(cluster, "two", "lock", DistributedLock)
        topic = await handle(cluster, "two", "topic", DistributedTopic)

        async def iterate() -> None:
            async for _ in topic.messages():
                pass

        async def hold() -> None:
            async with other.hold():
                await for_ever()

        await lock.lock()
        tasks = [asyncio.create_task(each) for each in (iterate(), hold(), hold())]
        await wait_until(lambda: len(other._claims) == 2)
        await client(other).close()
        await client(topic).close()

        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["ClosedError"] * 3


async def test_a_client_that_closes_with_its_session_ends_everything_that_waits() -> None:
    async with Cluster(3, make=make_server) as cluster:
        lock = await handle(cluster, "one", "lock", DistributedLock)
        strict = cluster.new_client("strict", session_timeout=SESSION_SECONDS, recovery=Recovery.CLOSE)
        cc = await Copycat(strict).open()
        other = await cc.create("lock", DistributedLock)
        election = await cc.create("election", DistributedLeaderElection)
        await lock.lock()
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(other.lock()),
            asyncio.create_task(election.run(for_ever)),
        ]
        await wait_until(lambda: election._grants)
        cut(cluster, "strict")
        await wait_until(lambda: strict.is_lost)
        following = await handle(cluster, "three", "election", DistributedLeaderElection)
        async with following.lead():  # so the cluster has ended the session
            cluster.network.heal()

        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["ClosedError"] * 2
        assert strict.state is ClientState.CLOSED


async def test_another_thread_is_refused_and_leaves_nothing_behind() -> None:
    async with Cluster(3, make=make_server) as cluster:
        lock = await handle(cluster, "one", "lock", DistributedLock)
        election = await handle(cluster, "one", "election", DistributedLeaderElection)
        topic = await handle(cluster, "one", "topic", DistributedTopic)
        token = await lock.lock()
        calls: list[Callable[[], object]] = [
            lock.lock,
            lock.try_lock,
            lock.unlock,
            lock.is_locked,
            lambda: election.on_election(print),
            lambda: election.is_leader(1),
            lambda: topic.publish("one"),
            lambda: topic.on_message(print),
        ]
        for call in calls:
            with pytest.raises(ThreadError):
                await asyncio.to_thread(call)

        assert (lock._claims, election._claims, len(topic._messages)) == ({}, {}, 0)
        assert len(election._candidacy._listeners) == 0
        await lock.unlock(token)
        assert not await lock.is_locked()
