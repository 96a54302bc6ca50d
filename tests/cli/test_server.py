"""`copycat server` as a process: starts, answers, stops, and says what is wrong."""

import json
import signal
import socket
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat.cli.server import SETTINGS, server_of
from copycat.cli.settings import add_flags, resolve
from tests.cli.support import COPYCAT, copycat, finish, first_line, one_member, start

pytestmark = pytest.mark.process

Process = "subprocess.Popen[str]"


@pytest.fixture
def member() -> str:
    return one_member()


@pytest.fixture
def server(tmp_path: Path, member: str) -> Iterator["subprocess.Popen[str]"]:
    """A cluster of one that is open."""
    process = start("server", "--id", "a", "--members", member, "--data", str(tmp_path / "a"))
    try:
        assert first_line(process).startswith(f"a serves {member.removeprefix('a=')} in cluster ")
        yield process
    finally:
        finish(process)


def test_a_server_answers_status(server: "subprocess.Popen[str]", member: str) -> None:
    done = copycat("status", member.removeprefix("a="), "--json")

    cluster = json.loads(done.stdout)
    assert done.returncode == 0
    assert (cluster["leader"], cluster["why_no_leader"]) == ("a", None)
    assert list(cluster["members"]) == ["a"]
    assert cluster["members"]["a"]["role"] == "leader"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_it_with_exit_status_0(server: "subprocess.Popen[str]", number: signal.Signals) -> None:
    server.send_signal(number)
    _, errors = server.communicate(timeout=20)

    assert (server.returncode, errors) == (0, "")


def test_a_second_process_on_its_directory_is_told_who_has_it(server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    done = copycat("server", "--id", "a", "--members", one_member(), "--data", str(tmp_path / "a"))

    assert done.returncode == 1
    assert f"in use by pid {server.pid}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_of_another_member_is_refused(tmp_path: Path, member: str) -> None:
    first = start("server", "--id", "a", "--members", member, "--data", str(tmp_path))
    try:
        assert first_line(first)
    finally:
        finish(first)

    done = copycat("server", "--id", "b", "--members", member.replace("a=", "b="), "--data", str(tmp_path))

    assert done.returncode == 1
    assert "belongs to member 'a', not to 'b'" in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path, member: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(member.rpartition(":")[2])))
        other.listen()
        done = copycat("server", "--id", "a", "--members", member, "--data", str(tmp_path))

    assert done.returncode == 1
    assert f"cannot listen on {member.removeprefix('a=')}: it is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_listening_beyond_this_host_has_to_be_meant(tmp_path: Path, member: str) -> None:
    port = member.rpartition(":")[2]
    done = copycat("server", "--id", "a", "--members", member, "--memory", "--listen", f"0.0.0.0:{port}")

    assert done.returncode == 1
    assert "refusing to listen on 0.0.0.0" in done.stderr


def test_the_line_is_a_status_for_programs(member: str) -> None:
    process = start("server", "--id", "a", "--members", member, "--memory", "--json")
    try:
        status = json.loads(first_line(process))
    finally:
        finish(process)

    assert (status["id"], status["role"], status["leader"]) == ("a", "leader", "a")


def test_settings_may_come_from_the_environment_and_a_file(tmp_path: Path, member: str) -> None:
    (tmp_path / "copycat.toml").write_text(f'[server]\nid = "a"\nmembers = "{member}"\nmemory = false\n')
    process = start("server", "--config", str(tmp_path / "copycat.toml"), COPYCAT_DATA=str(tmp_path / "data"))
    try:
        assert first_line(process).startswith("a serves")
        assert (tmp_path / "data").is_dir()
    finally:
        finish(process)


def test_without_a_majority_it_waits_and_says_why_until_it_is_stopped(tmp_path: Path) -> None:
    first, second = one_member(), one_member("b")
    process = start("server", "--id", "a", "--members", f"{first},{second}", "--data", str(tmp_path))
    try:
        assert process.stderr is not None
        warning = process.stderr.readline()
        assert "still no leader" in warning
        assert "b: connection refused" in warning
        done = copycat("status", first)
        assert done.returncode == 1
        assert "no leader: the cluster has not formed: all 2 members must be heard once" in done.stdout
        assert "unreachable" in done.stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        finish(process)


def test_a_server_bound_to_its_parent_ends_with_it(tmp_path: Path, member: str) -> None:
    process = subprocess.Popen(
        [*COPYCAT, "server", "--until-eof", "--id", "a", "--members", member, "--data", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert first_line(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    finally:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), (128 << 20, 600_000)),
        (("--free-space-min", "0", "--check-interval", "0"), (0, 0)),
        (("--free-space-min", "5", "--check-interval", "60"), (5 << 20, 60_000)),
    ],
)
def test_how_much_room_is_kept_and_how_often_states_are_compared_may_be_set(
    flags: tuple[str, ...], expected: tuple[int, int], member: str, tmp_path: Path
) -> None:
    parser = ArgumentParser()
    add_flags(parser, SETTINGS)
    options = parser.parse_args(["--id", "a", "--members", member, "--data", str(tmp_path), *flags])
    resolve(SETTINGS, options, command="server", prefix="COPYCAT_", environment={})

    server = server_of(options)

    assert (server.storage.free_space_min, server._check_ms) == expected
