"""TcpTransport against strangers, silence, clumsy configuration, and over TLS."""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from copycat.errors import ConfigurationError, HandshakeError, TransportError
from copycat.io.transport import Connection, DialError, NettyTransport, Server, TcpTransport
from copycat.io.transport.frame import ACCEPTED, HEADER, MAX_GREETING, PREAMBLE, encode_frame
from copycat.io.transport.tcp import connections_within
from copycat.util.address import Address
from tests.io.transport.support import PATIENCE, Peer, wait_until

pytestmark = pytest.mark.asyncio

ANY = Address("127.0.0.1", 0)
CERTIFICATE = Path(__file__).with_name("localhost.pem")  # self-signed, for localhost and 127.0.0.1, valid 100 years


@pytest.fixture
async def transport() -> AsyncIterator[TcpTransport]:
    transport = TcpTransport(max_frame=1_000_000)
    yield transport
    await transport.close()


async def speak(server: Server, data: bytes, *, half_close: bool = False) -> bytes:
    """Send raw bytes to the server and return all it says until it closes."""
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    async with asyncio.timeout(PATIENCE):
        writer.write(data)
        if half_close:
            writer.write_eof()
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def listen_raw(answer: bytes, *, close: bool = False) -> tuple[asyncio.Server, Address]:
    """A listener that says `answer` to whoever comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if not close:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, Address("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP, not Copycat"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "speaks TLS"),
        (b"\xde\xad\xbe\xef" * 10, "does not speak Copycat"),
        (b"CPYCAT\x00\x09" + encode_frame(b"hello"), "speaks version 9 of the wire format; this side speaks 1"),
        (PREAMBLE + HEADER.pack(MAX_GREETING + 1, 0), "sent a frame of 65537 bytes; the limit is 65536"),
        (PREAMBLE + encode_frame(b"hello") + HEADER.pack(1_000_001, 0), "the limit is 1000000"),
        (PREAMBLE + encode_frame(b"hello") + encode_frame(b"flip")[:-1] + b"P", "checksum does not match"),
    ],
)
async def test_a_stranger_is_dropped_counted_and_logged_once(
    transport: TcpTransport, caplog: pytest.LogCaptureFixture, data: bytes, reason: str
) -> None:
    here, there = Peer(), Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    connection = await transport.connect(server.address, b"a friend", here.handle)
    for _ in range(3):
        await speak(server, data)
    await wait_until(lambda: server.statistics().protocol_errors == 3)
    records = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(records) == 1
    assert reason in records[0].getMessage()
    assert "127.0.0.1" in records[0].getMessage()
    connection.send(b"unharmed")
    await wait_until(lambda: there.frames == [b"unharmed"])


async def test_another_version_is_told_ours(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    assert await speak(server, b"CPYCAT\x00\x09") == PREAMBLE
    assert await speak(server, b"GET / HTTP/1.1\r\n\r\n") == b""


async def test_a_truncated_frame_is_an_error_at_the_end(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    await speak(
        server, PREAMBLE + encode_frame(b"hello") + encode_frame(b"whole") + encode_frame(b"cut")[:-1], half_close=True
    )
    await wait_until(lambda: there.closed)
    assert there.frames == [b"whole"]
    assert "in the middle of a frame" in str(there.closed[0])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP, not Copycat"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "speaks TLS; this side has no ssl_context"),
        (b"CPYCAT\x00\x02", "speaks version 2 of the wire format; this side speaks 1"),
        (PREAMBLE + encode_frame(b"\x07what?"), "answered the hello with an unknown status"),
        (PREAMBLE + encode_frame(b""), "answered the hello with an unknown status"),
        (PREAMBLE + HEADER.pack(5, 1) + b"hello", "sent a frame of 5 bytes whose checksum does not match"),
    ],
)
async def test_a_dialler_learns_what_answered(transport: TcpTransport, answer: bytes, reason: str) -> None:
    server, address = await listen_raw(answer)
    with pytest.raises(DialError) as caught:
        await transport.connect(address, b"a", Peer().handle)
    assert caught.value.reason == reason
    assert not caught.value.refused
    server.close()


async def test_a_listener_that_hangs_up(transport: TcpTransport) -> None:
    server, address = await listen_raw(b"", close=True)
    with pytest.raises(DialError) as caught:
        await transport.connect(address, b"a", Peer().handle)
    assert caught.value.reason == "closed during handshake"
    server.close()


async def test_a_listener_that_says_nothing(transport: TcpTransport) -> None:
    server, address = await listen_raw(b"")
    with pytest.raises(DialError) as caught:
        await transport.connect(address, b"a", Peer().handle, timeout=0.05)
    assert caught.value.reason == "no answer within 0.05 s"
    await wait_until(lambda: transport.statistics().connections_open == 0)
    server.close()


async def test_a_name_that_does_not_exist(transport: TcpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(DialError) as caught:
        await transport.connect(Address("nowhere.invalid", 1), b"a", Peer().handle)
    assert caught.value.reason == "name not found"
    assert not caught.value.refused
    with pytest.raises(ConfigurationError, match="name not found"):
        await TcpTransport(insecure=True).listen(Address("nowhere.invalid", 1), Peer().accept, Peer().handle)


async def test_every_address_of_a_name_is_tried(transport: TcpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a name whose first address refuses is reached at its second; both refusing counts as refused."""
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    port = server.address.port
    lookups: list[str] = []

    async def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        lookups.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    for _ in range(2):
        connection = await transport.connect(Address("member", port), b"a", there.handle)
        assert not connection.is_closed
    assert lookups == ["member", "member"], "names are looked up at each dial"
    await server.close()
    with pytest.raises(DialError, match=r"^member:[0-9]+: connection refused$") as caught:
        await transport.connect(Address("member", port), b"a", there.handle)
    assert caught.value.refused


@pytest.mark.parametrize("said", [b"", PREAMBLE[:3], PREAMBLE, PREAMBLE + HEADER.pack(100, 0) + b"x"])
async def test_slowloris_is_dropped_at_the_deadline(said: bytes) -> None:
    transport = TcpTransport(handshake_timeout=0.05)
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    assert await speak(server, said) == b""
    assert server.statistics().protocol_errors == 1
    assert there.hellos == []
    await transport.close()


async def test_an_open_connection_outlives_the_handshake_deadline() -> None:
    transport = TcpTransport(handshake_timeout=0.02)
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    connection = await transport.connect(server.address, b"a", there.handle)
    await asyncio.sleep(0.06)  # the deadline is the subject, so real time has to pass
    connection.send(b"here")
    await wait_until(lambda: there.frames)
    await transport.close()


async def test_beyond_loopback_needs_tls_or_a_word(transport: TcpTransport, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    with pytest.raises(ConfigurationError, match="without TLS") as caught:
        await transport.listen(Address("0.0.0.0", 0), peer.accept, peer.handle)
    assert "insecure=True" in str(caught.value)
    assert caplog.records == []
    open_to_all = TcpTransport(insecure=True)
    server = await open_to_all.listen(Address("0.0.0.0", 0), peer.accept, peer.handle)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "without TLS" in caplog.text
    connection = await transport.connect(Address("127.0.0.1", server.address.port), b"a", peer.handle)
    assert not connection.is_closed
    await open_to_all.close()


async def test_a_port_held_by_a_stranger(transport: TcpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = Address("127.0.0.1", sock.getsockname()[1])
        with pytest.raises(ConfigurationError, match="it is in use; stop the process") as caught:
            await transport.listen(address, Peer().accept, Peer().handle)
    assert str(address) in str(caught.value)


async def test_an_address_of_another_machine() -> None:
    transport = TcpTransport(insecure=True)
    with pytest.raises(ConfigurationError, match="no such address"):
        await transport.listen(Address("192.0.2.1", 0), Peer().accept, Peer().handle)


async def test_connections_leave_room_for_files(transport: TcpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = Peer(), Peer()
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (6, 6))
    server = await transport.listen(ANY, there.accept, there.handle)
    for _ in range(3):
        await transport.connect(server.address, b"hello", here.handle)

    with pytest.raises(HandshakeError, match=r"too many connections \(limit 3\)"):
        await transport.connect(server.address, b"hello", here.handle)


@pytest.mark.parametrize(
    ("wanted", "openable", "granted"),
    [(10_000, 1024, 768), (500, 1024, 500), (10_000, 100, 50), (10_000, resource.RLIM_INFINITY, 10_000)],
)
async def test_how_many_connections_a_process_may_have(
    wanted: int, openable: int, granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (openable, openable))

    assert connections_within(wanted) == granted


async def test_localhost_by_name(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(Address("localhost", 0), there.accept, there.handle)
    connection = await transport.connect(server.address, b"a", there.handle)
    assert connection.remote == f"localhost:{server.address.port}"


async def test_sockets_are_tuned(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    connection = await transport.connect(server.address, b"a", there.handle)
    assert connection._transport is not None
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_reset_is_an_error(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write(PREAMBLE + encode_frame(b"hello"))
    await reader.readexactly(len(PREAMBLE))
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
    await wait_until(lambda: there.closed)
    assert isinstance(there.closed[0], TransportError)
    assert "connection reset" in str(there.closed[0])


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for mutual TLS with the one certificate: dialling, listening."""
    client = ssl.create_default_context(cafile=str(CERTIFICATE))
    client.load_cert_chain(CERTIFICATE)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(CERTIFICATE))
    server.load_cert_chain(CERTIFICATE)
    server.verify_mode = ssl.CERT_REQUIRED
    return client, server


async def test_tls_round_trip_with_certificates_on_both_sides() -> None:
    client, server_context = contexts()
    transport = TcpTransport(ssl_context=client, server_ssl_context=server_context)
    here, there = Peer(), Peer()
    server = await transport.listen(Address("localhost", 0), there.accept, there.handle)
    connection = here.watch(await transport.connect(server.address, b"a", here.handle))
    sent = [b"%d " % number * 1000 for number in range(500)]
    connection.send_many(sent)
    there.connections[0].send_many(sent)
    await wait_until(lambda: len(here.frames) == len(there.frames) == 500)
    assert here.frames == there.frames == sent
    connection.close()
    await wait_until(lambda: here.closed and there.closed)
    assert here.closed == there.closed == [None]
    await transport.close()


async def test_tls_lets_a_server_listen_beyond_loopback(caplog: pytest.LogCaptureFixture) -> None:
    _, server_context = contexts()
    transport = TcpTransport(server_ssl_context=server_context)
    await transport.listen(Address("0.0.0.0", 0), Peer().accept, Peer().handle)
    assert caplog.records == []
    await transport.close()


async def test_tls_refusals_have_words() -> None:
    client, server_context = contexts()
    transport = TcpTransport(ssl_context=client, server_ssl_context=server_context)
    server = await transport.listen(Address("localhost", 0), Peer().accept, Peer().handle)

    def refuse(hello: bytes, connection: Connection) -> bytes:
        raise HandshakeError("another cluster")

    refusing = await transport.listen(Address("localhost", 0), refuse, Peer().handle)
    with pytest.raises(HandshakeError, match="another cluster"):
        await transport.connect(refusing.address, b"a", Peer().handle)

    unknown_authority = TcpTransport(ssl_context=ssl.create_default_context())
    with pytest.raises(DialError) as caught:
        await unknown_authority.connect(server.address, b"a", Peer().handle)
    assert caught.value.reason.startswith("TLS failed: self")

    without_certificate = TcpTransport(ssl_context=ssl.create_default_context(cafile=str(CERTIFICATE)))
    with pytest.raises(DialError) as caught:
        await without_certificate.connect(server.address, b"a", Peer().handle)
    assert caught.value.reason.startswith(("TLS failed", "closed during handshake"))

    plain = TcpTransport()
    with pytest.raises(DialError) as caught:
        await plain.connect(server.address, b"a", Peer().handle)
    assert caught.value.reason.startswith(("speaks TLS", "closed during handshake"))

    plain_server = await plain.listen(ANY, Peer().accept, Peer().handle)
    with pytest.raises(DialError) as caught:
        await transport.connect(plain_server.address, b"a", Peer().handle)
    assert not caught.value.refused
    await plain.close()
    await transport.close()


async def test_a_frame_split_by_the_network(transport: TcpTransport) -> None:
    there = Peer()
    server = await transport.listen(ANY, there.accept, there.handle)
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    for byte in PREAMBLE + encode_frame(b"hello") + encode_frame(b"one") + encode_frame(b"two"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    answer = await reader.readexactly(len(PREAMBLE) + HEADER.size + 1 + len(there.hello))
    assert answer == PREAMBLE + encode_frame(ACCEPTED + there.hello)
    await wait_until(lambda: len(there.frames) == 2)
    assert there.frames == [b"one", b"two"]
    writer.close()


async def test_netty_is_another_name_for_tcp() -> None:
    assert NettyTransport is TcpTransport
