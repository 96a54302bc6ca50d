"""Whatever is done to it, DistributedAtomicValue is the variable it seems to be; and listeners hear of every change."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.atomic import DistributedAtomicValue, ValueChange
from copycat.resource import PersistenceMode
from copycat.testing.portrait import portrait
from tests.coordination.support import PATH, client, handles, turns
from tests.resource.harness import Replicas, connect

WRITERS = 2

values = st.none() | st.integers(0, 2)
bounds = st.tuples(st.sampled_from([None, 1, 2.5, 60]), st.sampled_from(list(PersistenceMode)))
writers = st.integers(0, WRITERS - 1)
steps = st.one_of(
    st.tuples(st.just("set"), writers, values, bounds),
    st.tuples(st.just("get_and_set"), writers, values, bounds),
    st.tuples(st.just("compare_and_set"), writers, values, values, bounds),
    st.tuples(st.just("replace"), writers, st.booleans(), values, bounds),
    st.tuples(st.just("update"), writers, values, bounds),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1, 2, 30])),
    st.tuples(st.just("leave"), writers, st.booleans()),
)


class Model:
    """The value as its docstring tells it: what it is, when it goes and with whom; and every change there was."""

    def __init__(self) -> None:
        self.now = 0.0
        self.value: Any = None
        self.due = float("inf")
        self.owner: int | None = None
        self.changes: list[tuple[Any, Any]] = []

    def set(self, writer: int | None, value: Any, bound: tuple[Any, Any] = (None, PersistenceMode.PERSISTENT)) -> None:
        ttl, mode = bound if value is not None else (None, PersistenceMode.PERSISTENT)
        if self.value is not None or value is not None:
            self.changes.append((self.value, value))
        self.value = value
        self.due = float("inf") if ttl is None else self.now + ttl
        self.owner = writer if mode else None

    def get_and_set(self, writer: int, value: Any, bound: Any) -> Any:
        previous = self.value
        self.set(writer, value, bound)
        return previous

    def compare_and_set(self, writer: int, expect: Any, value: Any, bound: Any) -> bool:
        if self.value != expect:
            return False
        self.set(writer, value, bound)
        return True

    def replace(self, writer: int, is_current: bool, value: Any, bound: Any) -> bool:
        if is_current:
            self.set(writer, value, bound)
        return is_current

    def update(self, writer: int, value: Any, bound: Any) -> Any:
        if value is not None or self.value is not None:
            self.set(writer, value, bound)
        return value

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.due <= self.now:
            self.set(None, None)

    def leave(self, writer: int, expired: bool) -> None:
        if self.owner == writer:
            self.set(None, None)


class World:
    """Two programs that write and leave and come back, and one that listens."""

    def __init__(self) -> None:
        self.replicas = Replicas(DistributedAtomicValue, count=2)
        self.values: list[DistributedAtomicValue[int]] = []
        self.changes: list[tuple[Any, Any]] = []

    async def open(self) -> None:
        *self.values, listening = await handles(self.replicas, DistributedAtomicValue, WRITERS + 1)
        await listening.on_change(self.hear)

    def hear(self, change: ValueChange[int]) -> None:
        self.changes.append((change.old, change.new))

    async def step(self, verb: str, *arguments: Any) -> Any:
        if verb == "advance":
            self.replicas.advance(*arguments)
            return None
        writer, *rest = arguments
        if verb == "leave":
            self.replicas.end(client(self.values[writer]).session, expired=rest[0])
            self.values[writer] = await (await connect(self.replicas)).create(PATH, DistributedAtomicValue)
            return None
        handle = self.values[writer]
        *given_values, (ttl, mode) = rest
        if verb == "update":
            return await handle.update(lambda _: given_values[0], ttl=ttl, mode=mode)
        lifetime = {} if given_values[-1] is None else {"ttl": ttl, "mode": mode}
        if verb == "replace":
            entry = await handle.entry()
            version = (entry.version if entry is not None else 0) if given_values[0] else 1
            return await handle.replace(given_values[1], version=version, **lifetime)
        return await getattr(handle, verb)(*given_values, **lifetime)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=30))
def test_a_value_is_the_variable_it_seems_to_be(plan: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        world, model = World(), Model()
        await world.open()
        for verb, *arguments in plan:
            assert await world.step(verb, *arguments) == getattr(model, verb)(*arguments), (verb, arguments)
            assert await world.values[0].get() == model.value
            await turns(2)
            assert world.changes == model.changes
        states = [
            (portrait(replica.machine(3)), len(replica.clockwork.timers))
            for replica in [*world.replicas.replicas, world.replicas.replay()]
        ]
        assert states[0] == states[1] == states[2]
        assert states[0][1] == (model.due != float("inf"))

    asyncio.run(run())
