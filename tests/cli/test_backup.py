"""`copycat backup` of a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat.cli.main import main
from tests.cli.support import copycat, finish, first_line, one_member, start

pytestmark = pytest.mark.process


@pytest.fixture
def members(tmp_path: Path) -> Iterator[str]:
    """The member list of a cluster of one that is open."""
    members = one_member()
    process = start("server", "--id", "a", "--members", members, "--data", str(tmp_path / "a"))
    try:
        assert first_line(process)
        yield members
    finally:
        finish(process)


def test_a_backup_says_what_it_is_and_can_be_inspected(members: str, tmp_path: Path) -> None:
    path = tmp_path / "backup"

    done = copycat("backup", members, str(path), "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["path"], told["size"]) == (str(path), path.stat().st_size)
    seen = json.loads(copycat("inspect", str(path), "--json").stdout)
    assert [(each["index"], each["cluster_id"]) for each in seen["snapshots"]] == [(told["index"], told["cluster_id"])]


def test_a_file_that_is_there_is_kept_unless_forced(members: str, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_text("mine")

    refused = copycat("backup", members, str(path))
    assert refused.returncode == 1
    assert "is there already: choose another name, or give --force" in refused.stderr
    assert path.read_text() == "mine"
    forced = copycat("backup", "--members", members, str(path), "--force")
    assert forced.returncode == 0
    assert forced.stdout.startswith(f"{path}: the state of cluster ")


def test_nobody_there_is_exit_status_1(tmp_path: Path) -> None:
    done = copycat("backup", one_member(), str(tmp_path / "backup"), "--timeout", "0.3")

    assert done.returncode == 1
    assert "connection refused" in done.stderr
    assert "copycat status 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_members_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["backup", "FILE"])
    assert ended.value.code == 2
    assert "name the members" in capsys.readouterr().err
