"""A member whose directory was put back from a copy, or that is started twice: protocol §2.8."""

import logging
import shutil
from pathlib import Path

import pytest

from copycat.errors import NoLeaderError
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.message_wire import decode_message
from copycat.raft.protocol.messages import PollResponse, VoteResponse
from copycat.raft.protocol.wire import Tag
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, get, put
from tests.raft.server.network import Link

MOMENT = 0.3  # how long to wait for a leader that cannot come


class Grants:
    """Sees every poll and vote that a member grants, on the wire."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        inner = Link.send

        def send(link: Link, frame: bytes) -> None:
            if frame[0] in (Tag.VOTE_RESPONSE, Tag.POLL_RESPONSE):
                message = decode_message(frame)
                if isinstance(message, VoteResponse | PollResponse) and message.granted:
                    self.seen.append(link.source)
            inner(link, frame)

        monkeypatch.setattr(Link, "send", send)


def copy(tmp_path: Path, name: str) -> None:
    shutil.copytree(tmp_path / name, tmp_path / f"copy-of-{name}")


def put_back(tmp_path: Path, name: str) -> None:
    shutil.rmtree(tmp_path / name)
    shutil.copytree(tmp_path / f"copy-of-{name}", tmp_path / name)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "older copy" in record.getMessage()]


@pytest.mark.parametrize("while_running", [False, True])
async def test_an_older_copy_is_told_so_grants_no_vote_until_it_is_refilled_and_then_counts_again(
    while_running: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = Grants(monkeypatch)
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        await cluster.level()
        old = cluster.others(await cluster.elected())[0]
        if while_running:
            copy(tmp_path, old)
        else:
            await cluster.stop(old)
            copy(tmp_path, old)
            await cluster.start(old)
        for number in range(20):
            await put(client, "k", number)
        await cluster.level()
        await cluster.stop(old)
        put_back(tmp_path, old)

        grants.seen.clear()
        with caplog.at_level(logging.WARNING):
            await cluster.start(old)
            await wait_until(lambda: cluster.status(old).role == "follower")
        assert old not in grants.seen
        (warned, *_) = warnings(caplog)
        assert warned.startswith(f"{old}: the data in {tmp_path / old} is an older copy, or lacks what was there: ")
        assert ("word for index" if while_running else "knows of a later start of") in warned
        await cluster.level()
        assert cluster.machines[old].values == {"k": 19}

        await cluster.stop(await cluster.elected())
        await cluster.elected()  # two are left, and both are needed
        assert old in grants.seen or cluster.leader() == old
        assert await put(client, "k", 20) == 19


async def test_an_older_copy_elects_nobody_with_those_who_know_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = Grants(monkeypatch)
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        await cluster.stop("c")
        copy(tmp_path, "c")
        await cluster.start("c")
        await put(client, "k", 1)
        await client.close()
        await cluster.stop()
        put_back(tmp_path, "c")
        grants.seen.clear()

        for name in ("b", "c", "c"):  # it knows after another start, too
            await cluster.stop(name)
            with pytest.raises(NoLeaderError):
                await cluster.new_server(name).open(MOMENT)
        await wait_until(lambda: cluster.status("c").role == "passive")
        with pytest.raises(NoLeaderError):
            await cluster.servers["b"].wait_for_leader(4 * cluster.config.election_timeout_ms / 1000)
        assert grants.seen == []
        assert len(warnings(caplog)) == 1

        await cluster.start("a")  # and two that forgot nothing elect
        await wait_until(lambda: cluster.status("c").role == "follower")
        await cluster.level()
        assert cluster.machines["c"].values == {"k": 1}


async def test_a_leaders_directory_put_back_makes_it_follow_and_be_refilled(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        old = await cluster.elected()
        copy(tmp_path, old)
        for number in range(20):
            await put(client, "k", number)
        await cluster.stop(old)
        put_back(tmp_path, old)
        await cluster.elected()
        await cluster.start(old)
        await wait_until(lambda: cluster.status(old).role == "follower")
        await cluster.level()
        assert cluster.machines[old].values == {"k": 19}
        assert await get(client, "k") == 19


async def test_of_two_processes_that_are_one_member_the_second_is_refused_and_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copycat.raft.server.lives.YOUNG_MS", 500)
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "k", 0)
        await cluster.level()
        copy(tmp_path, "c")
        machine, first, transport = cluster.machines["c"], cluster.servers["c"], cluster.transports["c"]
        elsewhere = [cluster.members["a"], cluster.members["b"], Member("c", "127.0.0.1", 6003)]
        twin = cluster.new_server("c", members=elsewhere, storage=cluster.storage("copy-of-c"))
        cluster.servers |= {"c": first, "twin": twin}
        cluster.transports |= {"c": transport, "twin": cluster.transports["c"]}
        with pytest.raises(NoLeaderError, match="another process is connected as c, with the same data or a copy of"):
            await twin.open(1.5)  # it knocks again and again, and the first is asked whether it lives
        assert twin.status().unreachable.keys() == {"a", "b"}
        assert first.status().leader
        for number in range(5):
            await put(client, "k", number)
        await cluster.stop("twin")
        await cluster.level()
        assert machine.values == {"k": 4}


async def test_a_start_that_did_not_get_to_speak_is_counted_and_harmless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Cluster(3, tmp_path) as cluster:
        await cluster.stop()
        for _ in range(3):
            with pytest.raises(NoLeaderError):
                await cluster.new_server("a").open(0.05)
            await cluster.stop("a")
        await cluster.start()
        assert cluster.servers["b"].identity.lives["a"].number == 5
        assert cluster.servers["a"].identity.lives["b"].number == 2
        await cluster.stop("b")
        await cluster.start("b")
        await wait_until(lambda: cluster.servers["a"].identity.lives["b"].number == 3)
        assert warnings(caplog) == []
