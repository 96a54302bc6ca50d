"""How what a put costs grows with the number of keys, of sessions, and of resources."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.benchmark import Benchmark, Case, Options, Picture, Plan
from benchmarks.cluster import job, resident
from benchmarks.figures import CPU_CLIENT, CPU_FOLLOWER, CPU_LEADER, MEDIAN_MS, P99_MS, PER_SECOND, Column
from benchmarks.sessions import Crowd, crowd_of
from copycat.cli.measuring import Figures

Steps = dict[str, tuple[int, ...]]

STEPS: Steps = {
    "keys": (1_000, 10_000, 100_000, 1_000_000),
    "sessions": (1, 10, 100, 1_000, 10_000),
    "resources": (1, 10, 100, 1_000, 10_000),
}
TINY_STEPS: Steps = {"keys": (20,), "sessions": (2,), "resources": (3,)}
IN_FLIGHT = 1024
KEYS_OF_EACH = 100  # where many resources share the load
SNAPSHOT = (
    "To write a million keys calls for a snapshot, so one is being taken in most windows with so many; it is that "
    "which is measured there, and not what a key costs."
)

MEMORY = Column("mib", "MiB, largest server", 1)


class Growing:
    """One cluster at a time, that grows in one respect: another respect, or a smaller size, begins with a new one."""

    def __init__(self, options: Options, stack: AsyncExitStack) -> None:
        self.options = options
        self._stack = stack
        self._now = ("", 0)
        self._crowd: Crowd | None = None

    async def crowd(self, respect: str, size: int) -> Crowd:
        """The cluster for this step."""
        before, self._now = self._now, (respect, size)
        if self._crowd is None or before[0] != respect or before[1] >= size:
            await self._stack.aclose()
            self._crowd = await self._stack.enter_async_context(crowd_of(self.options))
        return self._crowd


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    async with AsyncExitStack() as stack:
        growing = Growing(options, stack)
        steps = options.pick(STEPS, TINY_STEPS)
        cases = [case(growing, respect, size) for respect, sizes in steps.items() for size in sizes]
        yield Plan(cases, notes=[SNAPSHOT])


def case(growing: Growing, respect: str, size: int) -> Case:
    """Puts by one session at that size. The sessions beside it do nothing, keys and resources are all written to."""
    options = growing.options

    async def measure() -> Figures:
        crowd = await growing.crowd(respect, size)
        (leader,) = await crowd.servers.addresses("leader")
        more: dict[str, Any] = {}
        if respect == "keys":
            more = {"keys": size, "fill": True}
        elif respect == "resources":
            more = {"keys": KEYS_OF_EACH, "maps": size}
        else:
            await crowd.grow(size - 1)
        figures = await crowd.servers.load(job(options, leader, in_flight=options.pick(IN_FLIGHT, 16), **more))
        memory = resident(crowd.servers.process_ids)
        return {**figures, "mib": None if memory is None else memory / (1 << 20)}

    return Case(f"{respect} {size:,}", measure)


BENCHMARK = Benchmark(
    name="scale",
    question=f"What a put of 100 B costs, {IN_FLIGHT:,} in flight, as keys, idle sessions, or resources become many.",
    columns=(PER_SECOND, MEDIAN_MS, P99_MS, CPU_LEADER, CPU_FOLLOWER, CPU_CLIENT, MEMORY),
    picture=Picture(CPU_LEADER, "lines"),
    prepare=prepare,
)
