"""Members that join, are given a vote, lose it, leave; and leaders that let others lead. Protocol §8.1."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from copycat.errors import ConfigurationError, ForeignDirectoryError, IndeterminateError, NoLeaderError
from copycat.io.storage.storage import KIBIBYTE, MEBIBYTE
from copycat.raft.client.client import RaftClient
from copycat.raft.inquiry.changes import change_members
from copycat.raft.protocol.configuration import Change, ChangeOutcome, ChangeRequest
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.util.address import Address
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, add, get, put

MOMENT = 0.3


class Growing(Cluster):
    """Starts with its first `size` members; d to g are there to join."""

    def __init__(self, size: int = 3, **options: Any) -> None:
        super().__init__(7, faulty=True, **options)
        self.first = list(self.members)[:size]

    async def __aenter__(self) -> "Growing":
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in self.first:
                    tasks.create_task(self.open(name))
        except BaseException:
            await self.close()
            raise
        return self

    async def open(self, name: str, **options: Any) -> None:
        """Open one of the first members, or one again."""
        await self.new_server(name, members=[self.members[each] for each in self.first], **options).open()

    async def join(self, name: str, **options: Any) -> None:
        """Let another member join through those that are up, and wait until it knows a leader."""
        known = [self.members[each] for each in (*self.servers, name)]
        await self.new_server(name, members=known, join=True, **options).open()

    async def ask(self, change: Change, name: str, *, timeout: float = 5.0, incarnation: bytes = b"") -> ChangeOutcome:
        addresses = [Address(self.members[each].host, self.members[each].port) for each in self.servers]
        asked = ChangeRequest(change, name, incarnation)
        return await change_members(self.network.transport("operator"), addresses, asked, timeout)

    def roles(self) -> dict[str, str]:
        return {name: self.status(name).role for name in sorted(self.servers)}

    async def voting(self, *names: str) -> None:
        """Wait until exactly these have a vote, as all of them see it."""

        def is_so() -> bool:
            seen = [server.driver.raft.voters for server in self.servers.values() if server.driver is not None]
            return len(seen) == len(self.servers) and all(voters == names for voters in seen)

        await wait_until(is_so)


def terms(cluster: Cluster) -> int:
    return max(cluster.status(name).term for name in cluster.servers)


# -- joining -----------------------------------------------------------------------------------------------------------


async def test_a_member_joins_is_brought_level_and_has_a_vote() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        for number in range(50):
            await put(client, "k", number)
        await cluster.join("d")
        await cluster.voting("a", "b", "c", "d")
        await cluster.level()
        assert cluster.machines["d"].values == {"k": 49}
        await cluster.join("e")
        await cluster.voting("a", "b", "c", "d", "e")
        await cluster.stop(*cluster.others(await cluster.elected())[:2])
        await cluster.elected()  # three of five are left
        assert await put(client, "k", 50) == 49


async def test_clients_learn_of_members_that_joined() -> None:
    async with Growing(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        for name in "bc":
            await cluster.join(name)
        await cluster.voting("a", "b", "c")
        await cluster.stop("a")
        await cluster.elected()
        assert await put(client, "k", 2) == 1


async def test_a_member_without_a_vote_has_the_state_and_answers_serializable_reads() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.join("d", vote=False)
        await cluster.level()
        await cluster.voting("a", "b", "c")
        assert cluster.roles()["d"] == "passive"
        reader = await cluster.client("reader", to=["d"])
        queries = cluster.machines["d"].queries
        await wait_until(lambda: cluster.status("d").leader)
        assert await get(reader, "k", ConsistencyLevel.SERIALIZABLE) == 1
        await put(reader, "k", 2)
        await cluster.level()
        assert await get(reader, "k", ConsistencyLevel.SERIALIZABLE) == 2
        assert cluster.machines["d"].queries > queries
        await cluster.ask(Change.PROMOTE, "d")
        await cluster.voting("a", "b", "c", "d")
        await cluster.ask(Change.DEMOTE, "d")
        await cluster.voting("a", "b", "c")


async def test_a_member_joins_where_the_log_no_longer_reaches_back_to_the_beginning() -> None:
    cluster = Growing()
    cluster.storage_options = {"snapshot_log_size": 64 * KIBIBYTE, "max_segment_size": MEBIBYTE}
    async with cluster:
        client = await cluster.client()
        while min(cluster.status(name).first_index for name in cluster.servers) == 1:
            await put(client, "k", "x" * 16 * KIBIBYTE)
        await cluster.join("d")
        await cluster.voting("a", "b", "c", "d")
        await cluster.level()
        assert cluster.status("d").first_index > 1
        await cluster.stop("d")
        await cluster.join("d")  # which it has: it goes by its directory
        await cluster.level()
        assert cluster.roles()["d"] in ("follower", "leader")


async def test_a_member_that_stops_before_it_has_the_vote_it_joined_for_gets_it_after_its_next_start() -> None:
    async with Growing() as cluster:
        server = cluster.new_server("d", members=[cluster.members[each] for each in "abcd"], join=True)
        opening = asyncio.ensure_future(server.open())
        await wait_until(lambda: server.identity.awaits_vote if server.driver is not None else False)
        await cluster.crash("d", chooser=random.Random(1))
        await asyncio.wait([opening])
        await cluster.voting("a", "b", "c")
        again = cluster.new_server("d", members=[cluster.members["d"]])
        await again.open()
        await cluster.voting("a", "b", "c", "d")

        await cluster.ask(Change.DEMOTE, "d")
        await cluster.stop("d")
        await cluster.new_server("d", members=[cluster.members["d"]]).open()
        await cluster.level()
        await cluster.voting("a", "b", "c")  # whose vote was taken does not ask for another


async def test_a_member_is_not_promoted_before_it_is_level() -> None:
    async with Growing() as cluster:
        await cluster.join("d", vote=False)
        await cluster.stop("d")
        await wait_until(lambda: not cluster.servers["a"]._peers.is_up("d"))  # type: ignore[union-attr]  # it is open
        with pytest.raises(NoLeaderError, match="d is not"):
            await cluster.ask(Change.PROMOTE, "d", timeout=MOMENT)


@pytest.mark.parametrize("problem", ["another incarnation", "an address that is taken"])
async def test_what_cannot_join_is_told_why_and_what_to_do(problem: str) -> None:
    async with Growing() as cluster:
        if problem == "another incarnation":
            with pytest.raises(ConfigurationError, match="knows another a: remove it, then join under another id"):
                await cluster.ask(Change.ADD, str(cluster.members["a"]), incarnation=b"x" * 16)
        else:
            text = str(cluster.members["a"]).replace("a=", "z=")
            with pytest.raises(ConfigurationError, match="another member is at 127"):
                await cluster.ask(Change.ADD, text, incarnation=b"x" * 16)
        assert len(cluster.status("a").members) == 3


async def test_a_used_id_never_returns() -> None:
    async with Growing() as cluster:
        await cluster.join("d")
        await cluster.voting("a", "b", "c", "d")
        await cluster.ask(Change.REMOVE, "d")
        await wait_until(lambda: cluster.fatal["d"])
        await cluster.stop("d")
        cluster.disks.pop("d")
        server = cluster.new_server("d", members=[cluster.members[each] for each in "abcd"], join=True)
        with pytest.raises(ConfigurationError, match="was a member once and was removed"):
            await server.open()
        await cluster.stop("d")


async def test_a_directory_of_another_cluster_does_not_join() -> None:
    async with Growing() as cluster:
        await cluster.new_server("d", members=[cluster.members["d"]]).open()
        await cluster.stop("d")
        with pytest.raises(ForeignDirectoryError, match=r"d's directory belongs to cluster \w+ of d, and a="):
            await cluster.join("d")
        await cluster.stop("d")
        assert len(cluster.status("a").members) == 3


async def test_a_member_whose_arguments_name_only_who_has_left_starts_again() -> None:
    async with Growing(1) as cluster:
        await cluster.join("d")
        await cluster.voting("a", "d")
        await cluster.servers["a"].leave()
        await cluster.stop("a")
        await cluster.stop("d")
        await cluster.new_server("d", members=[cluster.members["a"], cluster.members["d"]], join=True).open()
        await cluster.voting("d")


# -- leaving -----------------------------------------------------------------------------------------------------------


async def test_a_member_that_is_removed_is_told_and_ends_and_is_refused_afterwards() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        gone, stays = cluster.others(leader)
        await cluster.ask(Change.REMOVE, gone)
        await wait_until(lambda: cluster.fatal[gone])
        (error,) = cluster.fatal[gone]
        assert isinstance(error, ForeignDirectoryError)
        assert f"{gone} was removed from cluster" in str(error)
        await put(client, "k", 1)
        await cluster.stop(gone)
        assert sorted(cluster.status(stays).members) == sorted([leader, stays])

        cluster.fatal[gone].clear()
        with pytest.raises((ForeignDirectoryError, NoLeaderError)):
            await cluster.open(gone)
        await wait_until(lambda: cluster.fatal[gone] or gone not in cluster.servers)


async def test_a_leader_that_is_removed_lets_another_lead_at_once() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        leader = await cluster.elected()
        await cluster.ask(Change.REMOVE, leader)
        await wait_until(lambda: cluster.fatal[leader])
        assert await put(client, "k", 2) == 1
        await cluster.stop(leader)
        assert await cluster.elected() != leader


async def test_a_member_leaves_by_itself() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        one, other = cluster.others(leader)
        await cluster.servers[one].leave()
        await cluster.servers[leader].leave()
        for name in (one, leader):
            assert not cluster.fatal[name]
            await cluster.stop(name)
        await cluster.voting(other)
        assert await put(client, "k", 1) is None
        with pytest.raises(ConfigurationError, match="only member with a vote"):
            await cluster.servers[other].leave()
        assert await put(client, "k", 2) == 1


async def test_what_is_so_already_is_done() -> None:
    async with Growing() as cluster:
        await cluster.join("d", vote=False)
        first = await cluster.ask(Change.PROMOTE, "d")
        again = await cluster.ask(Change.PROMOTE, "d")
        assert first.index == again.index > 0
        await cluster.ask(Change.REMOVE, "d")
        await cluster.ask(Change.REMOVE, "d")
        with pytest.raises(ConfigurationError, match="there is no member x"):
            await cluster.ask(Change.REMOVE, "x")


async def test_a_change_without_a_majority_is_not_said_to_have_failed() -> None:
    async with Growing() as cluster:
        leader = await cluster.elected()
        cluster.network.separate([leader, "operator"], cluster.others(leader))
        with pytest.raises(IndeterminateError, match="not known whether it was done"):
            await cluster.ask(Change.REMOVE, cluster.others(leader)[0], timeout=MOMENT)
        cluster.network.heal()
        await cluster.elected()


@asynccontextmanager
async def pending(cluster: Growing, change: Change) -> AsyncIterator[tuple[str, str]]:
    """A change of the first of two followers, which nobody can commit meanwhile; the names of both."""
    one, other = cluster.others(await cluster.elected())
    for name in (one, other):
        cluster.hold_syncs(name)
    with pytest.raises(IndeterminateError, match="not known whether it was done"):
        await cluster.ask(change, one, timeout=MOMENT)
    yield one, other
    for name in (one, other):
        cluster.disks[name].release_syncs()


async def test_a_second_change_is_refused_while_one_is_pending() -> None:
    async with Growing() as cluster:
        async with pending(cluster, Change.DEMOTE) as (_, other):
            with pytest.raises(NoLeaderError, match=r"the change at index \d+ is not committed yet"):
                await cluster.ask(Change.DEMOTE, other, timeout=MOMENT)
        await cluster.elected()


async def test_a_refusal_that_rests_on_a_change_which_may_be_taken_back_is_not_final() -> None:
    async with Growing() as cluster:
        async with pending(cluster, Change.REMOVE) as (one, _):
            with pytest.raises(NoLeaderError, match=f"there is no member {one}"):
                await cluster.ask(Change.PROMOTE, one, timeout=MOMENT)
        await wait_until(lambda: cluster.fatal[one])
        with pytest.raises(ConfigurationError, match=f"there is no member {one}"):
            await cluster.ask(Change.PROMOTE, one)


# -- after a restart ---------------------------------------------------------------------------------------------------


async def test_members_are_known_at_the_next_start_whatever_it_is_told() -> None:
    async with Growing(1) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        await cluster.join("b")
        await cluster.join("c")
        await cluster.voting("a", "b", "c")
        await cluster.stop(*list(cluster.servers))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cluster.open("a"))
            for name in "bc":
                tasks.create_task(cluster.new_server(name, members=[cluster.members[name]]).open())
        assert await get(client, "k") == 1
        await cluster.voting("a", "b", "c")


# -- handing over ------------------------------------------------------------------------------------------------------


async def test_leadership_goes_to_whom_it_is_given() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        leader = await cluster.elected()
        heir = cluster.others(leader)[1]
        before = terms(cluster)
        await cluster.servers[leader].transfer_leadership(heir)
        assert await cluster.elected() == heir
        assert terms(cluster) == before + 1
        assert await put(client, "k", 2) == 1
        with pytest.raises(NoLeaderError, match="does not lead"):
            await cluster.servers[leader].transfer_leadership()
        with pytest.raises(ConfigurationError, match="cannot lead next"):
            await cluster.servers[heir].transfer_leadership("z")


async def test_an_operator_has_leadership_transferred() -> None:
    async with Growing() as cluster:
        leader = await cluster.elected()
        heir = cluster.others(leader)[0]
        await cluster.ask(Change.TRANSFER, heir)
        await wait_until(lambda: cluster.leader() == heir)
        await cluster.ask(Change.TRANSFER, heir)
        with pytest.raises(ConfigurationError, match="x cannot lead"):
            await cluster.ask(Change.TRANSFER, "x")


async def test_a_leader_that_closes_hands_over_and_writes_wait_for_no_election_timeout() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        leader = await cluster.elected()
        before = terms(cluster)
        await cluster.stop(leader)
        await cluster.elected()
        assert terms(cluster) == before + 1
        assert await put(client, "k", 1) == 0


async def test_a_leader_that_nobody_can_follow_keeps_leading() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        leader = await cluster.elected()
        cluster.network.separate([leader, "client"], cluster.others(leader))
        with pytest.raises(NoLeaderError, match="still leads"):
            await cluster.servers[leader].transfer_leadership(timeout=0.1)
        cluster.network.heal()
        await cluster.elected()
        assert await put(client, "k", 1) is None


async def test_commands_called_while_leadership_is_handed_over_are_done_once() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        calls = [add(client, 1) for _ in range(200)]
        for _ in range(4):
            await cluster.servers[await cluster.elected()].transfer_leadership()
            calls += [add(client, 1) for _ in range(200)]
        assert await asyncio.gather(*calls) == list(range(1, 1001))


# -- all of it ---------------------------------------------------------------------------------------------------------


async def test_every_member_is_replaced_under_load_and_nothing_is_lost_or_doubled() -> None:
    async with Growing() as cluster:
        client = await cluster.client()
        done: list[int] = []
        load = asyncio.ensure_future(keep_adding(client, done))
        for old, new in zip("abc", "def", strict=True):
            await cluster.join(new)
            await wait_until(lambda: new in cluster.servers and is_voter(cluster, new))  # noqa: B023 – awaited in this turn
            await cluster.servers[old].leave()
            await cluster.stop(old)
        await cluster.voting("d", "e", "f")
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        total = await add(client, 0)
        assert done == list(range(1, len(done) + 1))
        assert total in (len(done), len(done) + 1)
        assert not any(cluster.fatal.values())


async def keep_adding(client: RaftClient, done: list[int]) -> None:
    while True:
        done.append(await add(client, 1))


def is_voter(cluster: Growing, name: str) -> bool:
    driver = cluster.servers[name].driver
    return driver is not None and driver.raft.is_voter
