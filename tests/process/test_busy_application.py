"""A program that blocks its event loop has its replica go on beside it: it leads on, and its session lives."""

import asyncio
import time
from pathlib import Path

import pytest

import copycat
from copycat.coordination import DistributedLock
from copycat.io.storage.storage import Storage
from copycat.replica import CopycatReplica
from copycat.testing.processes import free_ports

pytestmark = [pytest.mark.slow]

BLOCKED_SECONDS = 3.0


async def test_three_seconds_without_a_turn_cost_neither_the_leadership_nor_the_session(tmp_path: Path) -> None:
    members = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip("abc", free_ports(3), strict=True))
    replicas = {name: CopycatReplica(name, members, storage=Storage(tmp_path / name)) for name in "abc"}
    async with copycat.open_all(*replicas.values()):
        before = await replicas["a"].server_status()
        assert before.leader is not None
        leader = replicas[before.leader]
        lock = await leader.create("lock", DistributedLock)
        lost: list[object] = []
        leader.on_state_change(lambda state: lost.append(state) if state != "CONNECTED" else None)
        async with lock.hold() as held:
            for _ in range(2):  # wherever in the rhythm of keep-alives it begins
                time.sleep(BLOCKED_SECONDS)  # the point
                await asyncio.sleep(0.3)
            assert not held.lost
        after = await leader.server_status()
        assert (after.leader, after.term) == (before.leader, before.term)
        assert lost == []
