"""The small tools: addresses, clocks, tasks, backoff, listeners, builders, contexts, statistics."""

import asyncio
import logging
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import ClosedError, ConfigurationError, ForkedError, ThreadError
from copycat.util.address import Address
from copycat.util.backoff import Backoff
from copycat.util.builder import Buildable, Builder
from copycat.util.clock import Clock, ManualClock, SystemClock
from copycat.util.context import Context
from copycat.util.listeners import Listener, Listeners
from copycat.util.statistics import Histogram, Latencies
from copycat.util.tasks import TaskOwner

# --- address ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:5001", Address("localhost", 5001)),
        (" h1:0 ", Address("h1", 0)),
        ("127.0.0.1:65535", Address("127.0.0.1", 65535)),
        ("[::1]:5001", Address("::1", 5001)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "h", "h:", ":1", "h:x", "h:-1", "h:65536", "::1:5", "[::1]", "h:1:2", "a b:1", "h:\u0661", "h/:1"]
)
def test_a_bad_address_is_a_configuration_error_that_quotes_it(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Address.parse(text)


@given(st.text())
def test_any_text_is_an_address_or_a_configuration_error(text: str) -> None:
    try:
        assert Address.parse(str(Address.parse(text))) == Address.parse(text)
    except ConfigurationError:
        pass


def test_ports_are_integers_in_range() -> None:
    for port in (-1, 65_536, True):
        with pytest.raises(ConfigurationError):
            Address("h", port)


def test_loopback_is_told_without_looking_anything_up() -> None:
    assert all(Address(host, 1).is_loopback for host in ("localhost", "LocalHost.", "127.9.9.9", "::1"))
    assert not any(Address(host, 1).is_loopback for host in ("h1", "0.0.0.0", "::", "10.0.0.1", "localhost.evil"))


# --- clock ------------------------------------------------------------------------------------------------------------


def test_the_system_clock_moves_forward() -> None:
    clock: Clock = SystemClock()
    one = (clock.monotonic(), clock.boottime_ms(), clock.wall_ms())
    two = (clock.monotonic(), clock.boottime_ms(), clock.wall_ms())
    assert two[0] >= one[0]
    assert two[1] >= one[1] > 0
    assert one[2] > 1_600_000_000_000


def test_a_manual_clock_moves_when_told_and_counts_sleep_apart() -> None:
    manual = ManualClock(wall_ms=1000)
    clock: Clock = manual
    manual.advance(1.5)
    manual.suspend(2)
    assert (clock.monotonic(), clock.boottime_ms(), clock.wall_ms()) == (1.5, 3500, 4500)
    with pytest.raises(ValueError, match="back"):
        manual.advance(-1)


def test_tiny_steps_of_a_manual_clock_add_up() -> None:
    clock = ManualClock()
    for _ in range(10_000):
        clock.advance(0.0001)
    assert clock.boottime_ms() == 1000


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_close_cancels_and_awaits_every_task() -> None:
    owner = TaskOwner("room")
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    first = owner.start(work("a"), name="a")
    owner.start(work("b"))
    await asyncio.sleep(0)
    assert first.get_name() == "room-a"
    assert len(owner) == 2
    await owner.close()
    await owner.close()
    assert sorted(ended) == ["a", "b"]
    assert len(owner) == 0
    assert owner.is_closed


async def test_a_failure_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = []
    owner = TaskOwner("room", on_failure=failures.append)

    async def fail() -> None:
        raise ValueError("boom")

    await asyncio.wait([owner.start(fail(), name="x")])
    await asyncio.sleep(0)
    assert [str(each) for each in failures] == ["boom"]
    assert "task room-x failed: ValueError('boom')" in caplog.text


async def test_a_failure_while_closing_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    owner = TaskOwner("room")

    async def fail_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("late")

    owner.start(fail_late())
    await asyncio.sleep(0)
    await owner.close()
    assert "late" in caplog.text


async def test_nothing_starts_after_close() -> None:
    owner = TaskOwner("room")
    await owner.close()
    with pytest.raises(ClosedError, match="room"):
        owner.start(asyncio.sleep(0))


async def test_a_task_may_close_its_own_owner() -> None:
    owner = TaskOwner("room")
    task = owner.start(owner.close())
    async with asyncio.timeout(1):
        await task
    assert len(owner) == 0


def test_starting_without_a_loop_is_an_error_and_leaves_nothing_unawaited() -> None:
    with pytest.raises(RuntimeError):
        TaskOwner("room").start(asyncio.sleep(0))


# --- backoff ----------------------------------------------------------------------------------------------------------


@given(st.integers())
def test_delays_grow_jittered_up_to_the_maximum(seed: int) -> None:
    backoff = Backoff(1, 5, random=random.Random(seed))
    for ceiling in (1, 2, 4, 5, 5):
        assert ceiling / 2 <= backoff.next_delay() <= ceiling
    backoff.reset()
    assert backoff.next_delay() <= 1


def test_delays_repeat_with_their_seed() -> None:
    one, two = (Backoff(1, 9, 3, random=random.Random(7)) for _ in range(2))
    assert [one.next_delay() for _ in range(5)] == [two.next_delay() for _ in range(5)]


@pytest.mark.parametrize(("minimum", "maximum", "factor"), [(0, 1, 2), (2, 1, 2), (1, 2, 0.5)])
def test_a_backoff_that_cannot_be_is_refused(minimum: float, maximum: float, factor: float) -> None:
    with pytest.raises(ConfigurationError):
        Backoff(minimum, maximum, factor)


# --- listeners --------------------------------------------------------------------------------------------------------


def test_listeners_hear_in_order_until_closed() -> None:
    heard: list[tuple[str, int]] = []
    listeners: Listeners[int] = Listeners()
    first = listeners.add(lambda value: heard.append(("a", value)))
    with listeners.add(lambda value: heard.append(("b", value))):
        listeners.notify(1)
    listeners.notify(2)
    first.close()
    first.close()
    listeners.notify(3)
    first(4)
    assert heard == [("a", 1), ("b", 1), ("a", 2), ("a", 4)]
    assert len(listeners) == 0
    assert first.is_closed


def test_a_failing_listener_is_logged_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []
    listeners: Listeners[int] = Listeners("states")
    listeners.add(lambda value: 1 // value)
    listeners.add(heard.append)
    listeners.notify(0)
    assert heard == [0]
    assert "a listener of states failed" in caplog.text


def test_a_listener_closed_by_another_is_skipped_and_one_added_waits() -> None:
    heard: list[str] = []
    listeners: Listeners[int] = Listeners()
    later: list[Listener[int]] = []

    def first(_: int) -> None:
        later[0].close()
        listeners.add(lambda _: heard.append("new"))

    listeners.add(first)
    later.append(listeners.add(lambda _: heard.append("second")))
    listeners.notify(1)
    assert heard == []


async def test_coroutine_listeners_start_in_order_and_are_not_awaited() -> None:
    heard: list[str] = []
    listeners: Listeners[str] = Listeners()

    async def hear(value: str) -> None:
        heard.append(value)
        await asyncio.Event().wait()

    listeners.add(hear)
    listeners.notify("a")
    listeners.notify("b")
    assert heard == []
    await asyncio.sleep(0)
    assert heard == ["a", "b"]
    await listeners.close()
    listeners.notify("c")
    assert heard == ["a", "b"]


async def test_coroutine_listeners_run_in_the_given_owner(caplog: pytest.LogCaptureFixture) -> None:
    owner = TaskOwner("owner")
    listeners: Listeners[int] = Listeners("l", tasks=owner)

    async def hear(_: int) -> None:
        await asyncio.Event().wait()

    listeners.add(hear)
    listeners.notify(1)
    assert len(owner) == 1
    await owner.close()
    listeners.notify(2)
    assert "owner is closed" in caplog.text


def test_only_callables_listen() -> None:
    with pytest.raises(TypeError):
        Listeners[int]().add(5)  # type: ignore[arg-type]  # the point


# --- builder ----------------------------------------------------------------------------------------------------------


class Server(Buildable):
    def __init__(self, name: str, *, port: int = 1, host: str = "h") -> None:
        self.facts = (name, port, host)


def test_a_builder_sets_options_and_builds_again_and_again() -> None:
    builder = Server.builder("a").set(port=2).set(host="x", port=3)
    assert builder.build().facts == ("a", 3, "x")
    assert builder.build() is not builder.build()


def test_an_unknown_option_is_refused_naming_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"Server has no option prot; it takes name, port, host"):
        Server.builder("a").set(prot=1)


def test_a_missing_or_doubled_argument_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="missing a required argument: 'name'"):
        Server.builder().build()
    with pytest.raises(ConfigurationError, match="multiple values"):
        Server.builder("a").set(name="b").build()


def test_a_factory_that_takes_anything_is_given_anything() -> None:
    def collect(**options: int) -> dict[str, int]:
        return options

    assert Builder(collect).set(x=1).build() == {"x": 1}


# --- context ----------------------------------------------------------------------------------------------------------


async def test_a_context_is_of_the_running_loop() -> None:
    context = Context.current()
    assert context.loop is asyncio.get_running_loop()
    assert context == Context.current()
    assert len({context, Context.current()}) == 1
    context.check_thread()
    context.check_process()


def test_there_is_no_context_without_a_loop() -> None:
    with pytest.raises(RuntimeError):
        Context.current()


async def test_another_thread_is_refused_by_name() -> None:
    context = Context.current()
    caught: list[ThreadError] = []

    def use() -> None:
        try:
            context.check_thread()
        except ThreadError as error:
            caught.append(error)

    thread = threading.Thread(target=use, name="stranger")
    thread.start()
    thread.join()
    assert "'stranger'" in str(caught[0])
    assert repr(threading.current_thread().name) in str(caught[0])


async def test_a_child_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context.current()
    monkeypatch.setattr(os, "getpid", lambda: -5)
    with pytest.raises(ForkedError, match="-5"):
        context.check_process()


async def test_execute_runs_on_the_loop_from_any_thread_in_order() -> None:
    context = Context.current()
    order: list[int] = []

    def note(number: int) -> int:
        context.check_thread()
        order.append(number)
        return number

    with ThreadPoolExecutor() as pool:
        futures = await asyncio.get_running_loop().run_in_executor(
            pool,
            lambda: [context.execute(lambda number=number: note(number)) for number in range(5)],  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        )
    assert await asyncio.gather(*map(asyncio.wrap_future, futures)) == order == [0, 1, 2, 3, 4]


async def test_execute_carries_the_exception_and_can_be_cancelled() -> None:
    context = Context.current()
    ran: list[int] = []
    cancelled = context.execute(lambda: ran.append(1))
    assert cancelled.cancel()
    with pytest.raises(ZeroDivisionError):
        await asyncio.wrap_future(context.execute(lambda: 1 // 0))
    assert ran == []


async def test_a_scheduled_call_repeats_despite_failures_until_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    context = Context.current()
    done = asyncio.Event()
    calls: list[int] = []

    def tick() -> None:
        calls.append(1)
        if len(calls) == 3:
            scheduled.cancel()
            done.set()
        raise ValueError("tick")

    scheduled = context.schedule(0, tick, 0.001)
    async with asyncio.timeout(5):
        await done.wait()
    await asyncio.sleep(0.005)
    assert len(calls) == 3
    assert caplog.text.count("a scheduled call failed") == 3
    assert scheduled.is_cancelled


async def test_a_cancelled_call_does_not_happen() -> None:
    calls: list[int] = []
    scheduled = Context.current().schedule(0, lambda: calls.append(1))
    scheduled.cancel()
    await asyncio.sleep(0.001)
    assert calls == []


async def test_impossible_schedules_are_refused() -> None:
    for delay, interval in ((-1, None), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match="schedule"):
            Context.current().schedule(delay, print, interval)


# --- statistics -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**63), min_size=1), st.floats(0, 1))
def test_a_quantile_bounds_the_true_one_within_a_factor_of_two(durations: list[int], q: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    true = next(each for rank, each in enumerate(sorted(durations), 1) if rank >= q * len(durations))
    assert true <= histogram.quantile(q) <= max(2 * true, 0)


def test_an_empty_histogram_is_all_zero() -> None:
    assert Histogram().snapshot() == Latencies()
    with pytest.raises(ValueError, match="quantile"):
        Histogram().quantile(1.1)


def test_odd_durations_are_counted_in_the_outer_buckets() -> None:
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(2**80)
    assert (histogram.count, histogram.quantile(0.5), histogram.maximum_ns) == (2, 0, 2**80)


def test_a_snapshot_does_not_change_with_its_source() -> None:
    histogram = Histogram()
    histogram.record(100)
    before = histogram.snapshot()
    histogram.record(1)
    assert before == Latencies(count=1, mean_ns=100, maximum_ns=100, p50_ns=100, p99_ns=100, p999_ns=100)


def test_log_records_carry_their_facts(caplog: pytest.LogCaptureFixture) -> None:
    listeners: Listeners[int] = Listeners("states")
    listeners.add(lambda _: 1 // 0)
    with caplog.at_level(logging.ERROR):
        listeners.notify(1)
    assert vars(caplog.records[0])["listeners"] == "states"
