"""Whatever is done to it, DistributedMap is the dict it seems to be, on every replica and in every replay.

And so is a dict that somebody keeps who only listens.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.collections import DistributedMap, MapChange
from copycat.handle import Copycat
from copycat.io.serializer import encode_key
from copycat.resource import PersistenceMode
from copycat.testing.portrait import portrait
from tests.coordination.support import turns
from tests.resource.harness import Replica, Replicas, connect

WRITERS = 2
MAP_ID = 5  # the log begins with the types and the sessions

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
    st.tuples(st.just("replace_version"), writers, st.tuples(keys, values, st.booleans()), lifetimes),
    st.tuples(st.just("remove_version"), writers, st.tuples(keys, st.booleans()), st.just({})),
    st.tuples(st.just("update"), writers, st.tuples(keys, st.none() | values), lifetimes),
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

    def replace_version(self, writer: int, key: Any, value: Any, is_current: bool, **lifetime: Any) -> bool:
        if self.get(key) is None or not is_current:
            return False
        self.put(writer, key, value, **lifetime)
        return True

    def remove_version(self, writer: int, key: Any, is_current: bool) -> bool:
        return is_current and self.remove_1(writer, key) is not None

    def update(self, writer: int, key: Any, value: Any, **lifetime: Any) -> Any:
        if value is None:
            self.remove_1(writer, key)
        else:
            self.put(writer, key, value, **lifetime)
        return value

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
    return portrait(replica.machine(MAP_ID)), len(replica.clockwork.timers)


class Listening:
    """What somebody makes of a map's changes."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}
        self.of_key: list[MapChange[Any, Any]] = []
        self.all: list[MapChange[Any, Any]] = []

    async def open(self, handle: DistributedMap[Any, Any]) -> None:
        for listen in (handle.on_add, handle.on_update, handle.on_remove):
            await listen(self.take)
            await listen(self.of_key.append, key="a")

    def take(self, change: MapChange[Any, Any]) -> None:
        key = tagged(change.key)
        assert self.entries.pop(key, None) == change.old
        if change.new is not None:
            self.entries[key] = change.new
        self.all.append(change)


class World:
    """Two sessions of one map; one that leaves comes back as another. A third listens."""

    def __init__(self) -> None:
        self.replicas = Replicas(DistributedMap, count=2)
        self.copycats: list[Copycat] = []
        self.maps: list[DistributedMap[Any, Any]] = []
        self.listening = Listening()

    async def open(self) -> None:
        self.copycats = [await connect(self.replicas) for _ in range(WRITERS)]
        listener = await connect(self.replicas)
        self.maps = [await each.create("map", DistributedMap) for each in self.copycats]
        await self.listening.open(await listener.create("map", DistributedMap))

    async def step(self, verb: str, writer: int, arguments: tuple[Any, ...], lifetime: dict[str, Any]) -> Any:
        if verb == "advance":
            return self.replicas.advance(*arguments)
        if verb == "leave":
            client: Any = self.copycats[writer]._client
            self.replicas.end(client.session, expired=arguments[0])
            self.copycats[writer] = await connect(self.replicas)
            self.maps[writer] = await self.copycats[writer].get("map", DistributedMap)
            return None
        handle = self.maps[writer]
        if verb == "update":
            key, value = arguments
            return await handle.update(key, lambda _: value, **lifetime)
        if verb.endswith("_version"):
            *arguments_before, is_current = arguments
            entry = await handle.entry(arguments[0])
            version = entry.version if entry is not None and is_current else 1
            return await getattr(handle, verb.removesuffix("_version"))(*arguments_before, version=version, **lifetime)
        return await getattr(handle, verb)(*arguments, **lifetime)


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
            await turns(2)
            assert world.listening.entries == {key: entry.value for key, entry in model.entries.items()}, step
        for kind, key in model.entries:
            assert await world.maps[1].get(key) == model.entries[kind, key].value
        in_order = sorted((key for _, key in model.entries), key=encode_key)
        assert [(tagged(key), value) async for key, value in world.maps[1].items()] == [
            (tagged(key), model.get(key)) for key in in_order
        ]
        assert world.listening.of_key == [change for change in world.listening.all if change.key == "a"]
        first, second = world.replicas.replicas
        assert state_of(first) == state_of(second) == state_of(world.replicas.replay())
        bound = sum(entry.due is not None for entry in model.entries.values())
        assert len(first.clockwork.timers) == bound

    asyncio.run(run())
