"""What the machines' values are encoded with. It is handed in, for this room is pure."""

from typing import Any, Protocol


class ValueCodec(Protocol):
    """Encodes what user-defined operations carry, and what machines keep in snapshots."""

    def encode_value(self, value: Any) -> bytes: ...

    def decode_value(self, data: bytes) -> Any: ...

    def encode_state(self, value: Any) -> bytes:
        """Of any size, None too. Raises SerializationError."""

    def decode_state(self, data: bytes, kind: Any = Any, /) -> Any:
        """What `encode_state` encoded, as `kind`. Raises DecodeError."""
