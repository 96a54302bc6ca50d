"""One member is one process with one directory, whose state never goes back: what is done where that is not so.

A directory can be put back from a copy, or a copy be started elsewhere. Each start counts itself, so those who met a
later start than the copy knows of can tell it; and whoever holds the member's word for more than it knows of can tell,
too, if the copy was made since the last start. What is told is heard before a vote can leave, for votes go over links
whose other end has greeted. Such a member counts itself past all that is known and has no vote until it is refilled.

Of two processes that are the same member, the one goes on that is connected. Whether it is, is asked by hanging up: who
lives calls again at once, and the other is let in only when that has not happened.

Source: protocol §2.8.
"""

import random
from collections.abc import Container

from copycat.errors import HandshakeError
from copycat.io.transport.transport import Connection
from copycat.raft.core.raft import Raft
from copycat.raft.core.vouched import is_forgotten
from copycat.raft.protocol.handshake import Hello
from copycat.raft.protocol.lives import Life
from copycat.raft.server.identity import Identity

YOUNG_MS = 5_000  # a connection made within it proves that its process lives; a twin that knocks hangs up no more often
RETURN_MS = 1_000  # within it, whoever was hung up on calls again: it dials at once, and again 50 ms after


def next_life(latest: Life | None, chance: random.Random) -> Life:
    """A start behind the latest one known."""
    return Life((latest.number if latest is not None else 0) + 1, chance.getrandbits(64).to_bytes(8, "big"))


def why_outdated(identity: Identity, raft: Raft, hello: Hello) -> str | None:
    """By what another member says, whether this one's data is older than what it has vouched for: how that is known."""
    name = identity.member.id
    latest = hello.lives.get(name)
    if latest is not None and latest.supersedes(identity.lives[name]):
        return f"{hello.member_id} knows of a later start of {name}"
    word = hello.vouched.get(name)
    if word is None or not is_forgotten(raft, word):
        return None
    if word.term > raft.term:
        return f"{hello.member_id} has heard {name} in term {word.term}, and {name} knows of term {raft.term} only"
    if raft.durable_index < word.match_index:
        return (
            f"{hello.member_id} has {name}'s word for index {word.match_index}, and {name} holds {raft.durable_index}"
        )
    return f"{name} has voted for {hello.member_id} in term {word.term}, and does not know of it"


class Callers:
    """The connections on which other members are heard, and which start of them it is."""

    def __init__(self) -> None:
        self._members: dict[Connection, tuple[str, Life | None, int]] = {}  # id, start, since when
        self._hung_up_ms: dict[str, int] = {}  # when a member was asked whether it lives

    def add(self, connection: Connection, hello: Hello, now_ms: int) -> None:
        """It has said hello, be it the first time or again."""
        if connection.is_closed:
            return  # since it was hung up on, say: nobody will tell of its end any more
        self._members[connection] = (hello.member_id, hello.lives.get(hello.member_id), now_ms)

    def remove(self, connection: Connection) -> None:
        """It has ended."""
        self._members.pop(connection, None)

    def who(self, connection: Connection) -> str | None:
        """The id of the member that calls on this connection."""
        caller = self._members.get(connection)
        return caller[0] if caller is not None else None

    def check_only_one(self, hello: Hello, latest: Life | None, now_ms: int) -> None:
        """That whoever says this hello is no second process beside one that is connected.

        `latest` is the start that this member goes by: whoever is that is never kept waiting. Raises HandshakeError.
        """
        name, life = hello.member_id, hello.lives.get(hello.member_id)
        if life is None:
            return
        standing = [
            (connection, since)
            for connection, (caller, other, since) in self._members.items()
            if caller == name and other is not None and other.mark != life.mark and not connection.is_closed
        ]
        if any(now_ms - since < YOUNG_MS for _, since in standing):
            raise _twin(name)
        for connection, _ in standing:
            connection.close()
            self._hung_up_ms[name] = now_ms
        if life != latest and now_ms - self._hung_up_ms.get(name, -RETURN_MS) < RETURN_MS:
            raise _twin(name)

    def hang_up_on(self, names: Container[str]) -> None:
        """Break off the calls of these members."""
        for connection in [each for each, (name, _, _) in self._members.items() if name in names]:
            connection.close()

    def hang_up_on_earlier(self, lives: dict[str, Life]) -> None:
        """Those of whom a later start is known by now are to say hello again, if they live: they hear of it then."""
        for connection, (name, life, _) in list(self._members.items()):
            if life is not None and name in lives and life.mark != lives[name].mark:
                connection.close()


def _twin(name: str) -> HandshakeError:
    return HandshakeError(
        f"another process is connected as {name}, with the same data or a copy of it: stop one of them; a further "
        "member joins under an id of its own, with an empty directory"
    )
