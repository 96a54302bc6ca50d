"""What a claim holds: a token, and whether it is still held.

Source: protocol §5.6.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from copycat.errors import LostError


class SessionState(Protocol):
    """What is asked of the session."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def is_lost(self) -> bool: ...


class Owner(Protocol):
    """The handle that has the grant."""

    @property
    def path(self) -> str: ...

    @property
    def session(self) -> SessionState: ...

    @property
    def thing(self) -> str: ...

    @property
    def lost_error_type(self) -> type[LostError]: ...

    def forfeit(self, grant: "Grant", why: str) -> None:
        """The grant is lost: end it, and give it back should the session live."""


class Grant:
    """What a claim holds. It may be asked how it stands from any thread.

    token: grows from each grant to the next, so that whoever keeps the highest it was shown can refuse an older one.
    """

    def __init__(self, owner: Owner, request: int, token: int) -> None:
        self.token = token
        self.request = request
        self.why_lost: str | None = None
        self.is_given_back = False  # on purpose, rather than lost
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._on_end: Callable[[], object] | None = None

    def __repr__(self) -> str:
        state = "given back" if self.is_given_back else "lost" if self.lost else "in doubt" if self.in_doubt else "held"
        return f"<{type(self).__name__} {self._owner.path!r} token={self.token} {state}>"

    @property
    def lost(self) -> bool:
        """Whether another may hold it now."""
        if self.why_lost is None and self._owner.session.is_lost:
            # Found out by whoever asks, before the loop could tell: whatever thread that is, the loop sees to the rest.
            self.why_lost = why = "the session may have ended"
            with suppress(RuntimeError):  # the loop is closed, and all with it
                self._loop.call_soon_threadsafe(self._owner.forfeit, self, why)
        return self.why_lost is not None

    @property
    def in_doubt(self) -> bool:
        """Whether the cluster is out of contact, so that this may be lost soon."""
        return self.lost or not self._owner.session.is_connected

    def check(self) -> None:
        """Raise LockLostError, or LeadershipLostError, if it is lost."""
        if self.lost:
            raise self.error()

    def error(self) -> LostError:
        """What to raise for its loss."""
        owner = self._owner
        end = "was given back" if self.is_given_back else f"was lost: {self.why_lost}"
        return owner.lost_error_type(
            f"{owner.thing} {owner.path!r} (token {self.token}) {end}; another may have it now. Check what was done "
            "last, unless it carried the token",
            token=self.token,
        )

    def end(self, why: str, *, is_given_back: bool = False) -> None:
        """It is held no longer. Whoever watches is called, once."""
        if self.why_lost is None:
            self.why_lost, self.is_given_back = why, is_given_back
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def watch(self, on_end: Callable[[], object] | None) -> None:
        """Call `on_end` when it ends, and nobody else; None: nobody."""
        self._on_end = on_end
