"""A server whose directory was put back from a copy, or wiped: what it says, and that it gives nobody its vote."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from copycat.io.transport.frame import FrameDecoder
from copycat.raft.client.survey import ask
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.message_wire import decode_message
from copycat.raft.protocol.wire import Tag
from copycat.testing.processes import LOOPBACK, free_ports
from tests.process.support import QUICK, Numbers, ProcessCluster, client_of, started

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Tapped(ProcessCluster):
    """What c says to b goes through a tap: the answers to polls and votes that pass are kept."""

    def __init__(self, directory: Path, size: int = 3, **more: Any) -> None:
        super().__init__(directory, size, **more)
        (self._tap_port,) = free_ports(1)
        self.granted: list[bool] = []

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        if name == "c":
            seen = {**self.members, "b": Member("b", LOOPBACK, self._tap_port)}
            command[command.index("--members") + 1] = ",".join(map(str, seen.values()))
        return command

    async def tap(self) -> asyncio.Server:
        return await asyncio.start_server(self._connect, LOOPBACK, self._tap_port)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        b = self.members["b"]
        try:
            back, forth = await asyncio.open_connection(b.host, b.port)
        except OSError:
            writer.close()
            return
        decoder = FrameDecoder(1 << 24)

        def watch(data: bytes) -> None:
            for frame in decoder.feed(data):
                if frame[0] in (Tag.POLL_RESPONSE, Tag.VOTE_RESPONSE):
                    self.granted.append(decode_message(frame).granted)  # type: ignore[union-attr]  # by its tag

        await asyncio.gather(_pump(reader, forth, watch), _pump(back, writer, lambda _data: None))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, watch: Any) -> None:
    try:
        while data := await source.read(1 << 16):
            watch(data)
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def tapped(directory: Path) -> AsyncIterator[Tapped]:
    """A cluster that has a leader, with the tap there before the servers are."""
    cluster = Tapped(directory, options=QUICK)
    async with await cluster.tap(), started(cluster):
        yield cluster


async def write(cluster: ProcessCluster, value: int) -> None:
    async with client_of(cluster) as client:
        numbers = await client.create("numbers", Numbers)
        await numbers.put("n", value)


async def test_an_older_copy_says_so_and_gives_nobody_its_vote_until_it_is_refilled(tmp_path: Path) -> None:
    async with tapped(tmp_path) as cluster:
        await write(cluster, 1)
        await cluster.stop("c")
        shutil.copytree(tmp_path / "c", tmp_path / "copy")
        cluster.start(["c"])
        await cluster.wait_for_leader()
        await write(cluster, 2)
        cluster.kill()
        shutil.rmtree(tmp_path / "c")
        shutil.copytree(tmp_path / "copy", tmp_path / "c")
        cluster.granted.clear()

        cluster.start(["b", "c"])  # c's vote would be enough for b

        async def asked_often() -> dict[str, Any] | None:
            return {} if len(cluster.granted) >= 3 else None

        await cluster.wait_until(asked_often, "c to be asked for its vote")
        assert not any(cluster.granted)
        assert (await ask(cluster.members["c"], 1.0))["role"] == "passive"
        said = cluster.log_file("c").read_text()
        assert f"c: the data in {tmp_path / 'c'} is an older copy, or lacks what was there: b knows of a" in said
        assert "It has no vote until a leader has given it all it lacks" in said

        cluster.start(["a"])
        await cluster.wait_for_leader()

        async def counts_again() -> dict[str, Any] | None:
            status = await ask(cluster.members["c"], 1.0)
            return status if status.get("role") in ("follower", "leader") else None

        await cluster.wait_until(counts_again, "c to be refilled")
        cluster.kill(["a"])
        await cluster.wait_for_leader(["b", "c"])
        async with client_of(cluster) as client:
            assert await (await client.create("numbers", Numbers)).get("n") == 2


async def test_a_wiped_directory_under_an_old_id_is_refused_and_its_member_gives_nobody_its_vote(
    tmp_path: Path,
) -> None:
    async with tapped(tmp_path) as cluster:
        await write(cluster, 1)
        cluster.kill()
        shutil.rmtree(tmp_path / "c")
        cluster.granted.clear()
        cluster.start(["b", "c"])
        assert await cluster.ended("c") == 1
        assert cluster.granted == []
        assert "c's directory is new, but cluster " in cluster.log_file("c").read_text()
        assert "knows another c: remove c, then join under a new id" in cluster.log_file("c").read_text()
        assert (await ask(cluster.members["b"], 1.0))["leader"] is None

        cluster.start(["a"])  # two remember
        await cluster.wait_for_leader(["a", "b"])
