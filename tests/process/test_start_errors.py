"""A server that cannot start, or must not go on, ends with a message that says what, where, and what to do next.

What one process alone shows is in `tests/cli/test_server.py`: a port in use, a directory in use or of another member,
listening beyond this host.
"""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from copycat.testing.processes import free_ports
from tests.cli.support import copycat, finish, first_line, one_member, start
from tests.process.support import ProcessCluster, running

pytestmark = pytest.mark.process

AS_NOBODY = """
import os, shutil, sys
from copycat.cli.main import load, main
from copycat.util.loop_thread import new_event_loop
load("server")
new_event_loop().close()  # everything is imported while it can be
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def refusal(*arguments: str) -> str:
    """What `copycat server` says when it does not start."""
    done = copycat("server", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("copycat server: ")
    assert len(done.stderr.splitlines()) == 1, "one line, no trace"
    return done.stderr


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    directory.mkdir(mode=0o500)
    arguments = ["server", "--id", "a", "--members", one_member(), "--data", str(directory)]
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *arguments], capture_output=True, text=True, timeout=50, check=False
    )

    assert done.returncode == 1
    assert f"cannot use {directory} for data" in done.stderr
    assert "Permission denied" in done.stderr
    assert f"user {os.geteuid() or 65534} may not write there: change its owner" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")

    message = refusal("--id", "a", "--members", one_member(), "--data", str(tmp_path / "a"))

    assert f"cannot use {tmp_path / 'a'} for data" in message
    assert "a file is in the place of the directory: remove it or choose another directory" in message
    assert (tmp_path / "a").read_text() == "mine"


def test_an_id_that_is_not_in_the_member_list(tmp_path: Path) -> None:
    member = one_member()

    message = refusal("--id", "z", "--members", member, "--data", str(tmp_path / "z"))

    assert f"member 'z' is not in the member list {member}: name it there, or give the id of one that is" in message
    assert not (tmp_path / "z").exists()


@pytest.mark.parametrize("what", ["id", "address"])
def test_two_members_of_one_id_or_at_one_address(what: str, tmp_path: Path) -> None:
    one, two = free_ports(2)
    names, ports = (("a", "a"), (one, two)) if what == "id" else (("a", "b"), (one, one))
    members = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(names, ports, strict=True))

    message = refusal("--id", "a", "--members", members, "--data", str(tmp_path / "a"))

    assert f"two members have the {what} {'a' if what == 'id' else f'127.0.0.1:{one}'!r}" in message
    assert f"every {what} must be listed once" in message


@pytest.mark.parametrize(("files", "checksum_at"), [("metadata-*", -4), ("*.log", 84)])
def test_a_directory_of_another_format_version(files: str, checksum_at: int, tmp_path: Path) -> None:
    member, directory = one_member(), tmp_path / "a"
    first = start("server", "--id", "a", "--members", member, "--data", str(directory))
    try:
        assert first_line(first)
    finally:
        finish(first)
    paths = sorted(directory.glob(files))
    for path in paths:
        make_version_2(path, checksum_at)

    message = refusal("--id", "a", "--members", member, "--data", str(directory))

    assert f"{paths[0]}: format version 2; this release knows 1: start the release that wrote it" in message


def make_version_2(path: Path, checksum_at: int) -> None:
    """What a later release would have written: both kinds of file have the version behind a magic of eight bytes."""
    data = bytearray(path.read_bytes())
    checksum_at %= len(data)
    data[8:12] = struct.pack("<I", 2)
    data[checksum_at : checksum_at + 4] = struct.pack("<I", zlib.crc32(data[:checksum_at]))
    path.write_bytes(data)


@pytest.mark.slow
async def test_a_wiped_directory_of_a_member(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        cluster.kill(["a"])
        shutil.rmtree(tmp_path / "a")
        cluster.start(["a"])

        assert await cluster.ended("a") == 1

        known = (await cluster.answers())["b"]["cluster_id"][:8]
        advice = f"a's directory is new, but cluster {known} knows another a: remove a, then join under a new id"
        assert f"\ncopycat server: {advice}\n" in cluster.log_file("a").read_text()


@pytest.mark.slow
async def test_a_new_member_that_meets_a_cluster_which_does_not_list_it(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 2)
    alone = start("server", "--id", "a", "--members", str(cluster.members["a"]), "--data", str(tmp_path / "a"))
    try:
        known = first_line(alone).partition(" in cluster ")[2][:8]
        assert known
        cluster.start(["b"])

        assert await cluster.ended("b") == 1

        advice = (
            f"b's directory is new, and a belongs to cluster {known}, which does not list b: check the member list "
            "and a's data directory"
        )
        assert f"copycat server: {advice}\n" in cluster.log_file("b").read_text()
    finally:
        finish(alone)
        cluster.kill()


@pytest.mark.slow
async def test_the_directory_of_a_member_of_another_cluster(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with running(tmp_path / "one", 2) as one:
        other = (await one.answers())["a"]["cluster_id"][:8]
    async with running(tmp_path / "two", 2) as two:
        own = (await two.answers())["b"]["cluster_id"][:8]
        two.kill(["a"])
        shutil.rmtree(tmp_path / "two" / "a")
        shutil.move(tmp_path / "one" / "a", tmp_path / "two" / "a")
        two.start(["a"])

        async def told() -> dict[str, Any] | None:
            answers = await two.answers()
            return answers if "cluster" in str(answers["a"].get("why_no_leader")) else None

        answers = await two.wait_until(told, "a to say why there is no leader")

        assert (
            "2 of 2 members are needed; reached a; "
            f"not b: a belongs to cluster {other}, b to cluster {own}: check addresses and data directories"
        ) in answers["a"]["why_no_leader"]
        assert answers["a"]["leader"] is None
