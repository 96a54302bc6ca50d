"""Forming a cluster, starting it again, and who is let in: protocol §2."""

import asyncio
import logging
import shutil
from functools import partial
from pathlib import Path

import pytest

from copycat.errors import ClosedError, ForeignDirectoryError, NoLeaderError
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.wire import HEADER_STATUS, Tag
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.caller import call, keep_alive
from tests.raft.server.cluster import Cluster, get, put

MOMENT = 0.3  # how long to wait for a leader that cannot come


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_members_that_hear_one_another_form_a_cluster_and_elect_one_leader(size: int) -> None:
    async with Cluster(size) as cluster:
        leader = await cluster.elected()
        statuses = [cluster.status(name) for name in cluster.servers]
        assert [status.role for status in statuses].count("leader") == 1
        assert {status.leader for status in statuses} == {leader}
        assert len({status.cluster_id for status in statuses}) == 1
        client = await cluster.client()
        assert await put(client, "k", 1) is None
        assert await get(client, "k") == 1


async def test_while_a_member_is_missing_opening_says_who_was_heard_and_who_was_not_and_why() -> None:
    cluster = Cluster(3)
    a, b = cluster.new_server("a"), cluster.new_server("b")
    with pytest.raises(NoLeaderError, match=r"not a, c: |heard a; not b: "):
        await a.open(MOMENT)
    with pytest.raises(NoLeaderError) as caught:
        await b.open(MOMENT)
    assert str(caught.value) == (
        "no leader within 0.3 s: the cluster has not formed: all 3 members must be heard once; heard a, b; "
        "not c: connection refused"
    )
    assert b.status().role == "forming"
    assert b.status().term == 0
    await cluster.close()


@pytest.mark.slow
async def test_a_server_that_was_opened_in_vain_runs_on_and_forms_when_the_last_member_comes() -> None:
    cluster = Cluster(3)
    for name in ("a", "b"):
        with pytest.raises(NoLeaderError):
            await cluster.new_server(name).open(MOMENT)
    await cluster.new_server("c").open()
    for server in cluster.servers.values():
        await server.wait_for_leader()
    await cluster.elected()
    await cluster.close()


async def test_a_block_that_is_not_entered_leaves_no_server_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Cluster(3).new_server("a")
    monkeypatch.setattr(server, "open", partial(server.open, MOMENT))
    with pytest.raises(NoLeaderError):
        async with server:
            pytest.fail("nobody leads")
    with pytest.raises(ClosedError, match="is not open"):
        _ = server.address


@pytest.mark.slow
async def test_callers_that_came_before_the_cluster_had_formed_are_served_when_it_has() -> None:
    cluster = Cluster(3)
    with pytest.raises(NoLeaderError):
        await cluster.new_server("a").open(MOMENT)
    client = cluster.new_client(to=["a"])
    opening = asyncio.create_task(client.open())
    caller, gone = await call(cluster, "a"), await call(cluster, "a")
    caller.send(keep_alive(1, b"?" * 16))  # nobody is there to read it
    caller.send(HEADER_STATUS.pack(Tag.STATUS, 7))
    assert b"forming" in await caller.answer(Tag.STATUS_ANSWER)
    gone.connection.close()
    await wait_until(lambda: cluster.network.links_of("client"))
    assert not opening.done()
    await cluster.start("b", "c")
    await opening
    assert await put(client, "k", 1) is None
    assert cluster.status("a").clients == 2
    await cluster.close()


async def test_members_given_different_lists_refuse_each_other_naming_both_lists() -> None:
    cluster = Cluster(3)
    a = cluster.new_server("a")
    b = cluster.new_server("b", members=[cluster.members["a"], cluster.members["b"]])
    for server in (b, a):
        with pytest.raises(NoLeaderError):
            await server.open(MOMENT)
    await wait_until(
        lambda: "started with" in str(a.status().why_no_leader) and "started" in str(b.status().why_no_leader)
    )
    advice = "start every member with the same list"
    assert f"not b: a was started with members a, b, c, but b with a, b: {advice}" in str(a.status().why_no_leader)
    assert f"not a: b was started with members a, b, but a with a, b, c: {advice}" in str(b.status().why_no_leader)
    assert not a.identity.is_formed
    assert not b.identity.is_formed
    await cluster.close()


async def test_a_member_found_at_anothers_address_is_not_taken_for_it() -> None:
    cluster = Cluster(3)
    a, b, c = cluster.members.values()
    crossed = cluster.new_server("a", members=[a, Member("b", c.host, c.port), Member("c", b.host, b.port)])
    with pytest.raises(NoLeaderError):
        await crossed.open(MOMENT)
    await cluster.start("b", "c")  # they find a, so the cluster forms; but a can speak to neither
    await wait_until(lambda: "answered" in crossed.status().unreachable["b"])
    assert crossed.status().unreachable["b"] == "127.0.0.1:5003 answered as 'c', not as 'b'"
    assert crossed.status().leader is None
    await cluster.close()


# -- starting again ----------------------------------------------------------------------------------------------------


async def test_all_members_start_again_and_know_what_they_knew(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        for number in range(20):
            await put(client, f"k{number}", number)
        await client.close()
        before = cluster.status("a")
        await cluster.stop()

        await cluster.start()
        after = cluster.status("a")
        assert after.cluster_id == before.cluster_id
        assert after.term > before.term
        client = await cluster.client()
        assert [await get(client, f"k{number}") for number in range(20)] == list(range(20))
        await cluster.level()
        assert len({repr(machine.values) for machine in cluster.machines.values()}) == 1


async def test_one_member_starts_again_and_catches_up(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "before", 1)
        await cluster.stop("c")
        await put(client, "meanwhile", 2)

        await cluster.start("c")
        await cluster.level()
        assert cluster.machines["c"].values == {"before": 1, "meanwhile": 2}


async def test_a_cluster_in_memory_goes_on_while_a_majority_of_it_lives() -> None:
    async with Cluster(3) as cluster:
        client = await cluster.client()
        await cluster.stop(await cluster.elected())
        await put(client, "k", 1)
        assert await get(client, "k") == 1


async def test_a_member_whose_directory_was_wiped_stops_and_says_what_to_do_and_is_refused(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop("c")
        shutil.rmtree(tmp_path / "c")

        wiped = cluster.new_server("c")
        with pytest.raises(ForeignDirectoryError) as caught:
            await wiped.open()
        known = cluster.status("a").cluster_id[:8]
        advice = f"c's directory is new, but cluster {known} knows another c: remove c, then join under a new id"
        assert str(caught.value) == advice
        assert [str(error) for error in cluster.fatal["c"]] == [advice]
        assert wiped.status().role == "halted"
        with pytest.raises(ClosedError, match="is not open"):
            _ = wiped.address  # it has let go of its port and its directory

        client = await cluster.client(to=["a", "b"])
        await put(client, "k", 1)
        assert cluster.servers["a"].identity.incarnations["c"] != wiped.identity.incarnation


@pytest.mark.slow
async def test_a_wiped_member_gives_nobody_its_vote(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop()
        shutil.rmtree(tmp_path / "c")

        a = cluster.new_server("a")
        with pytest.raises(NoLeaderError):
            await a.open(MOMENT)
        with pytest.raises(ForeignDirectoryError):
            await cluster.new_server("c").open()
        with pytest.raises(NoLeaderError, match=r"2 of 3 members are needed; reached a; not b: .*; c: "):
            await a.wait_for_leader(2 * cluster.config.election_timeout_ms / 1000)

        await cluster.start("b")  # and then there are two that remember
        await cluster.elected(["a", "b"])


# -- another list than before ------------------------------------------------------------------------------------------


async def test_once_formed_the_clusters_own_list_counts_and_another_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop()
        a, _, c = cluster.members.values()
        other = [a, c, Member("d", "127.0.0.1", 5555)]
        with caplog.at_level(logging.WARNING):
            await cluster.start("a", "c", members=other)
        warned = [record.getMessage() for record in caplog.records if "member list" in record.getMessage()]
        assert (
            warned
            == ["the member list given is not the cluster's own, which counts: d is not a member; b was left out"] * 2
        )
        assert list(cluster.status("a").members) == ["a", "b", "c"]
        await cluster.start("b")
        await cluster.level()


async def test_a_new_address_of_a_member_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop()
        moved = cluster.members["c"] = Member("c", "127.0.0.1", 6003)
        cluster.network.names[Address(moved.host, moved.port)] = "c"
        with caplog.at_level(logging.WARNING):
            await cluster.start()
        assert "c is at 127.0.0.1:6003, was at 127.0.0.1:5003" in caplog.text
        client = await cluster.client(to=["c"])
        await put(client, "k", 1)
        await cluster.level()
        assert cluster.status("a").members["c"] == "127.0.0.1:6003"
        await wait_until(lambda: cluster.status("a").unreachable == {})
