"""The line on the servers: claims stand in log order for something that one at a time may hold.

A claim ends when it is withdrawn, when what it was granted is given back, and with its session, at that index; then the
next in line is granted. Each grant has a *token*, about the index of the log at which it was made: tokens only grow.

Source: protocol §4.3, §6.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from copycat.resource import Commit, Executor, Scheduled, Session, StateMachine

CLAIM: Final = 1  # request, milliseconds to wait (0: not at all, -1: for ever) -> the token, WAITING or REFUSED
WITHDRAW: Final = 2  # request -> None; releases it, too
RELEASE: Final = 3  # token -> whether it was held

TOKEN: Final = 16  # -> the token of who holds; 0 for nobody
HOLDS: Final = 17  # token -> whether this session holds by it

GRANTED: Final = 1  # event: request, token
TIMED_OUT: Final = 2  # event: request
DELETED: Final = 3  # event: to every handle with a claim, when the resource is gone

WAITING: Final = 0
REFUSED: Final = -1

Key = tuple[int, int, int]  # session id, instance, request


class Claim:
    """One wish to hold."""

    __slots__ = ("instance", "request", "session", "timer")

    def __init__(self, session: Session, instance: int, request: int) -> None:
        self.session = session
        self.instance = instance
        self.request = request
        self.timer: Scheduled | None = None

    @property
    def key(self) -> Key:
        return self.session.id, self.instance, self.request


class ClaimMachine(StateMachine):
    """The line of claims. Subclass with a name."""

    def __init__(self) -> None:
        self._holder: Claim | None = None
        self._token = 0  # of the newest grant
        self._line: dict[Key, Claim] = {}  # in order; the holder is not in it

    def configure(self, executor: Executor) -> None:
        self._executor = executor
        executor.register_command(CLAIM, self._claim)
        executor.register_command(WITHDRAW, self._withdraw)
        executor.register_command(RELEASE, self._release)
        executor.register_query(TOKEN, self._held_by)
        executor.register_query(HOLDS, self._holds)

    def close(self, session: Session) -> None:
        """The claims of a session end with it; what it held is the next one's, at this index."""
        for key in [key for key in self._line if key[0] == session.id]:
            self._leave_line(key)
        if self._holder is not None and self._holder.session.id == session.id:
            self._grant_next()

    def delete(self) -> None:
        """Nobody holds what is gone, and nobody will be granted it."""
        claims = [*self._line.values(), *([self._holder] if self._holder is not None else [])]
        for session, instance in {(claim.session, claim.instance): None for claim in claims}:
            self._executor.publish(session, instance, DELETED)
        self._holder = None
        self._line.clear()

    def snapshot(self) -> Iterator[Any]:
        """The newest token, the holder or None, and the line."""
        holder = self._holder
        line = [[*key, 0 if claim.timer is None else claim.timer.id] for key, claim in self._line.items()]
        return iter([self._token, None if holder is None else holder.key, *line])

    def restore(self, parts: Iterable[Any]) -> None:
        self._token, holder, *line = parts
        self._holder = None if holder is None else self._restored(holder)
        for *key, timer_id in line:
            claim = self._restored(key)
            claim.timer = self._executor.timer(timer_id)
            self._line[claim.key] = claim

    def _restored(self, key: Iterable[int]) -> Claim:
        session_id, instance, request = key
        session = self._executor.session(session_id)
        if session is None:
            raise ValueError(f"session {session_id} has a claim, and is not open")
        return Claim(session, instance, request)

    def _claim(self, commit: Commit, request: int, wait_ms: int) -> int:
        if type(request) is not int or type(wait_ms) is not int:
            raise TypeError("a claim has a number, and waits for a number of milliseconds")
        claim = Claim(commit.session, commit.instance, request)
        if claim.key in self._line or (self._holder is not None and self._holder.key == claim.key):
            raise ValueError(f"there is a claim with the number {request} already")
        if self._holder is None:
            self._grant(claim)
            return self._token
        if wait_ms == 0:
            return REFUSED
        if wait_ms > 0:
            claim.timer = self._executor.schedule(wait_ms, self._time_out, *claim.key)
        self._line[claim.key] = claim
        return WAITING

    def _withdraw(self, commit: Commit, request: int) -> None:
        key = (commit.session.id, commit.instance, request)
        if self._holder is not None and self._holder.key == key:
            self._grant_next()
        else:
            self._leave_line(key)

    def _release(self, commit: Commit, token: int) -> bool:
        if not self._holds(commit, token):
            return False
        self._grant_next()
        return True

    def _held_by(self, commit: Commit) -> int:
        return self._token if self._holder is not None else 0

    def _holds(self, commit: Commit, token: int) -> bool:
        holder = self._holder
        return holder is not None and token == self._token and holder.session.id == commit.session.id

    def _time_out(self, session_id: int, instance: int, request: int) -> None:
        claim = self._leave_line((session_id, instance, request))
        if claim is not None:
            self._executor.publish(claim.session, claim.instance, TIMED_OUT, claim.request)

    def _leave_line(self, key: Key) -> Claim | None:
        claim = self._line.pop(key, None)
        if claim is not None and claim.timer is not None:
            claim.timer.cancel()
            claim.timer = None
        return claim

    def _grant_next(self) -> None:
        """The holder holds no longer."""
        self._holder = None
        key = next(iter(self._line), None)
        claim = self._leave_line(key) if key is not None else None
        if claim is not None:
            self._grant(claim)
            self._executor.publish(claim.session, claim.instance, GRANTED, claim.request, self._token)

    def _grant(self, claim: Claim) -> None:
        self._holder = claim
        # Above the last one even where two are granted at one index, as when two sessions end at it.
        self._token = max(self._executor.index, self._token + 1)
