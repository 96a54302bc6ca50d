"""Groups of types to register with a serializer: Copycat's own, and those that installed packages advertise."""

import array
import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from copycat.errors import RegistrationError
from copycat.io.buffer import BufferReader, BufferWriter

if TYPE_CHECKING:
    from copycat.io.registry import TypeSerializer
    from copycat.io.serializer import Serializer

ENTRY_POINT_GROUP = "copycat.serializable"


class _By:
    """Writes a value as the built-in value `lower` makes of it; `raise_` makes it again."""

    def __init__(self, lower: Callable[[Any], Any], raise_: Callable[[Any], Any]) -> None:
        self._lower = lower
        self._raise = raise_

    def write(self, obj: Any, writer: BufferWriter, serializer: "Serializer") -> None:
        serializer.write_object(self._lower(obj), writer)

    def read(self, type: Any, reader: BufferReader, serializer: "Serializer") -> Any:
        return self._raise(serializer.read_object(reader))


class PrimitiveTypeResolver:
    """Primitives beyond the built-in encodings: bytearray, complex, array. Ids 128..."""

    types: "tuple[tuple[Any, int, TypeSerializer], ...]" = (
        (bytearray, 128, _By(bytes, bytearray)),
        (complex, 129, _By(lambda value: [value.real, value.imag], lambda parts: complex(*parts))),
        (array.array, 130, _By(lambda value: [value.typecode, value.tolist()], lambda parts: array.array(*parts))),
    )

    def resolve(self, serializer: "Serializer") -> None:
        """Register those not registered yet."""
        for kind, wire_id, by in self.types:
            if not serializer.is_registered(kind):
                serializer.register_built_in(kind, by, wire_id)


class StdlibTypeResolver(PrimitiveTypeResolver):
    """Types of the standard library: Fraction, OrderedDict, deque, range, PurePosixPath, IP addresses. Ids 176..."""

    types = (
        (Fraction, 176, _By(lambda value: [value.numerator, value.denominator], lambda parts: Fraction(*parts))),
        (OrderedDict, 177, _By(dict, OrderedDict)),
        (deque, 178, _By(lambda value: [list(value), value.maxlen], lambda parts: deque(*parts))),
        (range, 179, _By(lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts))),
        (PurePosixPath, 180, _By(str, PurePosixPath)),
        (ipaddress.IPv4Address, 181, _By(str, ipaddress.IPv4Address)),
        (ipaddress.IPv6Address, 182, _By(str, ipaddress.IPv6Address)),
    )


JdkTypeResolver = StdlibTypeResolver  # the manual's name


class ServiceLoaderTypeResolver:
    """Types that installed packages advertise as entry points of group `copycat.serializable`.

    An entry point is a class, registered by its name, or a resolver (class or object), which is asked to resolve.
    """

    def resolve(self, serializer: "Serializer") -> None:
        """Register all of them, in the order of their names. Raises: RegistrationError if one cannot be loaded."""
        import importlib.metadata  # a tenth of what `import copycat` takes, and most programs do without

        for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda each: each.name):
            try:
                loaded = entry.load()
            except Exception as error:
                raise RegistrationError(f"cannot load {entry.name} = {entry.value}: {error}") from error
            if hasattr(loaded, "resolve"):
                (loaded() if isinstance(loaded, type) else loaded).resolve(serializer)
            elif not serializer.is_registered(loaded):
                serializer.register(loaded)
