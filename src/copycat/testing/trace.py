"""What happened in a simulation, as one number: two runs that did the same have the same."""

from hashlib import blake2b


class Trace:
    """A running hash over everything that happens, in order."""

    def __init__(self) -> None:
        self.events = 0
        self._hash = blake2b(digest_size=16)

    def record(self, time: float, what: str, *facts: object, data: bytes = b"") -> None:
        """It happened at that time. `facts` are text and numbers."""
        self.events += 1
        self._hash.update(f"{time!r} {what} {facts!r} {len(data)}\n".encode())
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()
