"""The frames between a client and a server, written and read in tests as plain tuples.

An operation here is a word: `operation("a")` are its bytes, and `read` gives the words back.
"""

from typing import Any

from copycat.raft.client.encoding import encode_operation
from copycat.raft.protocol.entries import End
from copycat.raft.protocol.wire import (
    HEADER_ANSWER,
    HEADER_BATCH,
    HEADER_ENDED,
    HEADER_KEEP_ALIVE,
    HEADER_KEPT,
    HEADER_QUERY,
    HEADER_QUERY_REFUSED,
    HEADER_REGISTER,
    HEADER_REGISTER_REFUSED,
    HEADER_REGISTERED,
    HEADER_REJECTED,
    HEADER_RESULTS,
    HEADER_UNREGISTER,
    KEPT_ALIVE,
    KEPT_SESSION,
    Reason,
    Tag,
    decode_operations,
    encode_msgpack,
    encode_results,
)

SECRET = b"s" * 16
NEWEST = 2**63  # a stamp at which the client's newest keep-alive counts as answered


def operation(word: str) -> bytes:
    """The bytes of an operation that says `word`."""
    return encode_operation(0, 0, 1, (word,), word)


def words(blob: bytes) -> list[str]:
    """What the operations of a batch say."""
    return [each[-1] for each in decode_operations(blob)]


# -- what a client sends -----------------------------------------------------------------------------------------------


def read(frame: bytes) -> tuple[Any, ...]:
    """A client's frame: its tag's name, and what it says.

    REGISTER nonce timeout_ms; BATCH first ack words; KEEP_ALIVE session ack; UNREGISTER session;
    QUERY request sequence floor consistency words.
    """
    tag = Tag(frame[0])
    match tag:
        case Tag.REGISTER:
            return (tag.name, *HEADER_REGISTER.unpack(frame)[1:])
        case Tag.BATCH:
            _, _, first, ack, count = HEADER_BATCH.unpack_from(frame)
            said = words(frame[HEADER_BATCH.size :])
            assert len(said) == count
            return tag.name, first, ack, said
        case Tag.KEEP_ALIVE:
            assert HEADER_KEEP_ALIVE.unpack_from(frame)[1] == 1
            session, secret, ack, _, _ = KEPT_ALIVE.unpack_from(frame, HEADER_KEEP_ALIVE.size)
            assert secret == SECRET
            return tag.name, session, ack
        case Tag.UNREGISTER:
            _, session, secret = HEADER_UNREGISTER.unpack(frame)
            assert secret == SECRET
            return tag.name, session
        case Tag.QUERY:
            _, request, _, sequence, floor, consistency, count = HEADER_QUERY.unpack_from(frame)
            said = words(frame[HEADER_QUERY.size :])
            assert len(said) == count
            return tag.name, request, sequence, floor, consistency, said
    raise AssertionError(f"no client sends {tag.name}")


def read_all(frames: list[bytes]) -> list[tuple[Any, ...]]:
    return [read(frame) for frame in frames]


def names(frames: list[bytes]) -> list[str]:
    """Only the kinds of frames."""
    return [Tag(frame[0]).name for frame in frames]


# -- what a server sends -----------------------------------------------------------------------------------------------


def leader(name: str = "a", term: int = 1, members: dict[str, str] | None = None) -> bytes:
    return bytes([Tag.LEADER]) + encode_msgpack({"term": term, "leader": name, "members": members or {}})


def registered(nonce: bytes, session: int = 7, timeout_ms: int = 3000) -> bytes:
    return HEADER_REGISTERED.pack(Tag.REGISTERED, nonce, session, SECRET, timeout_ms)


def register_refused(nonce: bytes, reason: int, detail: str = "") -> bytes:
    return HEADER_REGISTER_REFUSED.pack(Tag.REGISTER_REFUSED, nonce, reason) + detail.encode()


def results(first: int, *values: Any, session: int = 7, index: int = 0) -> bytes:
    """The answer to a batch; at `index`, by default that of its last sequence."""
    last = index or first + len(values) - 1
    return HEADER_RESULTS.pack(Tag.RESULTS, session, first, len(values), last, 0) + encode_results([*values])


def rejected(sequence: int, reason: int, detail: str = "", session: int = 7) -> bytes:
    return HEADER_REJECTED.pack(Tag.REJECTED, session, sequence, reason) + detail.encode()


def kept(*sessions: int) -> bytes:
    packed = [KEPT_SESSION.pack(session, NEWEST) for session in sessions]
    return HEADER_KEPT.pack(Tag.KEPT, len(packed)) + b"".join(packed)


def ended(why: int = End.EXPIRED, session: int = 7) -> bytes:
    return HEADER_ENDED.pack(Tag.ENDED, session, why)


def answer(request: int, index: int, *values: Any) -> bytes:
    return HEADER_ANSWER.pack(Tag.ANSWER, request, index, 0) + encode_results([*values])


def query_refused(request: int, reason: Reason | int, detail: str = "") -> bytes:
    return HEADER_QUERY_REFUSED.pack(Tag.QUERY_REFUSED, request, reason) + detail.encode()
