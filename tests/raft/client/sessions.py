"""A client's session as tests drive it: by frames, and in a time that stands still until moved."""

import random
from typing import Any

from copycat.raft.client.outcomes import Outcome, Registered, Resolved
from copycat.raft.client.session import ClientSession
from copycat.raft.protocol.operations import ConsistencyLevel
from tests.raft.client.frames import operation, read_all, registered

SERIALIZABLE = ConsistencyLevel.SERIALIZABLE


class Client:
    """A session whose time stands still until moved; tokens are the words of their operations."""

    def __init__(self, *, timeout_ms: int = 3000, floor: int = 0) -> None:
        self.now = 100.0
        self.session = ClientSession(timeout_ms=timeout_ms, random=random.Random(1), floor=floor)

    def call(self, *said: str) -> None:
        for word in said:
            self.session.command(operation(word), word)

    def ask(self, word: str, level: ConsistencyLevel = SERIALIZABLE) -> None:
        self.session.query(operation(word), word, level)

    def hear(self, *frames: bytes) -> list[Outcome]:
        return [outcome for frame in frames for outcome in self.session.receive(frame, self.now)]

    def frames(self) -> list[bytes]:
        return self.session.take_frames(self.now)

    def sent(self) -> list[tuple[Any, ...]]:
        return read_all(self.frames())

    def sent_batches(self) -> list[tuple[Any, ...]]:
        return [(each[1], each[3]) for each in self.sent() if each[0] == "BATCH"]

    def is_bound(self) -> bool:
        return self.session.is_bound

    def is_waiting(self) -> bool:
        return self.session.is_waiting

    def wait_for_retry(self) -> None:
        """Let as much time pass as the client means to wait."""
        assert self.now < self.session.due < self.now + 1
        self.now = self.session.due

    def nonce(self) -> bytes:
        """That of the registration it sends now."""
        ((kind, nonce, _),) = self.sent()
        assert kind == "REGISTER"
        assert isinstance(nonce, bytes)
        return nonce

    def register(self, session: int = 7) -> None:
        assert self.hear(registered(self.nonce(), session)) == [Registered()]


def resolved(*tokens: str, values: list[Any] | None = None) -> Resolved:
    return Resolved([*tokens], values if values is not None else [token.upper() for token in tokens], True)
