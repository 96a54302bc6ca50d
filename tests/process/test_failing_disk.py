"""A disk that fails to sync ends the process, before anything is said that the disk does not hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from copycat.errors import CommandTimeoutError
from copycat.raft.server.fatal import EXIT_STATUS
from tests.cli.support import finish, first_line
from tests.process.support import Numbers, ProcessCluster, client_at, client_of

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def start_failing(cluster: ProcessCluster, name: str, *, syncs: int | None = None) -> "subprocess.Popen[str]":
    """A member whose disk fails after so many syncs; None: when it is told."""
    arguments = [name, cluster.addresses, str(cluster.directory / name), "never" if syncs is None else str(syncs)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.process.failing_disk", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_fail(process: "subprocess.Popen[str]") -> None:
    """Nothing is synced any more when this returns."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert first_line(process) == "fails from now on\n"


async def test_nothing_is_acknowledged_that_a_failed_disk_does_not_hold(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 1)
    process = start_failing(cluster, "a")
    try:
        assert first_line(process) == "open\n"
        async with client_at(cluster, "a", timeout=20) as client:
            numbers = await client.create("numbers", Numbers)
            assert await numbers.put("key", 1) is None
            make_fail(process)

            with pytest.raises(CommandTimeoutError) as sent:
                await numbers.put("key", 2, timeout=0.5)
            assert process.wait(20) == EXIT_STATUS
            _, errors = process.communicate()
            assert "the disk failed, so this process ends now: [Errno 5] Input/output error" in errors

            cluster.start()
            assert await sent.value.operation == 1
            assert await numbers.get("key") == 2
    finally:
        finish(process)
        cluster.kill()


async def test_a_cluster_goes_on_without_the_member_whose_disk_failed(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path)
    process = start_failing(cluster, "a")
    try:
        cluster.start(["b", "c"])
        assert first_line(process) == "open\n"
        async with client_of(cluster, timeout=20) as client:
            numbers = await client.create("numbers", Numbers)
            assert await numbers.put("key", 0) is None
            make_fail(process)
            puts = [numbers.put("key", number) for number in range(1, 200)]

            assert [await put for put in puts] == list(range(199))
            assert process.wait(20) == EXIT_STATUS
    finally:
        finish(process)
        cluster.kill()


@pytest.mark.parametrize(("syncs", "status"), [(2, EXIT_STATUS), (3, EXIT_STATUS), (4, 1)])
async def test_a_disk_that_fails_while_the_cluster_forms_ends_the_process(
    syncs: int, status: int, tmp_path: Path
) -> None:
    """The first two syncs are of the member's own identity, the next two of the cluster's; then the log is made."""
    cluster = ProcessCluster(tmp_path, 2)
    process = start_failing(cluster, "a", syncs=syncs)
    try:
        cluster.start(["b"])

        assert process.wait(20) == status
        assert "Input/output error" in process.communicate()[1]
    finally:
        finish(process)
        cluster.kill()


@pytest.mark.parametrize("syncs", [0, 1])
def test_a_disk_that_fails_at_once_is_told(syncs: int, tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 1)
    process = start_failing(cluster, "a", syncs=syncs)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        finish(process)

    assert process.returncode == 1
    assert errors.startswith(f"StorageError: cannot use {tmp_path / 'a'} for data (")
    assert "Input/output error); check the disk" in errors
    assert len(errors.splitlines()) == 1
