"""Members that start again at another address, and how the others find them: protocol §2.4."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from copycat.errors import HandshakeError
from copycat.raft.core.events import ChangeProposed, Event
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.configuration import FORMER_MAX, Configuration
from copycat.raft.protocol.handshake import Hello
from copycat.raft.protocol.lives import Life
from copycat.raft.protocol.members import Member
from copycat.raft.server.contacts import propose_moves
from copycat.raft.server.directory import read_membership
from copycat.raft.server.identity import Identity
from copycat.raft.server.places import Places
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.caller import call
from tests.raft.server.cluster import Cluster, get, put

A, B, C = (Member(name, f"h{name}", 1) for name in "abc")
C2, C3 = Member("c", "hc", 2), Member("c", "hc", 3)


def configured(*members: Member) -> Configuration:
    return Configuration(
        cluster_id=b"x",
        members=[str(member) for member in members],
        incarnations={member.id: member.id.encode() for member in members},
    )


THREE = configured(A, B, C)


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_a_member_that_has_moved_is_recorded_where_it_is_with_where_it_was() -> None:
    moved = THREE.moved({"c": C2, "b": B})
    assert moved.all_members == [A, B, C2]
    assert moved.former == {"c": ["hc:1"]}
    assert moved.moved({"c": C}).former == {"c": ["hc:2"]}
    assert moved.without("c").former == {}
    assert moved.promoted("a").former == moved.former


def test_nothing_is_recorded_of_who_has_not_moved_or_is_no_member() -> None:
    assert THREE.moved({"c": C, "d": Member("d", "hd", 1)}) is THREE


def test_members_may_change_places_but_never_be_at_one() -> None:
    assert THREE.moved({"c": Member("c", "hb", 1)}) is THREE
    changed = THREE.moved({"c": Member("c", "hb", 1), "b": Member("b", "hc", 1)})
    assert [str(member) for member in changed.all_members] == ["a=ha:1", "b=hc:1", "c=hb:1"]


def test_of_the_addresses_a_member_has_left_the_latest_are_kept() -> None:
    configuration = THREE
    for port in range(2, 2 + 2 * FORMER_MAX):
        configuration = configuration.moved({"c": Member("c", "hc", port)})
    assert len(configuration.former["c"]) == FORMER_MAX
    assert configuration.former["c"][-1] == f"hc:{2 * FORMER_MAX}"


def test_a_member_without_a_vote_moves_as_others_do() -> None:
    moved = THREE.demoted("c").moved({"c": C2})
    assert (moved.active_members, moved.passive_members) == ([A, B], [C2])


# -- where members are dialled -----------------------------------------------------------------------------------------


def dialled(places: Places) -> Member:
    return places.to_dial(A)[-1]


def test_arguments_come_before_the_log_but_not_if_the_member_has_left_there() -> None:
    places = Places()
    places.record(THREE, [])
    assert dialled(places) == C
    places.record(THREE, [C3])
    assert dialled(places) == C3
    places.record(configured(A, B, C3).moved({"c": C2}), [C3])
    assert dialled(places) == C2


def test_what_a_member_says_comes_first_if_it_says_more_than_the_log_knows() -> None:
    places = Places()
    places.record(THREE, [C3])  # by which this one reaches it
    assert places.tell("c", "hc:1")
    assert not places.tell("c", "hc:1")
    assert dialled(places) == C3
    assert places.tell("c", "hc:2")
    assert dialled(places) == C2
    places.record(THREE.moved({"c": C2}), [C])
    assert dialled(places) == C2


def test_what_a_member_said_does_not_count_any_more_once_the_log_says_that_it_has_left_there() -> None:
    places = Places()
    places.record(THREE, [])
    places.tell("c", "hc:2")
    places.record(THREE.moved({"c": C2}).moved({"c": C3}), [])
    assert dialled(places) == C3
    assert places.told == {}


def test_what_is_no_address_is_not_believed() -> None:
    places = Places()
    assert not places.tell("c", None)
    assert not places.tell("c", "nowhere")


# -- in a cluster ------------------------------------------------------------------------------------------------------


def move(cluster: Cluster, name: str, port: int) -> list[Member]:
    """The member list as it was, which the others were started with; from now on this one is elsewhere."""
    before = list(cluster.members.values())
    cluster.members[name] = Member(name, "127.0.0.1", port)
    cluster.network.names[Address("127.0.0.1", port)] = name
    return before


async def recorded(cluster: Cluster, **ports: int) -> None:
    """Wait until every member that is open goes by these ports, as recorded."""
    wanted = {name: f"127.0.0.1:{port}" for name, port in ports.items()}

    def is_so() -> bool:
        seen = [server.identity.places.recorded for server in cluster.servers.values()]
        return all({name: each[name].address for name in wanted} == wanted for each in seen)

    await wait_until(is_so)


async def test_a_member_that_starts_elsewhere_is_found_by_the_others_and_by_clients_and_recorded(
    tmp_path: Path,
) -> None:
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        moved = cluster.others(await cluster.elected())[0]
        await cluster.stop(moved)
        before = move(cluster, moved, 6001)
        await cluster.start(moved)
        await recorded(cluster, **{moved: 6001})
        await put(client, "k", 1)
        await cluster.level()
        assert cluster.machines[moved].values == {"k": 1}
        assert {cluster.status(name).members[moved] for name in cluster.servers} == {"127.0.0.1:6001"}

        # After all have started again it is known from the log, whatever arguments of before say.
        await cluster.stop()
        await client.close()
        others = [name for name in cluster.members if name != moved]
        await cluster.start(*others, members=before)
        await cluster.start(moved, members=[cluster.members[moved]])
        await cluster.level()
        await wait_until(lambda: cluster.status(others[0]).unreachable == {})
        reader = await cluster.client("reader", to=others)
        assert await get(reader, "k") == 1


async def test_a_leader_that_has_moved_records_that_itself_and_two_may_change_places(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop()
        move(cluster, "a", 6001)
        move(cluster, "b", 5003)
        move(cluster, "c", 5002)
        await cluster.start()
        await recorded(cluster, a=6001, b=5003, c=5002)
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.level()


def test_a_new_address_waits_until_no_other_change_is_under_way() -> None:
    identity = Identity(member=A, members=[A, B, C], incarnation=b"a")
    identity.places.tell("c", "hc:2")
    posted: list[Event] = []
    raft = cast(Raft, SimpleNamespace(membership=read_membership(7, THREE.encode()), commit_index=6))
    propose_moves(raft, identity, posted.append)
    assert posted == []
    raft.commit_index = 7
    propose_moves(raft, identity, posted.append)
    assert posted == [ChangeProposed(THREE.moved({"c": C2}).encode())]
    raft = cast(Raft, SimpleNamespace(membership=read_membership(8, THREE.moved({"c": C2}).encode()), commit_index=8))
    propose_moves(raft, identity, posted.append)
    assert len(posted) == 1


async def test_one_with_another_incarnation_or_an_older_start_moves_nobody(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.elected()
        identity = cluster.servers["a"].identity
        await wait_until(lambda: "b" in identity.places.told)
        latest, own = identity.lives["b"], identity.incarnations["b"]
        claim = partial(
            Hello, role="member", cluster_id=identity.cluster_id, member_id="b", places={"b": "127.0.0.1:6666"}
        )
        with pytest.raises(HandshakeError, match="b's directory is new"):
            await call(cluster, "a", claim(incarnation=b"?" * 16, lives={"b": Life(9, b"x")}))
        with pytest.raises(HandshakeError, match="another process is connected as b"):
            await call(cluster, "a", claim(incarnation=own, lives={"b": Life(9, b"x")}))
        older = Life(latest.number - 1, latest.mark)
        await call(cluster, "a", claim(incarnation=own, lives={"b": older}))
        assert identity.places.told["b"].port == 5002
