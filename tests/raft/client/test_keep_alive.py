"""When a session is kept alive, and until when it certainly lives: counted from when the client last spoke."""

from math import inf

import pytest

from copycat.raft.client.keep_alive import LOST_SHARE, KeepAlive
from copycat.raft.protocol.wire import HEADER_KEPT, KEPT_SESSION, Tag
from tests.raft.client.frames import leader, results
from tests.raft.client.sessions import Client


def test_a_session_is_kept_alive_a_third_of_its_timeout_after_it_was_heard_of() -> None:
    times = KeepAlive(3.0)
    times.confirm(10.0)
    assert times.due == 11.0
    times.sent(11.0)
    assert times.due == 12.0
    times.confirm(11.5)
    assert times.due == 12.5


def test_a_session_is_lost_a_timeout_less_a_twentieth_after_what_was_answered_was_sent() -> None:
    times = KeepAlive(10.0)
    times.confirm(100.0)
    stamp = times.sent(103.0)
    assert times.lost_at == pytest.approx(109.5)
    times.kept(stamp)
    assert times.lost_at == pytest.approx(112.5)
    assert LOST_SHARE < 1


def test_a_session_nobody_confirmed_counts_as_lost() -> None:
    assert KeepAlive(10.0).lost_at == -inf


def test_the_answer_to_an_earlier_keep_alive_confirms_that_one_only() -> None:
    times = KeepAlive(10.0)
    first = times.sent(100.0)
    times.sent(103.0)
    times.kept(first)

    assert times.confirmed_at == pytest.approx(100.0)


@pytest.mark.parametrize("stamp", [0, 2**63])
def test_an_answer_confirms_nothing_that_was_not_sent(stamp: int) -> None:
    times = KeepAlive(10.0)
    times.confirm(50.0)
    times.sent(100.0)
    times.kept(stamp)

    assert times.confirmed_at == (50.0 if stamp == 0 else 100.0)


def test_confirmations_that_come_in_another_order_take_nothing_back() -> None:
    times = KeepAlive(10.0)
    times.confirm(100.0)
    times.confirm(90.0)

    assert times.confirmed_at == 100.0


def test_a_stamp_never_speaks_of_a_later_time_than_it_was_made() -> None:
    times = KeepAlive(10.0)
    for now in (0.0000019, 1.9999999, 123456.7890129):
        assert times.sent(now) / 1e6 <= now


# -- in a session ------------------------------------------------------------------------------------------------------


def test_a_registration_counts_from_when_it_was_sent_first() -> None:
    client = Client(timeout_ms=3000)
    client.hear(leader())
    client.frames()
    client.now += 1
    client.hear(leader("b", 2))  # it is sent again
    client.now += 1
    client.register()

    assert client.session.keep_alive.confirmed_at == 100.0


def test_a_command_confirms_from_when_it_was_sent_first() -> None:
    client = Client(timeout_ms=3000)
    client.hear(leader())
    client.register()
    client.now += 0.5
    client.call("a")
    client.frames()
    client.now += 0.25
    client.hear(leader("b", 2))  # it is sent again, behind a keep-alive
    client.frames()
    client.now += 0.1
    client.hear(results(1, "A"))

    assert client.session.keep_alive.confirmed_at == 100.5


def test_an_answer_that_never_came_confirms_nothing() -> None:
    client = Client(timeout_ms=3000)
    client.hear(leader())
    client.register()
    client.now += 1
    assert [each[0] for each in client.sent()] == ["KEEP_ALIVE"]
    client.call("a")
    client.frames()

    assert client.session.keep_alive.lost_at == pytest.approx(100.0 + 3 * LOST_SHARE)


def test_a_kept_frame_repeats_the_stamp_of_the_session_it_is_about() -> None:
    client = Client(timeout_ms=3000)
    client.hear(leader())
    client.register()
    client.now += 1
    client.frames()
    client.now += 0.5
    stamps = [KEPT_SESSION.pack(8, 2**63), KEPT_SESSION.pack(7, int(101.0 * 1e6))]
    client.hear(HEADER_KEPT.pack(Tag.KEPT, 2) + b"".join(stamps))

    assert client.session.keep_alive.confirmed_at == pytest.approx(101.0)
    assert not client.session.keep_alive.is_waiting
