"""What the demo's clients do besides writing to maps: count together, take a lock in turn, elect who publishes.

Each job is done by all clients at once, remembers what was acknowledged, and compares that with what is there in the
end. What ended unknown counts as neither acknowledged nor lost; it may be there or not.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from copycat.atomic import DistributedAtomicValue
from copycat.cli.workload import Pace, Row
from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLeaderElection, DistributedLock, DistributedTopic, Term
from copycat.errors import IndeterminateError, RetryableError, SessionError

REST_S = 0.02
TERM_S = 1.0  # a leader makes room for the next one after so long
HEAR_S = 10.0  # how long to wait for messages under way, in the end

TURN = "turn"


class Job(Protocol):
    """Something all clients do until the pace is over."""

    name: str

    async def run(self, pace: Pace) -> None: ...

    async def read_back(self, reader: CopycatClient) -> Row:
        """Compare what was acknowledged with what `reader` finds."""


@dataclass(slots=True)
class Counting:
    """A counter by compare-and-set: each success is one more, and there must be as many as it says in the end."""

    values: list[DistributedAtomicValue[int]]
    name: str = "counter"
    acknowledged: int = 0
    unsure: int = 0

    async def run(self, pace: Pace) -> None:
        async with asyncio.TaskGroup() as tasks:
            for value in self.values:
                tasks.create_task(self._count(value, pace))

    async def _count(self, value: DistributedAtomicValue[int], pace: Pace) -> None:
        while not pace.is_over:
            try:
                now = await value.get()
                done = await value.compare_and_set(now, (now or 0) + 1)
                self.acknowledged += done  # apart from the await: the others count meanwhile
            except IndeterminateError:
                self.unsure += 1
            except (RetryableError, SessionError):
                pass
            await asyncio.sleep(REST_S)

    async def read_back(self, reader: CopycatClient) -> Row:
        value = await reader.create(self.values[0].path, DistributedAtomicValue[int])
        return compare(self.acknowledged, self.unsure, await value.get() or 0)


@dataclass(slots=True)
class TakingTurns:
    """A lock, and something only its holder may touch: reading it and writing it back would lose turns of two at once.

    A token that is not larger than the last holder's counts as a turn taken twice.
    """

    locks: list[tuple[DistributedLock, DistributedMap[str, list[int]]]]
    name: str = "lock"
    acknowledged: int = 0
    unsure: int = 0
    out_of_order: int = 0

    async def run(self, pace: Pace) -> None:
        async with asyncio.TaskGroup() as tasks:
            for lock, notes in self.locks:
                tasks.create_task(self._take_turns(lock, notes, pace))

    async def _take_turns(self, lock: DistributedLock, notes: DistributedMap[str, list[int]], pace: Pace) -> None:
        while not pace.is_over:
            try:
                async with lock.hold() as held:
                    token, turns = await notes.get(TURN) or [0, 0]
                    self.out_of_order += held.token <= token
                    await notes.put(TURN, [held.token, turns + 1])
                self.acknowledged += 1
            except (IndeterminateError, RetryableError, SessionError):
                self.unsure += 1
            await asyncio.sleep(REST_S)

    async def read_back(self, reader: CopycatClient) -> Row:
        notes = await reader.create(self.locks[0][1].path, DistributedMap[str, list[int]])
        _, turns = await notes.get(TURN) or [0, 0]
        row = compare(self.acknowledged, self.unsure, turns)
        row.duplicated += self.out_of_order
        return row


@dataclass(slots=True)
class Publishing:
    """An election whose leader publishes its epoch and a number. All must hear every message once, in one order."""

    elections: list[tuple[DistributedLeaderElection, DistributedTopic[list[int]]]]
    name: str = "topic"
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    unsure: set[tuple[int, int]] = field(default_factory=set)
    heard: list[list[tuple[int, int]]] = field(default_factory=list)  # by listener
    gaps: int = 0
    patience: float = HEAR_S

    async def listen(self) -> None:
        """Hear what is published from now on."""
        for _, topic in self.elections:
            heard: list[tuple[int, int]] = []
            self.heard.append(heard)
            await topic.on_message(partial(_note, heard), on_gap=self._gap)

    def _gap(self) -> None:
        self.gaps += 1

    async def run(self, pace: Pace) -> None:
        async with asyncio.TaskGroup() as tasks:
            for election, topic in self.elections:
                tasks.create_task(self._stand(election, topic, pace))

    async def _stand(self, election: DistributedLeaderElection, topic: DistributedTopic[list[int]], pace: Pace) -> None:
        async def lead(term: Term) -> None:
            loop = asyncio.get_running_loop()
            end, number = loop.time() + TERM_S, 0
            while loop.time() < end and not pace.is_over:
                number += 1
                message = term.epoch, number
                self.unsure.add(message)
                await topic.publish(list(message))
                self.unsure.discard(message)
                self.acknowledged.append(message)
                await asyncio.sleep(REST_S)

        while not pace.is_over:
            try:
                await election.run(lead)
            except (IndeterminateError, RetryableError, SessionError):
                await asyncio.sleep(REST_S)

    async def read_back(self, reader: CopycatClient) -> Row:
        """Who heard what; `reader` is not needed."""
        expected = set(self.acknowledged)
        try:
            async with asyncio.timeout(self.patience):
                while not all(expected <= set(heard) for heard in self.heard):  # noqa: ASYNC110  # messages ring no bell here
                    await asyncio.sleep(REST_S)
        except TimeoutError:
            pass  # they are counted as lost
        everywhere = expected.intersection(*map(set, self.heard))
        repeated = sum(sum(Counter(heard).values()) - len(set(heard)) for heard in self.heard)
        strange = sum(len(set(heard) - expected - self.unsure) for heard in self.heard)
        disordered = sum(heard != self.heard[0] for heard in self.heard) if not self.gaps else 0
        lost = len(expected) - len(everywhere) + disordered
        return Row(len(expected), len(everywhere), lost, repeated + strange)


def _note(heard: list[tuple[int, int]], message: list[int]) -> None:
    epoch, number = message
    heard.append((epoch, number))


def compare(acknowledged: int, unsure: int, found: int) -> Row:
    """The row of something that is counted: as many as were acknowledged, and perhaps those of unknown outcome."""
    missing, extra = max(0, acknowledged - found), max(0, found - acknowledged - unsure)
    return Row(acknowledged, acknowledged - missing, missing, extra)


async def open_jobs(clients: Sequence[CopycatClient]) -> list[Job]:
    """The three jobs, shared by these clients."""
    counting, turns, publishing = Counting([]), TakingTurns([]), Publishing([])
    for client in clients:
        counting.values.append(await client.create("demo-counter", DistributedAtomicValue[int]))
        lock = await client.create("demo-lock", DistributedLock)
        turns.locks.append((lock, await client.create("demo-turns", DistributedMap[str, list[int]])))
        election = await client.create("demo-election", DistributedLeaderElection)
        publishing.elections.append((election, await client.create("demo-topic", DistributedTopic[list[int]])))
    await publishing.listen()
    return [counting, turns, publishing]
