"""What a server refuses at once or says plainly, and what becomes of a member that cannot go on."""

import errno
import os

import pytest

from copycat.errors import ClosedError, ConfigurationError, InvariantError, StorageError
from copycat.raft.server import fatal
from copycat.raft.server.server import RaftServer
from copycat.util.address import Address
from tests.raft.server.cluster import Cluster, Notebook

MEMBERS = "a=127.0.0.1:5001,b=127.0.0.1:5002"


@pytest.mark.parametrize(
    ("member", "options", "reason"),
    [
        ("z", {"machine": Notebook}, r"member 'z' is not in the member list a=127.0.0.1:5001, b=127.0.0.1:5002"),
        ("a", {}, r"give either machine= or machines="),
        ("a", {"machine": Notebook, "machines": Notebook}, r"give either machine= or machines="),
    ],
)
def test_a_server_that_cannot_be_is_refused_when_it_is_made(
    member: str, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        RaftServer(member, MEMBERS, **options)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("advertised", "listen", "expected"),
    [
        ("127.0.0.1:5001", None, Address("127.0.0.1", 5001)),
        ("localhost:5001", None, Address("localhost", 5001)),
        ("10.0.0.7:5001", None, Address("10.0.0.7", 5001)),
        ("db1.example.org:5001", None, Address("0.0.0.0", 5001)),  # a name that may not resolve here
        ("db1.example.org:5001", "10.0.0.7:6001", Address("10.0.0.7", 6001)),
        ("db1.example.org:5001", Address("10.0.0.7", 6001), Address("10.0.0.7", 6001)),
    ],
)
def test_it_listens_where_it_is_told_or_at_its_own_address_if_that_is_no_name(
    advertised: str, listen: str | Address | None, expected: Address
) -> None:
    server = RaftServer("a", f"a={advertised}", Notebook, listen=listen)
    assert server._listen == expected


async def test_a_server_opens_once() -> None:
    async with Cluster(1) as cluster:
        server = cluster.servers["a"]
        assert repr(server) == "<RaftServer a=127.0.0.1:5001 open>"
        with pytest.raises(ClosedError, match=r"server a is open; make a new one to open again"):
            await server.open()
        await server.close()
        await server.close()
        for wait in (server.open(), server.wait_for_leader()):
            with pytest.raises(ClosedError, match=r"server a is closed"):
                await wait
        assert server.status().last_index > 0


def test_a_server_that_was_not_opened_knows_nothing() -> None:
    server = RaftServer("a", MEMBERS, Notebook)
    with pytest.raises(ClosedError, match=r"server a is not open"):
        server.status()
    with pytest.raises(ClosedError, match=r"server a is not open"):
        _ = server.address


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), StorageError, r"member a has halted: .*Input/output error"),
        (InvariantError("time fell"), InvariantError, r"time fell"),
    ],
)
async def test_whoever_waits_for_a_leader_hears_that_the_member_has_halted(
    error: Exception, raised: type[Exception], text: str
) -> None:
    async with Cluster(1) as cluster:
        server = cluster.servers["a"]
        assert server.driver is not None
        server.driver.fail(error)
        server.driver.fail(RuntimeError("and again"))
        assert cluster.fatal["a"] == [error]
        with pytest.raises(raised, match=text):
            await server.wait_for_leader()


@pytest.mark.parametrize(
    ("error", "statuses"), [(OSError(errno.EIO, "no good"), [fatal.EXIT_STATUS]), (InvariantError("time fell"), [])]
)
def test_a_failed_disk_ends_the_process_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, statuses: list[int]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    fatal.end_process(error)
    assert ended == statuses
