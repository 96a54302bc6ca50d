"""What a server says of who leads."""

import msgspec

from copycat.errors import ProtocolError
from copycat.io.msgpack import UNREADABLE


class LeaderNotice(msgspec.Struct, frozen=True):
    """Who leads, as one server knows it. `leader` is empty while it knows none; `members` maps ids to addresses."""

    term: int
    leader: str
    members: dict[str, str]


NOBODY = LeaderNotice(0, "", {})

_decode = msgspec.msgpack.Decoder(LeaderNotice).decode


def decode_notice(data: bytes) -> LeaderNotice:
    """What follows the tag of a LEADER frame. Raises ProtocolError."""
    try:
        return _decode(data)
    except UNREADABLE as error:
        raise ProtocolError(f"a notice of the leader cannot be read: {error}") from None
