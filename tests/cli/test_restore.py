"""`copycat restore` from a backup of a replica in this process, and servers that start from what it made."""

import json
from pathlib import Path

import pytest

from copycat import open_all
from copycat.cli.main import main
from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLeaderElection, DistributedLock
from copycat.errors import UnknownResourceError
from copycat.io.storage import Storage
from copycat.io.transport.local import LocalTransport
from copycat.opening import ALONE
from copycat.raft.protocol.operations import PersistenceMode
from copycat.raft.server.restoring import INDEX_DISTANCE
from copycat.replica import CopycatReplica
from copycat.resource.resource import Resource
from copycat.testing.processes import free_ports
from tests.cli.support import one_member
from tests.resource.machines import Counter

Users = DistributedMap[str, int]


def three() -> str:
    return ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip("abc", free_ports(3), strict=True))


async def backed_up(path: Path, *, resource: type[Resource] | None = None) -> dict[str, int]:
    """A backup of a replica that holds a lock and leads; gives its tokens as they were some time after."""
    resources = [] if resource is None else [resource]
    replica = CopycatReplica(ALONE, [ALONE], resources=resources, transport=LocalTransport())
    async with replica as cc:
        users = await cc.create("users", Users)
        await users.put("ann", 41)
        await users.put("here", 1, mode=PersistenceMode.EPHEMERAL)
        if resource is not None:
            await cc.create("own", resource)
        lock = await cc.create("lock", DistributedLock)
        election = await cc.create("election", DistributedLeaderElection)
        await lock.lock()
        async with election.lead():
            await cc.backup(path)
        await lock.unlock()
        await users.put("late", 1)
        async with lock.hold() as held, election.lead() as term:
            return {"lock": held.token, "election": term.epoch}


def replicas_of(directory: Path, members: str) -> list[CopycatReplica]:
    return [CopycatReplica(name, members, storage=Storage(directory / name)) for name in "abc"]


async def test_locks_are_free_ephemeral_entries_gone_and_tokens_above_all_that_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await backed_up(tmp_path / "backup")
    members = three()
    arguments = ["restore", str(tmp_path / "backup"), "--members", members, "--data", str(tmp_path), "--all", "--json"]

    assert main(arguments) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["index"] == told["backup_index"] + INDEX_DISTANCE
    assert told["directories"] == {name: str(tmp_path / name) for name in "abc"}

    replicas = replicas_of(tmp_path, members)
    async with open_all(*replicas):
        cc = replicas[0]
        users = await cc.get("users", Users)
        assert [item async for item in users.items()] == [("ann", 41)]
        lock = await cc.get("lock", DistributedLock)
        assert not await lock.is_locked()
        token = await lock.lock(timeout=5)
        assert token > before["lock"]
        assert token > told["index"]
        election = await cc.get("election", DistributedLeaderElection)
        async with election.lead(timeout=5) as term:
            assert term.epoch > before["election"]
    assert await lost_nothing_by_a_restart(tmp_path, members)


async def lost_nothing_by_a_restart(directory: Path, members: str) -> bool:

    async with open_all(*replicas_of(directory, members)), CopycatClient(members) as cc:
        return await (await cc.get("users", Users)).get("ann") == 41


async def test_each_member_is_restored_on_its_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await backed_up(tmp_path / "backup")
    members = three()
    for name in "abc":
        arguments = ["--id", name, "--members", members, "--data", str(tmp_path / name)]
        assert main(["restore", str(tmp_path / "backup"), *arguments]) == 0
        assert f"copycat server --id {name} --members {members} --data {tmp_path / name}" in capsys.readouterr().out
    assert await lost_nothing_by_a_restart(tmp_path, members)
    assert main(["inspect", str(tmp_path / "a")]) == 0
    assert "all checksums are right" in capsys.readouterr().out


async def test_resources_of_ones_own_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await backed_up(tmp_path / "backup", resource=Counter)
    members = three()
    arguments = ["restore", str(tmp_path / "backup"), "--id", "a", "--members", members, "--data", str(tmp_path / "a")]

    assert main(arguments) == 1
    assert "--resources module:Class" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert main([*arguments, "--resources", "tests.resource.machines:Counter"]) == 0


async def test_what_is_refused_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = tmp_path / "backup"
    await backed_up(backup)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    arguments = ["restore", str(backup), "--members", three(), "--data", str(tmp_path), "--all"]

    assert main(arguments) == 1
    assert f"{tmp_path / 'b'} is not empty" in capsys.readouterr().err
    (tmp_path / "b" / "mine").unlink()
    backup.write_bytes(backup.read_bytes()[:-1])
    assert main(arguments) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "backup"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --id, or --all"),
        (["--id", "a", "--all"], "either --id, or --all"),
        (["--id", "z"], "--id z is not one of the members: a, b, c"),
    ],
)
def test_wrong_usage_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["restore", "FILE", "--members", three(), "--data", str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


async def test_a_resource_that_was_created_after_the_backup_is_not_there(tmp_path: Path) -> None:
    await backed_up(tmp_path / "backup")
    members = one_member()
    arguments = ["--id", "a", "--members", members, "--data", str(tmp_path / "a")]
    assert main(["restore", str(tmp_path / "backup"), *arguments]) == 0
    async with CopycatReplica("a", members, storage=Storage(tmp_path / "a")) as cc:
        with pytest.raises(UnknownResourceError):
            await cc.get("own", Users)
        assert await (await cc.get("users", Users)).get("late") is None
