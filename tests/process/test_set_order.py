"""The classic: a state machine that iterates a set of strings, in servers whose hashes are seeded differently."""

import asyncio
from pathlib import Path

import pytest

from copycat.cli.main import main
from tests.process.support import ProcessCluster, client_at, running
from tests.process.unordered import Hat

pytestmark = [pytest.mark.process, pytest.mark.slow]

NAMES = [f"name {number}" for number in range(20)]
OPTIONS = ("--resources", "tests.process.unordered:Names", "--check-interval", "1")


class Seeded(ProcessCluster):
    """Each server hashes strings its own way, but for c, which does as b."""

    def environment(self, name: str) -> dict[str, str]:
        return super().environment(name) | {"PYTHONHASHSEED": {"a": "1"}.get(name, "2")}


async def test_the_server_that_differs_ends_and_says_why_and_does_not_start_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path, kind=Seeded, options=OPTIONS) as cluster:
        await cluster.leader()
        async with client_at(cluster, "b", discover=True, timeout=40) as client:
            hat = await client.create("hat", Hat)
            await hat.keep(*NAMES)
            assert await cluster.ended("a") == 1
            said = cluster.log_file("a").read_text()
            assert "resource 'hat' of type 'test.names' version 1 has hash" in said
            assert "with b, c" in said
            cluster.start(["a"])
            assert await cluster.ended("a") == 1
            assert "what it would go on from may hold that state" in cluster.log_file("a").read_text()
            await hat.keep("more")  # the others go on
            assert cluster.is_running("b")
            assert cluster.is_running("c")
    (aside,) = (tmp_path / "a").glob("*.diverged")
    inspect = ["inspect", str(aside), "--at", "end", "--resource", "hat", "--resources", OPTIONS[1]]
    assert await asyncio.to_thread(main, inspect) == 0
    assert NAMES[0] in capsys.readouterr().out
