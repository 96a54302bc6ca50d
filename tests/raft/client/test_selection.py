"""Which server a client prefers, and how patiently it dials."""

import random

import pytest

from copycat.errors import ClosedError, ConfigurationError, ConnectError
from copycat.raft.client.client import RaftClient
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.client.states import ClientState
from tests.raft.client.loops import Cluster, now, reach, say, turn, virtual

NAMES = {name: f"{name}:1" for name in "abc"}


def lead(cluster: Cluster, name: str, term: int = 1) -> None:
    """From now on the servers name `name` as leader, and say so."""
    cluster.model.leader, cluster.model.term, cluster.model.members = name, term, NAMES
    for host in cluster.hosts.values():
        host.announce()


@virtual
async def test_one_that_prefers_the_leader_finds_it_and_follows_the_next_one() -> None:
    async with Cluster("abc") as cluster:
        lead(cluster, "b")
        for seed in range(6):
            client = await cluster.client(seed=seed, selection=ServerSelection.LEADER)
            await say(client, f"x{seed}")
            assert client.connected_to == "b"
            await client.close()
        client = await cluster.client(selection=ServerSelection.LEADER)
        await say(client, "y")
        lead(cluster, "c", term=2)
        await turn()
        assert await say(client, "z") is not None
        assert client.connected_to == "c"


@virtual
async def test_one_that_prefers_followers_leaves_the_leader() -> None:
    async with Cluster("abc") as cluster:
        lead(cluster, "a")
        for seed in range(6):
            client = await cluster.client(seed=seed, selection=ServerSelection.FOLLOWERS)
            await say(client, f"x{seed}")
            assert client.connected_to in ("b", "c")
            await client.close()


@virtual
async def test_a_wish_that_cannot_be_fulfilled_leaves_any_server_and_is_not_tried_over_and_over() -> None:
    async with Cluster("ab") as cluster:
        await cluster.hosts["b"].close()
        lead(cluster, "b")
        client = await cluster.client(selection=ServerSelection.LEADER)
        for number in range(3):
            cluster.a.announce()
            await say(client, f"x{number}")
        assert client.connected_to == "a"
        assert cluster.a.callers <= 2


@virtual
async def test_once_means_that_each_server_is_tried_once_and_then_the_client_gives_up() -> None:
    async with Cluster("ab") as cluster:
        for host in cluster.hosts.values():
            await host.close()
        client = cluster.new_client(strategy=ConnectionStrategy.ONCE)
        started = now()
        with pytest.raises(ConnectError, match=r"each server was tried once: no server answered\. a:1: .*; b:1: "):
            await client.open(timeout=60)
        assert now() - started < 0.1


@virtual
async def test_once_holds_for_a_connection_that_is_lost_too() -> None:
    async with Cluster("a") as cluster:
        client = await cluster.client(strategy=ConnectionStrategy.ONCE)
        await say(client, "x")
        await cluster.a.close()
        cluster.a.hang_up()
        await reach(client, ClientState.CLOSED)
        with pytest.raises(ClosedError):
            say(client, "y")


@virtual
async def test_fibonacci_waits_one_one_two_three_seconds_and_so_on() -> None:
    delays = ConnectionStrategy.FIBONACCI_BACKOFF.delays(random.Random(1))
    assert [delays.next_delay() for _ in range(9)] == [1, 1, 2, 3, 5, 8, 13, 13, 13]
    delays.reset()
    assert delays.next_delay() == 1
    async with Cluster("a") as cluster:
        await cluster.a.close()
        client = cluster.new_client(strategy=ConnectionStrategy.FIBONACCI_BACKOFF)
        started = now()
        with pytest.raises(ConnectError):
            await client.open(timeout=3.5)
        assert now() - started == pytest.approx(3.5)


@pytest.mark.parametrize("option", ["selection", "strategy"])
def test_what_is_no_choice_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is one of .*, not 'nearest'"):
        RaftClient("a:1", **{option: "nearest"})  # type: ignore[arg-type]  # the point
