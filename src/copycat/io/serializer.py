"""Users' keys and values as bytes, and back.

The servers of the shipped resources never decode what users store: they compare and keep bytes. So the bytes must say
all there is to say: two keys are the same key exactly when their bytes are equal. Plain MessagePack does not do that
(a list, a tuple and a set encode alike), hence two encodings, both of version ENCODING_VERSION: keys have one of
their own (`keys`), values are MessagePack (`values`) with extensions (`msgpack`). Nothing is ever pickled, and
decoding imports nothing.

Source: protocol §7.1; Serializer of Copycat (Aug 2015), with MessagePack for its own formats.
"""

from typing import Any, Final, TypeVar, cast, overload

from copycat.errors import DecodeError, RegistrationError, SerializationError, TooLargeError
from copycat.io import keys
from copycat.io.buffer import Buffer, BufferReader, BufferUnderflow, BufferWriter
from copycat.io.registry import (
    RESERVED_IDS,
    CopycatSerializable,
    Registry,
    Resolver,
    TypeSerializer,
    is_record,
    type_name,
)
from copycat.io.resolvers import PrimitiveTypeResolver, StdlibTypeResolver
from copycat.io.values import ValueEncoding, encode_plain

__all__ = [
    "ENCODING_VERSION",
    "CopycatSerializable",
    "Resolver",
    "Serializer",
    "TypeSerializer",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
]

ENCODING_VERSION: Final = 1
VALUE_SIZE_BYTES_MAX: Final = 1024 * 1024
VALUE_DEPTH_MAX: Final = 64

T = TypeVar("T")
W = TypeVar("W", bound=BufferWriter)


class Serializer:
    """Encodes keys and values; knows the types registered with it.

    Any thread may encode and decode; registration is for one thread, before that, or for a `clone()`.

    `max_size` in bytes and `max_depth` in nested containers bound values. All processes of a cluster that share data
    must register the same types with the same ids. `resolvers` run after the built-in ones.
    """

    def __init__(
        self, *resolvers: Resolver, max_size: int = VALUE_SIZE_BYTES_MAX, max_depth: int = VALUE_DEPTH_MAX
    ) -> None:
        self.max_size = max_size
        self.max_depth = max_depth
        self._registry = Registry()
        self._values = ValueEncoding(self, self._registry)
        self.resolve(PrimitiveTypeResolver(), StdlibTypeResolver(), *resolvers)

    # --- registration -------------------------------------------------------------------------------------------------

    def register(self, type: Any, serializer: TypeSerializer | None = None, id: int | None = None) -> "Serializer":
        """Make `type` decode to itself without a type argument; returns the serializer, for chaining.

        `type` is an Enum, a dataclass, a Struct or a CopycatSerializable, or comes with a `serializer`, which then
        also writes its subclasses. `id` (0..65535, of which 128..1023 are reserved) is what the bytes carry; None means
        the class's module and name, which is longer and breaks when the class moves. Keys need an id.

        Raises: RegistrationError if the type or the id is taken, the id is reserved, or nothing can write the type.
        """
        if id is not None and id in RESERVED_IDS:
            raise RegistrationError(f"id {id} of {type_name(type)} is reserved: 128..1023 belong to Copycat")
        return self.register_built_in(type, serializer, id)

    def register_built_in(self, type: Any, serializer: TypeSerializer | None, id: int | None) -> "Serializer":
        """`register` for Copycat's own types, whose ids are the reserved ones."""
        self._registry.add(type, serializer, id)
        return self

    def is_registered(self, type: Any) -> bool:
        """Whether exactly this class is registered."""
        return self._registry.exact(type) is not None

    def resolve(self, *resolvers: Resolver) -> "Serializer":
        """Let each resolver register its types, in order; returns the serializer."""
        for resolver in resolvers:
            resolver.resolve(self)
        return self

    def clone(self) -> "Serializer":
        """An independent serializer that knows the same types, for another event loop."""
        other = Serializer(max_size=self.max_size, max_depth=self.max_depth)
        other._registry.replace(self._registry)
        return other

    # --- keys ---------------------------------------------------------------------------------------------------------

    def encode_key(self, key: Any) -> bytes:
        """The canonical bytes of a map key or set member: equal exactly when the keys are, and of one type.

        Raises: SerializationError for other types (floats, lists, dicts and None among them), lone surrogates and
        tuples deeper than 16; TooLargeError over 4 KiB.
        """
        return keys.encode_key(key, self._registry)

    def decode_key(self, data: bytes, type: Any = Any) -> Any:
        """The key `encode_key` made `data` from. `type` is what it must be (`str`, `tuple[str, int]`, `int | str` …).

        Raises: DecodeError for any other bytes, also those that say a key in another way than `encode_key` does; and
        for a key of another type, as strictly as keys are told apart: True is no int.
        """
        key = keys.decode_key(data, self._registry)
        if type is not Any and not keys.is_of(key, type):
            raise DecodeError(f"{key!r} is not {type_name(type)}")
        return key

    # --- values -------------------------------------------------------------------------------------------------------

    def encode_value(self, value: object) -> bytes:
        """The canonical bytes of a value.

        Raises: SerializationError for None (it means absent), for types it does not know, for what is nested deeper
        than `max_depth` or contains itself; TooLargeError over `max_size` bytes.
        """
        if value.__class__ is bytes or (value.__class__ is str and value.isascii()):  # many are
            data = encode_plain(value)
        elif value is None:
            raise SerializationError("None cannot be a value: it means absent; remove the value instead")
        else:
            data = self._values.encode(value)
        if len(data) > self.max_size:
            raise TooLargeError(
                f"a value of {len(data)} bytes; the limit is {self.max_size}: store it in parts",
                size_bytes=len(data),
                limit_bytes=self.max_size,
            )
        return data

    @overload
    def decode_value(self, data: bytes | bytearray | memoryview) -> Any: ...
    @overload
    def decode_value(self, data: bytes | bytearray | memoryview, type: type[T]) -> T: ...
    @overload
    def decode_value(self, data: bytes | bytearray | memoryview, type: Any) -> Any: ...
    def decode_value(self, data: bytes | bytearray | memoryview, type: Any = Any) -> Any:
        """The value `data` encodes, as `type`; Any means as the built-in or registered type it was.

        `type` may be whatever msgspec understands (`list[User]`, `User | None`, a Literal …). Conversions never lose
        anything: an int is taken for a float, a list for a set or tuple, a map for a dataclass.

        Raises: DecodeError if the bytes are no value or do not fit the type.
        """
        value = self._values.decode(data)
        if value is None:
            raise DecodeError("None cannot be a value: it means absent")
        return value if type is Any or value.__class__ is type else self._values.convert(value, type)

    def encode_state(self, value: object) -> bytes:
        """As `encode_value`, of any size, and of None too: for what state machines keep in snapshots."""
        return self._values.encode(value)

    def decode_state(self, data: bytes, type: Any = Any) -> Any:
        """What `encode_state` encoded, as `decode_value` does it. Raises: DecodeError."""
        value = self._values.decode_trusted(data)
        return value if type is Any or value.__class__ is type else self._values.convert(value, type)

    @overload
    def write_object(self, obj: object) -> Buffer: ...
    @overload
    def write_object(self, obj: object, buffer: W) -> W: ...
    def write_object(self, obj: object, buffer: BufferWriter | None = None) -> BufferWriter:
        """Write `obj`, which may be None, to `buffer` and return that; None allocates one and flips it for reading.

        Raises: as `encode_value`; BufferOverflow if the buffer is full.
        """
        target: BufferWriter = Buffer.allocate() if buffer is None else buffer
        data = b"\xc0" if obj is None else self.encode_value(obj)
        target.write_unsigned_int(len(data)).write_bytes(data)
        return target.flip() if buffer is None else target

    def read_object(self, source: BufferReader | bytes, type: Any = Any) -> Any:
        """Read what `write_object` wrote, and leave the buffer behind it; `type` as in `decode_value`.

        Raises: DecodeError if the bytes are not an object of the type; the position then stays.
        """
        reader = source if isinstance(source, BufferReader) else Buffer.wrap(source)
        before = reader.position
        try:
            data = reader.read_bytes(reader.read_unsigned_int())
            value = self._values.decode(data)
            return value if type is Any or value.__class__ is type else self._values.convert(value, type)
        except BufferUnderflow as error:
            reader.position = before
            raise DecodeError(f"an object ends early: {error}") from error
        except DecodeError:
            reader.position = before
            raise

    def copy(self, obj: T) -> T:
        """An equal object that shares nothing with `obj`, made by encoding and decoding.

        A dataclass or Struct *within* a container comes back as a dict unless it is registered.
        """
        if obj is None:
            return obj
        kind: Any = obj.__class__
        return cast(T, self.decode_value(self.encode_value(obj), kind if is_record(kind) else Any))


# The serializer of the functions below. Nothing is registered with it, so that no module changes another's encoding.
_DEFAULT: Final = Serializer()

encode_key: Final = _DEFAULT.encode_key
decode_key: Final = _DEFAULT.decode_key
encode_value: Final = _DEFAULT.encode_value
decode_value: Final = _DEFAULT.decode_value
