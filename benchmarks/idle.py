"""A process that keeps sessions open and does nothing with them, until its stdin ends: `idle SERVERS COUNT [apart]`.

They share their connections, or have one each, apart.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from copycat.cli.measuring import READY
from copycat.client import CopycatClient
from copycat.io.transport.tcp import TcpTransport
from copycat.util.loop_thread import new_event_loop

CHUNK = 100  # sessions that register at once
TIMEOUT_S = 120.0


async def main(servers: str, count: int, *, is_apart: bool) -> None:
    """Keep them; servers take turns in being the first that is dialled."""
    async with AsyncExitStack() as stack:
        for start in range(0, count, CHUNK):
            transports = [TcpTransport() if is_apart else None for _ in range(min(CHUNK, count - start))]
            clients = [CopycatClient(servers, timeout=TIMEOUT_S, transport=transport) for transport in transports]
            async with asyncio.TaskGroup() as tasks:
                for client in clients:
                    tasks.create_task(client.open())
            for client in clients:
                stack.push_async_exit(client)
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stack.pop_all()  # the process ends, and nobody waits for so many farewells


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), is_apart=sys.argv[3:] == ["apart"]))
