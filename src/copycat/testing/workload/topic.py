"""A topic, by `copycat.testing.delivery`: each message once, in one order for all, and every one there was to hear."""

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from random import Random
from typing import Any

from copycat.client import CopycatClient
from copycat.coordination import DistributedTopic
from copycat.testing.delivery import check_delivery
from copycat.testing.hearing import Hearing
from copycat.testing.workload.work import CALL_SECONDS, JUDGE, Site, Work
from copycat.util.listeners import Listener

PATH = "topic"
BURST_MAX = 3
LAST = "the last"  # of messages; another, if somebody had no session when it was sent
LAST_SECONDS = 20.0


class TopicWork(Work):
    """Everybody publishes, some messages in one turn, and listens for good."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._hearings: dict[str, Hearing] = {}  # by client, in its newest session
        self._have_heard_all: set[str] = set()
        self._publish_last: Callable[[], Coroutine[Any, Any, None]] | None = None  # once it was the first time
        self._last_at = 0.0

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        topic: DistributedTopic[str] = await self.create(client, PATH, DistributedTopic[str])
        callers, number = [self.recorder.caller(PATH) for _ in range(BURST_MAX)], 0

        async def act(count: int) -> None:
            nonlocal number
            calls = []
            for caller in callers[:count]:
                number += 1
                message = f"{name}-{number}"
                publish = partial(topic.publish, message, timeout=CALL_SECONDS)
                record = partial(caller.record, "publish", publish, value=message)
                calls.append(partial(self.counted, record))
            await self.together(calls)

        await self._listen(name, topic)
        await self.repeat(chooser, act, bursts=(1, 1, 2, BURST_MAX))

    async def _listen(self, name: str, topic: DistributedTopic[str]) -> None:
        """In the history every session listens as a process of its own."""
        hearing = self._hearings[name] = Hearing(self.recorder, PATH)

        def hear(message: str) -> None:
            hearing.take(message)
            if message.startswith(LAST):
                self._have_heard_all.add(name)

        def again() -> None:
            hearing.close()
            listener.close()
            self.cluster.run_on(name, self._listen(name, topic))

        listener: Listener[str] = await hearing.open(
            partial(topic.on_message, hear, on_gap=again), result=lambda _: None
        )

    async def conclude(self, client: CopycatClient) -> None:
        topic: DistributedTopic[str] = await client.create(PATH, DistributedTopic[str])
        caller, number = self.recorder.caller(PATH), 0

        async def publish_last() -> None:
            nonlocal number
            number += 1
            self._last_at = self.cluster.loop.now
            last = f"{LAST}, {number}"
            await caller.record("publish", partial(topic.publish, last), value=last)

        await publish_last()
        self._publish_last = publish_last

    def is_settled(self) -> bool:
        """Whether everybody has heard a last message, or is dead."""
        if all(name in self._have_heard_all or self.cluster.hosts[name].is_dead for name in self._hearings):
            return True
        if self._publish_last is not None and self.cluster.loop.now >= self._last_at + LAST_SECONDS:
            self._last_at = self.cluster.loop.now
            self.cluster.run_on(JUDGE, self._publish_last())
        return False

    def verdicts(self) -> Iterator[str]:
        for name, hearing in self._hearings.items():
            if self.cluster.hosts[name].is_dead:
                hearing.close()
        history = self.recorder.history.only(PATH)
        self.figures["events checked"] += sum(event.f == "receive" for event in history.events) // 2
        for violation in check_delivery(history):
            yield f"16: {violation}"
