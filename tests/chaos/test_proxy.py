"""The proxy passes everything on unchanged, until it is told to be bad; then in just that way."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from copycat.testing.chaos.proxy import Direction, Link
from copycat.testing.processes import free_ports
from copycat.util.address import Address

TEXT = bytes(range(256)) * 64


class Echo:
    """A server that sends back what it gets. heard: all that came, on all connections."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ends = 0  # of connections
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                self.changed.set()
                writer.write(data)
        except OSError:
            pass
        self.ends += 1
        self.changed.set()
        writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Echo]]:
    """A link to an echo."""
    here, there = free_ports(2)
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", there)
    link = Link("a→b", here, Address("127.0.0.1", there), random=random.Random(1))
    await link.start()
    try:
        yield link, echo
    finally:
        await link.close()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def dialled(link: Link) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(link.address.host, link.address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def broken(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it ends."""
    found = b""
    try:
        while data := await reader.read(1 << 16):
            found += data
    except OSError:
        pass
    return found


async def idle() -> None:
    """Let everything happen that can without time passing."""
    for _ in range(50):
        await asyncio.sleep(0.001)


async def test_a_good_link_passes_everything_on_unchanged_both_ways() -> None:
    async with linked() as (link, echo), dialled(link) as (reader, writer):
        writer.write(TEXT)
        assert await reader.readexactly(len(TEXT)) == TEXT
        assert bytes(echo.heard) == TEXT
        assert link.connections == 1


async def test_a_closed_connection_is_closed_at_the_other_end() -> None:
    async with linked() as (link, echo):
        async with dialled(link) as (reader, writer):
            writer.write(b"x")
            await reader.readexactly(1)
        await echo.until(lambda: echo.ends == 1)
        await idle()
        assert link.connections == 0


@pytest.mark.parametrize("direction", list(Direction))
async def test_what_is_held_in_one_direction_comes_whole_when_it_is_released(direction: Direction) -> None:
    async with linked() as (link, echo), dialled(link) as (reader, writer):
        link.hold(direction)
        writer.write(TEXT)
        await idle()
        assert bytes(echo.heard) == (b"" if direction is Direction.FORWARD else TEXT)
        link.release(direction)
        assert await reader.readexactly(len(TEXT)) == TEXT


async def test_a_link_that_two_faults_hold_is_open_when_both_have_ended() -> None:
    async with linked() as (link, echo), dialled(link) as (reader, writer):
        link.hold()
        link.hold(Direction.FORWARD)
        link.release()
        writer.write(b"late")
        await idle()
        assert not echo.heard
        link.release(Direction.FORWARD)
        assert await reader.readexactly(4) == b"late"


async def test_a_cut_lets_half_of_what_comes_next_pass_and_ends_the_connection() -> None:
    async with linked() as (link, echo):
        async with dialled(link) as (reader, writer):
            link.cut()
            writer.write(b"12345678")
            await broken(reader)
            await echo.until(lambda: echo.ends == 1)
            assert bytes(echo.heard) == b"1234"
        async with dialled(link) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_a_corrupted_chunk_differs_in_one_bit_and_the_next_in_none() -> None:
    async with linked() as (link, _), dialled(link) as (reader, writer):
        link.corrupt(Direction.BACKWARD)
        writer.write(b"12345678")
        changed = await reader.readexactly(8)
        assert sum((one ^ other).bit_count() for one, other in zip(changed, b"12345678", strict=True)) == 1
        writer.write(b"12345678")
        assert await reader.readexactly(8) == b"12345678"


async def test_a_dropped_connection_ends_at_both_ends_and_the_next_one_works() -> None:
    async with linked() as (link, echo):
        async with dialled(link) as (reader, writer):
            writer.write(b"x")
            await reader.readexactly(1)
            link.drop()
            assert await broken(reader) == b""
            await echo.until(lambda: echo.ends == 1)
        async with dialled(link) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_a_forgotten_connection_has_ended_at_the_far_end_and_the_near_end_is_not_told_until_it_is_healed() -> (
    None
):
    async with linked() as (link, echo), dialled(link) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        link.forget()
        await echo.until(lambda: echo.ends == 1)
        writer.write(b"into the void")
        end = asyncio.ensure_future(broken(reader))
        await idle()
        assert not end.done()
        assert bytes(echo.heard) == b"x"
        link.heal()
        assert await end == b""


async def test_what_was_under_way_when_the_far_end_went_tells_the_near_end_nothing() -> None:
    async with linked() as (link, echo), dialled(link) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        link.hold()
        writer.write(b"under way")
        await idle()
        link.forget()
        link.release()
        end = asyncio.ensure_future(broken(reader))
        await idle()
        assert not end.done()
        assert bytes(echo.heard) == b"x"
        link.drop()
        assert await end == b""


async def test_a_link_to_a_dead_server_refuses_and_breaks_what_stood_until_it_is_started_again() -> None:
    async with linked() as (link, _):
        async with dialled(link) as (reader, writer):
            writer.write(b"x")
            await reader.readexactly(1)
            link.refuse()
            assert await broken(reader) == b""
        assert not link.is_listening
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(link.address.host, link.address.port)
        await link.start()
        async with dialled(link) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_a_link_to_nowhere_resets_who_dials() -> None:
    here, nowhere = free_ports(2)
    link = Link("a→b", here, Address("127.0.0.1", nowhere), random=random.Random(1))
    await link.start()
    async with dialled(link) as (reader, _):
        assert await broken(reader) == b""
    await link.close()


async def test_a_slow_and_narrow_link_takes_at_least_its_time() -> None:
    loop = asyncio.get_running_loop()
    async with linked() as (link, _), dialled(link) as (reader, writer):
        link.delay, link.bytes_per_second = 0.02, 20_000.0
        began = loop.time()
        writer.write(bytes(2_000))
        await reader.readexactly(2_000)
        assert loop.time() - began >= 0.1 + 2 * 0.02  # there all of it, and back the last of it
        link.heal()
        assert not link.delay
        assert not link.bytes_per_second


async def test_healing_opens_what_is_held_however_often() -> None:
    async with linked() as (link, _), dialled(link) as (reader, writer):
        link.hold()
        link.hold()
        link.cut()
        link.corrupt()
        link.heal()
        writer.write(TEXT)
        assert await reader.readexactly(len(TEXT)) == TEXT
