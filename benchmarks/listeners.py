"""A process that listens to a topic with many sessions, and tells how soon it heard: `listeners [ADDRESSES, COUNT]`."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

from benchmarks.topics import LAST, TOPIC
from copycat.cli.measuring import READY, Figures, summary
from copycat.client import CopycatClient
from copycat.coordination import DistributedTopic
from copycat.util.loop_thread import new_event_loop


class Listener:
    """One session's ears."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.first = self.last = 0.0
        self.is_over = asyncio.Event()

    def hear(self, message: int) -> None:
        """Note how old it is. Monotonic time is the same in all processes of a host."""
        now = time.monotonic_ns()
        if message == LAST:
            self.is_over.set()
            return
        self.first = self.first or now / 1e9
        self.last = now / 1e9
        self.latencies.append((now - message) / 1e9)


async def main(addresses: list[str], count: int) -> Figures:
    """Listen until the last message; each session through one of the servers, in turn."""
    listeners = [Listener() for _ in range(count)]
    async with AsyncExitStack() as stack:
        for number, listener in enumerate(listeners):
            client = await stack.enter_async_context(CopycatClient(addresses[number % len(addresses)]))
            topic = await client.create(TOPIC, DistributedTopic[int])
            await topic.on_message(listener.hear)
        print(READY, flush=True)
        cpu = time.process_time()
        await asyncio.gather(*(listener.is_over.wait() for listener in listeners))
        cpu = time.process_time() - cpu
    heard = [latency for listener in listeners for latency in listener.latencies]
    began, ended = min(each.first for each in listeners), max(each.last for each in listeners)
    return {"seconds": ended - began, "cpu_seconds": cpu, **summary(heard)}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(main(*json.loads(sys.argv[1])))), flush=True)
