"""A topic: nothing twice, and what two listeners both heard they heard in one order."""

from collections.abc import Iterator
from random import Random

from copycat.client import CopycatClient
from copycat.coordination import DistributedTopic
from copycat.testing.workload.work import CALL_SECONDS, Site, Work


class TopicWork(Work):
    """Everybody publishes and listens."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._heard: dict[str, list[str]] = {}  # client -> messages

    async def use(self, name: str, client: CopycatClient, chooser: Random) -> None:
        topic: DistributedTopic[str] = await self.create(client, "topic", DistributedTopic[str])
        heard = self._heard[name] = []
        number = 0

        async def act() -> None:
            nonlocal number
            number += 1
            await topic.publish(f"{name}-{number}", timeout=CALL_SECONDS)

        await self.insist(lambda: topic.on_message(heard.append, on_gap=lambda *_: None))
        await self.repeat(chooser, lambda: self.counted(act))

    def verdicts(self) -> Iterator[str]:
        for name, heard in self._heard.items():
            self.figures["events checked"] += len(heard)
            if len(set(heard)) != len(heard):
                yield f"16: {name} heard a message twice"
        names = list(self._heard)
        for number, name in enumerate(names):
            order = {message: at for at, message in enumerate(self._heard[name])}
            for other in names[number + 1 :]:
                common = [order[message] for message in self._heard[other] if message in order]
                if common != sorted(common):
                    yield f"16: {name} and {other} heard the topic in different orders"
