"""How values look as MessagePack: extensions, headers written by hand, and how deep bytes are nested.

What MessagePack cannot tell apart is an extension:

    1 tuple, 2 set, 3 frozenset   an array; a set's is sorted by the members' encodings
    4 Decimal                     its text
    5 int beyond 64 bits          two's complement, big-endian
    6 UUID                        16 bytes
    7 datetime, 8 date, 9 time    ISO 8601; a zone is kept as its offset, `fold` is not kept
    10 timedelta                  days, seconds, microseconds, 4 bytes each
    11 a registered type          an array: id or name, then its body: a map of fields, an Enum member's name, or
                                  the bytes its own serializer wrote

Heads and lengths are those of the MessagePack specification.

Source: protocol §7.1.
"""

import struct
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import eq
from typing import Any, Final
from uuid import UUID

import msgspec

from copycat.errors import DecodeError

TUPLE, SET, FROZENSET, DECIMAL, BIG_INT, UUID_BYTES, DATETIME, DATE, TIME, TIMEDELTA, REGISTERED = range(1, 12)
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding strange bytes may raise: text that is not UTF-8 and deep nesting have errors of their own."""

INT_MIN, INT_MAX = -(2**63), 2**64 - 1

SIMPLE: Final = frozenset({str, bytes, int, bool, float})  # one MessagePack item each, told apart by it
FLAT: Final = frozenset({*SIMPLE, type(None)})

_DURATION: Final = struct.Struct(">iii")
LEAVES: Final[dict[Any, tuple[int, Callable[[Any], bytes]]]] = {
    Decimal: (DECIMAL, lambda value: str(value).encode()),
    UUID: (UUID_BYTES, lambda value: bytes(value.bytes)),
    datetime: (DATETIME, lambda value: value.isoformat().encode()),
    date: (DATE, lambda value: value.isoformat().encode()),
    time: (TIME, lambda value: value.isoformat().encode()),
    timedelta: (TIMEDELTA, lambda value: _DURATION.pack(value.days, value.seconds, value.microseconds)),
}
LEAF_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    DECIMAL: lambda data: Decimal(data.decode()),
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    UUID_BYTES: lambda data: UUID(bytes=data),
    DATETIME: lambda data: datetime.fromisoformat(data.decode()),
    DATE: lambda data: date.fromisoformat(data.decode()),
    TIME: lambda data: time.fromisoformat(data.decode()),
    TIMEDELTA: lambda data: timedelta(*_DURATION.unpack(data)),
}
CORE_TYPES: Final = frozenset({*FLAT, *LEAVES, list, tuple, dict, set, frozenset, object})

_ARRAY_HEADS: Final = (0x90, 0xDC, 0xDD)
_MAP_HEADS: Final = (0x80, 0xDE, 0xDF)
_ARRAY_EXTENSIONS: Final = tuple(bytes((code,)) for code in (TUPLE, SET, FROZENSET, REGISTERED))
CONTAINER_HEADS: Final = frozenset({*range(0x80, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9), *range(0xDC, 0xE0)})
_OTHER_HEADS: Final = bytes(sorted(set(range(256)) - CONTAINER_HEADS))
# Of each head byte: the size of the whole item, 0 where the bytes that follow say it.
_ITEM_BYTES: Final = (
    *(1 for _ in range(0x80)),  # small ints
    *(0 for _ in range(0x80, 0xA0)),  # small maps and arrays
    *range(1, 33),  # short strings
    *(1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9),  # 0xC0: nil, bools, bytes, extensions, numbers
    *(0 for _ in range(0xD4, 0xE0)),  # extensions, strings, arrays, maps
    *(1 for _ in range(0xE0, 0x100)),  # small negative ints
)
# How many bytes of length follow a head. The extensions of 1, 2, 4, 8 and 16 bytes have none.
_LENGTH_BYTES: Final = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip


def is_flat(members: Iterable[Any]) -> bool:
    """Whether each is one MessagePack item as it stands, NaN aside. Runs in C: most lists and dicts stop here."""
    kinds = set(map(type, members))
    return kinds <= FLAT and (float not in kinds or all(map(eq, members, members)))


def array_header(count: int) -> bytes:
    """What comes before the `count` items of an array."""
    return _header(_ARRAY_HEADS, count)


def map_header(count: int) -> bytes:
    """What comes before the `count` keys, each followed by its value, of a map."""
    return _header(_MAP_HEADS, count)


def _header(heads: tuple[int, int, int], count: int) -> bytes:
    if count < 16:
        return bytes((heads[0] | count,))
    if count < 2**16:
        return struct.pack(">BH", heads[1], count)
    return struct.pack(">BI", heads[2], count)


def check_depth(data: bytes, depth_max: int) -> None:
    """Raise DecodeError if containers in a value's bytes are nested deeper than `depth_max`; decodes nothing."""
    # No more than `depth_max` containers cannot be nested deeper: only other values are walked through.
    if len(data) > depth_max and len(data.translate(None, _OTHER_HEADS)) > depth_max:
        _walk(data, depth_max)


def _walk(data: bytes, depth_max: int) -> None:
    """`check_depth` without recursion, one step for each item.

    Extensions that hold an array are looked into, the others skipped. Malformed bytes are left to the decoder: it
    reads in the same order, so it stops where this loses its way, before anything behind that matters.
    """
    position, end = 0, len(data)
    outer: list[int] = []  # how many items are still to come in each container around the current one
    left = 1  # and in the current one
    while position < end:
        head = data[position]
        size = _ITEM_BYTES[head]
        if size:
            position += size
            left -= 1
        elif head < 0xA0:
            outer.append(left - 1)
            left = (head & 0x0F) * (2 if head < 0x90 else 1)
            position += 1
        else:
            width = _LENGTH_BYTES.get(head, 0)
            body = position + 1 + width
            count = int.from_bytes(data[position + 1 : body], "big") if width else 1 << max(head - 0xD4, 0)
            if head >= 0xDC:
                outer.append(left - 1)
                left = count * (2 if head >= 0xDE else 1)
                position = body
            elif not (0xC7 <= head <= 0xC9 or 0xD4 <= head <= 0xD8):
                position = body + count
                left -= 1
            elif data[body : body + 1] in _ARRAY_EXTENSIONS:
                position = body + 1  # what it holds is one item, which takes its place
            else:
                position = body + 1 + count
                left -= 1
        if len(outer) > depth_max:
            raise DecodeError(f"a value nested deeper than {depth_max}")
        while left <= 0:
            if not outer:
                return
            left = outer.pop()
