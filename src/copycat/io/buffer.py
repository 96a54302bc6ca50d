"""Bytes with a position: what serializers of users' own types write to and read from.

A buffer starts for writing. `flip()` turns it round: what was written becomes what can be read. Numbers are
big-endian. Every read and write takes an optional `offset`: with one it is absolute and moves no position.
A failed read or write leaves the position where it was.
"""

import struct
from typing import Any, Protocol, Self, TypeVar

from copycat.errors import CopycatError, DecodeError

INITIAL_CAPACITY_BYTES = 4096  # what the manual promises for `allocate()`
MAX_CAPACITY_BYTES = 2**31 - 1

Read = TypeVar("Read", covariant=True)
Written = TypeVar("Written", contravariant=True)


class BufferUnderflow(CopycatError, EOFError):  # noqa: N818 - the manual's name
    """A read went past the limit: there are fewer bytes than asked for."""


class BufferOverflow(CopycatError, OverflowError):  # noqa: N818 - the manual's name
    """A write went past the limit or the greatest capacity."""


class _Store:
    """The bytes themselves, shared by a buffer and its slices. Growing replaces `data`, so a `memory()` goes stale."""

    __slots__ = ("data",)

    def __init__(self, data: bytearray | memoryview) -> None:
        self.data = data


class _Cursor:
    """Position, limit and mark over a window of a store."""

    __slots__ = ("_is_read_only", "_limit", "_mark", "_offset", "_position", "_store", "max_capacity")

    def __init__(self, store: _Store, offset: int, max_capacity: int, limit: int | None, is_read_only: bool) -> None:
        self._store = store
        self._offset = offset
        self._position = 0
        self._limit = limit
        self._mark: int | None = None
        self._is_read_only = is_read_only
        self.max_capacity = max_capacity

    @property
    def capacity(self) -> int:
        """Bytes held now; grows up to `max_capacity`."""
        return min(len(self._store.data) - self._offset, self.max_capacity)

    @property
    def position(self) -> int:
        """Where the next relative read or write happens: 0..limit. Raises: IndexError when set outside."""
        return self._position

    @position.setter
    def position(self, position: int) -> None:
        if not 0 <= position <= self._end():
            raise IndexError(f"position {position} is outside 0..{self._end()}")
        self._position = position

    @property
    def limit(self) -> int:
        """The end of what may be read or written; -1 means unset: up to the capacity, which writing extends."""
        return -1 if self._limit is None else self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if not -1 <= limit <= self.max_capacity:
            raise IndexError(f"limit {limit} is outside 0..{self.max_capacity}, and not -1")
        self._limit = None if limit < 0 else limit
        self._position = min(self._position, self._end())

    @property
    def remaining(self) -> int:
        """Bytes from the position to the limit; to the greatest capacity when no limit is set."""
        return self._end() - self._position

    def flip(self) -> Self:
        """Turn from writing to reading: the limit becomes the position, the position 0, the mark is forgotten."""
        self._limit, self._position, self._mark = self._position, 0, None
        return self

    def mark(self) -> Self:
        """Remember the position for `reset()`."""
        self._mark = self._position
        return self

    def reset(self) -> Self:
        """Go back to the mark. Raises: ValueError if there is none."""
        if self._mark is None:
            raise ValueError("reset() without mark()")
        self.position = self._mark
        return self

    def rewind(self) -> Self:
        """Go back to position 0 and forget the mark; the limit stays."""
        self._position, self._mark = 0, None
        return self

    def clear(self) -> Self:
        """Position 0, no limit, no mark; the bytes stay until overwritten."""
        self._position, self._limit, self._mark = 0, None, None
        return self

    def skip(self, count: int) -> Self:
        """Move `count` >= 0 bytes on. Raises: BufferUnderflow past the limit."""
        if not 0 <= count <= self.remaining:
            raise BufferUnderflow(f"cannot skip {count} bytes, {self.remaining} remain")
        self._position += count
        return self

    def memory(self) -> memoryview:
        """The bytes from the position to the limit or capacity, shared, not copied. Stale once the buffer grows."""
        start = self._offset + self._position
        view = memoryview(self._store.data)[start : max(start, self._offset + self._readable_end())]
        return view.toreadonly() if self._is_read_only else view

    def __bytes__(self) -> bytes:
        return bytes(self.memory())

    def _end(self) -> int:
        return self.max_capacity if self._limit is None else self._limit

    def _readable_end(self) -> int:
        return self.capacity if self._limit is None else min(self._limit, self.capacity)

    def _place(self, size: int, offset: int | None, end: int, error: type[CopycatError]) -> int:
        """Where in the store `size` bytes lie; moves the position when `offset` is None."""
        start = self._position if offset is None else offset
        if start < 0 or size < 0 or start + size > end:
            message = f"{size} bytes at {start} are outside 0..{end}"
            raise error(message) if offset is None else IndexError(message)
        if offset is None:
            self._position = start + size
        return self._offset + start


class _Reads(Protocol[Read]):
    def __call__(self, offset: int | None = None) -> Read: ...


class _Writes(Protocol[Written]):
    def __call__(self, value: Written, offset: int | None = None) -> "Buffer": ...


def _reads(form: str) -> Any:
    packed = struct.Struct(form)

    def read(self: "BufferReader", offset: int | None = None) -> Any:
        start = self._place(packed.size, offset, self._readable_end(), BufferUnderflow)
        return packed.unpack_from(self._store.data, start)[0]

    return read


def _writes(form: str) -> Any:
    packed = struct.Struct(form)

    def write(self: "BufferWriter", value: float, offset: int | None = None) -> "BufferWriter":
        try:
            data = packed.pack(value)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{value!r} does not fit {packed.size} bytes: {error}") from error
        return self.write_bytes(data, offset)

    return write


class BufferReader(_Cursor):
    """The reading side. Raises: BufferUnderflow past the limit; IndexError for an absolute offset outside it."""

    __slots__ = ()

    read_boolean: _Reads[bool] = _reads(">?")  # 1 byte; anything but 0 is True
    read_byte: _Reads[int] = _reads(">b")  # -128..127
    read_unsigned_byte: _Reads[int] = _reads(">B")
    read_short: _Reads[int] = _reads(">h")  # 2 bytes
    read_unsigned_short: _Reads[int] = _reads(">H")
    read_int: _Reads[int] = _reads(">i")  # 4 bytes
    read_unsigned_int: _Reads[int] = _reads(">I")
    read_long: _Reads[int] = _reads(">q")  # 8 bytes
    read_float: _Reads[float] = _reads(">f")  # 4 bytes
    read_double: _Reads[float] = _reads(">d")  # 8 bytes

    def read_bytes(self, count: int | None = None, offset: int | None = None) -> bytes:
        """A copy of `count` bytes; None means all up to the limit."""
        if count is None:
            count = max(0, self._readable_end() - (self._position if offset is None else offset))
        start = self._place(count, offset, self._readable_end(), BufferUnderflow)
        return bytes(self._store.data[start : start + count])

    def read_string(self, offset: int | None = None) -> str:
        """A u32 length and that many bytes of UTF-8. Raises: DecodeError if they are not UTF-8."""
        before = self._position
        try:
            size = self.read_unsigned_int(offset)
            return self.read_bytes(size, None if offset is None else offset + 4).decode()
        except (BufferUnderflow, UnicodeDecodeError) as error:
            self._position = before
            if isinstance(error, BufferUnderflow):
                raise
            raise DecodeError(f"a string at {before if offset is None else offset} is not UTF-8") from error


class BufferWriter(_Cursor):
    """The writing side; every write returns the buffer, for chaining.

    Raises: BufferOverflow past the limit or the greatest capacity; ValueError for a number out of its range;
    IndexError for an absolute offset outside the limit; TypeError if read-only.
    """

    __slots__ = ()

    write_boolean: _Writes[bool] = _writes(">?")
    write_byte: _Writes[int] = _writes(">b")  # -128..127
    write_unsigned_byte: _Writes[int] = _writes(">B")
    write_short: _Writes[int] = _writes(">h")  # 2 bytes
    write_unsigned_short: _Writes[int] = _writes(">H")
    write_int: _Writes[int] = _writes(">i")  # 4 bytes
    write_unsigned_int: _Writes[int] = _writes(">I")
    write_long: _Writes[int] = _writes(">q")  # 8 bytes
    write_float: _Writes[float] = _writes(">f")  # 4 bytes: loses precision
    write_double: _Writes[float] = _writes(">d")  # 8 bytes

    def write_bytes(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> Self:
        """The bytes alone, without their length."""
        if self._is_read_only:
            raise TypeError("the buffer is read-only")
        start = self._place(len(data), offset, self._end(), BufferOverflow)
        end, old = start + len(data), self._store.data
        if end > len(old):
            self._store.data = bytearray(min(max(len(old) * 2, end), self._offset + self.max_capacity))
            self._store.data[: len(old)] = old
        self._store.data[start:end] = data
        return self

    def write_string(self, value: str, offset: int | None = None) -> Self:
        """A u32 length and UTF-8. Raises: UnicodeEncodeError (a ValueError) for lone surrogates."""
        data = value.encode()
        return self.write_bytes(struct.pack(">I", len(data)) + data, offset)

    def compact(self) -> Self:
        """Move what remains to the front and go on writing behind it: no limit, no mark."""
        rest = bytes(self.memory())
        self.write_bytes(rest, 0)
        self._position, self._limit, self._mark = len(rest), None, None
        return self


class Buffer(BufferReader, BufferWriter):
    """A buffer to write, flip and read. Not thread-safe."""

    __slots__ = ()

    @classmethod
    def allocate(cls, initial_capacity: int = INITIAL_CAPACITY_BYTES, max_capacity: int = MAX_CAPACITY_BYTES) -> Self:
        """An empty buffer that doubles as needed up to `max_capacity` bytes. Raises: ValueError if that is less."""
        if not 0 <= initial_capacity <= max_capacity:
            raise ValueError(f"initial capacity {initial_capacity} is outside 0..{max_capacity}")
        return cls(_Store(bytearray(initial_capacity)), 0, max_capacity, None, False)

    @classmethod
    def wrap(cls, data: bytes | bytearray | memoryview) -> Self:
        """A buffer over `data`, not copied, of its size for ever; read-only if `data` is."""
        view = memoryview(data).cast("B")
        return cls(_Store(view), 0, len(view), len(view), view.readonly)

    def slice(self, length: int | None = None, offset: int | None = None) -> "Buffer":
        """A buffer sharing `length` bytes (None: all to the limit) from `offset` (None: the position); nothing moves.

        Raises: IndexError outside the limit.
        """
        start = self._position if offset is None else offset
        end = self._end() if length is None else start + length
        if not 0 <= start <= end <= self._end():
            raise IndexError(f"a slice {start}..{end} is outside 0..{self._end()}")
        limit = None if length is None and self._limit is None else end - start
        return Buffer(self._store, self._offset + start, end - start, limit, self._is_read_only)

    def as_read_only(self) -> "Buffer":
        """A buffer of the same bytes, position and limit that refuses to write, with TypeError."""
        other = Buffer(self._store, self._offset, self.max_capacity, self._limit, True)
        other._position, other._mark = self._position, self._mark
        return other
