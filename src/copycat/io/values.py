"""Values as MessagePack and back: what each type is written as, and what bytes are read as.

A dataclass or a Struct that is not registered is a plain map, and needs a type to be decoded as itself. Dicts keep
their order, so values compare with it. There is one NaN, and two zeros, 0.0 and -0.0.

Source: protocol §7.1.
"""

import dataclasses
import enum
import threading
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from copycat.errors import DecodeError, SerializationError
from copycat.io.buffer import Buffer
from copycat.io.msgpack import (
    BIG_INT,
    CONTAINER_HEADS,
    CORE_TYPES,
    FLAT,
    FROZENSET,
    INT_MAX,
    INT_MIN,
    LEAF_READERS,
    LEAVES,
    REGISTERED,
    SET,
    SIMPLE,
    TUPLE,
    array_header,
    check_depth,
    is_flat,
    map_header,
)
from copycat.io.registry import (
    Registration,
    Registry,
    is_record,
    is_serializable,
    member_name,
    member_named,
    type_name,
)

if TYPE_CHECKING:
    from copycat.io.serializer import Serializer

_NAN: Final = float("nan")
_BUILT_IN_TYPES: Final = (bytes, bytearray, datetime, date, time, timedelta, UUID, Decimal)
_VALUE_TYPES: Final = (
    "str, bytes, int, float, bool, list, tuple, dict, set, frozenset, Decimal, UUID, datetime, date, time, timedelta, "
    "dataclasses, msgspec Structs and registered types"
)

encode_plain: Final = msgspec.msgpack.Encoder().encode


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """How a dataclass or Struct becomes a map: attribute and encoded name of each field, and a Struct's tag."""

    fields: tuple[tuple[str, str], ...]
    tag: tuple[tuple[str, str | int], ...]
    is_array: bool


class _Nesting(threading.local):
    """How many serializers of registered types call one another, in this thread: they may come back to us."""

    level = 0


class ValueEncoding:
    """The values of one serializer, whose limit on depth holds and to whom users' own code is referred."""

    def __init__(self, serializer: "Serializer", registry: Registry) -> None:
        self._serializer = serializer
        self._registry = registry
        self._shapes: dict[Any, _Shape] = {}
        self._nesting = _Nesting()
        self._decode_any: Callable[[bytes | memoryview], Any] = msgspec.msgpack.Decoder(ext_hook=self._extension).decode

    # --- writing ------------------------------------------------------------------------------------------------------

    def encode(self, value: Any) -> bytes:
        """The canonical bytes of a value, None included.

        Raises: SerializationError for types nobody knows, and for what is nested too deeply or contains itself.
        """
        if value.__class__ in SIMPLE and value == value:  # a NaN is not
            try:
                return encode_plain(value)
            except (OverflowError, UnicodeEncodeError):
                pass  # it is walked, which knows what to do
        try:
            try:
                return encode_plain(self._plain(value, self._serializer.max_depth, True))
            except OverflowError:  # somewhere in a flat list is an int beyond 64 bits: look at every member
                return encode_plain(self._plain(value, self._serializer.max_depth, False))
        except UnicodeEncodeError as error:
            raise SerializationError(f"a text in the value has a lone surrogate: {error}") from error
        except RecursionError as error:
            raise SerializationError("the value is nested too deeply, or contains itself") from error

    def _plain(self, value: Any, depth: int, trusting: bool) -> Any:
        """What MessagePack can encode in the place of `value`, which stays untouched.

        `depth` containers may still be opened. When `trusting`, ints are taken to fit 64 bits; the encoder objects.
        """
        kind = value.__class__
        if kind in FLAT:
            if kind is float and value != value:  # NaN
                return _NAN
            if kind is int and not INT_MIN <= value <= INT_MAX:
                return msgspec.msgpack.Ext(BIG_INT, value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))
            return value
        leaf = LEAVES.get(kind)
        if leaf is not None:
            return msgspec.msgpack.Ext(leaf[0], leaf[1](value))
        if depth <= 0:
            raise self._too_deep()
        if kind is list:
            return self._plain_list(value, depth, trusting)
        if kind is dict:
            return self._plain_dict(value, depth, trusting)
        if kind is tuple:
            return msgspec.msgpack.Ext(TUPLE, encode_plain(self._plain_list(value, depth, trusting)))
        if kind is set or kind is frozenset:
            members = sorted(encode_plain(self._plain(each, depth - 1, trusting)) for each in value)
            code = SET if kind is set else FROZENSET
            return msgspec.msgpack.Ext(code, array_header(len(members)) + b"".join(members))
        return self._plain_object(value, depth, trusting)

    def _plain_list(self, value: Any, depth: int, trusting: bool) -> Any:
        if trusting and is_flat(value):
            return value
        return [self._plain(each, depth - 1, trusting) for each in value]

    def _plain_dict(self, value: dict[Any, Any], depth: int, trusting: bool) -> Any:
        if trusting and is_flat(value):
            if is_flat(value.values()):
                return value
            return {key: self._plain(each, depth - 1, trusting) for key, each in value.items()}
        parts = [map_header(len(value))]  # written by hand: an extension cannot be the key of a Python dict
        for key, each in value.items():
            if is_record(key.__class__) and self._registry.writer_of(key.__class__) is None:
                raise SerializationError(f"register {type_name(key.__class__)} to use it as the key of a dict")
            parts.append(encode_plain(self._plain(key, depth - 1, trusting)))
            parts.append(encode_plain(self._plain(each, depth - 1, trusting)))
        return msgspec.Raw(b"".join(parts))

    def _plain_object(self, value: Any, depth: int, trusting: bool) -> Any:
        kind = value.__class__
        registration = self._registry.writer_of(kind)
        if registration is None:
            if is_record(kind):
                return self._plain_record(value, depth, trusting)
            raise SerializationError(_refusal(value))
        body: Any
        if registration.serializer is not None or is_serializable(kind):
            writer = Buffer.allocate(64)
            self._nesting.level += 1
            try:
                if self._nesting.level > self._serializer.max_depth:
                    raise self._too_deep()
                if registration.serializer is not None:
                    registration.serializer.write(value, writer, self._serializer)
                else:
                    value.write_object(writer, self._serializer)
            finally:
                self._nesting.level -= 1
            body = bytes(writer.flip())
        elif isinstance(value, enum.Enum):
            body = member_name(value)
        else:
            body = self._plain_record(value, depth - 1, trusting)
        return msgspec.msgpack.Ext(REGISTERED, encode_plain([registration.wire_id, body]))

    def _plain_record(self, value: Any, depth: int, trusting: bool) -> Any:
        kind = value.__class__
        shape = self._shapes.get(kind)
        if shape is None:
            shape = self._shapes[kind] = _shape(kind)
        if depth <= 0:
            raise self._too_deep()
        plain: dict[str, Any] = dict(shape.tag)
        for attribute, name in shape.fields:
            member = getattr(value, attribute)
            if member is not msgspec.UNSET:
                plain[name] = self._plain(member, depth - 1, trusting)
        return list(plain.values()) if shape.is_array else plain

    def _too_deep(self) -> SerializationError:
        return SerializationError(
            f"a value nested deeper than {self._serializer.max_depth}, or one that contains itself"
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """The value `data` encodes, as the built-in or registered type it was. Raises: DecodeError."""
        data = bytes(data)
        if data and data[0] in CONTAINER_HEADS:
            check_depth(data, self._serializer.max_depth)
        return self.decode_trusted(data)

    def decode_trusted(self, data: bytes) -> Any:
        """As `decode`, of bytes that are known not to be nested too deeply."""
        try:
            return self._decode_any(data)
        except DecodeError:
            raise
        except Exception as error:  # registered types run code of their own, which may raise anything on bad bytes
            raise DecodeError(f"{len(data)} bytes are not a value: {error}") from error

    def convert(self, value: Any, kind: Any) -> Any:
        """A decoded value as `kind`. Raises: DecodeError if it does not fit."""
        try:
            if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, int):
                return value
            return msgspec.convert(value, kind, builtin_types=_BUILT_IN_TYPES, dec_hook=_as_instance)
        except Exception as error:
            # msgspec makes Enums from values but does not take members, so it gets those.
            try:
                lowered = _lowered(value)
                return msgspec.convert(lowered, kind, builtin_types=_BUILT_IN_TYPES, dec_hook=_as_instance)
            except Exception:
                raise DecodeError(f"the value is not {type_name(kind)}: {error}") from error

    def _extension(self, code: int, data: memoryview) -> Any:
        if code == TUPLE:
            return tuple(_array(self._decode_any(data)))
        if code == SET:
            return set(_array(self._decode_any(data)))
        if code == FROZENSET:
            return frozenset(_array(self._decode_any(data)))
        if code == REGISTERED:
            return self._decode_registered(*_array(self._decode_any(data)))
        read = LEAF_READERS.get(code)
        if read is None:
            raise DecodeError(f"unknown extension {code}")
        return read(bytes(data))

    def _decode_registered(self, wire_id: int | str, body: Any) -> Any:
        registration = self._registry.by_id(wire_id)
        if registration is None:
            raise DecodeError(f"no type is registered as {wire_id!r}; register the same types in every process")
        kind = registration.kind
        if body.__class__ is bytes:
            return self._read_registered(registration, body)
        if issubclass(kind, enum.Enum):
            return member_named(kind, body)
        if not is_record(kind):
            raise DecodeError(f"{type_name(kind)} wants bytes, not {body.__class__.__name__}")
        return self.convert(body, kind)

    def _read_registered(self, registration: Registration, body: bytes) -> Any:
        kind = registration.kind
        reader = Buffer.wrap(body)
        self._nesting.level += 1
        try:
            if self._nesting.level > self._serializer.max_depth:
                raise DecodeError(f"a value nested deeper than {self._serializer.max_depth}")
            if registration.serializer is not None:
                value = registration.serializer.read(kind, reader, self._serializer)
            elif is_serializable(kind):
                value = kind()
                value.read_object(reader, self._serializer)
            else:
                raise DecodeError(f"{type_name(kind)} has no serializer that reads bytes")
        finally:
            self._nesting.level -= 1
        if reader.remaining:
            raise DecodeError(f"{reader.remaining} bytes too many for {type_name(kind)}")
        return value


def _refusal(value: Any) -> str:
    kind = value.__class__
    if isinstance(value, enum.Enum):
        return f"{value!r}: register {type_name(kind)} to use its members as values"
    if is_serializable(kind):
        return f"{type_name(kind)} writes itself, but must be registered to be read again"
    base = next((each for each in kind.__mro__[1:] if each in CORE_TYPES), None)
    if base is not None:
        return f"a {type_name(kind)} would come back as {base.__name__}: convert it, or register it with a serializer"
    return f"a {type_name(kind)} cannot be a value; allowed are {_VALUE_TYPES}"


def _shape(kind: Any) -> _Shape:
    if not issubclass(kind, msgspec.Struct):
        return _Shape(tuple((each.name, each.name) for each in dataclasses.fields(kind)), (), False)
    fields = tuple((each.name, each.encode_name) for each in msgspec.structs.fields(kind))
    config = kind.__struct_config__
    tag = () if config.tag is None else ((str(config.tag_field), config.tag),)
    return _Shape(fields, tag, config.array_like)


def _array(value: Any) -> Any:
    if value.__class__ is not list:
        raise DecodeError("an extension holds no array")
    return value


def _as_instance(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {type_name(kind)}, got {type_name(value.__class__)}")
    return value


def _lowered(value: Any) -> Any:
    """`value` with Enum members replaced by their values."""
    if isinstance(value, enum.Enum):
        return value.value
    if value.__class__ in (list, tuple, set, frozenset):
        return value.__class__(map(_lowered, value))
    if value.__class__ is dict:
        return {_lowered(key): _lowered(each) for key, each in value.items()}
    return value
