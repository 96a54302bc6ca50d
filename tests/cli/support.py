"""Running `copycat` as a process, for tests."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from copycat.testing.processes import free_ports

COPYCAT = [sys.executable, "-m", "copycat"]


def copycat(*arguments: str, timeout: float = 50) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run([*COPYCAT, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a command, with pipes to its stdout and stderr, in a process group of its own."""
    return subprocess.Popen(
        [*COPYCAT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    """Wait for a process to print a line."""
    if process.stdout is None:
        return ""
    ready, _, _ = select.select([process.stdout], [], [], 30)
    return process.stdout.readline() if ready else ""


def finish(process: "subprocess.Popen[str]") -> None:
    """End a process, whatever it does, and let go of its pipes."""
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` holds; the test's own time limit ends the wait."""
    while not condition():
        time.sleep(0.02)


def servers_in(directory: Path) -> list[str]:
    """The server processes that have data under `directory`."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid,stat,command"], capture_output=True, text=True, check=True
    ).stdout
    lines = listing.splitlines()
    return [line for line in lines if str(directory) in line and "server" in line and " Z" not in line[:20]]


def one_member(name: str = "a") -> str:
    """The member list of a cluster of one, at a port nobody listens on."""
    return f"{name}=127.0.0.1:{free_ports(1)[0]}"
