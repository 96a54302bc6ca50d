"""The event loop in virtual time, its hosts and their clocks."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from copycat.testing.loop import Host, VirtualLoop, VirtualLoopError


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> VirtualLoop:
    """Run it on a loop of its own; returns that."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        runner.run(main(loop))
        return loop


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_year_passes_at_once() -> None:
    async def main(loop: VirtualLoop) -> None:
        await asyncio.sleep(365 * 86_400)

    assert run(main).now == pytest.approx(365 * 86_400)


def test_timers_of_one_moment_ring_in_the_order_they_were_set() -> None:
    rung: list[int] = []

    async def main(loop: VirtualLoop) -> None:
        for number in range(50):
            loop.call_at(1.0, rung.append, number)
        loop.call_at(0.5, rung.append, -1)
        loop.call_at(0.7, rung.append, -2).cancel()
        await asyncio.sleep(2)

    run(main)
    assert rung == [-1, *range(50)]


def test_when_nothing_will_ever_happen_the_tasks_that_wait_are_named() -> None:
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    async def main(loop: VirtualLoop) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_godot(), name="vladimir")

    with pytest.raises(VirtualLoopError, match=r"nothing will ever happen.*vladimir in .*wait_for_godot"):
        run(main)


def test_callbacks_without_end_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copycat.testing.loop.STILL_MAX", 1000)

    async def main(loop: VirtualLoop) -> None:
        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(VirtualLoopError, match="no time passed"):
        run(main)


def test_a_callback_that_takes_long_makes_everybody_wait() -> None:
    async def main(loop: VirtualLoop) -> None:
        late: list[float] = []
        loop.call_later(1, lambda: late.append(loop.now))
        loop.block(5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert late == [5]

    run(main)


# -- what there is not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "attempt"),
    [
        ("a thread", lambda loop: asyncio.to_thread(print)),
        ("a socket", lambda loop: asyncio.open_connection("127.0.0.1", 1)),
        ("a socket", lambda loop: asyncio.start_server(print, "127.0.0.1", 0)),
        ("a socket", lambda loop: loop.sock_connect(None, ("127.0.0.1", 1))),
        ("a name server", lambda loop: loop.getaddrinfo("localhost", 1)),
        ("a process", lambda loop: asyncio.create_subprocess_exec("true")),
        ("a file descriptor", lambda loop: loop.add_reader(0, print)),
    ],
)
def test_what_reaches_outside_is_refused_by_name(what: str, attempt: Callable[[VirtualLoop], Any]) -> None:
    async def main(loop: VirtualLoop) -> None:
        with pytest.raises(VirtualLoopError, match=what):
            await attempt(loop)

    run(main)


def test_another_thread_may_not_call_in() -> None:
    async def main(loop: VirtualLoop) -> None:
        refused: list[Exception] = []

        def call() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except VirtualLoopError as error:
                refused.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert len(refused) == 1

    run(main)


# -- hosts -----------------------------------------------------------------------------------------------------------


async def tick(seen: list[float]) -> None:
    """Note the time, second by second, by the clock of whoever runs this."""
    while True:
        seen.append(round(asyncio.get_running_loop().time(), 3))
        await asyncio.sleep(1)


def test_a_paused_host_does_nothing_and_goes_on_to_a_later_time() -> None:
    async def main(loop: VirtualLoop) -> None:
        host, seen = Host(loop, "a"), list[float]()
        host.start(tick(seen))
        await asyncio.sleep(1.5)
        host.pause()
        host.pause()
        await asyncio.sleep(5)
        host.resume()
        await asyncio.sleep(5)
        assert seen == [0, 1]
        host.resume()
        await asyncio.sleep(1.2)
        assert seen == [0, 1, 11.5, 12.5]
        await host.bury()

    run(main)


def test_everything_that_follows_from_what_a_host_began_is_the_host_s() -> None:
    async def main(loop: VirtualLoop) -> None:
        host, done = Host(loop, "a"), list[str]()

        async def child() -> None:
            await asyncio.sleep(1)
            done.append("task")

        async def parent() -> None:
            loop.call_later(1, done.append, "timer")
            asyncio.get_running_loop().create_future().add_done_callback(print)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())

        host.start(parent())
        host.call(loop.call_soon, done.append, "call")
        await asyncio.sleep(0.5)
        assert done == ["call"]
        host.pause()
        await asyncio.sleep(5)
        assert done == ["call"]
        host.resume()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(done) == ["call", "task", "timer"]

    run(main)


def test_what_a_dead_host_was_at_never_goes_on_and_no_finally_runs_until_it_is_buried() -> None:
    async def main(loop: VirtualLoop) -> None:
        host, ended = Host(loop, "a"), list[float]()

        async def work() -> None:
            try:
                await asyncio.sleep(1)
                ended.append(-1)
            finally:
                ended.append(loop.now)

        host.start(work())
        await asyncio.sleep(0.5)
        host.kill()
        host.call(loop.call_soon, ended.append, -2)
        await asyncio.sleep(10)
        assert ended == []
        await host.bury()
        assert ended == [-2, 10.5]

    run(main)


def test_a_machine_that_slept_finds_its_timers_where_they_were_and_the_boot_time_gone_on() -> None:
    async def main(loop: VirtualLoop) -> None:
        host, seen = Host(loop, "a"), list[float]()
        host.start(tick(seen))
        await asyncio.sleep(1.5)
        host.suspend(10)
        await asyncio.sleep(10.4)
        assert seen == [0, 1]
        await asyncio.sleep(0.2)
        assert seen == [0, 1, 2]
        assert host.clock.boottime_ms() == 12_100
        assert host.clock.monotonic() == pytest.approx(2.1)
        await host.bury()

    run(main)


def test_a_call_that_blocks_sees_its_own_time_pass_and_holds_up_its_host_alone() -> None:
    async def main(loop: VirtualLoop) -> None:
        one, other = Host(loop, "a"), Host(loop, "b")
        seen, others = list[float](), list[float]()
        one.start(tick(seen))
        other.start(tick(others))
        await asyncio.sleep(0.5)

        def work() -> None:
            before = loop.time()
            one.block(2)
            one.block(1)
            assert loop.time() == pytest.approx(before + 3)

        one.call(work)
        await asyncio.sleep(3.6)
        assert others == [0, 1, 2, 3, 4]
        assert seen == [0, 3.5]
        await one.bury()
        await other.bury()

    run(main)


def test_a_fast_clock_shows_more_and_its_timers_come_early() -> None:
    async def main(loop: VirtualLoop) -> None:
        host, seen = Host(loop, "a"), list[float]()
        host.clock.set_rate(2.0)
        host.start(tick(seen))
        await asyncio.sleep(1.1)
        assert seen == [0, 1, 2]
        host.clock.jump(-3600)
        assert host.clock.monotonic() == pytest.approx(2.2)
        assert host.clock.wall_ms() % 86_400_000 == 86_400_000 - 3_600_000 + 2_200
        with pytest.raises(ValueError, match="runs forward"):
            host.clock.set_rate(0)
        await host.bury()

    run(main)
