"""Who belongs to a cluster, as the log carries it.

Source: protocol §10.4.
"""

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import UNREADABLE


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What a leader's first entry carries: the cluster and its members, in text form, as of that entry."""

    cluster_id: bytes
    members: list[str]

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


_decode = msgspec.msgpack.Decoder(Configuration).decode


def decode_configuration(body: bytes) -> Configuration:
    """Raises ProtocolError."""
    try:
        return _decode(body)
    except UNREADABLE as error:
        raise ProtocolError(f"a configuration cannot be read: {error}") from None
