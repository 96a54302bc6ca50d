"""Which types a serializer knows, by what id, and how users teach it theirs.

A registered type decodes to itself without being asked for. Its bytes carry the id it was registered with, so all
processes that share data must register the same types with the same ids.
"""

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import msgspec

from copycat.errors import DecodeError, RegistrationError, SerializationError
from copycat.io.buffer import BufferReader, BufferWriter
from copycat.io.msgpack import CORE_TYPES

if TYPE_CHECKING:
    from copycat.io.serializer import Serializer

ID_MAX: Final = 65_535
RESERVED_IDS: Final = range(128, 1024)


@runtime_checkable
class CopycatSerializable(Protocol):
    """A type that writes and reads itself. It is made without arguments before `read_object` fills it."""

    def write_object(self, buffer: BufferWriter, serializer: "Serializer") -> None:
        """Write every field to `buffer`."""

    def read_object(self, buffer: BufferReader, serializer: "Serializer") -> None:
        """Read the fields in the order they were written."""


class TypeSerializer(Protocol):
    """Writes and reads objects of a type that cannot do it itself. Keeps no state between calls."""

    def write(self, obj: Any, writer: BufferWriter, serializer: "Serializer") -> None:
        """Write `obj` to `writer`."""

    def read(self, type: Any, reader: BufferReader, serializer: "Serializer") -> Any:
        """Make an object of the registered `type` from exactly the bytes that `write` wrote."""


class Resolver(Protocol):
    """Registers a group of types."""

    def resolve(self, serializer: "Serializer") -> None:
        """Register the types with `serializer`. Doing so twice is harmless."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """One registered class."""

    kind: Any  # the class
    wire_id: int | str  # the id, or "module:qualified name" when it was registered without one
    serializer: TypeSerializer | None


class Registry:
    """Registered classes, found by class or by id."""

    def __init__(self) -> None:
        self._by_type: dict[Any, Registration] = {}
        self._by_id: dict[int | str, Registration] = {}
        self._inherited: dict[Any, Registration | None] = {}

    def add(self, kind: Any, serializer: TypeSerializer | None, wire_id: int | None) -> None:
        """Register a class; None as the id means its module and name.

        Raises: RegistrationError if the class or the id is taken, the id is out of range, or nothing can write the
        class.
        """
        if not isinstance(kind, type):
            raise RegistrationError(f"{kind!r} is not a class")
        if wire_id is not None and (wire_id.__class__ is not int or not 0 <= wire_id <= ID_MAX):
            raise RegistrationError(f"id {wire_id!r} of {type_name(kind)} is not an integer from 0 to {ID_MAX}")
        if kind in CORE_TYPES:
            raise RegistrationError(f"{type_name(kind)} has an encoding of its own and cannot be registered")
        if serializer is None:
            _check_writable(kind)
        carried = f"{kind.__module__}:{kind.__qualname__}" if wire_id is None else wire_id
        if kind in self._by_type:
            raise RegistrationError(f"{type_name(kind)} is registered already, as {self._by_type[kind].wire_id!r}")
        if carried in self._by_id:
            raise RegistrationError(f"id {carried!r} is taken by {type_name(self._by_id[carried].kind)}")
        self._by_type[kind] = self._by_id[carried] = Registration(kind, carried, serializer)
        self._inherited.clear()

    def exact(self, kind: Any) -> Registration | None:
        """The registration of exactly this class."""
        return self._by_type.get(kind)

    def writer_of(self, kind: Any) -> Registration | None:
        """The registration of the class, or of its first ancestor that came with a serializer."""
        found = self._by_type.get(kind)
        if found is not None or kind in self._inherited:
            return found or self._inherited[kind]
        for ancestor in kind.__mro__[1:]:
            candidate = self._by_type.get(ancestor)
            if candidate is not None and candidate.serializer is not None:
                found = candidate
                break
        self._inherited[kind] = found
        return found

    def by_id(self, wire_id: int | str) -> Registration | None:
        """The registration whose bytes carry `wire_id`."""
        return self._by_id.get(wire_id)

    def replace(self, other: "Registry") -> None:
        """Know what `other` knows, and nothing else; later additions are independent."""
        self._by_type = dict(other._by_type)
        self._by_id = dict(other._by_id)
        self._inherited.clear()


def is_record(kind: Any) -> bool:
    """Whether its instances are fields with names: a Struct or a dataclass."""
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)


def is_serializable(kind: Any) -> bool:
    """Whether a class writes and reads itself, as a CopycatSerializable does."""
    return hasattr(kind, "write_object") and hasattr(kind, "read_object")


def type_name(kind: Any) -> str:
    """A type as messages say it."""
    return getattr(kind, "__qualname__", None) or str(kind)


def member_name(member: Any) -> str:
    """The canonical name of an Enum member. Raises: SerializationError for a combination of flags."""
    name = member._name_
    if name is None or name not in member.__class__.__members__:
        raise SerializationError(f"{member!r} is a combination, not a member; store its value")
    return str(name)


def member_named(kind: Any, name: Any) -> Any:
    """The member `member_name` named. Raises: DecodeError for other names, aliases among them."""
    member = kind.__members__.get(name) if issubclass(kind, enum.Enum) else None
    if member is None or member._name_ != name:  # an alias is another way to say it
        raise DecodeError(f"{type_name(kind)} has no member {name!r}")
    return member


def _check_writable(kind: Any) -> None:
    if is_serializable(kind) or issubclass(kind, enum.Enum):
        return
    if not is_record(kind):
        raise RegistrationError(
            f"{type_name(kind)} is no Enum, dataclass, Struct or CopycatSerializable: register it with a serializer"
        )
    try:
        msgspec.msgpack.Decoder(kind)
    except Exception as error:  # found now, not when data written for years must be read
        raise RegistrationError(f"the fields of {type_name(kind)} cannot be decoded: {error}") from error
