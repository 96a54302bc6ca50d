"""A process that holds a lock dies: the next one in line gets it when the session of the dead has timed out."""

import asyncio
import sys
from pathlib import Path

import pytest

from copycat.coordination import DistributedLock
from tests.process.support import client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow]

SESSION_SECONDS = 2.0
HOLDER = Path(__file__).parent / "holder.py"


async def test_the_lock_of_a_killed_process_goes_to_the_next_in_line_with_a_larger_token(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, client_of(cluster) as client:
        lock = await client.create("lock", DistributedLock)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, str(HOLDER), cluster.addresses, str(SESSION_SECONDS), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert holder.stdout is not None
            token = int(await holder.stdout.readline())
            waiting = lock.lock()
            assert await lock.is_locked()
        finally:
            holder.kill()
            await holder.wait()
        loop = asyncio.get_running_loop()
        killed = loop.time()
        async with asyncio.timeout(30):
            assert await waiting > token
        # Never before the dead one's time was up: its last word may be a third of that old.
        assert loop.time() - killed >= SESSION_SECONDS / 2
