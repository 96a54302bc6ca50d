"""`copycat repair`: from a server that refuses to start to one that serves what was left."""

import json
from pathlib import Path

import pytest

from copycat import Storage
from copycat.cli.main import main
from copycat.collections import DistributedMap
from copycat.replica import CopycatReplica
from tests.cli.support import copycat, one_member

Numbers = DistributedMap[int, int]


async def filled(directory: Path, members: str, count: int = 30) -> None:
    async with CopycatReplica("a", members, storage=Storage(directory)) as cc:
        numbers = await cc.create("numbers", Numbers)
        for number in range(count):
            await numbers.put(number, number)


def rot(directory: Path) -> None:
    """One byte in the midst of the log."""
    (path,) = directory.glob("*.log")
    content = bytearray(path.read_bytes())
    used = len(bytes(content).rstrip(b"\0"))
    content[4096 + (used - 4096) // 2] ^= 1
    path.write_bytes(content)


async def test_a_server_that_refuses_names_the_command_and_it_saves_what_comes_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = one_member()
    await filled(tmp_path / "a", members)
    rot(tmp_path / "a")
    refused = copycat("server", "--id", "a", "--members", members, "--data", str(tmp_path / "a"))
    assert refused.returncode == 1
    assert "save what comes before it with `copycat repair`" in refused.stderr
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}

    saved = str(tmp_path / "saved")
    assert main(["repair", str(tmp_path / "a"), "--to", saved]) == 1
    told = capsys.readouterr().err
    assert "something is lost" in told
    assert "give --accept-loss" in told
    assert not Path(saved).exists()
    assert main(["repair", str(tmp_path / "a"), "--to", saved, "--accept-loss", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["path"], facts["from"]) == (saved, str(tmp_path / "a"))
    assert f"indices {facts['index'] + 1} to " in facts["losses"][0]
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}

    assert main(["restore", saved, "--id", "a", "--members", members, "--data", str(tmp_path / "b")]) == 0
    async with CopycatReplica("a", members, storage=Storage(tmp_path / "b")) as cc:
        numbers = await cc.get("numbers", Numbers)
        found = sorted([item async for item in numbers.items()])
        assert 0 < len(found) < 30
        assert found == [(number, number) for number in range(len(found))]
        assert await numbers.put(100, 1) is None


async def test_a_whole_directory_of_a_single_member_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path / "a", one_member())
    assert main(["repair", str(tmp_path / "a"), "--to", str(tmp_path / "saved")]) == 0
    out = capsys.readouterr().out
    assert "nothing that was acknowledged is lost" in out
    assert "copycat restore" in out
    assert main(["repair", str(tmp_path / "a"), "--to", str(tmp_path / "saved")]) == 1
    assert "is there already" in capsys.readouterr().err


async def test_a_member_that_runs_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = one_member()
    await filled(tmp_path / "a", members, 1)
    async with CopycatReplica("a", members, storage=Storage(tmp_path / "a")):
        assert main(["repair", str(tmp_path / "a"), "--to", str(tmp_path / "saved")]) == 1
    assert "is in use by pid" in capsys.readouterr().err
    assert main(["repair", str(tmp_path / "none"), "--to", str(tmp_path / "saved")]) == 1
    assert "is no directory" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()
