"""A network address: a host and a port."""

import ipaddress
from dataclasses import dataclass

from copycat.errors import ConfigurationError

PORT_MAX = 65_535


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a server listens. `host` is a name or an IP address without brackets; `port` is 0..65535.

    Port 0 means any free port, and makes sense for listening only.
    Raises: ConfigurationError for an empty host, a host with spaces or brackets, or a port out of range.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or any(letter.isspace() or letter in "[]/@" for letter in self.host):
            raise ConfigurationError(f"{self.host!r} is not a host; an address reads host:port or [::1]:port")
        if type(self.port) is not int or not 0 <= self.port <= PORT_MAX:
            raise ConfigurationError(f"port {self.port!r} of {self.host} is not an integer from 0 to {PORT_MAX}")

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port`; an IPv6 host needs brackets, `[::1]:5001`.

        Raises: ConfigurationError, naming what is wrong with the text.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host:
            raise ConfigurationError(f"address {text!r} has no port; write host:port, such as localhost:5001")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigurationError(f"address {text!r}: an IPv6 host goes in brackets, such as [::1]:5001")
        if not (port.isascii() and port.isdigit()) or len(port) > 5:
            raise ConfigurationError(f"address {text!r}: port {port!r} is not an integer from 0 to {PORT_MAX}")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """True when only this host can reach it. A name other than `localhost` counts as reachable: nothing is looked
        up, because an answer that changes later must not have opened a port."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
