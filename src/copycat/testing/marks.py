"""What a simulation has brought about at least once: the rare turns that a test of everything must have taken.

A seed that fails finds a bug. Seeds that do not fail say something only if they went where bugs are, so each such place
has a mark, and a run of many seeds that never reaches one of them is a failure of the tests.

Marks are read off what members and clients do; the product knows nothing of them.

Source: reliability §3 "Simulator" (the `sometimes` marks of FoundationDB).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from copycat.raft.client.states import ClientState
from copycat.raft.core.candidate import Candidate
from copycat.raft.core.effects import (
    Effect,
    InstallSnapshot,
    MembershipChanged,
    ProposalRefused,
    ReadReady,
    ReadRefused,
    Replicate,
    RoleChanged,
    Send,
    StoreChunk,
    Truncate,
)
from copycat.raft.core.events import Event, FaultCleared, Received, SnapshotTaken
from copycat.raft.core.leader import Leader
from copycat.raft.core.passive import Passive
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Block, Configured, Ended, Outcome, Results
from copycat.raft.protocol.configuration import Configuration, decode_configuration
from copycat.raft.protocol.entries import End
from copycat.raft.protocol.messages import AppendResponse, PollResponse, TimeoutNow, VoteResponse

MARKS: Final = (
    "a conflicting tail was truncated",
    "a follower refused what did not follow its log",
    "a poll was refused",
    "a vote was refused",
    "an election was held again",
    "an election was won early, on evidence",
    "a leader stepped down without a majority",
    "a leader met a later term",
    "a leader was elected over entries of earlier terms",
    "an append was sent again",
    "a read was confirmed by a later round",
    "a read was refused by who no longer leads",
    "a proposal was refused by who no longer leads",
    "a member began with a hole in its log",
    "a hole was refilled",
    "a torn end was cut off a log",
    "a snapshot was taken",
    "a member began with a snapshot",
    "a member went on from its leader's snapshot",
    "a snapshot came to a member in several pieces",
    "a member joined",
    "a member got a vote",
    "a member lost its vote",
    "a member left",
    "a removed member ended by itself",
    "a list of members was taken back",
    "a leader handed over",
    "a member stopped by itself",
    "a session expired",
    "a session ended in order",
    "events waited for a client's word",
    "a client was suspended",
    "a client lost its session",
    "a client began another session",
    "a client changed servers",
    "clients shared a connection",
)

ENDS: Final = {End.EXPIRED: "a session expired", End.UNREGISTERED: "a session ended in order"}


class Marks:
    """Counts, for one simulation, how often each of MARKS was reached."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()  # that members received of one another, by kind
        self._sent_up_to: dict[tuple[int, str], int] = {}  # by term and member
        self._servers: dict[str, str] = {}  # of each client, the one it spoke to last
        self._certain: tuple[int, Configuration | None] = (0, None)  # at which index
        self._expired: set[str] = set()  # clients without a session, after a first one

    def _reach(self, mark: str) -> None:
        self.reached[mark] += 1

    def stepping(self, raft: Raft, events: Iterable[Event]) -> None:
        """A member is about to take these in."""
        for event in events:
            if isinstance(event, Received):
                self.messages[type(event.message).__name__] += 1
            elif isinstance(event, SnapshotTaken):
                self._reach("a snapshot was taken")
            elif isinstance(event, FaultCleared):
                self._reach("a hole was refilled")

    def stepped(self, raft: Raft, was: object, term: int, effects: Sequence[Effect]) -> None:
        """A member has taken a step. was: its role before; term: its term before."""
        before: Effect | None = None
        for effect in effects:
            if isinstance(effect, Send):
                self._sent(effect)
            elif isinstance(effect, InstallSnapshot):
                self._reach("a member went on from its leader's snapshot")
            elif isinstance(effect, MembershipChanged) and isinstance(before, Truncate):
                self._reach("a list of members was taken back")
            elif isinstance(effect, StoreChunk) and effect.offset > 0:
                self._reach("a snapshot came to a member in several pieces")
            elif isinstance(effect, Truncate):
                self._reach("a conflicting tail was truncated")
            elif isinstance(effect, ReadReady):
                self._reach("a read was confirmed by a later round")
            elif isinstance(effect, ReadRefused):
                self._reach("a read was refused by who no longer leads")
            elif isinstance(effect, ProposalRefused):
                self._reach("a proposal was refused by who no longer leads")
            elif isinstance(effect, Replicate):
                self._replicated(effect)
            elif isinstance(effect, RoleChanged):
                self._changed(raft, was, term, effect)
            before = effect

    def _replicated(self, effect: Replicate) -> None:
        place = (effect.term, effect.member)
        if effect.last_index <= self._sent_up_to.get(place, 0) and effect.first_index <= effect.last_index:
            self._reach("an append was sent again")
        self._sent_up_to[place] = max(effect.last_index, self._sent_up_to.get(place, 0))

    def _sent(self, effect: Send) -> None:
        message = effect.message
        if isinstance(message, AppendResponse):
            if not message.accepted:
                self._reach("a follower refused what did not follow its log")
        elif isinstance(message, PollResponse):
            if not message.granted:
                self._reach("a poll was refused")
        elif isinstance(message, VoteResponse) and not message.granted:
            self._reach("a vote was refused")
        elif isinstance(message, TimeoutNow):
            self._reach("a leader handed over")

    def _changed(self, raft: Raft, was: object, term: int, effect: RoleChanged) -> None:
        if isinstance(was, Leader) and effect.role != "leader":
            self._reach("a leader met a later term" if raft.term > term else "a leader stepped down without a majority")
        elif isinstance(was, Candidate) and not was.polling and effect.role == "candidate":
            self._reach("an election was held again")
        elif effect.role == "leader":
            if raft.log.last_index > raft.commit_index + 1:
                self._reach("a leader was elected over entries of earlier terms")
            if raft.dead:
                self._reach("an election was won early, on evidence")

    def began(self, raft: Raft, torn_path: str | None) -> None:
        """A member starts, from what its disk holds."""
        if isinstance(raft.role, Passive):
            self._reach("a member began with a hole in its log")
        if torn_path is not None:
            self._reach("a torn end was cut off a log")
        if raft.applied_index > 0:
            self._reach("a member began with a snapshot")

    def left(self) -> None:
        """A member has ended itself, since it was removed."""
        self._reach("a removed member ended by itself")

    def failed(self) -> None:
        """A member has ended itself."""
        self._reach("a member stopped by itself")

    def spoke(self, client: str, server: str) -> None:
        """Bytes of a client have reached a server."""
        before = self._servers.get(client)
        if before != server:
            self._servers[client] = server
            if before is not None:
                self._reach("a client changed servers")

    def became(self, client: str, state: ClientState, *, shares: bool) -> None:
        """A client's session stands so now. `shares`: its connection is another client's too."""
        if shares:
            self._reach("clients shared a connection")
        if state is ClientState.SUSPENDED:
            self._reach("a client was suspended")
        elif state is ClientState.EXPIRED:
            self._reach("a client lost its session")
            self._expired.add(client)
        elif state is ClientState.CONNECTED and client in self._expired:
            self._reach("a client began another session")
            self._expired.discard(client)

    def applied(self, block: Block, outcomes: Iterable[Outcome]) -> None:
        """A member has applied a block."""
        for outcome in outcomes:
            if isinstance(outcome, Results) and outcome.event_index:
                self._reach("events waited for a client's word")
            elif isinstance(outcome, Ended) and outcome.why in ENDS:
                self._reach(ENDS[outcome.why])
            elif isinstance(outcome, Configured):
                self._configured(outcome.index, decode_configuration(outcome.body))

    def _configured(self, index: int, now: Configuration) -> None:
        """Compares it with what was certain before: who came, who went, and whose vote."""
        known, before = self._certain
        if index <= known:
            return
        self._certain = (index, now)
        if before is None:
            return
        old, new = [[each.id for each in list_.all_members] for list_ in (before, now)]
        voted, vote = [[each.id for each in list_.active_members] for list_ in (before, now)]
        changes = {
            "a member joined": set(new) - set(old),
            "a member left": set(old) - set(new),
            "a member got a vote": (set(vote) - set(voted)) & set(old),
            "a member lost its vote": (set(voted) - set(vote)) & set(new),
        }
        for mark, members in changes.items():
            if members:
                self._reach(mark)
