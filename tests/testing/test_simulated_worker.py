"""Jobs of a disk in virtual time: when they take effect, and what a crash leaves of them."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from copycat.testing.disk import FaultyDisk
from copycat.testing.loop import Host, VirtualLoop
from copycat.testing.worker import SimulatedWorker


class Bench:
    """A host with a disk and one worker, each of whose jobs takes a second."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.host = Host(loop, "a")
        self.disk = FaultyDisk()
        self.completed = 0
        self.worker = SimulatedWorker(self.host, self.disk, lambda: 1.0, self._count)
        self.done: list[BaseException | None] = []
        self.disk.open("data", create=True)

    def _count(self) -> None:
        self.completed += 1

    def submit(self, text: bytes) -> None:
        self.worker.submit(lambda: self._write(text), self.done.append)

    def _write(self, text: bytes) -> None:
        file = self.disk.open("data")
        for at in range(len(text)):
            file.write_at(at, text[at : at + 1])
        file.sync()


def on_bench(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await scenario(Bench(loop))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_a_job_takes_effect_when_its_time_has_passed_and_the_next_begins_then() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(b"one")
        bench.submit(b"two")
        await asyncio.sleep(0.9)
        assert (bench.disk.contents("data"), bench.done) == (b"", [])
        await asyncio.sleep(0.2)
        assert (bench.disk.contents("data"), bench.done) == (b"one", [None])
        await asyncio.sleep(1)
        assert (bench.disk.contents("data"), bench.done, bench.completed) == (b"two", [None, None], 2)

    on_bench(scenario)


def test_an_error_is_handed_to_the_loop() -> None:
    async def scenario(bench: Bench) -> None:
        bench.disk.fail_syncs = True
        bench.submit(b"one")
        await asyncio.sleep(1.1)
        (error,) = bench.done
        assert isinstance(error, OSError)

    on_bench(scenario)


def test_closing_does_what_waits() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(b"one")
        bench.submit(b"two")
        bench.worker.close()
        assert bench.disk.contents("data") == b"two"
        await asyncio.sleep(0)
        assert bench.done == [None, None]

    on_bench(scenario)


def test_a_host_that_dies_leaves_a_job_half_done_and_hears_nothing() -> None:
    left: set[bytes] = set()

    async def scenario(bench: Bench) -> None:
        for seed in range(30):
            bench.disk.overwrite("data", 0, b"....")
            bench.submit(b"text")
            bench.worker.tear(Random(seed))
            bench.disk.end_process()
            left.add(bench.disk.contents("data"))
        bench.host.kill()
        await asyncio.sleep(10)
        assert (bench.done, bench.completed) == ([], 0)

    on_bench(scenario)
    assert {b"....", b"te..", b"text"} <= left
