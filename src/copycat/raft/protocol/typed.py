"""Operations as objects of classes: their fields as bytes, and their results as what the class promises."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, get_args, get_origin

from copycat.errors import ConfigurationError, DecodeError, Outcome
from copycat.raft.protocol.operations import Command, Operation, Query


class Codec(Protocol):
    """What a Serializer does for operations."""

    def encode_value(self, value: Any) -> bytes: ...

    def decode_value(self, data: bytes, kind: Any) -> Any: ...

    def decode_key(self, data: bytes, kind: Any) -> Any: ...


class TypedOperations:
    """Encodes operations, and prepares once per class what decodes its results. `where` names the target in errors."""

    def __init__(self, codec: Codec, where: str) -> None:
        self._codec = codec
        self._where = where
        self._decoders: dict[type, Callable[[Any], Any]] = {}

    def encode(self, operation: Operation[Any]) -> bytes:
        """The fields. Raises SerializationError, TooLargeError; ConfigurationError for what is no operation."""
        if type(operation) not in self._decoders:
            self._decoders[type(operation)] = self._make_decoder(operation)
        return self._codec.encode_value(operation.arguments())

    def decoder(self, operation: Operation[Any]) -> Callable[[Any], Any]:
        """What turns the result of an operation that was encoded into the R of its `Command[R]` or `Query[R]`."""
        return self._decoders[type(operation)]

    def decode(self, data: bytes, kind: Any, what: str, outcome: Outcome = Outcome.NOT_APPLIED) -> Any:
        """`data` as `kind`. Raises DecodeError that names what it is, where it is from, and whether it was applied."""
        try:
            return self._codec.decode_value(data, kind)
        except DecodeError as error:
            raise self._mismatch(kind, what, outcome, error) from error

    def decode_key(self, data: bytes, kind: Any, outcome: Outcome = Outcome.NOT_APPLIED) -> Any:
        """The key that `data` is. Raises DecodeError as `decode`."""
        try:
            return self._codec.decode_key(data, kind)
        except DecodeError as error:
            raise self._mismatch(kind, "a key", outcome, error) from error

    def _mismatch(self, kind: Any, what: str, outcome: Outcome, error: DecodeError) -> DecodeError:
        applied = "; the command was applied" if outcome is Outcome.APPLIED else ""
        expected = getattr(kind, "__name__", str(kind))
        return DecodeError(f"{self._where}: {what} is no {expected}: {error}{applied}", outcome=outcome)

    def _make_decoder(self, operation: Any) -> Callable[[Any], Any]:
        kind = type(operation)
        if not isinstance(operation, Command | Query):
            raise ConfigurationError(f"only a Command or a Query can be submitted, not {operation!r}")
        if kind.operation_id < 0:
            raise ConfigurationError(f"operation {kind.__name__} has no id: declare it with `id=`")
        outcome = Outcome.APPLIED if isinstance(operation, Command) else Outcome.NOT_APPLIED
        return partial(self._decode_result, _result_type(kind), f"the result of {kind.__name__}", outcome)

    def _decode_result(self, kind: Any, what: str, outcome: Outcome, data: bytes | None) -> Any:
        return None if data is None else self.decode(data, kind, what, outcome)


def _result_type(kind: Any) -> Any:
    """The R of an operation class that derives from `Command[R]` or `Query[R]`; Any when it does not say."""
    for ancestor in kind.__mro__:
        for base in ancestor.__dict__.get("__orig_bases__", ()):
            if get_origin(base) in (Command, Query, Operation):
                (result,) = get_args(base)
                return Any if isinstance(result, TypeVar) else result
    return Any
