"""What a block of the log holds: items, each one session's batch or one internal entry.

A block's body is a run of items; an item is a fixed header and an opaque blob. Forwarders and leaders read only
headers; blobs are opened at apply. An item occupies `count` consecutive indices, the commands of a batch one each.

Source: protocol §1.1, §5.1, §10.4; docs/decisions/0007-the-block-is-the-unit.md.
"""

import enum
from collections.abc import Iterable, Iterator
from struct import Struct
from struct import error as StructError  # noqa: N812  # a class
from typing import Final

from copycat.errors import ProtocolError


class BlockKind(enum.IntEnum):
    """What a block holds. Ids are never reused; an unknown one halts the member (protocol §5.7)."""

    INITIALIZE = 1  # a new leader's first entry: its body is the configuration in force
    ITEMS = 2  # a turn's items
    CONFIGURE = 3  # a change of members: its body is the new configuration, in force as soon as it is appended


class ItemKind(enum.IntEnum):
    """What one item is. Ids are never reused; an unknown one halts the member (protocol §5.7)."""

    COMMANDS = 1  # a session's batch: session, first sequence, ack, count and the commands' blob
    REGISTER = 2  # session 0; the blob is nonce, secret and timeout
    KEEP_ALIVE = 3  # session 0; the blob is a run of (session, ack, event ack)
    UNREGISTER = 4  # the session's own orderly end; the ack field is unused
    EXPIRE = 5  # proposed by the leader; the ack field carries the last activity index it knew
    TICK = 6  # time passes: fires due timers when nothing else is appended
    TYPES = 7  # the blob names the state machine types every member can run; others cannot be created
    CHECK = 8  # every replica hashes its state as it is behind this block


COMMANDS: Final = int(ItemKind.COMMANDS)  # for what goes over every batch: to find a member of an enum takes long


class End(enum.IntEnum):
    """Why a session ended."""

    UNREGISTERED = 1
    EXPIRED = 2
    UNKNOWN = 3  # to this server: it ended long ago, or never was
    OVERFLOWED = 4  # more events were unacknowledged than a session may have


ITEM = Struct("<BQQQII")  # kind, session, first sequence, ack, count, blob length
ITEM_BYTES = ITEM.size
KEEP_ALIVE = Struct("<QQQ")  # session, ack, event ack
REGISTER = Struct("<16s16sI")  # nonce, secret, timeout in milliseconds


SESSION_WINDOW = 8192
"""How many commands a session may have without acknowledged results: part of what replicas compute, so no setting."""

RESULTS_BYTES_MAX = 15 << 20
"""The most that the results of one batch may be together, so that they fit a frame: likewise computed alike by all."""


TYPE = Struct("<HH")  # version, length of the name; then the name


def pack_types(types: Iterable[tuple[str, int]]) -> bytes:
    """A set of state machine types, (name, version) each."""
    named = [(name.encode(), version) for name, version in types]
    return b"".join(TYPE.pack(version, len(name)) + name for name, version in named)


def unpack_types(blob: bytes) -> list[tuple[str, int]]:
    """What `pack_types` packed. Raises ProtocolError."""
    types: list[tuple[str, int]] = []
    at = 0
    try:
        while at < len(blob):
            version, length = TYPE.unpack_from(blob, at)
            at += TYPE.size + length
            if at > len(blob):
                raise ProtocolError(f"a name of {length} bytes reaches beyond a set of types")
            types.append((blob[at - length : at].decode(), version))
    except (StructError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a set of types cannot be read: {error}") from None
    return types


Item = tuple[int, int, int, int, int, bytes]
"""One item of a block, its blob still closed: kind, session, first sequence, ack, count, blob."""


def pack_item(kind: int, session: int, sequence: int, ack: int, count: int, blob: bytes) -> bytes:
    """The bytes of one item."""
    return ITEM.pack(kind, session, sequence, ack, count, len(blob)) + blob


def iterate_items(body: bytes) -> Iterator[Item]:
    """The items of a block's body, in order. Raises ProtocolError when a header does not fit its body."""
    read_header, at, end = ITEM.unpack_from, 0, len(body)
    while at < end:
        try:
            kind, session, sequence, ack, count, length = read_header(body, at)
        except StructError:
            raise ProtocolError(f"an item header needs {ITEM_BYTES} bytes, {end - at} are left") from None
        start = at + ITEM_BYTES
        at = start + length
        if at > end:
            raise ProtocolError(f"an item names a blob of {length} bytes, {end - start} are left")
        yield kind, session, sequence, ack, count, body[start:at]
