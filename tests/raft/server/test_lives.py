"""Of one member one process at a time is let in, and the one that is connected goes on: protocol §2.8."""

import random
from typing import Any

import pytest

from copycat.errors import HandshakeError
from copycat.raft.protocol.handshake import Hello
from copycat.raft.protocol.lives import Life
from copycat.raft.server.lives import RETURN_MS, YOUNG_MS, Callers, next_life

FIRST, TWIN = Life(3, b"first"), Life(4, b"twin")
TOLD = "another process is connected as b, with the same data or a copy of it: stop one of them"


def hello(life: Life) -> Hello:
    return Hello(role="member", member_id="b", lives={"b": life})


class Call:
    """A connection, as far as it matters here. Nobody hears of its end."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def connected(callers: Callers, life: Life = FIRST, now_ms: int = 0) -> Any:
    connection: Any = Call()
    callers.add(connection, hello(life), now_ms)
    return connection


def check(callers: Callers, life: Life, now_ms: int) -> None:
    """As one that goes by the first."""
    callers.check_only_one(hello(life), FIRST, now_ms)


def test_whoever_is_alone_is_let_in_and_so_is_the_same_process_again() -> None:
    callers = Callers()
    check(callers, TWIN, 0)
    connected(callers)
    check(callers, FIRST, 1)
    check(callers, Life(9, FIRST.mark), 1)  # it counts itself past a start that it has heard of


def test_a_young_connection_proves_that_its_process_lives() -> None:
    callers = Callers()
    connection = connected(callers)
    with pytest.raises(HandshakeError, match=TOLD):
        check(callers, TWIN, YOUNG_MS - 1)
    assert not connection.is_closed


def test_an_old_connection_is_hung_up_on_and_whoever_lives_calls_again() -> None:
    callers = Callers()
    connection = connected(callers)
    with pytest.raises(HandshakeError, match=TOLD):
        check(callers, TWIN, YOUNG_MS)
    assert connection.is_closed
    check(callers, FIRST, YOUNG_MS + 1)
    again = connected(callers, now_ms=YOUNG_MS + 1)
    for now_ms in (YOUNG_MS + 2, YOUNG_MS + RETURN_MS + 1):
        with pytest.raises(HandshakeError, match=TOLD):
            check(callers, TWIN, now_ms)
    assert not again.is_closed


def test_who_does_not_call_again_makes_room_though_the_end_of_its_connection_is_never_heard_of() -> None:
    callers = Callers()
    connected(callers)
    with pytest.raises(HandshakeError, match=TOLD):
        check(callers, TWIN, YOUNG_MS)
    with pytest.raises(HandshakeError, match=TOLD):
        check(callers, TWIN, YOUNG_MS + RETURN_MS - 1)
    check(callers, TWIN, YOUNG_MS + RETURN_MS)


def test_a_connection_that_had_ended_when_it_said_hello_keeps_nobody_out() -> None:
    callers = Callers()
    connection: Any = Call()
    connection.close()
    callers.add(connection, hello(FIRST), 0)
    check(callers, TWIN, YOUNG_MS - 1)


def test_other_members_are_no_twins() -> None:
    callers = Callers()
    connected(callers)
    callers.check_only_one(Hello(role="member", member_id="c", lives={"c": TWIN}), None, 1)


def test_those_of_whom_a_later_start_is_known_are_to_say_hello_again() -> None:
    callers = Callers()
    earlier, renewed = connected(callers), connected(callers, Life(2, TWIN.mark))
    callers.hang_up_on_earlier({"b": TWIN})
    assert earlier.is_closed
    assert not renewed.is_closed  # it is that very process


def test_a_start_is_counted_from_the_latest_and_marked_anew() -> None:
    chance = random.Random(1)
    first = next_life(None, chance)
    second = next_life(first, chance)
    assert (first.number, second.number) == (1, 2)
    assert len({first.mark, second.mark}) == 2
