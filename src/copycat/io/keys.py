"""Canonical keys: the bytes of map keys and set members, equal exactly when the keys are.

A key is one tag byte and a body, at most 4 KiB, one encoding per value:

    s UTF-8 | b bytes | i shortest two's complement, big-endian | t | f | u 16 bytes
    e u16 id, member name (an Enum registered with an id) | ( u16 length and key, for each member of a tuple

Types are kept apart: `True`, `1` and `"1"` are three keys. Floats, lists and dicts are not keys: floats because
equality is not identity among them, the others because they change.

Source: protocol §7.1.
"""

import enum
import struct
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

from copycat.errors import DecodeError, SerializationError, TooLargeError
from copycat.io.registry import Registry, member_name, member_named, type_name

KEY_SIZE_BYTES_MAX: Final = 4096
KEY_DEPTH_MAX: Final = 16

_LENGTH: Final = struct.Struct(">H")
_KEY_TYPES: Final = "str, bytes, int, bool, UUID, an Enum registered with an id, and tuples of these"


def encode_key(key: Any, registry: Registry) -> bytes:
    """The canonical bytes of a key.

    Raises: SerializationError for other types (floats, lists, dicts and None among them), lone surrogates and
    tuples deeper than 16; TooLargeError over 4 KiB.
    """
    if key.__class__ is str and key.isascii() and len(key) < KEY_SIZE_BYTES_MAX:  # most are
        text: str = key
        return b"s" + text.encode()
    data = _encode(key, KEY_DEPTH_MAX, registry)
    if len(data) > KEY_SIZE_BYTES_MAX:
        raise _too_large(len(data))
    return data


def decode_key(data: bytes, registry: Registry) -> Any:
    """The key `encode_key` made `data` from.

    Raises: DecodeError for any other bytes, also those that say a key in another way than `encode_key` does.
    """
    data = bytes(data)
    if len(data) > KEY_SIZE_BYTES_MAX:
        raise DecodeError(f"a key of {len(data)} bytes; the limit is {KEY_SIZE_BYTES_MAX}")
    return _decode(data, KEY_DEPTH_MAX, registry)


def is_of(key: Any, kind: Any) -> bool:
    """Whether a key is of the type, as strictly as keys are told apart: True is no int."""
    if kind is Any or key.__class__ is kind:
        return True
    named = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)  # a NewType, a type alias
    if named is not None:
        return is_of(key, named)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union or origin is UnionType:
        return any(is_of(key, each) for each in arguments)
    if origin is Annotated:
        return is_of(key, arguments[0])
    if origin is Literal:
        return any(key.__class__ is each.__class__ and key == each for each in arguments)
    if origin is not tuple or key.__class__ is not tuple:
        return False
    if arguments[1:] == (...,):
        arguments = arguments[:1] * len(key)
    return len(key) == len(arguments) and all(map(is_of, key, arguments))


def _encode(key: Any, depth: int, registry: Registry) -> bytes:
    kind = key.__class__
    if kind is str:
        try:
            text: bytes = key.encode()
            return b"s" + text
        except UnicodeEncodeError as error:
            raise SerializationError(f"key {key!r} has a lone surrogate, which UTF-8 cannot express") from error
    if kind is int:
        bits: int = key.bit_length()
        if bits > KEY_SIZE_BYTES_MAX * 8:  # before a huge number is copied
            raise _too_large(bits // 8 + 1)
        return b"i" + bytes(key.to_bytes((bits + 8) // 8, "big", signed=True))
    if kind is bytes:
        return b"b" + bytes(key)
    if kind is bool:
        return b"t" if key else b"f"
    if kind is UUID:
        return b"u" + bytes(key.bytes)
    if kind is tuple:
        return _encode_tuple(key, depth, registry)
    if isinstance(key, enum.Enum):
        return _encode_enum(key, registry)
    base = next((each for each in kind.__mro__ if each in (str, bytes, int, tuple, UUID)), None)
    if base is not None:
        raise SerializationError(
            f"key {key!r} is a {type_name(kind)}, which would come back as {base.__name__}; convert it first"
        )
    raise SerializationError(f"{key!r} of type {type_name(kind)} cannot be a key; allowed are {_KEY_TYPES}")


def _encode_tuple(key: tuple[Any, ...], depth: int, registry: Registry) -> bytes:
    if depth == 0:
        raise SerializationError(f"a key of tuples nested deeper than {KEY_DEPTH_MAX}")
    parts = [b"("]
    size = 1
    for member in key:
        part = _encode(member, depth - 1, registry)
        size += _LENGTH.size + len(part)
        if size > KEY_SIZE_BYTES_MAX:  # also keeps the u16 length from overflowing
            raise _too_large(size)
        parts += (_LENGTH.pack(len(part)), part)
    return b"".join(parts)


def _encode_enum(key: enum.Enum, registry: Registry) -> bytes:
    registration = registry.exact(key.__class__)
    if registration is None or not isinstance(registration.wire_id, int):
        name = type_name(key.__class__)
        raise SerializationError(f"key {key!r}: register {name} with an id to use its members as keys")
    return b"e" + _LENGTH.pack(registration.wire_id) + member_name(key).encode()


def _decode(data: bytes, depth: int, registry: Registry) -> Any:
    tag, body = data[:1], data[1:]
    if tag == b"s":
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"a text key is not UTF-8: {error}") from error
    if tag == b"i":
        number = int.from_bytes(body, "big", signed=True)
        if len(body) != (number.bit_length() + 8) // 8:
            raise DecodeError("an integer key is not in its canonical length")
        return number
    if tag == b"b":
        return body
    if tag == b"(":
        return _decode_tuple(body, depth, registry)
    if tag == b"u" and len(body) == 16:
        return UUID(bytes=body)
    if tag == b"e" and len(body) >= _LENGTH.size:
        return _decode_enum(body, registry)
    if data == b"t" or data == b"f":
        return data == b"t"
    raise DecodeError(f"not a key: {data[:16]!r}, {len(data)} bytes")


def _decode_tuple(body: bytes, depth: int, registry: Registry) -> tuple[Any, ...]:
    if depth == 0:
        raise DecodeError(f"a key of tuples nested deeper than {KEY_DEPTH_MAX}")
    members = []
    position = 0
    while position < len(body):
        start = position + _LENGTH.size
        if start > len(body):
            raise DecodeError("a tuple key ends within a length")
        position = start + _LENGTH.unpack_from(body, position)[0]
        if position > len(body):
            raise DecodeError("a tuple key ends within a member")
        members.append(_decode(body[start:position], depth - 1, registry))
    return tuple(members)


def _decode_enum(body: bytes, registry: Registry) -> Any:
    wire_id = _LENGTH.unpack_from(body)[0]
    registration = registry.by_id(wire_id)
    if registration is None:
        raise DecodeError(f"no Enum is registered with id {wire_id}")
    try:
        return member_named(registration.kind, body[_LENGTH.size :].decode())
    except UnicodeDecodeError as error:
        raise DecodeError(f"the name of a member of {type_name(registration.kind)} is not UTF-8") from error


def _too_large(size: int) -> TooLargeError:
    return TooLargeError(
        f"a key of {size} bytes; the limit is {KEY_SIZE_BYTES_MAX}: use a shorter one",
        size_bytes=size,
        limit_bytes=KEY_SIZE_BYTES_MAX,
    )
