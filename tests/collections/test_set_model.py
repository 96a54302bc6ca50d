"""Whatever is done to it, DistributedSet is the set it seems to be; and so is a set of somebody who only listens."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.collections import DistributedSet
from copycat.io.serializer import encode_key
from copycat.resource import PersistenceMode
from copycat.testing.portrait import portrait
from tests.coordination.support import PATH, client, handles, turns
from tests.resource.harness import Replicas, connect

WRITERS = 2

values = st.sampled_from(["a", "b", 1, True, ("a", 1)])
lifetimes = st.tuples(st.sampled_from([None, 1, 2.5, 60]), st.sampled_from(list(PersistenceMode)))
steps = st.one_of(
    st.tuples(st.just("add"), st.integers(0, WRITERS - 1), values, lifetimes),
    st.tuples(st.just("remove"), st.integers(0, WRITERS - 1), values),
    st.tuples(st.just("clear"), st.integers(0, WRITERS - 1)),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1, 2, 30])),
    st.tuples(st.just("leave"), st.integers(0, WRITERS - 1), st.booleans()),
)


@dataclass
class Model:
    """The set as its docstring tells it: members by their canonical bytes, with when and with whom they go."""

    now: float = 0
    members: dict[bytes, tuple[float, int | None]] = field(default_factory=dict)

    def add(self, writer: int, value: Any, lifetime: tuple[float | None, PersistenceMode]) -> bool:
        ttl, mode = lifetime
        known = encode_key(value) in self.members
        if not known:
            due = float("inf") if ttl is None else self.now + ttl
            self.members[encode_key(value)] = due, writer if mode else None
        return not known

    def remove(self, writer: int, value: Any) -> bool:
        return self.members.pop(encode_key(value), None) is not None

    def clear(self, writer: int) -> None:
        self.members.clear()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.members = {member: (due, owner) for member, (due, owner) in self.members.items() if due > self.now}

    def leave(self, writer: int, expired: bool) -> None:
        self.members = {member: bound for member, bound in self.members.items() if bound[1] != writer}


class World:
    """Two programs that write and leave and come back, and one that listens."""

    def __init__(self) -> None:
        self.replicas = Replicas(DistributedSet, count=2)
        self.sets: list[DistributedSet[Any]] = []
        self.heard: set[bytes] = set()

    async def open(self) -> None:
        *self.sets, listening = await handles(self.replicas, DistributedSet, WRITERS + 1)
        await listening.on_add(self.hear_of_new)
        await listening.on_remove(lambda member: self.heard.remove(encode_key(member)))

    def hear_of_new(self, member: Any) -> None:
        assert encode_key(member) not in self.heard
        self.heard.add(encode_key(member))

    async def add(self, writer: int, value: Any, lifetime: tuple[float | None, PersistenceMode]) -> bool:
        return await self.sets[writer].add(value, ttl=lifetime[0], mode=lifetime[1])

    async def remove(self, writer: int, value: Any) -> bool:
        return await self.sets[writer].remove(value)

    async def clear(self, writer: int) -> None:
        await self.sets[writer].clear()

    async def advance(self, seconds: float) -> None:
        self.replicas.advance(seconds)

    async def leave(self, writer: int, expired: bool) -> None:
        self.replicas.end(client(self.sets[writer]).session, expired=expired)
        self.sets[writer] = await (await connect(self.replicas)).create(PATH, DistributedSet)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=30))
def test_a_set_is_the_set_it_seems_to_be(plan: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        world, model = World(), Model()
        await world.open()
        for verb, *arguments in plan:
            answer = await getattr(world, verb)(*arguments)
            assert answer == getattr(model, verb)(*arguments), (verb, arguments)
            await turns(2)
            assert world.heard == set(model.members)
        reader = world.sets[0]
        assert [encode_key(member) async for member in reader.members()] == sorted(model.members)
        assert await reader.size() == len(model.members)
        states = [
            (portrait(replica.machine(3)), len(replica.clockwork.timers))
            for replica in [*world.replicas.replicas, world.replicas.replay()]
        ]
        assert states[0] == states[1] == states[2]
        assert states[0][1] == sum(due != float("inf") for due, _ in model.members.values())

    asyncio.run(run())
