"""Timers in log time: protocol §4.3."""

from copycat.raft.machine.timers import Timers


def drain(timers: Timers, time: int) -> list[str]:
    fired = []
    while (timer := timers.pop_due(time)) is not None:
        fired.append(timer.method)
    return fired


def test_timers_of_one_instant_fire_in_the_order_they_were_set() -> None:
    timers = Timers()
    for name in ("a", "b", "c"):
        timers.add(1, name, (), due=10, interval_ms=0)
    assert timers.next_due() == 10
    assert drain(timers, 9) == []
    assert drain(timers, 10) == ["a", "b", "c"]
    assert timers.next_due() is None


def test_a_cancelled_timer_does_not_fire_and_is_not_due() -> None:
    timers = Timers()
    first = timers.add(1, "a", (), due=10, interval_ms=0)
    timers.add(1, "b", (), due=20, interval_ms=0)
    first.cancel()
    assert len(timers) == 1
    assert timers.next_due() == 20
    assert drain(timers, 30) == ["b"]


def test_memory_stays_bounded_when_most_timers_are_cancelled() -> None:
    timers = Timers()
    for _ in range(10_000):
        timers.add(1, "x", (), due=10, interval_ms=0).cancel()
    kept = timers.add(1, "kept", (), due=10, interval_ms=0)
    assert len(timers) == 1
    assert len(timers._heap) < 200
    assert drain(timers, 10) == [kept.method]


def test_a_machine_that_is_gone_takes_its_timers_with_it() -> None:
    timers = Timers()
    timers.add(1, "a", (), due=10, interval_ms=5)
    timers.add(2, "b", (), due=10, interval_ms=0)
    timers.drop(1)
    timers.drop(1)
    assert len(timers) == 1
    assert drain(timers, 100) == ["b"]
