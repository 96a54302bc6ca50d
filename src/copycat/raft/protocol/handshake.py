"""What each side says of itself when a connection opens.

Source: protocol §2.5, §10.7.
"""

import msgspec

from copycat.errors import HandshakeError, ProtocolError
from copycat.io.msgpack import UNREADABLE
from copycat.raft.protocol.lives import Life, Vouched

PROTOCOL_VERSIONS = (1, 1)  # lowest and highest this code speaks


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`role` is "member" or "client". Clients leave the member's fields empty.

    cluster_id: empty until the cluster has formed.
    members: the ids this member was started with, sorted; compared while forming.
    removed: ids that have left the cluster, and never return.
    versions: lowest and highest protocol version spoken.
    types: the (name, version) of every state machine type this member can run.
    begins_with: the digest of the state a restored member begins with; compared while forming.
    lives: the latest start of each member that the sender knows of, its own among them.
    vouched: what each member has vouched for to the sender.
    places: the address of each member as the sender knows it, and its own as it is now.
    credentials: opaque; for a later authenticator.
    """

    role: str
    versions: tuple[int, int] = PROTOCOL_VERSIONS
    cluster_id: bytes = b""
    member_id: str = ""
    incarnation: bytes = b""
    incarnations: dict[str, bytes] = {}
    removed: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    types: tuple[tuple[str, int], ...] = ()
    begins_with: bytes = b""
    lives: dict[str, Life] = {}
    vouched: dict[str, Vouched] = {}
    places: dict[str, str] = {}
    credentials: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hello).decode


def encode_hello(hello: Hello) -> bytes:
    """The bytes of a hello."""
    return _encode(hello)


def decode_hello(data: bytes) -> Hello:
    """Read a hello. Raises ProtocolError when the bytes are not one."""
    try:
        return _decode(data)
    except UNREADABLE as error:
        raise ProtocolError(f"the handshake cannot be read: {error}") from None


def agree_version(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """The highest protocol version both speak. Raises HandshakeError naming both ranges when there is none."""
    version = min(ours[1], theirs[1])
    if version < max(ours[0], theirs[0]):
        raise HandshakeError(
            f"no common protocol version: this side speaks {ours[0]} to {ours[1]}, the other {theirs[0]} to {theirs[1]}"
        )
    return version
