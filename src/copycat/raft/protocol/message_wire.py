"""The bytes of consensus messages, which travel between members only: a client never loads this.

Source: protocol §10.8.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from struct import Struct
from typing import Any, get_type_hints

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import UNREADABLE
from copycat.raft.protocol.messages import (
    Append,
    AppendResponse,
    Install,
    InstallResponse,
    Message,
    PollRequest,
    PollResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from copycat.raft.protocol.wire import Tag, encode_msgpack

_CLASSES: dict[int, type] = {
    Tag.POLL_REQUEST: PollRequest,
    Tag.POLL_RESPONSE: PollResponse,
    Tag.VOTE_REQUEST: VoteRequest,
    Tag.VOTE_RESPONSE: VoteResponse,
    Tag.APPEND: Append,
    Tag.APPEND_RESPONSE: AppendResponse,
    Tag.INSTALL: Install,
    Tag.INSTALL_RESPONSE: InstallResponse,
    Tag.TIMEOUT_NOW: TimeoutNow,
}
_TAGS = {cls: bytes([tag]) for tag, cls in _CLASSES.items()}


def _names(cls: type) -> list[str]:
    return [field.name for field in fields(cls) if field.name != "blocks"]


def _decoder(cls: type) -> Callable[[bytes], tuple[Any, ...]]:
    hints = get_type_hints(cls)
    return msgspec.msgpack.Decoder(tuple[tuple(hints[name] for name in _names(cls))]).decode  # type: ignore[misc]  # built


def _getter(names: list[str]) -> Callable[[Message], tuple[Any, ...]]:
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda message: (get(message),)  # of one name it gets no tuple


_GETTERS = {cls: _getter(_names(cls)) for cls in _CLASSES.values()}
_DECODERS = {tag: (cls, _names(cls), _decoder(cls)) for tag, cls in _CLASSES.items()}
APPEND_LENGTH = Struct("<I")


def encode_message(message: Message) -> bytes:
    """A consensus message without blocks. See `encode_append` for one with."""
    return _TAGS[type(message)] + encode_msgpack(_GETTERS[type(message)](message))


def encode_append(fields_in_order: tuple[Any, ...], records: bytes) -> bytes:
    """An append: its fields in the order of `Append`, then the log's own records, unchanged."""
    head = encode_msgpack(fields_in_order)
    return b"".join((_TAGS[Append], APPEND_LENGTH.pack(len(head)), head, records))


def decode_message(frame: bytes) -> Message:
    """A consensus message other than Append. Raises ProtocolError."""
    try:
        cls, names, decode = _DECODERS[frame[0]]
        values = decode(frame[1:])
    except (KeyError, IndexError, *UNREADABLE) as error:
        raise ProtocolError(f"a consensus message cannot be read: {error}") from None
    message: Message = cls(**dict(zip(names, values, strict=True)))
    return message


def decode_append(frame: bytes) -> tuple[Append, bytes]:
    """An append without its blocks, and the records it carries. Raises ProtocolError."""
    try:
        (length,) = APPEND_LENGTH.unpack_from(frame, 1)
        end = 1 + APPEND_LENGTH.size + length
        if end > len(frame):
            raise ProtocolError(f"an append names a head of {length} bytes, {len(frame)} came in all")
        _, names, decode = _DECODERS[Tag.APPEND]
        values = decode(frame[1 + APPEND_LENGTH.size : end])
    except (struct.error, *UNREADABLE) as error:
        raise ProtocolError(f"an append cannot be read: {error}") from None
    return Append(**dict(zip(names, values, strict=True))), frame[end:]
