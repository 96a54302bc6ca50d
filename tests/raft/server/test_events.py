"""Events reach every session once, in order, and before the answers that follow them, whatever happens meanwhile."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from copycat.raft.client import events as client_events
from copycat.raft.client.client import RaftClient
from copycat.raft.machine import event_queues
from copycat.raft.machine.event_queues import EventQueue
from copycat.raft.protocol.state_machine import Commit, Executor, Session, StateMachine
from copycat.raft.protocol.wire import HEADER_EVENTS_AFTER, Tag
from copycat.raft.server.server import RaftServer
from tests.io.transport.support import wait_until
from tests.raft.server.caller import call, keep_alive
from tests.raft.server.cluster import Cluster

CRY, INSTANCE, HEARD = 1, 7, 9
COUNT = 400
SEEDS = pytest.mark.parametrize("seed", range(3))

Fault = Callable[[Cluster, str, random.Random], Awaitable[object]]


class Crier(StateMachine, name="test.crier"):
    """Tells every session what any of them cries, and remembers where in the log sessions ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, int, bool]] = []  # session, index, whether it did not end itself
        self._expired: set[int] = set()

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(CRY, self._cry)

    def _cry(self, commit: Commit, word: Any, times: int) -> int:
        for session in self._executor.sessions:
            for _ in range(times):
                self._executor.publish(session, INSTANCE, HEARD, word)
        return commit.index

    def expire(self, session: Session) -> None:
        self._expired.add(session.id)

    def close(self, session: Session) -> None:
        self.ended.append((session.id, self._executor.index, session.id in self._expired))


def make(member: str, members: Any, **options: Any) -> RaftServer:
    return RaftServer(member, members, machine=Crier, **options)


def machine(cluster: Cluster, name: str) -> Crier:
    driver = cluster.servers[name].driver
    assert driver is not None
    found = driver.executor.machines._host.machine  # type: ignore[attr-defined]  # a SingleMachine
    assert isinstance(found, Crier)
    return found


def queue(cluster: Cluster, name: str, session: int) -> EventQueue:
    """A session's events as a member keeps them."""
    driver = cluster.servers[name].driver
    assert driver is not None
    found = driver.executor.sessions.get(session)
    assert found is not None
    return found.events or EventQueue()


class Ear:
    """A client that hears, and cries itself."""

    def __init__(self, client: RaftClient) -> None:
        self.client = client
        self.heard: list[Any] = []
        client.listen(0, INSTANCE, lambda index, event_id, arguments: self.heard.append(arguments[0]))

    def cry(self, word: Any, times: int = 1) -> asyncio.Future[int]:
        return self.client.command(0, INSTANCE, CRY, (word, times), timeout=None, what="cry")

    async def cry_and_hear(self, word: Any) -> None:
        """Whoever has the answer has heard the event."""
        await self.cry(word)
        assert self.heard.count(word) == 1


async def ears(cluster: Cluster, *names: str, **options: Any) -> list[Ear]:
    return [Ear(await cluster.client(name, **{"session_timeout": 60.0, **options})) for name in names]


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("disk_is_never_slow")
async def test_events_leave_with_the_answers_before_the_disk_is_waited_for() -> None:
    async with Cluster(3, make=make) as cluster:
        leader = await cluster.elected()
        mouth, one, two = await ears(cluster, "mouth", "one", "two", to=[leader])
        driver = cluster.servers[leader].driver
        assert driver is not None
        turns: list[str] = []
        flush, kick = driver.desk.flush, driver.flusher.kick

        def flushing() -> None:
            turns.append(f"{len(driver.desk.told)} told")
            flush()

        def kicking(*, beside: bool) -> None:
            if not beside:
                turns.append("disk")
            kick(beside=beside)

        driver.desk.flush = flushing  # type: ignore[method-assign]  # as below: this one driver is watched
        driver.flusher.kick = kicking  # type: ignore[method-assign]  # watched
        for word in range(20):
            await mouth.cry(word)
        await wait_until(lambda: len(one.heard) == len(two.heard) == 20)

    told = [at for at, what in enumerate(turns) if what.endswith("told")]
    assert {turns[at] for at in told} == {"4 told"}  # three events and an answer
    assert len(told) == 20
    assert all(turns[at + 1] == "disk" for at in told[:-1])


# -- faults ------------------------------------------------------------------------------------------------------------


async def stop_the_leader(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    await cluster.stop(leader)


async def lose_the_leader_s_power(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    await cluster.crash(leader, chooser=chooser)
    await cluster.start(leader)


async def cut_off_the_leader(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    others = cluster.others(leader)
    cluster.network.separate([leader], [*others, "one", "two", "mouth"])
    await cluster.elected(others)
    cluster.network.heal()


async def break_the_clients_connections(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    """Again and again, so that they go from server to server."""
    for _ in range(6):
        for client in ("one", "two", "mouth"):
            for member in cluster.servers:
                cluster.network.break_links(client, member)
        for _ in range(chooser.randrange(40)):
            await asyncio.sleep(0)


async def break_the_members_links(cluster: Cluster, leader: str, chooser: random.Random) -> None:
    for _ in range(4):
        for member in cluster.others(leader):
            cluster.network.break_links(leader, member)
            cluster.network.break_links(member, leader)
        for _ in range(chooser.randrange(40)):
            await asyncio.sleep(0)


@pytest.mark.slow
@SEEDS
@pytest.mark.parametrize(
    "fault",
    [
        stop_the_leader,
        lose_the_leader_s_power,
        cut_off_the_leader,
        break_the_clients_connections,
        break_the_members_links,
    ],
    ids=lambda fault: fault.__name__,
)
async def test_every_event_is_heard_once_and_in_order_across(fault: Fault, seed: int) -> None:
    chooser = random.Random(seed)
    async with Cluster(3, faulty=True, make=make) as cluster:
        leader = await cluster.elected()
        one, two, mouth = await ears(cluster, "one", "two", "mouth")
        cries = [mouth.cry(number) for number in range(COUNT // 2)]
        own = [
            asyncio.ensure_future(ear.cry_and_hear(ear.client.session_id * COUNT + number))
            for ear in (one, two)
            for number in range(20)
        ]
        for _ in range(chooser.randrange(30)):
            await asyncio.sleep(0)
        await fault(cluster, leader, chooser)
        cries += [mouth.cry(number) for number in range(COUNT // 2, COUNT)]
        await asyncio.gather(*cries, *own)
        total = COUNT + len(own)
        await wait_until(lambda: all(len(ear.heard) >= total for ear in (one, two, mouth)))

        assert one.heard == two.heard == mouth.heard
        assert len(set(one.heard)) == len(one.heard) == total
        assert [word for word in one.heard if word < COUNT] == list(range(COUNT))


# -- what the servers keep ---------------------------------------------------------------------------------------------


async def test_events_are_kept_by_every_member_until_the_client_s_acknowledgement_is_in_the_log() -> None:
    async with Cluster(3, make=make) as cluster:
        (ear,) = await ears(cluster, "ear", session_timeout=0.9)  # a keep-alive every 0.3 s
        await asyncio.gather(*(ear.cry(number) for number in range(50)))
        session = ear.client.session_id
        await cluster.level()
        newest = {queue(cluster, name, session).index for name in cluster.servers}
        assert len(newest) == 1

        await wait_until(lambda: all(queue(cluster, name, session).count == 0 for name in cluster.servers))
        assert {queue(cluster, name, session).ack for name in cluster.servers} == newest
        assert ear.heard == list(range(50))


async def test_whoever_asks_for_events_again_gets_them_on_the_connection_it_asked_on() -> None:
    async with Cluster(3, make=make) as cluster:
        leader = await cluster.elected()
        for name in (leader, cluster.others(leader)[0]):
            caller = await call(cluster, name)
            session, secret = await caller.register(nonce=name.encode() * 16)
            await Ear(await cluster.client()).cry("hear")
            event = await caller.answer(Tag.EVENTS)

            caller.send(HEADER_EVENTS_AFTER.pack(Tag.EVENTS_AFTER, session, 0))

            assert await caller.answer(Tag.EVENTS) == event
            caller.send(keep_alive(session, secret))
            await caller.answer(Tag.KEPT)
            assert not caller.connection.is_closed


async def test_many_events_are_acknowledged_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_events, "UNACKNOWLEDGED_MAX", 20)
    async with Cluster(3, make=make) as cluster:
        (ear,) = await ears(cluster, "ear")  # no keep-alive is due for twenty seconds
        session = ear.client.session_id
        await asyncio.gather(*(ear.cry(number) for number in range(30)))
        await cluster.level()  # each member knows the session

        await wait_until(lambda: all(queue(cluster, name, session).count <= 20 for name in cluster.servers))


async def test_a_client_that_reads_slowly_holds_up_nothing_and_hears_everything_in_the_end() -> None:
    async with Cluster(3, make=make) as cluster:
        await cluster.elected()
        slow, mouth = await ears(cluster, "slow", "mouth")
        server = slow.client.connected_to
        assert server is not None
        (link,) = cluster.network.links_of("slow")
        link.pause_reading()
        words = [f"{number:09}" * 10_000 for number in range(60)]
        for word in words:
            await mouth.cry(word)
        await cluster.level()
        assert slow.heard == []
        desk = cluster.servers[server].desk
        assert desk is not None
        cursor = desk.delivery._cursors[slow.client.session_id]
        assert cursor.sent < queue(cluster, server, slow.client.session_id).index  # it waits for the reader
        link.resume_reading()

        await wait_until(lambda: len(slow.heard) == len(words))
        assert slow.heard == words


async def test_a_session_with_too_many_events_ends_at_one_index_on_every_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_queues, "EVENTS_COUNT_MAX", 100)
    monkeypatch.setattr(client_events, "UNACKNOWLEDGED_MAX", 20)
    async with Cluster(3, make=make) as cluster:
        deaf, mouth = await ears(cluster, "deaf", "mouth")
        first = deaf.client.session_id
        lost: list[str] = []
        deaf.client.on_loss(lambda loss: lost.append(loss.why))
        for name in cluster.servers:
            cluster.network.cut.add((name, "deaf"))
        for number in range(12):
            await mouth.cry(number, times=10)
        await cluster.level()

        ended = [machine(cluster, name).ended for name in cluster.servers]
        assert ended[0] == ended[1] == ended[2]
        assert [(session, is_forced) for session, _, is_forced in ended[0]] == [(first, True)]
        assert mouth.client.session_id
        assert mouth.heard[-1] == 11

        cluster.network.heal()
        await asyncio.wait([deaf.cry("in the lost session")])
        await wait_until(lambda: deaf.client.session_id not in (0, first))
        assert len(lost) == 1
        await mouth.cry("again")
        await wait_until(lambda: "again" in deaf.heard)


async def test_the_events_of_one_index_that_no_frame_holds_end_the_session_and_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_queues, "EVENTS_COUNT_MAX", 1 << 20)
    async with Cluster(3, make=make) as cluster:
        one, mouth = await ears(cluster, "one", "mouth")
        first = one.client.session_id
        await asyncio.wait([mouth.cry("x" * 1_000_000, times=20)])

        await wait_until(lambda: one.client.session_id not in (0, first))
        await cluster.level()
        assert [cluster.fatal[name] for name in cluster.members] == [[]] * 3
        ended = [machine(cluster, name).ended for name in cluster.servers]
        assert ended[0] == ended[1] == ended[2]
        assert len({index for _, index, _ in ended[0]}) == 1
