"""A leader that stood still, and does not know that another leads, answers no read with what was true before."""

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.process.support import QUICK, Numbers, client_at, running, turns

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

ROUNDS = 50


async def test_reads_in_the_socket_of_a_paused_leader_are_not_answered_with_old_state(tmp_path: Path) -> None:
    chance = random.Random(1)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running(tmp_path, options=QUICK))
        maps = {}
        for name in cluster.members:
            client = await stack.enter_async_context(client_at(cluster, name, timeout=20))
            maps[name] = await client.create("numbers", Numbers)

        acknowledged = 1
        await maps["a"].put("key", acknowledged)
        for number in range(ROUNDS):
            leader = await cluster.leader()
            at_leader = maps[leader]
            at_another = maps[chance.choice([name for name in maps if name != leader])]
            assert await at_leader.get("key") == acknowledged
            cluster.pause(leader)

            before = [at_leader.get("key") for _ in range(3)]
            await turns()
            assert await at_another.put("key", acknowledged + 1) == acknowledged
            after = [at_leader.get("key") for _ in range(3)]
            await turns()
            assert not any(read.done() for read in [*before, *after])
            cluster.resume(leader)

            found = [await read or 0 for read in before]
            assert found == sorted(found), f"round {number}: a read went back in time"
            assert set(found) <= {acknowledged, acknowledged + 1}, f"round {number}"
            assert {await read for read in after} == {acknowledged + 1}, f"round {number}"
            acknowledged += 1
