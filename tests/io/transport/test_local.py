"""LocalTransport between event loops in different threads."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from copycat.errors import ConfigurationError
from copycat.io.transport import DialError, LocalRegistry, LocalTransport, Server
from copycat.util.address import Address
from tests.io.transport.support import PATIENCE, Peer, wait_until

pytestmark = pytest.mark.asyncio

ADDRESS = Address("a", 1)


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.close()

    def stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)


@pytest.fixture
def elsewhere() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.stop()


async def listen_elsewhere(elsewhere: LoopThread, transport: LocalTransport, peer: Peer) -> Server:
    future = asyncio.run_coroutine_threadsafe(transport.listen(ADDRESS, peer.accept, peer.handle), elsewhere.loop)
    return await asyncio.wrap_future(future)


async def test_frames_cross_threads_in_order(elsewhere: LoopThread) -> None:
    """Goal: handlers run in their own loop's thread, and order survives the crossing, both ways."""
    here, there = Peer(), Peer()
    threads: set[int] = set()
    there_handle = there.handle

    def handle(connection, frames):  # type: ignore[no-untyped-def]  # replaced on the instance
        threads.add(threading.get_ident())
        there_handle(connection, frames)
        connection.send_many(frames)

    there.handle = handle  # type: ignore[method-assign]  # a spy
    transport = LocalTransport()
    server = await listen_elsewhere(elsewhere, transport, there)
    connection = here.watch(await transport.connect(server.address, b"a", here.handle))
    sent = [b"%d" % number for number in range(5000)]
    for number, frame in enumerate(sent):
        connection.send(frame)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await wait_until(lambda: len(here.frames) == len(sent))
    assert here.frames == there.frames == sent
    assert threads == {elsewhere.thread.ident}
    await transport.close()
    await wait_until(lambda: there.closed)
    assert here.closed == there.closed == [None]


async def test_a_loop_that_ends_without_closing_is_a_lost_connection(elsewhere: LoopThread) -> None:
    here, there = Peer(), Peer()
    transport = LocalTransport()
    server = await listen_elsewhere(elsewhere, transport, there)
    connection = here.watch(await transport.connect(server.address, b"a", here.handle))
    elsewhere.stop()
    connection.send(b"anyone?")
    await wait_until(lambda: here.closed)
    assert "connection lost" in str(here.closed[0])
    with pytest.raises(DialError) as caught:
        await transport.connect(server.address, b"a", here.handle)
    assert caught.value.refused
    again = await transport.listen(server.address, here.accept, here.handle)
    assert again.address == server.address
    await transport.close()


async def test_a_loop_that_hangs_does_not_answer(elsewhere: LoopThread) -> None:
    transport = LocalTransport()
    there = Peer()
    server = await listen_elsewhere(elsewhere, transport, there)
    hang = threading.Event()
    elsewhere.loop.call_soon_threadsafe(hang.wait)
    with pytest.raises(DialError) as caught:
        await transport.connect(server.address, b"a", there.handle, timeout=0.05)
    assert caught.value.reason == "no answer within 0.05 s"
    assert not caught.value.refused
    hang.set()
    await transport.close()


async def test_registries_are_separate_networks() -> None:
    peer = Peer()
    one, two = LocalTransport(), LocalTransport()
    await one.listen(ADDRESS, peer.accept, peer.handle)
    with pytest.raises(DialError, match="a:1: connection refused"):
        await two.connect(ADDRESS, b"", peer.handle)
    three = LocalTransport(one.registry)
    assert not (await three.connect(ADDRESS, b"", peer.handle)).is_closed
    await one.close()
    await three.close()


async def test_port_zero_finds_free_ports() -> None:
    peer = Peer()
    registry = LocalRegistry()
    transport = LocalTransport(registry)
    servers = [await transport.listen(Address("a", 0), peer.accept, peer.handle) for _ in range(3)]
    assert len({server.address.port for server in servers}) == 3
    with pytest.raises(ConfigurationError):
        await transport.listen(servers[1].address, peer.accept, peer.handle)
    await transport.close()
