"""copycat.open and open_all: what one line opens, and what is told to whoever gets it wrong."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import copycat
from copycat import CopycatClient, CopycatReplica
from copycat.collections import DistributedMap
from copycat.errors import ClosedError, ConfigurationError, ConnectError, NoLeaderError
from copycat.io.transport import LocalRegistry, LocalTransport
from tests.raft.server.cluster import QUICK

# -- what is opened ----------------------------------------------------------------------------------------------------


async def test_without_an_argument_it_is_a_replica_in_memory_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with copycat.open() as cc:
        users = await cc.create("users", DistributedMap[str, int])
        await users.put("ann", 41)
        assert await users.get("ann") == 41
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith(
        "copycat.open() is private to this process and kept in memory: other workers will not see it. To share across "
        'hosts: copycat.open("copycat://host:5001,..."); to keep the data: copycat.open("data/")'
    )


@pytest.mark.parametrize("make", [str, Path])
async def test_a_directory_keeps_the_data(tmp_path: Path, make: Any) -> None:
    target = make(tmp_path / "data")
    async with copycat.open(target) as cc:
        await (await cc.create("users", DistributedMap[str, int])).put("ann", 41)
    async with copycat.open(target) as cc:
        assert await (await cc.get("users", DistributedMap[str, int])).get("ann") == 41


async def test_a_url_opens_a_client_of_the_servers_it_names() -> None:
    cc = copycat.open("copycat://h1:5000,h2:5000/", session_timeout=2, timeout=None)
    assert isinstance(cc, CopycatClient)
    client: Any = cc._client
    assert [member.address for member in client.members] == ["h1:5000", "h2:5000"]
    assert (client.session_timeout, client.timeout) == (2, None)


async def test_id_and_members_make_it_a_member_of_a_cluster(tmp_path: Path) -> None:
    cc = copycat.open(tmp_path, id="a", members="a=127.0.0.1:5001,b=127.0.0.1:5002", listen="127.0.0.1:6001")
    assert isinstance(cc, CopycatReplica)
    assert (cc.server.member.id, len(cc.server.members)) == ("a", 2)


async def test_it_may_be_awaited() -> None:
    cc = await copycat.open()
    assert not await cc.exists("users")
    await cc.close()


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, 5, ["data/"], b"data/"])
def test_what_is_no_target_is_refused_and_the_three_ways_are_told(target: Any) -> None:
    with pytest.raises(TypeError) as caught:
        copycat.open(target)
    assert str(caught.value) == (
        f"copycat.open() takes a directory or a copycat:// URL, not {target!r}; "
        "without an argument it opens a replica in memory"
    )


@pytest.mark.parametrize("target", ["host:5000", "h1:5000,h2:5001", "127.0.0.1:5000"])
def test_an_address_is_refused_and_written_as_it_should_be(target: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        copycat.open(target)
    assert str(caught.value) == (
        f"{target!r} looks like an address; to connect to servers write copycat.open('copycat://{target}')"
    )


@pytest.mark.parametrize("target", ["https://host:5000", "copycats://h:1", "copycat+tls://h:1"])
def test_another_url_is_no_directory(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r'to connect to servers write copycat\.open\("copycat://host:port'):
        copycat.open(target)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_looks_like_an_address_is_a_directory_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host:5000").mkdir()
    monkeypatch.chdir(tmp_path)
    for target in ("host:5000", Path("other:5000"), "./host:5000"):
        assert isinstance(copycat.open(target), CopycatReplica)


MEMBERS = "a=h:1,b=h:2"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("copycat://", {}, "the member list is empty: name at least one member"),
        ("copycat://h", {}, "member 'h' is not of the form id=host:port or host:port"),
        ("copycat://h:1,h:1", {}, "two members have the id 'h:1': every id must be listed once"),
        ("copycat://h:1", {"id": "a", "members": MEMBERS}, "id, members= is for a replica; a URL opens a client of"),
        ("copycat://h:1", {"listen": "h:1"}, "listen= is for a replica; a URL opens a client of servers elsewhere"),
        ("copycat://h:1", {"resources": [DistributedMap]}, "resources= is for a replica"),
        ("copycat://h:1", {"session_timeout": 0}, "session_timeout is a positive number of seconds, not 0"),
        ("data/", {"id": "a"}, "id= and members= go together: which of the members is this one"),
        ("data/", {"members": MEMBERS}, "id= and members= go together"),
        ("data/", {"listen": "h:1"}, "listen= is for one of several members: give id= and members= as well"),
        ("data/", {"id": "c", "members": MEMBERS}, "member 'c' is not in the member list a=h:1, b=h:2"),
        ("data/", {"id": "a", "members": "a=h:1,a=h:2"}, "two members have the id 'a': every id must be listed once"),
        ("data/", {"id": "a", "members": "a=h:1,b=h:1"}, "two members have the address 'h:1'"),
        ("data/", {"id": "a", "members": ""}, "the member list is empty"),
        ("data/", {"id": "a b", "members": "a b=h:1"}, "member id 'a b' is not usable: give 1 to 64 letters, digits"),
        ("data/", {"resources": [dict]}, "resources are Resource or StateMachine classes, not <class 'dict'>"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_before_anything_is_opened(
    target: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        copycat.open(target, **options)
    assert list(tmp_path.iterdir()) == []


async def test_servers_that_are_not_there_are_listed_with_the_reason() -> None:
    client: Any = copycat.open("copycat://127.0.0.1:1,127.0.0.1:2")._client
    with pytest.raises(ConnectError) as caught:
        await client.open(timeout=0.2)
    assert str(caught.value) == (
        "no session within 0.2 s: no server answered. 127.0.0.1:1: connection refused; 127.0.0.1:2: connection "
        "refused. Check the addresses, or run: copycat status 127.0.0.1:1,127.0.0.1:2"
    )


# -- several at once ---------------------------------------------------------------------------------------------------


class Door:
    """Opens, or never does, or fails to open or to close; remembers what was done to it."""

    def __init__(
        self, *, error: Exception | None = None, never: bool = False, on_close: Exception | None = None
    ) -> None:
        self.events: list[str] = []
        self._error, self._never, self._on_close = error, never, on_close

    async def open(self) -> None:
        self.events.append("opening")
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        if self._never:
            await asyncio.get_running_loop().create_future()
        self.events.append("open")

    async def close(self) -> None:
        self.events.append("closed")
        if self._on_close is not None:
            raise self._on_close


async def test_several_are_opened_at_once_and_closed_in_the_end() -> None:
    doors = [Door(), Door()]
    async with copycat.open_all(*doors):
        assert [door.events for door in doors] == [["opening", "open"]] * 2
    assert [door.events[-1] for door in doors] == ["closed"] * 2


async def test_several_may_be_awaited_and_stay_open() -> None:
    door = Door()
    await copycat.open_all(door)
    assert door.events == ["opening", "open"]


async def test_if_one_fails_its_error_is_raised_at_once_and_all_are_closed() -> None:
    doors = [Door(never=True), Door(error=ConfigurationError("port 1 is in use")), Door()]
    async with asyncio.timeout(10):
        with pytest.raises(ConfigurationError, match="port 1 is in use"):
            await copycat.open_all(*doors)
    assert [door.events[-1] for door in doors] == ["closed"] * 3


async def test_the_first_failure_is_the_cause() -> None:
    class Late(Door):
        async def open(self) -> None:
            try:
                await super().open()
            except asyncio.CancelledError:
                raise NoLeaderError("too late") from None

    with pytest.raises(ConfigurationError, match="the cause"):
        await copycat.open_all(Late(never=True), Door(error=ConfigurationError("the cause")))


async def test_an_opening_that_is_cancelled_closes_all() -> None:
    door = Door(never=True)

    async def work() -> None:
        await copycat.open_all(door)

    task = asyncio.create_task(work())
    while not door.events:  # noqa: ASYNC110 – a turn or two
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.events == ["opening", "closed"]


async def test_an_error_while_closing_is_raised_when_all_are_closed() -> None:
    doors = [Door(on_close=ClosedError("twice")), Door()]
    with pytest.raises(ClosedError, match="twice"):
        async with copycat.open_all(*doors):
            pass
    assert [door.events[-1] for door in doors] == ["closed"] * 2


async def test_three_replicas_opened_together_are_a_cluster() -> None:
    registry = LocalRegistry()
    members = "a=127.0.0.1:1,b=127.0.0.1:2,c=127.0.0.1:3"
    replicas = [
        CopycatReplica(name, members, transport=LocalTransport(registry), thread=False, config=QUICK)
        for name in ("a", "b", "c")
    ]
    async with copycat.open_all(*replicas):
        first, second, _ = replicas
        await (await first.create("users", DistributedMap[str, int])).put("ann", 41)
        assert await (await second.get("users", DistributedMap[str, int])).get("ann") == 41
        assert {replica.leader for replica in replicas} <= {"a", "b", "c"}
