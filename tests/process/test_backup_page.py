"""The commands of the page on backups, as they stand there, one after the other."""

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from copycat.collections import DistributedMap
from copycat.testing.processes import LocalCluster, clean_environment
from tests.process.support import client_of

pytestmark = [pytest.mark.process, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "back-up-and-restore.md"


def commands() -> list[str]:
    """The lines of its code blocks that are commands, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("copycat ")]


async def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    cluster = LocalCluster(directory)
    servers: list[subprocess.Popen[bytes]] = []
    try:
        cluster.start()
        await cluster.wait_for_leader()
        async with client_of(cluster) as client:
            await (await client.create("users", DistributedMap[str, int])).put("ann", 41)
        for command in commands():
            words = shlex.split(with_ports(command, cluster))[1:]
            if words[0] == "restore":
                cluster.kill()
            if words[0] == "status":
                await cluster.wait_for_leader()
            if words[0] == "server":
                servers.append(started(words, tmp_path))
                continue
            done = await asyncio.to_thread(run, words, tmp_path)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            if "--resource" in words:
                assert '"value": 41' in done.stdout
        async with client_of(cluster) as client:
            assert await (await client.get("users", DistributedMap[str, int])).get("ann") == 41
    finally:
        cluster.kill()
        for server in servers:
            server.kill()
            server.wait()


def with_ports(command: str, cluster: LocalCluster) -> str:
    """The command with the ports that are free here."""
    for number, member in enumerate(cluster.members.values(), 1):
        command = command.replace(f"127.0.0.1:500{number}", member.address)
    return command


def run(words: list[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "copycat", *words],
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def started(words: list[str], directory: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "copycat", *words], cwd=directory, env=clean_environment(), stdout=subprocess.DEVNULL
    )
