"""Who belongs to a cluster: a member's stable id and the address it is dialled at.

Source: protocol §2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from copycat.errors import ConfigurationError

MEMBER_ID_BYTES_MAX = 64
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\[\]#-]*")


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One member: `id` is stable for its life (at most 64 bytes), `host:port` is where it is dialled today.

    Raises ConfigurationError for an empty or malformed id or host, or a port outside 1 to 65535.
    """

    id: str
    host: str
    port: int

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id) or len(self.id.encode()) > MEMBER_ID_BYTES_MAX:
            raise ConfigurationError(
                f"member id {self.id!r} is not usable: give 1 to {MEMBER_ID_BYTES_MAX} letters, digits or '._:-', "
                "starting with a letter or digit"
            )
        if not self.host or not 0 < self.port < 65536:
            raise ConfigurationError(f"member {self.id!r} has no usable address: {self.host!r}:{self.port!r}")

    @property
    def address(self) -> str:
        """`host:port`, with an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.address if self.id == self.address else f"{self.id}={self.address}"

    @classmethod
    def parse(cls, text: str) -> "Member":
        """Read `id=host:port` or `host:port`; without an id the address itself is the id.

        Raises ConfigurationError saying what was read and what is expected.
        """
        name, equals, address = text.strip().rpartition("=")
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal():
            raise ConfigurationError(f"member {text!r} is not of the form id=host:port or host:port")
        host = host.removeprefix("[").removesuffix("]")
        return cls(name if equals else address, host, int(port))


def parse_members(members: str | Iterable[str | Member]) -> tuple[Member, ...]:
    """Read a member list given as one comma-separated text, as strings, or as Members; sorted by id.

    Raises ConfigurationError for an empty list, a duplicate id or a duplicate address.
    """
    parts: Iterable[str | Member] = members.split(",") if isinstance(members, str) else members
    parsed = [part if isinstance(part, Member) else Member.parse(part) for part in parts if part != ""]
    if not parsed:
        raise ConfigurationError("the member list is empty: name at least one member as id=host:port")
    for what, values in (("id", [m.id for m in parsed]), ("address", [m.address for m in parsed])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigurationError(f"two members have the {what} {twice[0]!r}: every {what} must be listed once")
    return tuple(sorted(parsed))
