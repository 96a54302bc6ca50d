"""Strangers who find the ports of a cluster cost it nothing: it serves on, counts them, and keeps its memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from copycat.io.transport.frame import HEADER, MAGIC, MAX_GREETING, PREAMBLE, encode_frame
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.members import Member
from tests.cli.support import copycat
from tests.io.transport.support import wait_until
from tests.process.support import HAS_PROC, Numbers, ProcessCluster, client_at, resident_bytes, running

pytestmark = [pytest.mark.process, pytest.mark.slow]

CALLER = PREAMBLE + encode_frame(encode_hello(Hello(role="client")))
OFFENCES = {
    "garbage": b"\xde\xad\xbe\xef" * 1000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: copycat\r\n\r\n",
    "another version": MAGIC + b"\x00\x63",
    "a huge length": PREAMBLE + HEADER.pack(0xFFFF_FFFF, 0),
    "a wrong checksum": PREAMBLE + HEADER.pack(3, 0) + b"abc",
    "a caller, then a huge length": CALLER + HEADER.pack(0xFFFF_FFFF, 0),
    "a caller, then a frame of no kind": CALLER + encode_frame(b"\xff"),
}
UNFINISHED = {
    "silence": b"",
    "half a preamble": PREAMBLE[:4],
    "half a hello": PREAMBLE + HEADER.pack(MAX_GREETING, 0) + bytes(MAX_GREETING // 2),
}
NOT_COUNTED = {
    "half a frame, and gone": CALLER + HEADER.pack(1000, 0) + b"half",
    "a hello of no kind": PREAMBLE + encode_frame(b"who is there?"),
    "a version range of later": PREAMBLE + encode_frame(encode_hello(Hello(role="client", versions=(7, 9)))),
}
SLOW_CALLERS = 20  # of each unfinished kind, at each member
VISITS = 200
MEMORY_BYTES_MAX = 32 << 20


async def say(member: Member, words: bytes) -> bytes:
    """Say it, say no more, and listen until the server hangs up."""
    reader, writer = await asyncio.open_connection(member.host, member.port)
    try:
        writer.write(words)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def hold(member: Member, words: bytes) -> bytes:
    """Say it and keep the line, until the server hangs up."""
    reader, writer = await asyncio.open_connection(member.host, member.port)
    try:
        writer.write(words)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@asynccontextmanager
async def served(cluster: ProcessCluster, at: Sequence[str]) -> AsyncIterator[None]:
    """A client at each of these members that puts one after another, and is answered each time, until the end."""
    over = asyncio.Event()

    async def put(name: str) -> None:
        async with client_at(cluster, name, timeout=20) as client:
            numbers = await client.create("numbers", Numbers)
            count = 0
            while not over.is_set() or not count:
                assert await numbers.put(name, count) == (count - 1 if count else None)
                assert await numbers.get(name) == count
                count += 1
                await asyncio.sleep(0.005)  # a client among others: not the test of how much fits

    async with asyncio.TaskGroup() as tasks:
        for name in at:
            tasks.create_task(put(name))
        try:
            yield
        finally:
            over.set()


async def status(cluster: ProcessCluster) -> dict[str, Any]:
    """What `copycat status --json` prints."""
    done = await asyncio.to_thread(copycat, "status", cluster.addresses, "--json")
    return dict(json.loads(done.stdout))


async def test_strangers_are_counted_and_cost_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster, served(cluster, list(cluster.members)):
        members = cluster.members.values()
        before = (await status(cluster))["members"]
        memory = {name: resident_bytes(cluster.process_id(name)) for name in cluster.members if HAS_PROC}

        async with asyncio.TaskGroup() as tasks:
            for member in members:
                for words in [*OFFENCES.values(), *NOT_COUNTED.values(), *[b""] * VISITS]:
                    tasks.create_task(say(member, words))
                for words in UNFINISHED.values():
                    for _ in range(SLOW_CALLERS):
                        tasks.create_task(hold(member, words))

        after = await status(cluster)
        for name in cluster.members:
            counted = after["members"][name]["protocol_errors"] - before[name]["protocol_errors"]
            assert counted == len(OFFENCES) + len(UNFINISHED) * SLOW_CALLERS
        for name, resident in memory.items():
            assert resident_bytes(cluster.process_id(name)) - resident < MEMORY_BYTES_MAX


async def test_another_version_is_told_ours(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        (member,) = cluster.members.values()

        assert await say(member, OFFENCES["another version"]) == PREAMBLE
        assert b"no common protocol version: this side speaks 1 to 1, the other 7 to 9" in await say(
            member, NOT_COUNTED["a version range of later"]
        )


async def test_more_connections_than_a_process_may_open_end_no_member(tmp_path: Path) -> None:
    """A member that cannot open a file ends itself, as with a failed disk: strangers must not bring that about."""
    openable = 100
    limited = ["sh", "-c", f'ulimit -n {openable}; exec "$@"', "sh"]
    async with running(tmp_path, wrapper=limited) as cluster:
        leader = await cluster.leader()
        survivor, other = (name for name in cluster.members if name != leader)
        async with client_at(cluster, survivor, timeout=20) as client, asyncio.TaskGroup() as tasks:
            numbers = await client.create("numbers", Numbers)
            floods = [Flood(cluster.members[name]) for name in (survivor, other)]
            running_floods = [tasks.create_task(flood.run()) for flood in floods]
            await wait_until(lambda: all(flood.count > 2 * openable for flood in floods))

            cluster.kill([leader])

            assert await numbers.put("after the election", 1) is None
            for each in running_floods:
                each.cancel()
        assert cluster.is_running(survivor)
        assert cluster.is_running(other)
        assert await cluster.leader() in (survivor, other)


class Flood:
    """Connections that say nothing, one after another, each kept until the server hangs up."""

    def __init__(self, member: Member) -> None:
        self.count = 0
        self._member = member
        self._open: set[asyncio.BaseTransport] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await loop.create_connection(lambda: Silence(self._open), self._member.host, self._member.port)
                self.count += 1
        finally:
            for transport in list(self._open):
                transport.close()


class Silence(asyncio.Protocol):
    """A connection that is in `transports` while it stands."""

    def __init__(self, transports: set[asyncio.BaseTransport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transports.discard(self._transport)
