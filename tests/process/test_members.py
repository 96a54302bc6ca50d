"""Servers that are replaced while clients write, by the commands an operator types."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from copycat.raft.client.survey import ask
from copycat.raft.protocol.members import Member
from copycat.testing.processes import LOOPBACK, clean_environment, free_ports
from tests.process.support import ProcessCluster, running
from tests.process.test_restart import writing

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Replaced(ProcessCluster):
    """Its members change: who joins is told of those that are there."""

    joiners: frozenset[str] = frozenset()

    def join(self, name: str, port: int) -> None:
        self.members[name] = Member(name, LOOPBACK, port)
        self.joiners |= {name}
        self.start([name])

    def command(self, name: str) -> list[str]:
        return [*super().command(name), *(["--join"] if name in self.joiners else [])]


async def member(cluster: ProcessCluster, *arguments: str) -> dict[str, Any]:
    """`copycat member`, which must succeed; what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "copycat", "member", *arguments, "--members", cluster.addresses, "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(printed)
    return told


async def test_all_three_members_are_replaced_under_load_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async with running(tmp_path, kind=Replaced) as cluster, writing(cluster) as load:
        assert isinstance(cluster, Replaced)
        for old, new, port in zip("abc", "def", free_ports(3), strict=True):
            await load.wait_for_writes()
            cluster.join(new, port)

            async def has_a_vote(name: str = new) -> dict[str, Any] | None:
                status = await ask(cluster.members[name], 1.0)
                return status if status.get("role") in ("follower", "leader") else None

            await cluster.wait_until(has_a_vote, f"{new} to have a vote")
            await load.wait_for_writes()
            told = await member(cluster, "remove", old)
            assert [text.split("=")[0] for text in told["members"]] == sorted({*cluster.members} - {old})
            assert told["passive"] == []
            del cluster.members[old]
            assert await cluster.ended(old) == 1  # it says that it was removed
            assert f"{old} was removed from cluster" in cluster.log_file(old).read_text()
        await load.wait_for_writes()
        leader = (await cluster.wait_for_leader())["leader"]
        heir = next(name for name in cluster.members if name != leader)
        await member(cluster, "transfer", heir)

        async def leads() -> dict[str, Any] | None:
            status = await ask(cluster.members[heir], 1.0)
            return status if status.get("role") == "leader" else None

        await cluster.wait_until(leads, f"{heir} to lead")
        await load.wait_for_writes()
