"""What every transport promises, asked of each of them alike."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from copycat.errors import ClosedError, ConfigurationError, HandshakeError, ProtocolError, TooLargeError, TransportError
from copycat.io.transport import Connection, DialError, LocalRegistry, LocalTransport, TcpTransport, Transport
from copycat.util.address import Address
from tests.io.transport.support import Peer, wait_until

pytestmark = pytest.mark.asyncio

ANY = Address("127.0.0.1", 0)


class World:
    """Makes transports that reach each other, and closes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.registry = LocalRegistry()
        self.made: list[Transport] = []

    def transport(self, max_connections: int = 100) -> Transport:
        transport: Transport
        if self.kind == "tcp":
            transport = TcpTransport(
                max_frame=2 * 1024 * 1024, max_buffered=8 * 1024 * 1024, max_connections=max_connections
            )
        else:
            transport = LocalTransport(
                self.registry,
                max_frame=2 * 1024 * 1024,
                max_buffered=8 * 1024 * 1024,
                max_connections=max_connections,
            )
        self.made.append(transport)
        return transport


@pytest.fixture(params=["tcp", "local"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(request.param)
    yield world
    for transport in world.made:
        await transport.close()


async def test_hellos_are_exchanged(world: World) -> None:
    here, there = Peer(), Peer(b"I am b")
    server = await world.transport().listen(ANY, there.accept, there.handle)
    assert server.address.port > 0
    connection = await world.transport().connect(server.address, b"I am a", here.handle)
    assert connection.peer_hello == b"I am b"
    assert there.hellos == [b"I am a"]
    assert there.connections[0].peer_hello == b"I am a"
    assert connection.remote == str(server.address)
    assert there.connections[0].remote
    assert not connection.is_closed
    assert connection.writable


async def test_empty_hellos_and_frames(world: World) -> None:
    here, there = Peer(), Peer(b"")
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"", here.handle)
    connection.send(b"")
    connection.send_many([])
    await wait_until(lambda: there.frames)
    assert there.frames == [b""]
    assert connection.peer_hello == b""


async def test_frames_keep_their_order_both_ways(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"a", here.handle)
    up = [b"up %d " % number + b"x" * (number % 700) for number in range(3000)]
    down = [b"down %d" % number for number in range(3000)]
    for number, frame in enumerate(up):
        connection.send(frame)
        if number % 500 == 0:
            connection.flush()
            await asyncio.sleep(0)
    there.connections[0].send_many(down[:1000])
    there.connections[0].send_many(down[1000:])
    await wait_until(lambda: len(there.frames) == len(up) and len(here.frames) == len(down))
    assert there.frames == up
    assert here.frames == down
    assert there.batches < 600


async def test_a_turns_frames_arrive_as_one_batch(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"a", here.handle)
    for number in range(64):
        connection.send(b"%d" % number)
    assert connection.buffered_bytes > 64 * 8
    await wait_until(lambda: len(there.frames) == 64)
    assert there.batches == 1
    await wait_until(lambda: connection.buffered_bytes == 0)


async def test_a_large_frame(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"a", here.handle)
    frame = bytes(range(256)) * 8192
    connection.send(frame)
    await wait_until(lambda: there.frames)
    assert there.frames == [frame]
    with pytest.raises(TooLargeError) as caught:
        connection.send(frame + b"x")
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (len(frame) + 1, len(frame))
    with pytest.raises(TooLargeError):
        connection.send_many([b"ok", frame + b"x"])
    assert not connection.is_closed


async def test_the_listener_may_send_before_it_answers(world: World) -> None:
    here = Peer()
    returned = False

    def accept(hello: bytes, connection: Connection) -> bytes:
        connection.send_many([b"one", b"two"])
        connection.flush()
        return b"hello first"

    def handle(connection: Connection, frames: list[bytes]) -> None:
        assert returned, "the handler ran before connect had returned"
        here.handle(connection, frames)

    server = await world.transport().listen(ANY, accept, here.handle)
    connection = await world.transport().connect(server.address, b"a", handle)
    returned = True
    assert connection.peer_hello == b"hello first"
    await wait_until(lambda: len(here.frames) == 2)
    assert here.frames == [b"one", b"two"]


async def test_a_refusal_travels_in_the_listeners_words(world: World) -> None:
    def refuse(hello: bytes, connection: Connection) -> bytes:
        raise HandshakeError(f"this is cluster B, not {hello.decode()} – ask elsewhere")

    peer = Peer()
    server = await world.transport().listen(ANY, refuse, peer.handle)
    transport = world.transport()
    with pytest.raises(HandshakeError, match=r"^this is cluster B, not A – ask elsewhere$"):
        await transport.connect(server.address, b"A", peer.handle)
    assert server.statistics().connections_refused == 1
    assert server.statistics().connections_accepted == 0
    await wait_until(lambda: transport.statistics().connections_open == server.statistics().connections_open == 0)


async def test_a_failing_accept_refuses_without_details(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def accept(hello: bytes, connection: Connection) -> bytes:
        raise ZeroDivisionError("secret")

    peer = Peer()
    server = await world.transport().listen(ANY, accept, peer.handle)
    with pytest.raises(HandshakeError, match="internal error") as caught:
        await world.transport().connect(server.address, b"A", peer.handle)
    assert "secret" not in str(caught.value)
    assert "accept failed" in caplog.text


async def test_too_many_connections_are_refused_and_later_ones_are_not(world: World) -> None:
    there = Peer()
    server = await world.transport(max_connections=2).listen(ANY, there.accept, there.handle)
    transport = world.transport()
    first = await transport.connect(server.address, b"1", there.handle)
    await transport.connect(server.address, b"2", there.handle)
    with pytest.raises(HandshakeError, match=r"too many connections \(limit 2\)"):
        await transport.connect(server.address, b"3", there.handle)
    first.close()
    await wait_until(lambda: server.statistics().connections_open == 1)
    await transport.connect(server.address, b"4", there.handle)


async def test_nobody_listens(world: World) -> None:
    peer = Peer()
    server = await world.transport().listen(ANY, peer.accept, peer.handle)
    await server.close()
    with pytest.raises(DialError) as caught:
        await world.transport().connect(server.address, b"a", peer.handle)
    assert caught.value.reason == "connection refused"
    assert caught.value.refused
    assert caught.value.tried == {str(server.address): "connection refused"}
    assert isinstance(caught.value, ConnectionError)


async def test_the_listener_closes_during_the_handshake(world: World) -> None:
    def accept(hello: bytes, connection: Connection) -> bytes:
        connection.close()
        return b""

    peer = Peer()
    server = await world.transport().listen(ANY, accept, peer.handle)
    with pytest.raises(DialError) as caught:
        await world.transport().connect(server.address, b"a", peer.handle)
    assert caught.value.reason == "closed during handshake"
    assert not caught.value.refused


async def test_close_flushes_and_both_sides_hear_of_it_once(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = here.watch(await world.transport().connect(server.address, b"a", here.handle))
    connection.send(b"last words")
    connection.close()
    connection.close()
    assert connection.is_closed
    assert here.closed == [], "callbacks never run inside the call"
    connection.send(b"after the end")
    connection.flush()
    await wait_until(lambda: here.closed and there.closed)
    assert there.frames == [b"last words"]
    assert here.closed == there.closed == [None]
    assert there.connections[0].is_closed


async def test_abort_tells_this_side_the_given_error(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = here.watch(await world.transport().connect(server.address, b"a", here.handle))
    error = TransportError("enough")
    connection.abort(error)
    connection.abort()
    await wait_until(lambda: here.closed and there.closed)
    assert here.closed == [error]
    assert len(there.closed) == 1


@pytest.mark.parametrize("failure", [ZeroDivisionError("a bug"), ProtocolError("sent nonsense")])
async def test_a_failing_handler_costs_only_its_connection(
    world: World, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = Peer(), Peer()

    def handle(connection: Connection, frames: list[bytes]) -> None:
        if frames == [b"bad"]:
            raise failure
        there.handle(connection, frames)

    server = await world.transport().listen(ANY, there.accept, handle)
    transport = world.transport()
    bad = here.watch(await transport.connect(server.address, b"a", here.handle))
    good = await transport.connect(server.address, b"b", here.handle)
    bad.send(b"bad")
    await wait_until(lambda: here.closed)
    assert isinstance(there.closed[0], TransportError)
    assert server.statistics().protocol_errors == isinstance(failure, ProtocolError)
    good.send(b"good")
    await wait_until(lambda: there.frames == [b"good"])
    assert str(failure) in caplog.text


async def test_failing_close_callbacks_do_not_hide_later_ones(world: World, caplog: pytest.LogCaptureFixture) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"a", here.handle)

    def fail(connection: Connection, error: Exception | None) -> None:
        raise ZeroDivisionError

    connection.on_close.append(fail)
    here.watch(connection)
    connection.close()
    await wait_until(lambda: here.closed)
    assert "on_close callback failed" in caplog.text


async def test_back_pressure_pauses_and_resumes(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = await world.transport().connect(server.address, b"a", here.handle)
    resumed: list[Connection] = []
    connection.on_writable.append(resumed.append)
    there.connections[0].pause_reading()
    sent = 0
    async with asyncio.timeout(10):
        while connection.writable:
            connection.send(b"x" * 100_000)
            sent += 1
            await asyncio.sleep(0)
    assert connection.buffered_bytes > 100_000
    assert not connection.is_closed
    assert resumed == []
    there.connections[0].resume_reading()
    await wait_until(lambda: len(there.frames) == sent)
    await wait_until(lambda: resumed == [connection])
    assert connection.writable


async def test_a_peer_that_never_reads_is_dropped(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = here.watch(await world.transport().connect(server.address, b"a", here.handle))
    there.connections[0].pause_reading()
    async with asyncio.timeout(10):
        while not connection.is_closed:
            connection.send(b"x" * 1_000_000)
            await asyncio.sleep(0)
    await wait_until(lambda: here.closed)
    assert "does not read" in str(here.closed[0])
    assert connection.buffered_bytes == 0


async def test_a_single_turn_cannot_exceed_the_buffer_limit(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    connection = here.watch(await world.transport().connect(server.address, b"a", here.handle))
    connection.send_many([b"x" * 1_000_000] * 9)
    assert connection.is_closed
    await wait_until(lambda: here.closed)
    assert "does not read" in str(here.closed[0])


async def test_server_close_ends_its_connections_and_only_those(world: World) -> None:
    here, one, two = Peer(), Peer(b"1"), Peer(b"2")
    listening = world.transport()
    first = await listening.listen(ANY, one.accept, one.handle)
    second = await listening.listen(ANY, two.accept, two.handle)
    transport = world.transport()
    lost = here.watch(await transport.connect(first.address, b"a", here.handle))
    kept = await transport.connect(second.address, b"a", here.handle)
    await first.close()
    await first.close()
    assert one.closed == [None]
    await wait_until(lambda: lost.is_closed)
    assert here.closed == [None]
    kept.send(b"still here")
    await wait_until(lambda: two.frames)


async def test_transport_close_ends_everything(world: World) -> None:
    here, there = Peer(), Peer()
    transport = world.transport()
    server = await transport.listen(ANY, there.accept, there.handle)
    here.watch(await transport.connect(server.address, b"a", here.handle))
    before = transport.statistics()
    assert before.connections_open == 2
    await transport.close()
    await transport.close()
    assert here.closed == there.closed == [None]
    after = transport.statistics()
    assert after.connections_open == 0
    assert after.bytes_in == before.bytes_in > 0, "counters outlive the server"
    with pytest.raises(ClosedError):
        await transport.connect(server.address, b"a", here.handle)
    with pytest.raises(ClosedError):
        await transport.listen(ANY, there.accept, there.handle)


async def test_an_address_in_use_is_said_to_be_in_use(world: World) -> None:
    peer = Peer()
    server = await world.transport().listen(ANY, peer.accept, peer.handle)
    with pytest.raises(ConfigurationError, match="in use") as caught:
        await world.transport().listen(server.address, peer.accept, peer.handle)
    assert str(server.address) in str(caught.value)
    assert "choose another port" in str(caught.value)


async def test_an_address_can_be_reused_after_close(world: World) -> None:
    here, there = Peer(), Peer()
    transport = world.transport()
    server = await transport.listen(ANY, there.accept, there.handle)
    connection = here.watch(await transport.connect(server.address, b"a", here.handle))
    await server.close()
    await wait_until(lambda: connection.is_closed)
    again = await transport.listen(server.address, there.accept, there.handle)
    assert again.address == server.address
    await transport.connect(server.address, b"b", here.handle)
    assert there.hellos == [b"a", b"b"]


async def test_statistics_count_what_passed(world: World) -> None:
    here, there = Peer(), Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    transport = world.transport()
    connection = await transport.connect(server.address, b"a", here.handle)
    connection.send_many([b"12345"] * 10)
    await wait_until(lambda: len(there.frames) == 10)
    at_server, at_client = server.statistics(), transport.statistics()
    assert (at_server.frames_in, at_server.frames_out) == (11, 1)
    assert (at_client.frames_in, at_client.frames_out) == (1, 11)
    assert at_server.bytes_in == at_client.bytes_out == 8 + 9 + 10 * 13
    assert at_client.bytes_in == at_server.bytes_out
    assert (at_server.connections_accepted, at_server.connections_open) == (1, 1)
    assert (at_client.connections_dialled, at_client.connections_open) == (1, 1)
    assert at_server.protocol_errors == 0


async def test_a_cancelled_dial_leaves_nothing_behind(world: World) -> None:
    waiting = asyncio.Event()

    def accept(hello: bytes, connection: Connection) -> bytes:
        waiting.set()
        return b""

    there = Peer()
    server = await world.transport().listen(ANY, accept, there.handle)
    transport = world.transport()
    task = asyncio.create_task(transport.connect(server.address, b"a", there.handle))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until(lambda: server.statistics().connections_open == transport.statistics().connections_open == 0)


async def test_a_hello_may_not_be_huge(world: World) -> None:
    there = Peer()
    server = await world.transport().listen(ANY, there.accept, there.handle)
    with pytest.raises(TooLargeError):
        await world.transport().connect(server.address, b"x" * 70_000, there.handle)


async def test_a_ping_pong_of_many_turns(world: World) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def echo(connection: Connection, frames: list[bytes]) -> None:
        connection.send_many(frames)
        connection.flush()

    def count(connection: Connection, frames: list[bytes]) -> None:
        assert len(frames) == 1
        number = int(frames[0])
        if number == 500:
            done.set_result(None)
        else:
            connection.send(b"%d" % (number + 1))

    server = await world.transport().listen(ANY, lambda hello, connection: b"", echo)
    connection = await world.transport().connect(server.address, b"", count)
    connection.send(b"0")
    async with asyncio.timeout(10):
        await done


@pytest.mark.parametrize("make", [TcpTransport, LocalTransport])
@pytest.mark.parametrize("option", ["max_frame", "max_buffered", "max_connections", "handshake_timeout"])
async def test_limits_must_be_positive(make: Callable[..., Transport], option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        make(**{option: 0})
