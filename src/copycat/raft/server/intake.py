"""What a leader lets into the log: sequences without gaps, known sessions, bounded windows and sizes.

The state machine executes each sequence once and in order whatever the log holds; this desk keeps nonsense out of the
log, answers what was executed already, and knows where each session's answers go. It looks at headers only.

It lives for one leadership: made when the leader's first entry is applied, dropped when it steps down. By then every
entry of earlier terms is applied, so the sessions' applied sequences are also the appended ones.

Source: protocol §5.1 to §5.4.
"""

import hmac
import random
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Protocol

from copycat.raft.core.events import Proposed
from copycat.raft.machine.executor import Results
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.protocol.entries import (
    COMMANDS,
    ITEM_BYTES,
    KEEP_ALIVE,
    REGISTER,
    SESSION_WINDOW,
    End,
    ItemKind,
    pack_item,
)
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    HEADER_ENDED,
    HEADER_REGISTER,
    HEADER_REGISTER_REFUSED,
    HEADER_REJECTED,
    HEADER_RESULTS,
    HEADER_UNREGISTER,
    KEPT_ALIVE,
    Reason,
    Tag,
    keep_alives_of,
    unpack,
)
from copycat.raft.server.limits import ServerLimits
from copycat.raft.server.origins import ClientConnection, Origin

_COUNT, _BYTES = itemgetter(0), itemgetter(1)  # of an item


class Space(Protocol):
    """`problem` says why no commands may enter the log, for want of room on the disk; None: they may."""

    problem: str | None


class Intake:
    """One leadership's desk. Frames come in, items collect, `take` hands them over as proposals, once a turn."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        limits: ServerLimits,
        space: Space,
        chance: random.Random,
        now_ms: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._limits = limits
        self._space = space
        self._random = chance
        self._now_ms = now_ms
        self._appended: dict[int, int] = {}  # the last sequence let in, where it is beyond what is applied
        self._origins: dict[int, Origin] = {}
        self._registering: dict[bytes, Origin] = {}
        self._kept: dict[int, tuple[int, int]] = {}  # this turn's keep-alives: session -> (ack, event ack)
        self._stamps: dict[int, int] = {}  # the newest of each session, to be echoed
        self._items: list[tuple[int, bytes]] = []  # (count, bytes)
        self._bytes = 0
        self.waiting = False  # whether anything waits to be proposed
        now = now_ms()
        self.contact_ms: dict[int, int] = {session.id: now for session in sessions}
        self.silent_ms: float = 0  # until then no session has been unheard of for its timeout

    # -- frames ------------------------------------------------------------------------------------------------------

    def batch(self, origin: Origin, frame: bytes) -> None:
        """A session's commands: let in if they follow what was let in before."""
        _, session_id, first, ack, count = unpack(HEADER_BATCH, frame)
        session = self._sessions.get(session_id)
        if session is None:
            origin.send(HEADER_ENDED.pack(Tag.ENDED, session_id, End.UNKNOWN))
            return
        if self._origins.get(session_id) != origin:
            return  # not, or no longer, this connection's session; whoever holds it sends everything again
        expected = self._appended.get(session_id, session.sequence) + 1
        if self._space.problem is not None and first >= expected:
            # By its own number, also behind a gap: so the client knows of each copy that nothing comes of it.
            origin.send(_rejected(session_id, first, Reason.NO_SPACE, self._space.problem))
            return
        if first != expected:
            self._out_of_step(origin, session, first, count, expected)
            return
        blob = frame[HEADER_BATCH.size :]
        refusal = self._refusal(session, first, ack, count, blob)
        if refusal is not None:
            origin.send(_rejected(session_id, first, *refusal))
            return
        self._appended[session_id] = first + count - 1
        self.contact_ms[session_id] = self._now_ms()
        self._add(COMMANDS, session_id, first, ack, count, blob)

    def _out_of_step(self, origin: Origin, session: ServerSession, first: int, count: int, expected: int) -> None:
        """Ahead of its turn: name the place to go on from. Executed before: answer again. In flight: it will be."""
        if first > expected:
            origin.send(_rejected(session.id, expected, Reason.GAP, f"sequence {expected} is missing before {first}"))
            return
        run = session.run_of(first, count)
        if run is not None:
            origin.send(encode_results_frame(Results(session.id, *run)))

    def _refusal(
        self, session: ServerSession, first: int, ack: int, count: int, blob: bytes
    ) -> tuple[Reason, str] | None:
        limits, size = self._limits, len(blob)
        if not 1 <= count == _array_length(blob):
            return Reason.MALFORMED, f"the batch says it holds {count} operations, and does not"
        if size > limits.max_batch_bytes:
            return Reason.TOO_LARGE, f"a batch of {size} bytes exceeds the limit of {limits.max_batch_bytes}"
        window_start = first + count - 1 - SESSION_WINDOW
        if window_start > ack and window_start > session.ack:
            return Reason.OVERLOADED, f"more than {SESSION_WINDOW} commands without acknowledged results"
        if self._bytes and self._bytes + size > limits.max_pending_bytes:  # one that is larger goes alone
            return Reason.OVERLOADED, f"{self._bytes} bytes of commands wait for the disk"
        return None

    def register(self, origin: Origin, frame: bytes) -> None:
        """A new session, or a repeated wish for one."""
        _, nonce, timeout_ms = unpack(HEADER_REGISTER, frame)
        limits = self._limits
        if not limits.session_timeout_ms_min <= timeout_ms <= limits.session_timeout_ms_max:
            detail = (
                f"a session timeout of {timeout_ms} ms is outside this server's limits, "
                f"{limits.session_timeout_ms_min} to {limits.session_timeout_ms_max} ms"
            )
            refused = HEADER_REGISTER_REFUSED.pack(Tag.REGISTER_REFUSED, nonce, Reason.MALFORMED)
            origin.send(refused + detail.encode())
            return
        self._registering[nonce] = origin
        secret = self._random.getrandbits(128).to_bytes(16, "big")
        self.add(ItemKind.REGISTER, blob=REGISTER.pack(nonce, secret, timeout_ms))

    def keep_alive(self, origin: Origin, frame: bytes) -> None:
        """Sessions that still live, and from now on live on this connection."""
        now = self._now_ms()
        for session_id, secret, ack, event_ack, stamp in KEPT_ALIVE.iter_unpack(keep_alives_of(frame)):
            session = self._sessions.get(session_id)
            if session is None or not hmac.compare_digest(session.secret, secret):
                origin.send(HEADER_ENDED.pack(Tag.ENDED, session_id, End.UNKNOWN))
                continue
            if stamp < self._stamps.get(session_id, 0):
                continue  # overtaken, perhaps by one on the connection that took this one's place
            self.bind(session_id, origin)
            self.contact_ms[session_id] = now
            self._kept[session_id] = (ack, event_ack)
            self.waiting = True
            self._stamps[session_id] = stamp

    def unregister(self, origin: Origin, frame: bytes) -> None:
        """A session's orderly end."""
        _, session_id, secret = unpack(HEADER_UNREGISTER, frame)
        session = self._sessions.get(session_id)
        if session is None or not hmac.compare_digest(session.secret, secret):
            origin.send(HEADER_ENDED.pack(Tag.ENDED, session_id, End.UNKNOWN))
            return
        self.bind(session_id, origin)
        self.add(ItemKind.UNREGISTER, session_id)

    def why_not(self, session_id: int, sequence: int) -> str | None:
        """Why a query would wait in vain for this command of its session's, which was not let in; None: it would not.

        Only what has no room is refused for long. Its client asks again, after the command or without it.
        """
        session = self._sessions.get(session_id)
        if self._space.problem is None or session is None:
            return None
        return self._space.problem if sequence > self._appended.get(session_id, session.sequence) else None

    # -- who is where ------------------------------------------------------------------------------------------------

    def bind(self, session_id: int, origin: Origin) -> None:
        """The session's answers go to `origin` from now on: the newest connection wins."""
        self._origins[session_id] = origin
        if isinstance(origin, ClientConnection):
            origin.sessions.add(session_id)

    def origin_of(self, session_id: int) -> Origin | None:
        """Where the session's answers go; None while nobody holds it here."""
        return self._origins.get(session_id)

    def stamp_of(self, session_id: int) -> int:
        """What came with the session's newest keep-alive; 0 when none came here."""
        return self._stamps.get(session_id, 0)

    def registered(self, session: ServerSession) -> Origin | None:
        """A registration was applied: bind the session, and say who asked for it, if it was asked for here."""
        now = self.contact_ms[session.id] = self._now_ms()
        self.silent_ms = min(self.silent_ms, now + session.timeout_ms)
        origin = self._registering.pop(session.nonce, None)
        if origin is not None:
            self.bind(session.id, origin)
        return origin

    def ended(self, session_id: int) -> Origin | None:
        """The session is over; say who held it."""
        self._appended.pop(session_id, None)
        self.contact_ms.pop(session_id, None)
        self._stamps.pop(session_id, None)
        return self._origins.pop(session_id, None)

    def disconnected(self, client: ClientConnection) -> None:
        """A client's connection is gone; its sessions live on until they return or time out."""
        for session_id in client.sessions:
            if self._origins.get(session_id) is client:
                del self._origins[session_id]

    # -- proposals ---------------------------------------------------------------------------------------------------

    def add(self, kind: ItemKind, session_id: int = 0, ack: int = 0, blob: bytes = b"") -> None:
        """An item of the leader's own."""
        self._add(kind, session_id, 0, ack, 1, blob)

    def take(self) -> list[Proposed]:
        """Everything that waits, as blocks of bounded size; an item larger than that goes alone."""
        if self._kept:
            blob = b"".join(KEEP_ALIVE.pack(session, *acks) for session, acks in self._kept.items())
            self.add(ItemKind.KEEP_ALIVE, blob=blob)
            self._kept = {}
        items, size = self._items, self._bytes + len(self._items) * ITEM_BYTES
        self._items, self._bytes, self.waiting = [], 0, False
        blocks = [items] if size <= self._limits.max_block_bytes else _cut(items, self._limits.max_block_bytes)
        return [Proposed(count=sum(map(_COUNT, each)), body=b"".join(map(_BYTES, each))) for each in blocks if each]

    def _add(self, kind: int, session_id: int, first: int, ack: int, count: int, blob: bytes) -> None:
        self.waiting = True
        self._items.append((count, pack_item(kind, session_id, first, ack, count, blob)))
        self._bytes += len(blob)


def encode_results_frame(results: Results) -> bytes:
    """A RESULTS frame."""
    return (
        HEADER_RESULTS.pack(
            Tag.RESULTS, results.session, results.first, results.count, results.index, results.event_index
        )
        + results.data
    )


def _cut(items: list[tuple[int, bytes]], size_max: int) -> Iterator[list[tuple[int, bytes]]]:
    """The items, in runs of at most so many bytes, or of one that is larger."""
    at = 0
    while at < len(items):
        start, size = at, 0
        while at < len(items) and (at == start or size + len(items[at][1]) <= size_max):
            size += len(items[at][1])
            at += 1
        yield items[start:at]


def _rejected(session_id: int, sequence: int, reason: Reason, detail: str) -> bytes:
    return HEADER_REJECTED.pack(Tag.REJECTED, session_id, sequence, reason) + detail.encode()


def _array_length(data: bytes) -> int:
    """How many elements the MessagePack array that `data` begins with says it has; -1 when there is no array."""
    lead = data[0] if data else 0
    if 0x90 <= lead <= 0x9F:
        return lead & 0x0F
    if lead == 0xDC:
        return int.from_bytes(data[1:3], "big")
    if lead == 0xDD:
        return int.from_bytes(data[1:5], "big")
    return -1
