"""What members say of their states: the hashes of one at an index, and what a leader makes of everybody's.

A state is hashed in sections, so that what differs has a name: each state machine is one, by its target, and what
belongs to none of them has a name below zero (`raft.machine.snapshot.Section`).

Source: protocol §8.10, §10.8.
"""

import enum

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import UNREADABLE

DIGEST_BYTES = 16
NOT_HASHED = b""
"""In the place of a digest: this state could not be encoded, so nobody compares it."""

Hashes = list[tuple[int, bytes]]
"""Of each section, in the order of the state."""


class Finding(enum.IntEnum):
    """What a leader found. Ids are never reused."""

    EQUAL = 1
    DIFFERS = 2  # this member's state is not that of a majority
    NO_MAJORITY = 3  # whatever those say that have not answered


class StateReport(msgspec.Struct, frozen=True, array_like=True):
    """One member's state when everything up to `index` was applied. `format`: what was hashed, and how."""

    index: int
    format: int
    hashes: Hashes


class StateVerdict(msgspec.Struct, frozen=True, array_like=True):
    """hashes: those of the majority where the receiver's differ; NOT_HASHED for what the majority does not have.

    detail: for people: who the majority is; without one, who has what.
    """

    index: int
    finding: int
    hashes: Hashes
    detail: str


_decode_report = msgspec.msgpack.Decoder(StateReport).decode
_decode_verdict = msgspec.msgpack.Decoder(StateVerdict).decode


def decode_report(data: bytes) -> StateReport:
    """Raises ProtocolError."""
    try:
        return _decode_report(data)
    except UNREADABLE as error:
        raise ProtocolError(f"the hashes of a state cannot be read: {error}") from None


def decode_verdict(data: bytes) -> StateVerdict:
    """Raises ProtocolError."""
    try:
        return _decode_verdict(data)
    except UNREADABLE as error:
        raise ProtocolError(f"what was found of a state cannot be read: {error}") from None
