"""Applies committed blocks, in order, once: the only place where a batch's blob is opened.

Apply is total. Whatever a batch holds, the outcome is a result that every replica computes alike: a blob that does
not decode, an operation that raises, a result that cannot be sent. Nothing a client sends can make this raise.

Log time moves first, then due timers fire, then the block's own entries take effect.

Source: protocol §4, §5; ARCHITECTURE.md "Apply is total".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

from copycat.errors import CopycatError, InvariantError, broken, check
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.host import Clockwork, Host
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.timers import Timer
from copycat.raft.protocol.entries import (
    COMMANDS,
    KEEP_ALIVE,
    REGISTER,
    RESULTS_BYTES_MAX,
    SESSION_WINDOW,
    BlockKind,
    End,
    ItemKind,
    iterate_items,
    unpack_types,
)
from copycat.raft.protocol.operations import RESULT_TOO_LARGE, Failure

FAILURE_BYTES = 100  # at most, of one that says a result is too large

KNOWN_KINDS = frozenset({BlockKind.INITIALIZE, BlockKind.ITEMS, BlockKind.CONFIGURE})

_HEAD = itemgetter(0, 1, 2)  # of an operation: target, instance, id
_INTEGER = frozenset({int})


class Machines(Protocol):
    """The state machines of a replica: one, or a manager of many."""

    def execute(
        self, session: ServerSession, first_index: int, operations: list[list[Any]], *, alike: bool
    ) -> list[Any]:
        """The results of a batch, one each, at consecutive indices. Raises only what halts the member.

        alike: whether they are several of one target, handle and id.
        """

    def query(self, session: ServerSession | None, operations: list[list[Any]], *, alike: bool) -> list[Any]:
        """The results of queries at the current state, which they do not change."""

    def session_began(self, session: ServerSession) -> None: ...

    def session_ended(self, session: ServerSession, expired: bool) -> None: ...

    def fire(self, timer: Timer) -> None: ...

    @property
    def hosts(self) -> Mapping[int, Host]:
        """Every state machine as it is run, by target, in that order. Restoring the first one may bring the others."""

    @property
    def codec(self) -> ValueCodec:
        """What the machines' values are encoded with."""

    @property
    def types(self) -> list[tuple[str, int]]:
        """The (name, version) of every type this replica can run, sorted."""

    @property
    def allowed(self) -> list[tuple[str, int]]:
        """The types that may be created, sorted: those the log says every member can run."""

    def allow(self, types: list[tuple[str, int]]) -> None:
        """From here in the log on, these types may be created and no others."""


class Block(Protocol):
    """A committed block, with its body."""

    first_index: int
    count: int
    kind: int
    time: int
    wall_ms: int
    body: bytes


@dataclass(slots=True)
class Results:
    """A batch was executed, now or earlier. `event_index` is the last index with an event for the session by then."""

    session: int
    first: int
    count: int
    index: int
    event_index: int
    data: bytes


@dataclass(slots=True)
class Registered:
    session: ServerSession


@dataclass(slots=True)
class Kept:
    """Keep-alives were applied: `alive` sessions were found, `unknown` were not."""

    alive: list[int]
    unknown: list[int]


@dataclass(slots=True)
class Ended:
    session: int
    why: End


@dataclass(slots=True)
class Refused:
    """A batch could not be executed at its place: the session is unknown, or a sequence is missing before it."""

    session: int
    first: int
    known: bool


@dataclass(slots=True)
class Configured:
    """The members are those of `body`, for certain."""

    index: int
    body: bytes


@dataclass(slots=True)
class CheckDue:
    """The state is to be hashed as it is when this block, whole, has been applied."""


Outcome = Results | Registered | Kept | Ended | Refused | Configured | CheckDue


class Executor:
    """The replicated half of a server, from block bodies to outcomes. Owned by one driver."""

    def __init__(
        self,
        *,
        clockwork: Clockwork,
        machines: Machines,
        decode_operations: Callable[[bytes], list[list[Any]]],
        encode_results: Callable[[list[Any]], bytes],
        encode_event: Callable[[list[Any]], bytes],
    ) -> None:
        self.clockwork = clockwork
        clockwork.encode_event = encode_event
        self.sessions = clockwork.sessions
        self.machines = machines
        self._decode = decode_operations
        self._encode = encode_results
        self.applied_index = 0

    def apply(self, block: Block) -> list[Outcome]:
        """Apply the next block and return what clients may be told."""
        if block.first_index != self.applied_index + 1:
            raise broken("blocks are applied in order", block.first_index)
        if block.kind not in KNOWN_KINDS:
            raise InvariantError(f"the log holds a block of unknown kind {block.kind}: a newer version wrote it")
        clockwork = self.clockwork
        clockwork.index, clockwork.applying = block.first_index, True
        clockwork.time = max(clockwork.time, block.time)
        clockwork.wall_ms = max(clockwork.wall_ms, block.wall_ms)
        while (timer := clockwork.timers.pop_due(clockwork.time)) is not None:
            self.machines.fire(timer)
        outcomes: list[Outcome] = []
        if clockwork.overflowing:
            self._end_overflowing(block.first_index, outcomes)
        if block.kind == BlockKind.ITEMS:
            index = block.first_index
            for kind, session_id, sequence, ack, count, blob in iterate_items(block.body):
                if kind == COMMANDS:
                    outcomes.append(self._commands(session_id, sequence, ack, count, blob, index))
                else:
                    self._apply_item(kind, session_id, ack, blob, index, outcomes)
                index += count
                if clockwork.overflowing:
                    self._end_overflowing(index - 1, outcomes)
            if index != block.first_index + block.count:
                raise broken("a block's count is not that of its items", index)
        elif block.kind == BlockKind.CONFIGURE:
            outcomes.append(Configured(block.first_index, block.body))
        self.applied_index = clockwork.index = block.first_index + block.count - 1
        clockwork.applying = False
        return outcomes

    def begin_anew(self, index: int) -> None:
        """Go on at `index`, far behind the last one applied, as the state of a new cluster: nobody of the old one is
        there, so every session ends as if it had expired. Log time stands where it stood, and timers wait.
        """
        check(index > self.applied_index, "a state goes on at a later index", index, self.applied_index)
        clockwork, outcomes = self.clockwork, list[Outcome]()
        clockwork.index, clockwork.applying = index, True
        for session in self.sessions:
            self._end(session.id, index, End.EXPIRED, outcomes)
        self._end_overflowing(index, outcomes)
        self.applied_index = clockwork.index = index
        clockwork.applying = False
        self.take_published()

    def take_published(self) -> list[int]:
        """The sessions to which something was published since this was last asked, in order."""
        published = self.clockwork.published
        if not published:
            return []
        self.clockwork.published = {}
        return list(published)

    def query(self, session: ServerSession | None, operations: bytes, count: int) -> bytes | None:
        """The encoded results of a batch of queries at the current state; None: too large, ask for fewer at a time."""
        opened, alike = self._open(operations, count)
        results = [opened] * count if opened.__class__ is Failure else self.machines.query(session, opened, alike=alike)
        if count > 1 and sum(map(len, [each for each in results if each.__class__ is bytes])) > RESULTS_BYTES_MAX:
            return None
        data = self._encode(results)
        if len(data) <= RESULTS_BYTES_MAX:
            return data
        return self._encode_shortened(results) if count == 1 else None

    def _encode_shortened(self, results: list[Any]) -> bytes:
        """The results of a batch that are too much together: those above their share become Failures."""
        sizes = [len(self._encode([result])) for result in results]
        share = RESULTS_BYTES_MAX // len(results) - FAILURE_BYTES
        for at, size in enumerate(sizes):
            if size > share:
                results[at] = Failure(RESULT_TOO_LARGE, f"{size} bytes, one of {len(results)} results in an answer")
        return self._encode(results)

    # -- items -------------------------------------------------------------------------------------------------------

    def _apply_item(
        self, kind: int, session_id: int, ack: int, blob: bytes, index: int, outcomes: list[Outcome]
    ) -> None:
        if kind == ItemKind.KEEP_ALIVE:
            outcomes.append(self._keep_alive(blob, index))
        elif kind == ItemKind.REGISTER:
            outcomes.append(self._register(blob, index))
        elif kind == ItemKind.UNREGISTER:
            self._end(session_id, index, End.UNREGISTERED, outcomes)
        elif kind == ItemKind.EXPIRE:
            session = self.sessions.get(session_id)
            # Void when the session was heard of after the leader made up its mind (protocol §4.2).
            if session is not None and session.activity_index <= ack:
                self._end(session_id, index, End.EXPIRED, outcomes)
        elif kind == ItemKind.TYPES:
            self.machines.allow(unpack_types(blob))
        elif kind == ItemKind.CHECK:
            outcomes.append(CheckDue())
        elif kind != ItemKind.TICK:
            raise InvariantError(f"the log holds an item of unknown kind {kind}: a newer version wrote it")

    def _commands(self, session_id: int, sequence: int, ack: int, count: int, blob: bytes, index: int) -> Outcome:
        session = self.sessions.get(session_id)
        if session is None:
            return Refused(session_id, sequence, known=False)
        window_start = sequence + count - 1 - SESSION_WINDOW
        if sequence != session.sequence + 1 or (window_start > ack and window_start > session.ack):
            run = session.run_of(sequence, count)
            return Refused(session_id, sequence, known=True) if run is None else Results(session_id, *run)
        if ack > session.ack:
            session.acknowledge(ack)
        operations, alike = self._open(blob, count)
        if operations.__class__ is Failure:
            results: list[Any] = [operations] * count
        else:
            results = self.machines.execute(session, index, operations, alike=alike)
        last_index = index + count - 1
        self.clockwork.index = last_index
        data = self._encode(results)
        if len(data) > RESULTS_BYTES_MAX:
            data = self._encode_shortened(results)
        return Results(session_id, *session.executed(sequence, count, last_index, data))

    def _open(self, blob: bytes, count: int) -> tuple[Any, bool]:
        """The operations of a blob, and whether they are alike; a Failure where it is not `count` operations: of them
        all, the same everywhere.
        """
        try:
            operations = self._decode(blob)
        except CopycatError as error:
            return Failure("ProtocolError", str(error)), False
        if len(operations) == count:
            if count == 1:
                head = operations[0]
                if len(head) > 2 and head[0].__class__ is head[1].__class__ is head[2].__class__ is int:
                    return operations, False
            elif kinds := _count_kinds(operations):
                return operations, kinds == 1
        return Failure("ProtocolError", "a batch is not the operations it claims to be"), False

    def _register(self, blob: bytes, index: int) -> Outcome:
        nonce, secret, timeout_ms = REGISTER.unpack(blob)
        known = self.sessions.by_nonce(nonce)
        if known is not None:
            known.activity_index = index
            return Registered(known)
        session = ServerSession(index, nonce, secret, timeout_ms)
        self.sessions.add(session)
        self.clockwork.index = index
        self.machines.session_began(session)
        return Registered(session)

    def _keep_alive(self, blob: bytes, index: int) -> Outcome:
        alive: list[int] = []
        unknown: list[int] = []
        for session_id, ack, event_ack in KEEP_ALIVE.iter_unpack(blob):
            session = self.sessions.get(session_id)
            if session is None:
                unknown.append(session_id)
                continue
            session.acknowledge(ack)
            session.acknowledge_events(event_ack)
            session.activity_index = index
            alive.append(session_id)
        return Kept(alive, unknown)

    def _end_overflowing(self, index: int, outcomes: list[Outcome]) -> None:
        """End the sessions that let too many events wait. Their ends may publish, and so overflow others."""
        while self.clockwork.overflowing:
            self._end(self.clockwork.overflowing.pop(0).id, index, End.OVERFLOWED, outcomes)

    def _end(self, session_id: int, index: int, why: End, outcomes: list[Outcome]) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            expired = why is not End.UNREGISTERED
            self.clockwork.index = index
            self.sessions.remove(session, expired)
            self.machines.session_ended(session, expired)
        outcomes.append(Ended(session_id, why))


def _count_kinds(operations: list[list[Any]]) -> int:
    """Of how many targets, handles and ids together these are; 0 if one of them does not begin with three integers.

    Nothing is run for each, for there may be very many. What equals an integer that another begins with (True, 1.0) is
    taken for it, alike everywhere.
    """
    try:
        kinds = set(map(_HEAD, operations))
    except (IndexError, TypeError):  # too short, or with what cannot be compared
        return 0
    return len(kinds) if _INTEGER.issuperset(map(type, chain.from_iterable(kinds))) else 0
