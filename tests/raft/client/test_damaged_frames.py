"""What no server sends raises ProtocolError, which costs the connection, and leaves the session as it was."""

import pytest

from copycat.errors import ProtocolError
from copycat.raft.client.outcomes import Resolved
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import HEADER_KEPT, Reason, Tag
from tests.raft.client.frames import (
    answer,
    ended,
    kept,
    leader,
    query_refused,
    register_refused,
    registered,
    rejected,
    results,
)
from tests.raft.client.sessions import Client, resolved

NONCE = b"n" * 16


@pytest.fixture
def client() -> Client:
    """A client that waits for one result of two commands, and for the answer to one query."""
    made = Client()
    made.hear(leader())
    made.register()
    made.call("a", "b")
    made.ask("q", ConsistencyLevel.SERIALIZABLE)
    made.frames()
    return made


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "tag none, unknown to clients"),
        (b"\xff", "tag ff, unknown to clients"),
        (bytes([Tag.REGISTER]), "tag 10, unknown to clients"),
        (bytes([Tag.STATUS_ANSWER]), "unknown to clients"),
        (bytes([Tag.LEADER]), "a notice of the leader cannot be read"),
        (leader()[:-1], "a notice of the leader cannot be read"),
        (bytes([Tag.LEADER]) + b"\x01", "a notice of the leader cannot be read"),
        (leader("name").replace(b"name", b"n\xffme"), "a notice of the leader cannot be read"),
        (registered(NONCE)[:-1], "a REGISTERED frame needs 45 bytes, 44 came"),
        (register_refused(NONCE, Reason.OVERLOADED)[:-1], "a REGISTER_REFUSED frame needs"),
        (results(1, "A", "B")[:20], "a RESULTS frame needs"),
        (results(1, "A", "B")[:-1], "a batch of results cannot be read"),
        (results(1, "A"), "2 commands were answered with 1 results"),
        (results(1, "A", "B", "C"), "2 commands were answered with 3 results"),
        (rejected(1, Reason.GAP)[:-1], "a REJECTED frame needs"),
        (rejected(1, 99), "refused for reason 99, which is unknown"),
        (kept(7)[:-1], "a list of 1 kept sessions does not fit 20 bytes"),
        (kept(7) + b"\x00", "a list of 1 kept sessions does not fit 22 bytes"),
        (HEADER_KEPT.pack(Tag.KEPT, 2**32 - 1), "a list of 4294967295 kept sessions"),
        (kept(7)[:3], "a KEPT frame needs"),
        (ended()[:-1], "an? ENDED frame needs"),
        (ended(99), "ended for reason 99, which is unknown"),
        (answer(1, 1)[:-3], "an? ANSWER frame needs"),
        (answer(1, 1, "Q")[:-1], "a batch of results cannot be read"),
        (answer(1, 1), "1 queries were answered with 0 results"),
        (answer(1, 1, "Q", "Q"), "1 queries were answered with 2 results"),
        (query_refused(1, Reason.STALE)[:-1], "a QUERY_REFUSED frame needs"),
        (query_refused(1, 99), "refused for reason 99, which is unknown"),
    ],
)
def test_a_damaged_frame_raises_and_changes_nothing(client: Client, frame: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        client.hear(frame)
    client.hear(leader())
    assert client.sent() == [
        ("KEEP_ALIVE", 7, 0),
        ("BATCH", 1, 0, ["a", "b"]),
        ("QUERY", 2, 2, 0, ConsistencyLevel.SERIALIZABLE, ["q"]),
    ]
    outcomes = client.hear(results(1, "A", "B"), answer(2, 2, "Q"))
    assert outcomes == [resolved("a", "b"), Resolved(["q"], ["Q"], are_commands=False)]


def test_a_registration_refused_for_an_unknown_reason_raises() -> None:
    client = Client()
    client.hear(leader())
    with pytest.raises(ProtocolError, match="reason 99"):
        client.hear(register_refused(client.nonce(), 99))


@pytest.mark.parametrize("length", range(30))
def test_every_prefix_of_every_frame_is_read_or_refused_and_nothing_else(client: Client, length: int) -> None:
    for frame in (leader(), registered(NONCE), results(1, "A", "B"), rejected(1, 2), kept(7), ended(), answer(1, 1, 2)):
        try:
            client.hear(frame[:length])
        except ProtocolError:
            pass
