"""Backups of real servers under load: what was acknowledged before is there after a restore elsewhere, and once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from copycat.cli.workload import CHAIN, Pace, Tally, Writer, key_of, open_writers
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock
from tests.cli.support import copycat
from tests.process.support import ProcessCluster, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow]

WRITERS = 3


async def command(*arguments: str) -> str:
    """Run a command, which must succeed; returns what it printed."""
    done = await asyncio.to_thread(copycat, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def acknowledged(cluster: ProcessCluster, tally: Tally, count: int) -> None:
    """Wait until so many more puts are acknowledged."""
    wanted = tally.acknowledged + count

    async def came() -> dict[str, Any] | None:
        return {} if tally.acknowledged >= wanted else None

    await cluster.wait_until(came, "writes to be acknowledged")


async def check(cluster: ProcessCluster, writer: Writer, before: list[int], link: int) -> None:
    """All that was acknowledged before is there; what is there was written once, as it should be."""
    async with client_of(cluster) as client:
        values = await client.get(writer.map.path, DistributedMap[str, str])
        found = {key: value async for key, value in values.items()}
        end = int(found.pop(CHAIN))
        assert [number for number in before if key_of(number) not in found] == []
        assert link <= end < writer.chain_next
        assert found.items() <= {key_of(number): writer.value_of(number) for number in range(writer.next_key)}.items()
        assert await values.put(CHAIN, str(end + 1)) == str(end)
        assert await values.put("another", "1") is None


async def test_what_was_acknowledged_before_a_backup_is_restored_elsewhere_and_nothing_twice(tmp_path: Path) -> None:
    path, old, new = tmp_path / "backup", tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    async with running(old) as cluster:
        writers = await open_writers(cluster.addresses, WRITERS)
        async with client_of(cluster) as client:
            lock = await client.create("lock", DistributedLock)
            await lock.lock()
            pace, tally = Pace(batch=20, rest=0.002), Tally()
            async with asyncio.TaskGroup() as tasks:
                for writer in writers:
                    tasks.create_task(writer.run(pace, tally))
                await acknowledged(cluster, tally, 500)
                before = [(list(writer.acknowledged), max(writer.chain_acknowledged)) for writer in writers]
                await command("backup", cluster.addresses, str(path))
                await acknowledged(cluster, tally, 300)
                pace.is_over = True
            await lock.unlock()
            token = await lock.lock()
            cluster.kill()
            await asyncio.gather(*(writer.client.close() for writer in writers))

    restored = ProcessCluster(new)
    await command("restore", str(path), "--all", "--members", restored.addresses, "--data", str(new))
    restored.start()
    try:
        await restored.wait_for_leader()
        for writer, (numbers, link) in zip(writers, before, strict=True):
            await check(restored, writer, numbers, link)
        async with client_of(restored) as client:
            again = await client.get("lock", DistributedLock)
            assert await again.lock(timeout=5) > token
    finally:
        restored.kill()


async def test_a_backup_survives_the_kill_of_the_leader_it_comes_from(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        async with client_of(cluster) as client:
            large = await client.create("large", DistributedMap[int, bytes])
            for first in range(0, 400, 40):
                await asyncio.gather(*(large.put(number, bytes(100_000)) for number in range(first, first + 40)))
            leader = await cluster.leader()
            backing = asyncio.ensure_future(command("backup", cluster.addresses, str(tmp_path / "backup")))
            part = tmp_path / "backup.part"

            async def begun() -> dict[str, Any] | None:
                return {} if part.exists() or backing.done() else None

            await cluster.wait_until(begun, "the first pieces")
            cluster.kill([leader])
            await backing
        assert not part.exists()
        assert "all checksums are right" in await command("inspect", str(tmp_path / "backup"))
