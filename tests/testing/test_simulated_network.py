"""Links that fail: what arrives is in order, or its connection has ended; and who hears of that."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from copycat.io.transport.transport import Connection, DialError
from copycat.testing.loop import Host, VirtualLoop
from copycat.testing.network import LinkRule, SimulatedNetwork
from copycat.util.address import Address

HERE = Address("host-b", 5001)


class Wires:
    """Host a dials, host b listens and keeps what it hears."""

    def __init__(self, loop: VirtualLoop, seed: int = 1, **rule: Any) -> None:
        self.loop = loop
        self.network = SimulatedNetwork(loop, Random(seed), rule=LinkRule(**rule))
        self.a, self.b = Host(loop, "a"), Host(loop, "b")
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self.accepted: list[Connection] = []
        self.answers: list[bytes] = []

    async def listen(self) -> None:
        await self.b.start(self.network.transport(self.b).listen(HERE, self._accept, self._hear))

    async def dial(self, timeout: float = 5.0) -> Connection:
        dialled = self.network.transport(self.a).connect(HERE, b"hello", self._answered, timeout=timeout)
        connection = await self.a.start(dialled)
        connection.on_close.append(lambda *_: self.ends.append("a"))
        return connection

    async def open(self) -> Connection:
        await self.listen()
        return await self.dial()

    def say(self, connection: Connection, *frames: bytes) -> None:
        self.a.call(connection.send_many, list(frames))
        self.a.call(connection.flush)

    def _accept(self, hello: bytes, connection: Connection) -> bytes:
        self.accepted.append(connection)
        connection.on_close.append(lambda *_: self.ends.append("b"))
        return b"welcome"

    def _hear(self, _connection: Connection, frames: list[bytes]) -> None:
        self.heard += frames

    def _answered(self, _connection: Connection, frames: list[bytes]) -> None:
        self.answers += frames


def on_wires(scenario: Callable[[Wires], Coroutine[Any, Any, None]], seed: int = 1, **rule: Any) -> Wires:
    """Run a scenario on wires of its own; returns them."""
    made: list[Wires] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        made.append(Wires(loop, seed, **rule))
        await scenario(made[0])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return made[0]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_arrives_in_order_however_long_it_stalls(seed: int) -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        for frame in numbered(50):
            wires.say(connection, frame)
            await asyncio.sleep(0.01)
        await asyncio.sleep(20)
        assert wires.heard == numbered(50)

    wires = on_wires(scenario, seed, stall=0.3, latency=(0.001, 0.1))

    assert wires.network.faults["stalled write"] > 0


@pytest.mark.parametrize("seed", range(20))
def test_a_connection_breaks_behind_a_prefix_of_what_was_written_and_both_ends_hear_of_it(seed: int) -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.network.set_rule(LinkRule(cut=0.2), ("a", "b"))
        for frame in numbered(50):
            wires.say(connection, frame)
            await asyncio.sleep(0.01)
        await asyncio.sleep(100)
        assert wires.heard == numbered(len(wires.heard))
        assert len(wires.heard) < 50
        assert connection.is_closed
        assert sorted(wires.ends) == ["a", "b"]

    on_wires(scenario, seed)


def test_what_was_under_way_on_a_broken_connection_may_arrive_behind_what_was_sent_on_the_next() -> None:
    orders: set[tuple[bytes, ...]] = set()

    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.network.set_rule(LinkRule(cut=1.0), ("a", "b"))
        wires.say(connection, b"again")
        wires.network.set_rule(None)
        wires.say(await wires.dial(), b"again", b"next")
        await asyncio.sleep(100)
        orders.add(tuple(wires.heard))

    for seed in range(20):
        on_wires(scenario, seed)

    assert (b"again", b"next") in orders  # lost, or cut
    assert (b"again", b"next", b"again") in orders


def test_a_blocked_link_holds_what_is_sent_and_lets_it_go_in_order() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.say(connection, b"0")
        mend = wires.network.separate(["a"], ["b"])
        wires.say(connection, b"1")
        await asyncio.sleep(10)
        wires.say(connection, b"2")
        assert wires.heard == []  # what was under way as well
        with pytest.raises(DialError, match="no answer within 1 s"):
            await wires.dial(timeout=1)
        mend()
        mend()
        wires.say(connection, b"3")
        await asyncio.sleep(1)
        assert wires.heard == numbered(4)
        assert wires.ends == []

    on_wires(scenario)


def test_a_link_may_be_blocked_in_one_direction_only() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.network.separate(["a"], ["b"], one_way=True)
        wires.say(connection, b"lost")
        wires.b.call(wires.accepted[0].send, b"answer")
        await asyncio.sleep(1)
        assert (wires.heard, wires.answers) == ([], [b"answer"])
        wires.network.heal()
        await asyncio.sleep(1)
        assert wires.heard == [b"lost"]

    on_wires(scenario)


def test_a_process_that_is_killed_hangs_up_and_its_system_refuses_whoever_dials() -> None:
    async def scenario(wires: Wires) -> None:
        await wires.open()
        wires.b.kill()
        wires.network.went_down(wires.b, dark=False)
        await asyncio.sleep(1)
        assert wires.ends == ["a"]
        with pytest.raises(DialError, match="connection refused") as caught:
            await wires.dial()
        assert caught.value.refused

    on_wires(scenario)


def test_a_machine_without_power_says_nothing_and_knows_nothing_when_it_is_back() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.b.kill()
        wires.network.went_down(wires.b, dark=True)
        wires.say(connection, b"lost")
        await asyncio.sleep(10)
        assert wires.ends == []
        with pytest.raises(DialError, match="no answer"):
            await wires.dial(timeout=1)
        wires.b = Host(wires.loop, "b")
        wires.network.came_up(wires.b)
        await wires.listen()
        await asyncio.sleep(10)
        assert wires.ends == []  # until something is written
        wires.say(connection, b"lost, too")
        await asyncio.sleep(1)
        assert wires.ends == ["a"]
        wires.say(await wires.dial(), b"heard")
        await asyncio.sleep(1)
        assert wires.heard == [b"heard"]

    on_wires(scenario)


def test_a_slow_link_carries_so_many_bytes_a_second() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.network.set_rule(LinkRule(bytes_per_second=1000), ("a", "b"))
        wires.say(connection, bytes(5000))
        await asyncio.sleep(4.9)
        assert wires.heard == []
        await asyncio.sleep(0.2)
        assert len(wires.heard) == 1

    on_wires(scenario)


def test_a_paused_host_takes_what_arrived_when_it_goes_on() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.b.pause()
        wires.say(connection, *numbered(3))
        await asyncio.sleep(10)
        assert wires.heard == []
        wires.b.resume()
        await asyncio.sleep(0.1)
        assert wires.heard == numbered(3)

    on_wires(scenario)


def test_whoever_writes_more_than_is_taken_waits_and_then_goes_on() -> None:
    large = [bytes([number]) * 50_000 for number in range(30)]

    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        wires.b.pause()
        wires.say(connection, *large)
        await asyncio.sleep(1)
        assert not connection.writable
        wires.b.resume()
        await asyncio.sleep(1)
        assert connection.writable

    assert on_wires(scenario).heard == large


def test_what_is_taken_bit_by_bit_makes_room_in_the_end() -> None:
    async def scenario(wires: Wires) -> None:
        connection = await wires.open()
        for number in range(300):
            wires.say(connection, b"%d" % number * 2500)
            await asyncio.sleep(0.1)
            assert connection.writable

    assert len(on_wires(scenario).heard) == 300


def test_a_network_that_refuses_ends_what_there_is_and_lets_nobody_dial_until_it_is_mended() -> None:
    async def scenario(wires: Wires) -> None:
        await wires.open()
        mend = wires.network.refuse(["a"], ["b"])
        await asyncio.sleep(1)
        assert sorted(wires.ends) == ["a", "b"]
        with pytest.raises(DialError) as refusal:
            await wires.dial()
        assert refusal.value.refused
        mend()
        mend()  # of no effect
        wires.say(await wires.dial(), b"again")
        await asyncio.sleep(1)

    assert on_wires(scenario).heard == [b"again"]


def test_a_network_that_refused_is_mended_with_all_else() -> None:
    async def scenario(wires: Wires) -> None:
        await wires.listen()
        wires.network.refuse(["a"], ["b"])
        wires.network.heal()
        await wires.dial()

    on_wires(scenario)
