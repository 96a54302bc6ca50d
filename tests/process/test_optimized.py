"""Servers under `python -O`, which drops every assert: what keeps a cluster safe is still there."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from copycat.io.transport.tcp import TcpTransport
from copycat.io.transport.transport import Connection
from copycat.raft.protocol.handshake import Hello, decode_hello, encode_hello
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.message_wire import encode_append
from copycat.util.address import Address
from tests.process.support import Numbers, ProcessCluster, client_of, running

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_check_that_does_not_hold_raises() -> None:
    program = "from copycat.errors import check\nassert False, 'dropped'\ncheck(1 > 2, 'order holds')"
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.endswith("copycat.errors.InvariantError: order holds\n")


async def test_a_leader_that_hears_another_of_its_own_term_halts_and_the_others_go_on(tmp_path: Path) -> None:
    """Two leaders in a term cannot be: the member that sees it believes nothing any more, itself included."""
    async with running(tmp_path, interpreter=["-O"]) as cluster, client_of(cluster, timeout=20) as client:
        numbers = await client.create("numbers", Numbers)
        puts = [numbers.put("key", number) for number in range(100)]
        assert [await put for put in puts] == [None, *range(99)]
        leader = await cluster.leader()

        await claim_to_lead(cluster, leader)

        assert await cluster.ended(leader) == 1
        assert "copycat server: two leaders in one term" in cluster.log_file(leader).read_text()
        assert await numbers.put("key", 100) == 99
        cluster.start([leader])
        await cluster.wait_for_leader()
        assert await numbers.get("key") == 100


async def claim_to_lead(cluster: ProcessCluster, leader: str) -> None:
    """Say hello to the leader as one of its followers, and then that one leads the same term."""
    term = (await cluster.answers())[leader]["term"]
    transport = TcpTransport()
    try:
        asked = await call(transport, cluster.members[leader], Hello(role="client"))
        own = decode_hello(asked.peer_hello)
        follower = next(name for name in own.incarnations if name != leader)
        link = await call(
            transport,
            cluster.members[leader],
            Hello(
                role="member",
                cluster_id=own.cluster_id,
                member_id=follower,
                incarnation=own.incarnations[follower],
                incarnations=own.incarnations,
                members=own.members,
                types=own.types,
            ),
        )
        hung_up = asyncio.Event()
        link.on_close.append(lambda _link, _error: hung_up.set())
        link.send(encode_append((term, 0, 0, 0, 0, 0, 1, 0, 0, True, True), b""))
        await hung_up.wait()
    finally:
        await transport.close()


async def call(transport: TcpTransport, member: Member, hello: Hello) -> Connection:
    return await transport.connect(
        Address(member.host, member.port), encode_hello(hello), lambda _connection, _frames: None
    )
