"""Whatever is done to it, DistributedMap is the dict it seems to be, on every replica and in every replay."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.collections import DistributedMap
from copycat.handle import Copycat
from copycat.resource import PersistenceMode
from tests.resource.harness import Replica, Replicas, connect

WRITERS = 2
MAP_ID = 4  # the log begins with the types and the sessions

keys = st.sampled_from(["a", "b", 1, True, ("a", 1)])
values = st.integers(0, 2)
writers = st.integers(0, WRITERS - 1)
lifetimes = st.fixed_dictionaries(
    {"ttl": st.sampled_from([None, 1, 2.5, 60]), "mode": st.sampled_from(list(PersistenceMode))}
)

steps = st.one_of(
    st.tuples(st.just("put"), writers, st.tuples(keys, values), lifetimes),
    st.tuples(st.just("put_if_absent"), writers, st.tuples(keys, values), lifetimes),
    st.tuples(st.just("replace"), writers, st.tuples(keys, values), lifetimes),
    st.tuples(st.just("replace"), writers, st.tuples(keys, values, values), lifetimes),
    st.tuples(st.just("remove"), writers, st.tuples(keys), st.just({})),
    st.tuples(st.just("remove"), writers, st.tuples(keys, values), st.just({})),
    st.tuples(st.just("clear"), writers, st.just(()), st.just({})),
    st.tuples(st.just("advance"), writers, st.tuples(st.sampled_from([0.5, 1, 2, 30])), st.just({})),
    st.tuples(st.just("leave"), writers, st.tuples(st.booleans()), st.just({})),
)


@dataclass
class Entry:
    value: Any
    due: float | None
    owner: int | None


@dataclass
class Model:
    """The map as its docstring tells it, in a dict."""

    now: float = 0
    entries: dict[Any, Entry] = field(default_factory=dict)

    def step(self, verb: str, writer: int, arguments: tuple[Any, ...], lifetime: dict[str, Any]) -> Any:
        handler = getattr(self, f"{verb}_{len(arguments)}", None) or getattr(self, verb)
        return handler(writer, *arguments, **lifetime)

    def put(self, writer: int, key: Any, value: Any, ttl: float | None, mode: PersistenceMode) -> Any:
        previous = self.get(key)
        due = None if ttl is None else self.now + ttl
        self.entries[tagged(key)] = Entry(value, due, writer if mode else None)
        return previous

    def put_if_absent(self, writer: int, key: Any, value: Any, **lifetime: Any) -> Any:
        return self.put(writer, key, value, **lifetime) if self.get(key) is None else self.get(key)

    def replace_2(self, writer: int, key: Any, value: Any, **lifetime: Any) -> Any:
        return None if self.get(key) is None else self.put(writer, key, value, **lifetime)

    def replace_3(self, writer: int, key: Any, old: Any, new: Any, **lifetime: Any) -> bool:
        if self.get(key) != old:
            return False
        self.put(writer, key, new, **lifetime)
        return True

    def remove_1(self, writer: int, key: Any) -> Any:
        previous = self.get(key)
        self.entries.pop(tagged(key), None)
        return previous

    def remove_2(self, writer: int, key: Any, value: Any) -> bool:
        if self.get(key) != value:
            return False
        self.entries.pop(tagged(key))
        return True

    def clear(self, writer: int) -> None:
        self.entries.clear()

    def advance(self, writer: int, seconds: float) -> None:
        self.now += seconds
        self.keep(lambda entry: entry.due is None or entry.due > self.now)

    def leave(self, writer: int, expired: bool) -> None:
        self.keep(lambda entry: entry.owner != writer)

    def keep(self, wanted: Any) -> None:
        self.entries = {key: entry for key, entry in self.entries.items() if wanted(entry)}

    def get(self, key: Any) -> Any:
        entry = self.entries.get(tagged(key))
        return None if entry is None else entry.value


def tagged(key: Any) -> Any:
    """As strict about types as the map: a dict takes True for 1."""
    return type(key), key


def state_of(replica: Replica) -> Any:
    """All there is to a map's state, in its order."""
    machine = replica.machine(MAP_ID)
    lifetimes = {
        key: (lifetime.index, lifetime.session_id, lifetime.timer and lifetime.timer.due)
        for key, lifetime in machine._lifetimes.items()
    }
    owned = [(session, list(keys)) for session, keys in machine._owned.items()]
    return list(machine._values.items()), list(lifetimes.items()), owned, len(replica.clockwork.timers)


class World:
    """Two sessions of one map; one that leaves comes back as another."""

    def __init__(self) -> None:
        self.replicas = Replicas(DistributedMap, count=2)
        self.copycats: list[Copycat] = []
        self.maps: list[DistributedMap[Any, Any]] = []

    async def open(self) -> None:
        self.copycats = [await connect(self.replicas) for _ in range(WRITERS)]
        self.maps = [await each.create("map", DistributedMap) for each in self.copycats]

    async def step(self, verb: str, writer: int, arguments: tuple[Any, ...], lifetime: dict[str, Any]) -> Any:
        if verb == "advance":
            return self.replicas.advance(*arguments)
        if verb == "leave":
            client: Any = self.copycats[writer]._client
            self.replicas.end(client.session, expired=arguments[0])
            self.copycats[writer] = await connect(self.replicas)
            self.maps[writer] = await self.copycats[writer].get("map", DistributedMap)
            return None
        return await getattr(self.maps[writer], verb)(*arguments, **lifetime)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=30))
def test_a_map_is_the_dict_it_seems_to_be(plan: list[tuple[str, int, tuple[Any, ...], dict[str, Any]]]) -> None:
    """Random steps by two sessions, against a dict that knows times and owners; then the log once more."""

    async def run() -> None:
        world, model = World(), Model()
        await world.open()
        for step in plan:
            assert await world.step(*step) == model.step(*step), step
            assert await world.maps[0].size() == len(model.entries)
        for kind, key in model.entries:
            assert await world.maps[1].get(key) == model.entries[kind, key].value
        first, second = world.replicas.replicas
        assert state_of(first) == state_of(second) == state_of(world.replicas.replay())
        bound = sum(entry.due is not None for entry in model.entries.values())
        assert len(first.clockwork.timers) == bound

    asyncio.run(run())
