"""`copycat inspect` on directories that a replica has written."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import copycat
from copycat import ConsistencyLevel, PersistenceMode
from copycat.atomic import DistributedAtomicValue
from copycat.cli.main import main
from copycat.collections import DistributedMap, DistributedSet
from copycat.coordination import DistributedLock, DistributedTopic
from copycat.handle import Copycat
from copycat.io.storage import Storage
from copycat.io.transport.local import LocalTransport
from copycat.opening import ALONE
from copycat.raft.protocol.state_machine import Commit, Executor, StateMachine
from copycat.raft.server.server import RaftServer
from copycat.replica import CopycatReplica

Shown = Callable[..., Any]


class Tally(StateMachine, name="test.tally"):
    """A state machine without resources, whose state is an attribute."""

    total: int

    def __init__(self) -> None:
        self.total = 0

    def configure(self, executor: Executor) -> None:
        executor.register_command(1, self._add)

    def _add(self, commit: Commit, amount: int) -> int:
        self.total += amount
        return self.total


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """What `copycat inspect` says: an object, or with --records a list of them; its exit status is checked."""

    def inspect(*arguments: object, status: int = 0) -> Any:
        assert main(["inspect", *map(str, arguments), "--json"]) == status
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line) for line in lines] if "--records" in arguments else json.loads(lines[0])

    return inspect


async def fill(cc: Copycat) -> None:
    users = await cc.create("users", DistributedMap[str, Any])
    await users.put("ann", {"age": 41, "paid": Decimal("1.5")})
    await users.put("bob", b"\x00\xff", ttl=3600)
    await users.on_add(lambda _event: None)
    tags = await cc.create("tags", DistributedSet[str])
    await tags.add("red")
    limit = await cc.create("limit", DistributedAtomicValue[int])
    await limit.set(7)
    await cc.create("news", DistributedTopic[str])
    lock = await cc.create("lock", DistributedLock)
    await lock.lock()


async def filled(directory: Path, *, snapshot: bool = True) -> int:
    """Fill a directory; gives the index of the snapshot, 0 for none."""
    replica = CopycatReplica(ALONE, [ALONE], storage=Storage(directory), transport=LocalTransport())
    async with replica as cc:
        await fill(cc)
        index = await replica.take_snapshot() if snapshot else 0
        users = await cc.get("users", DistributedMap[str, Any])
        await users.put("cid", 3, mode=PersistenceMode.EPHEMERAL)
        await users.get("cid", consistency=ConsistencyLevel.LINEARIZABLE)
        return index


async def test_a_directory_says_who_it_is_and_what_it_holds(tmp_path: Path, shown: Shown) -> None:
    index = await filled(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    seen = shown(tmp_path)

    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert seen["metadata"]["member_id"] == ALONE.id
    assert seen["configuration"] == {
        "index": 1,
        "cluster_id": seen["metadata"]["cluster_id"],
        "members": [str(ALONE)],
    }
    assert (seen["first_index"], seen["in_use_by"], seen["damages"], seen["faulty_from"]) == (1, None, [], None)
    assert [(each["index"], each["is_sound"]) for each in seen["snapshots"]] == [(index, True)]
    assert seen["last_index"] > index
    (segment,) = seen["segments"]
    assert (segment["first_index"], segment["last_index"]) == (1, seen["last_index"])


async def test_a_person_reads_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await filled(tmp_path)

    assert main(["inspect", str(tmp_path)]) == 0

    out = capsys.readouterr().out
    assert f"member {ALONE.id}, cluster " in out
    assert "all checksums are right" in out
    assert main(["inspect", str(tmp_path), "--at", "end"]) == 0
    assert "'users'    copycat.map" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path), "--records", "1:2"]) == 0
    assert capsys.readouterr().out.startswith("1: INITIALIZE, term 1, log time ")
    assert main(["inspect", str(tmp_path), "--at", "end", "--resource", "limit"]) == 0
    assert '"value": 7' in capsys.readouterr().out


async def test_a_member_that_halted_for_its_state_says_so_and_shows_what_it_put_aside(
    tmp_path: Path, shown: Shown
) -> None:
    index = await filled(tmp_path)
    (snapshot,) = tmp_path.glob("*.snapshot")
    aside = snapshot.with_name(snapshot.name + ".diverged")
    aside.write_bytes(snapshot.read_bytes())
    keeper = Storage(tmp_path).open_metadata()
    metadata = keeper.load()
    assert metadata is not None
    keeper.save(msgspec.structs.replace(metadata, diverged_at=index))

    seen = shown(tmp_path)

    (note,) = seen["notes"]
    assert note.startswith(f"at index {index} the state of this member was found not to be the others'")
    assert "look into this file" in seen["leftovers"][str(aside)]
    assert shown(aside, "--at", "end", "--resource", "limit")["state"]["value"] == 7


async def test_a_directory_in_use_is_looked_at_all_the_same(tmp_path: Path, shown: Shown) -> None:
    async with copycat.open(tmp_path) as cc:
        await fill(cc)
        seen = shown(tmp_path)
        assert seen["in_use_by"].startswith("pid ")
        assert "in use by pid" in seen["notes"][0]
        assert seen["last_index"] > 1
        assert await cc.exists("users")


async def test_the_state_is_shown_at_any_index_the_log_has(tmp_path: Path, shown: Shown) -> None:
    await filled(tmp_path)

    end = shown(tmp_path, "--at", "end")
    assert [each["path"] for each in end["resources"]] == ["users", "tags", "limit", "news", "lock"]
    assert {each["path"] for each in end["resources"] if not each["size_bytes"]} == {"news"}  # nobody listens
    users = shown(tmp_path, "--at", "end", "--resource", "users")["state"]
    assert [(each["key"], each["value"]) for each in users["entries"]] == [
        ("ann", {"age": 41, "paid": "1.5"}),
        ("bob", {"bytes": "00ff"}),
    ]
    assert [each["key"] for each in users["lifetimes"]] == ["bob"]
    assert shown(tmp_path, "--at", "end", "--resource", "tags")["state"]["members"] == ["red"]
    assert shown(tmp_path, "--at", "end", "--resource", "limit")["state"]["value"] == 7
    assert shown(tmp_path, "--at", "end", "--resource", "lock")["state"]["holder"] is None
    versions = {each["key"]: each["version"] for each in users["entries"]}
    early = shown(tmp_path, "--at", versions["ann"], "--resource", "users")["state"]
    assert [each["key"] for each in early["entries"]] == ["ann"]


async def test_sessions_and_what_they_hold_are_shown(tmp_path: Path, shown: Shown) -> None:
    index = await filled(tmp_path)

    at = shown(tmp_path, "--at", index)
    assert len(at["sessions"]) == 1
    lock = shown(tmp_path, "--at", index, "--resource", "lock")["state"]
    assert lock["holder"]["session"] == at["sessions"][0]["id"]
    audience = shown(tmp_path, "--at", index, "--resource", "users")["state"]["audience"]
    assert [each["session"] for each in audience] == [at["sessions"][0]["id"]] * len(audience)
    assert audience


async def test_a_snapshot_file_is_inspected_by_itself(tmp_path: Path, shown: Shown) -> None:
    index = await filled(tmp_path)
    (path,) = tmp_path.glob("*.snapshot")

    seen = shown(path)
    assert [(each["index"], each["is_sound"]) for each in seen["snapshots"]] == [(index, True)]
    assert seen["configuration"]["members"] == [str(ALONE)]
    assert shown(path, "--at", index, "--resource", "limit")["state"]["value"] == 7


async def test_records_are_listed_in_words(tmp_path: Path, shown: Shown) -> None:
    await filled(tmp_path)

    records = shown(tmp_path, "--records")
    assert records[0]["kind"] == "INITIALIZE"
    assert records[0]["items"] == []
    items = [item for record in records for item in record["items"]]
    assert any(item.startswith("types: copycat.") for item in items)
    assert any("registers, timeout" in item for item in items)
    assert any("unregisters" in item for item in items)
    assert any("commands of session" in item for item in items)
    indices = [(record["first_index"], record["last_index"]) for record in records]
    assert [first for first, _ in indices[1:]] == [last + 1 for _, last in indices[:-1]]
    some = shown(tmp_path, "--records", "2:3")
    assert some[0]["first_index"] == 2
    assert some[-1]["last_index"] >= 3


async def test_damage_is_named_with_its_place_and_gives_exit_status_1(
    tmp_path: Path, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, snapshot=False)
    (path,) = tmp_path.glob("*.log")
    content = bytearray(path.read_bytes())
    content[4096 + 70] ^= 1
    path.write_bytes(content)

    (damage,) = shown(tmp_path, status=1)["damages"]
    assert (damage["path"], damage["offset"]) == (str(path), 4096)
    assert "checksum" in damage["what"]
    assert "copycat repair" in damage["advice"]
    assert main(["inspect", str(tmp_path)]) == 1
    assert f"DAMAGE {path} at byte 4096" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--at", "9999"], 1, "the state can be made at these: from 1 to "),
        (["--at", "0"], 1, "cannot be made"),
        (["--records", "9999"], 1, "which holds 1 to "),
        (["--at", "end", "--resource", "none"], 1, "there are: 'users', 'tags'"),
    ],
)
async def test_what_is_not_there_is_refused_saying_what_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    await filled(tmp_path)

    assert main(["inspect", str(tmp_path), *arguments]) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resource", "users"], "--resource goes with --at"),
        (["--at", "soon"], "write an index"),
        (["--records", "x"], "write FROM or FROM:TO"),
        (["--records", "5:2"], "2 lies before 5"),
        (["--at", "end", "--machine", "a:B", "--resources", "c:D"], "either --resources or --machine"),
    ],
)
async def test_wrong_usage_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    await filled(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_place_without_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 1
    assert "holds no data of a member" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert "neither a data directory nor a file" in capsys.readouterr().err


async def test_the_machine_of_servers_without_resources_is_named(
    tmp_path: Path, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    server = RaftServer(ALONE, [ALONE], Tally, storage=Storage(tmp_path), transport=LocalTransport())
    async with server:
        index = await server.take_snapshot()

    name = f"{__name__}:Tally"
    assert shown(tmp_path, "--at", index, "--machine", name, "--resource", "")["state"] == {"total": 0}
    assert main(["inspect", str(tmp_path), "--at", "end"]) == 1
    assert "test.tally" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path), "--at", "end", "--machine", f"{__name__}:Path"]) == 1
    assert "is not a StateMachine class" in capsys.readouterr().err
