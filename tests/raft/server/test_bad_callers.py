"""What a client or a member may say that makes no sense, once it has been let in: it costs the connection it came on.

Strangers who do not even get in are the transport's business; processes meet them in tests/process.
"""

import zlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from copycat.errors import HandshakeError
from copycat.io.storage.record import Block, encode_record
from copycat.raft.protocol.handshake import encode_hello
from copycat.raft.protocol.message_wire import encode_append
from copycat.raft.protocol.wire import (
    HEADER_FORWARD,
    HEADER_KEEP_ALIVE,
    HEADER_QUERY,
    Tag,
    encode_many,
    encode_msgpack,
)
from tests.io.transport.support import wait_until
from tests.raft.server.caller import CLIENT, Caller, batch, call
from tests.raft.server.cluster import Cluster, put

UNKNOWN = b"\x63 and more"

# What no client sends to any server: it is refused wherever it arrives.
ALWAYS = {
    "nothing": b"",
    "an unknown tag": UNKNOWN,
    "a server's frame": bytes([Tag.RESULTS]) + bytes(40),
    "a member's frame": bytes([Tag.VOTE_REQUEST]) + encode_msgpack((9, 9, 9)),
    "status cut short": bytes([Tag.STATUS, 1]),
    "a query cut short": bytes([Tag.QUERY, 1]),
    "a query of no level": HEADER_QUERY.pack(Tag.QUERY, 1, 0, 0, 0, 9, 1),
    "a query of nothing": HEADER_QUERY.pack(Tag.QUERY, 1, 0, 0, 0, 3, 0),
    "a keep-alive of another length": HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 2) + b"?",
}
# What only the leader reads, so that a follower passes it on unread.
AT_THE_LEADER = {
    "a batch cut short": batch(1, 1)[:10],
    "a registration cut short": bytes([Tag.REGISTER]) + b"n" * 5,
    "an end cut short": bytes([Tag.UNREGISTER]),
}


def errors(cluster: Cluster, name: str) -> int:
    return cluster.status(name).protocol_errors


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three members; in the end they must be as they were, and answer."""
    async with Cluster(3) as cluster:
        client = await cluster.client()
        await put(client, "k", 1)
        leader = await cluster.elected()
        term = cluster.status(leader).term
        yield cluster
        assert await put(client, "k", 2) == 1
        assert cluster.status(leader).term == term
        assert not any(cluster.fatal.values())
        await cluster.level()


# -- clients -----------------------------------------------------------------------------------------------------------


async def test_a_client_that_talks_nonsense_to_the_leader_is_dropped_and_counted(cluster: Cluster) -> None:
    leader = await cluster.elected()
    other = await call(cluster, leader)
    for count, (what, words) in enumerate({**ALWAYS, **AT_THE_LEADER}.items(), 1):
        caller = await call(cluster, leader)
        caller.send(words)
        await caller.closed()
        assert errors(cluster, leader) == count, what
    await other.register()  # unaffected


async def test_a_client_that_talks_nonsense_to_a_follower_is_dropped_and_counted(cluster: Cluster) -> None:
    follower = cluster.others(await cluster.elected())[0]
    other = await call(cluster, follower)
    for count, (what, words) in enumerate(ALWAYS.items(), 1):
        caller = await call(cluster, follower)
        caller.send(words)
        await caller.closed()
        assert errors(cluster, follower) == count, what
    await other.register()


async def test_nonsense_that_a_follower_passes_on_unread_costs_no_link_between_members(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    leader = await cluster.elected()
    follower = cluster.others(leader)[0]
    other = await call(cluster, follower)
    links = cluster.network.links_of(leader)
    for words in AT_THE_LEADER.values():
        (await call(cluster, follower)).send(words)
    await other.register()  # behind them on the same way
    assert caplog.text.count(f"dropped a client's frame that {follower} passed on") == len(AT_THE_LEADER)
    assert set(links) <= set(cluster.network.links_of(leader))
    assert errors(cluster, leader) == 0


async def test_an_offence_that_is_repeated_is_counted_each_time_and_logged_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    leader = await cluster.elected()
    for _ in range(5):
        caller = await call(cluster, leader)
        caller.send(UNKNOWN)
        await caller.closed()
    assert errors(cluster, leader) == 5
    complaints = [record.getMessage() for record in caplog.records if "connection dropped" in record.getMessage()]
    assert len(complaints) == 1
    assert "a client sent a frame with tag 63, which no client sends" in complaints[0]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"garbage", "the handshake cannot be read"),
        (encode_hello(CLIENT).replace(b"client", b"cl\xffent"), "the handshake cannot be read"),
        (b"\x82" + encode_hello(CLIENT)[1:] + b"\xa1?" + b"\x91" * 5000 + b"\xc0", "the handshake cannot be read"),
        (encode_hello(msgspec.structs.replace(CLIENT, role="spectator")), "role 'spectator' is neither 'member' nor"),
        (encode_hello(msgspec.structs.replace(CLIENT, versions=(7, 9))), "this side speaks 1 to 1, the other 7 to 9"),
    ],
)
async def test_a_hello_that_cannot_be_is_refused_in_words(cluster: Cluster, hello: bytes, reason: str) -> None:
    with pytest.raises(HandshakeError, match=reason):
        await call(cluster, "a", hello)


# -- members -----------------------------------------------------------------------------------------------------------


async def call_as_member(cluster: Cluster, name: str, callee: str, **changes: object) -> Caller:
    hello = cluster.servers[name].identity.hello()
    return await call(cluster, callee, msgspec.structs.replace(hello, **changes))


def append(term: int, previous_index: int, records: bytes) -> bytes:
    """An append of a leader that has lost its mind."""
    return encode_append((term, previous_index, 1, 0, 0, 0, 1, 120, 0, True, True), records)


def record(first_index: int, term: int) -> bytes:
    return encode_record(Block(first_index, 1, term, 2, 0, 0, 0, zlib.crc32(b""), b""), 0)


MEMBER_NONSENSE = {
    "nothing": b"",
    "an unknown tag": UNKNOWN,
    "a client's frame": batch(1, 1),
    "a vote request cut short": bytes([Tag.VOTE_REQUEST]),
    "a vote request of words": bytes([Tag.VOTE_REQUEST]) + encode_msgpack(("one", "two", "three")),
    "an append without a head": bytes([Tag.APPEND, 1]),
    "an append with a head too long": bytes([Tag.APPEND, 255, 255, 0, 0]),
    "records that are none": append(1, 0, b"no record at all" * 10),
    "a record whose checksum differs": append(1, 0, record(1, 1)[:-1] + b"?"),
    "a record in another place": append(1, 3, record(10, 1)),
    "a record of a later term": append(1, 3, record(4, 7)),
    "a forwarded frame cut short": bytes([Tag.FORWARD, 1]),
    "an answer cut short": bytes([Tag.RELAY, 1]),
    "many forwarded frames, cut short": encode_many(Tag.FORWARD_MANY, [(1, b"one"), (2, b"two")])[0][:-1],
    "many answers that are of no size": bytes([Tag.RELAY_MANY, 1]),
    "an identity that is none": bytes([Tag.IDENTITY]) + b"?",
    "the identity of another cluster": bytes([Tag.IDENTITY])
    + encode_hello(msgspec.structs.replace(CLIENT, role="member", member_id="b", cluster_id=b"x" * 16)),
}


@pytest.mark.parametrize("at_leader", [True, False], ids=["leader", "follower"])
async def test_a_member_that_talks_nonsense_is_dropped_and_counted(cluster: Cluster, at_leader: bool) -> None:
    leader = await cluster.elected()
    follower, other = cluster.others(leader)
    callee = leader if at_leader else follower
    for count, (what, words) in enumerate(MEMBER_NONSENSE.items(), 1):
        caller = await call_as_member(cluster, other, callee)
        caller.send(words)
        await caller.closed()
        assert errors(cluster, callee) == count, what


async def test_a_member_that_passes_on_what_no_client_sends_keeps_its_link(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    leader = await cluster.elected()
    caller = await call_as_member(cluster, cluster.others(leader)[0], leader)
    caller.send(HEADER_FORWARD.pack(Tag.FORWARD, 1), HEADER_FORWARD.pack(Tag.FORWARD, 1) + UNKNOWN)
    caller.send(
        *encode_many(Tag.FORWARD_MANY, [(1, UNKNOWN), (2, UNKNOWN)]), *encode_many(Tag.FORWARD_MANY, [(1, b"")])
    )
    await wait_until(lambda: caplog.text.count("dropped a client's frame that") == 5)
    assert not caller.connection.is_closed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster_id": b"x" * 16}, r"b belongs to cluster 78787878, a to cluster \w{8}: check addresses"),
        ({"incarnation": b"?" * 16}, r"b's directory is new, but cluster \w{8} knows another b: remove b"),
        ({"member_id": "a"}, r"two members call themselves 'a': one at 127.0.0.1:5001, and the caller"),
        ({"versions": (2, 3)}, r"no common protocol version: this side speaks 1 to 1, the other 2 to 3"),
    ],
    ids=["another cluster", "another incarnation", "the callee's own id", "another version"],
)
async def test_who_cannot_be_a_member_is_refused_in_words(
    cluster: Cluster, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(HandshakeError, match=reason):
        await call_as_member(cluster, "b", "a", **changes)
