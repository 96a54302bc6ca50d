"""Buffers: positions, limits, growth and every width of number."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import DecodeError
from copycat.io.buffer import Buffer, BufferOverflow, BufferUnderflow


def test_what_is_written_is_read_after_a_flip() -> None:
    buffer = Buffer.allocate(1)
    buffer.write_byte(-1).write_unsigned_byte(255).write_short(-2).write_unsigned_short(65535).write_int(-3)
    buffer.write_unsigned_int(2**32 - 1).write_long(-4).write_float(1.5).write_double(2.25).write_boolean(True)
    buffer.write_string("é").write_bytes(b"rest").flip()
    assert (buffer.read_byte(), buffer.read_unsigned_byte()) == (-1, 255)
    assert (buffer.read_short(), buffer.read_unsigned_short()) == (-2, 65535)
    assert (buffer.read_int(), buffer.read_unsigned_int(), buffer.read_long()) == (-3, 2**32 - 1, -4)
    assert (buffer.read_float(), buffer.read_double(), buffer.read_boolean()) == (1.5, 2.25, True)
    assert (buffer.read_string(), buffer.read_bytes()) == ("é", b"rest")
    assert buffer.remaining == 0


def test_numbers_are_big_endian() -> None:
    assert bytes(Buffer.allocate().write_int(1).flip()) == b"\x00\x00\x00\x01"


def test_reading_past_the_limit_underflows_and_stays() -> None:
    buffer = Buffer.allocate().write_short(1).flip()
    with pytest.raises(BufferUnderflow):
        buffer.read_int()
    assert buffer.position == 0
    with pytest.raises(EOFError):
        buffer.skip(3)


def test_writing_past_the_limit_or_the_greatest_capacity_overflows() -> None:
    buffer = Buffer.allocate(1, 4).write_short(1)
    with pytest.raises(BufferOverflow):
        buffer.write_int(1)
    assert buffer.position == 2
    buffer.limit = 3
    with pytest.raises(OverflowError):
        buffer.write_short(1)


def test_a_buffer_doubles_up_to_its_greatest_capacity() -> None:
    buffer = Buffer.allocate(4, 13)
    capacities = []
    for number in range(13):
        buffer.write_unsigned_byte(number)
        capacities.append(buffer.capacity)
    assert sorted(set(capacities)) == [4, 8, 13]
    assert bytes(buffer.flip()) == bytes(range(13))


def test_absolute_access_moves_no_position_and_checks_its_offset() -> None:
    buffer = Buffer.allocate(8, 8).write_int(1)
    buffer.write_int(7, 4).write_string("", 0)
    assert (buffer.position, buffer.read_int(4), buffer.read_string(0), buffer.read_bytes(4, 4)[-1]) == (4, 7, "", 7)
    for offset in (-1, 5):
        with pytest.raises(IndexError):
            buffer.read_int(offset)
        with pytest.raises(IndexError):
            buffer.write_int(1, offset)


def test_mark_reset_rewind_and_clear() -> None:
    buffer = Buffer.allocate().write_int(1).write_int(2).flip()
    with pytest.raises(ValueError, match="without mark"):
        buffer.reset()
    buffer.skip(4).mark().skip(4).reset()
    assert (buffer.position, buffer.read_int()) == (4, 2)
    assert (buffer.rewind().position, buffer.limit) == (0, 8)
    assert (buffer.clear().position, buffer.limit) == (0, -1)


def test_compact_keeps_what_remains() -> None:
    buffer = Buffer.allocate().write_bytes(b"abcdef").flip().skip(4).compact().write_bytes(b"g").flip()
    assert bytes(buffer) == b"efg"


def test_slices_share_bytes_even_after_growth() -> None:
    buffer = Buffer.allocate(4).write_int(1)
    part = buffer.slice(2, 0)
    buffer.write_bytes(bytes(100))
    part.write_short(513)
    assert buffer.read_int(0) == 513 * 65536 + 1
    with pytest.raises(BufferOverflow):
        part.write_byte(1)
    with pytest.raises(IndexError):
        buffer.flip().slice(1, 104)


def test_a_read_only_buffer_refuses_to_write() -> None:
    buffer = Buffer.allocate().write_int(1).flip()
    view = buffer.as_read_only()
    assert view.read_int() == 1
    assert view.memory().readonly
    refusals: list[Callable[[], object]] = [
        lambda: view.write_int(1, 0),
        lambda: view.rewind().compact(),
        lambda: Buffer.wrap(b"1234").write_int(1),
    ]
    for refused in refusals:
        with pytest.raises(TypeError, match="read-only"):
            refused()


def test_wrapping_a_bytearray_writes_through() -> None:
    data = bytearray(4)
    Buffer.wrap(data).write_int(5)
    assert data == b"\0\0\0\5"


def test_memory_is_shared_not_copied() -> None:
    buffer = Buffer.allocate().write_int(1).flip()
    buffer.memory()[3] = 9
    assert buffer.read_int() == 9


def test_numbers_out_of_range_are_value_errors() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Buffer.allocate().write_byte(128)
    with pytest.raises(ValueError, match="does not fit"):
        Buffer.allocate().write_float(1e300)


def test_a_string_that_is_not_utf8_or_too_short_leaves_the_position() -> None:
    bad = Buffer.wrap(b"\0\0\0\1\xff")
    with pytest.raises(DecodeError):
        bad.read_string()
    with pytest.raises(BufferUnderflow):
        Buffer.wrap(b"\0\0\0\2x").read_string()
    assert bad.position == 0


def test_positions_and_limits_outside_are_index_errors() -> None:
    buffer = Buffer.allocate(4, 8)
    with pytest.raises(IndexError):
        buffer.position = 9
    with pytest.raises(IndexError):
        buffer.limit = 9
    with pytest.raises(ValueError, match="initial"):
        Buffer.allocate(2, 1)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.text(), st.binary())
def test_round_trip(numbers: list[int], text: str, data: bytes) -> None:
    buffer = Buffer.allocate(0)
    for number in numbers:
        buffer.write_long(number)
    buffer.write_string(text).write_bytes(data).flip()
    assert [buffer.read_long() for _ in numbers] == numbers
    assert (buffer.read_string(), buffer.read_bytes()) == (text, data)


@given(st.binary())
def test_garbage_strings_raise_only_the_named_errors(data: bytes) -> None:
    buffer = Buffer.wrap(data)
    try:
        text = buffer.read_string()
    except (BufferUnderflow, DecodeError):
        assert buffer.position == 0
    else:
        assert struct.unpack_from(">I", data)[0] == len(text.encode())
