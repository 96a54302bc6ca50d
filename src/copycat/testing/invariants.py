"""What must hold in a cluster at every moment, checked by one who sees all its members at once.

Names and numbers are those of reliability §1.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from copycat.errors import InvariantError, check
from copycat.raft.core.effects import Effect, Send, Truncate
from copycat.raft.core.events import Event, SnapshotTaken
from copycat.raft.core.invariants import ClusterWatch, MembershipWatch, Watch
from copycat.raft.core.passive import Passive
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Block, Ended, Executor, Outcome, Registered
from copycat.raft.protocol.entries import End
from copycat.raft.protocol.messages import AppendResponse, SnapshotId, VoteRequest, VoteResponse
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.server.driver import Driver
from copycat.raft.server.reads import WaitingQuery
from copycat.raft.server.snapshot_taker import id_of
from copycat.testing.disk import FaultyDisk
from copycat.testing.marks import Marks
from copycat.testing.portrait import Picture, picture, picture_differences
from copycat.testing.reading import ReadWatch


@dataclass(slots=True)
class Word:
    """What a member has told others that it holds, and no crash may take back: a term, a vote in it, a place in the
    log up to which it is durable."""

    term: int = 0
    vote: str = ""
    match_index: int = 0

    def note(self, raft: Raft, effects: Iterable[Effect]) -> None:
        """What it says in these effects of a step."""
        for effect in effects:
            if isinstance(effect, Truncate):
                self.match_index = min(self.match_index, effect.index)
            elif isinstance(effect, Send):
                message = effect.message
                if isinstance(message, VoteResponse) and message.granted:
                    self._vote(message.term, effect.member)
                elif isinstance(message, VoteRequest):
                    self._vote(message.term, raft.member_id)
                elif isinstance(message, AppendResponse) and message.accepted:
                    self.match_index = max(self.match_index, message.match_index)
                    if message.term > self.term:
                        self._vote(message.term, "")
        if raft.is_leader:
            self.match_index = max(self.match_index, min(raft.durable_index, raft.commit_index))

    def _vote(self, term: int, vote: str) -> None:
        self.term, self.vote = term, vote

    def check(self, raft: Raft) -> None:
        """It has started again: it must remember."""
        check(raft.term >= self.term, "2: a term was forgotten", raft.member_id, self.term, raft.term)
        if self.vote and raft.term == self.term:
            check(raft.vote == self.vote, "2: a vote was forgotten", raft.member_id, self.term, self.vote, raft.vote)
        if not isinstance(raft.role, Passive):  # which knows that its log has a hole
            held = raft.log.last_index
            check(held >= self.match_index, "7: durable entries were lost", raft.member_id, self.match_index, held)


PORTRAIT_EVERY = 128
"""How many blocks apart the members' whole state is compared, which is dear. What each block does is always."""


class Invariants:
    """Looks at every step of every member, over all their lives.

    on_step(member): told after each. marks: what was brought about. Raises InvariantError within the member that breaks
    a rule, which halts it.
    """

    def __init__(self, on_step: Callable[[str, Sequence[Effect]], object] = lambda *_: None) -> None:
        self.marks = Marks()
        self.cluster = ClusterWatch()
        self.membership = MembershipWatch(self.cluster)
        self.reads = ReadWatch()
        self.steps = 0
        self.blocks_compared = 0
        self.states_compared = 0
        self.snapshots_compared = 0
        self._on_step = on_step
        self.on_expired: Callable[[int], object] = lambda _session: None  # told once of each
        self._expired: set[int] = set()  # only tested
        self._words: dict[str, Word] = {}
        self._effects: dict[int, tuple[bytes, str]] = {}  # last index of a block -> what applying it did, who did first
        self._states: dict[int, tuple[Picture, str]] = {}
        self._snapshots: dict[int, tuple[bytes, str]] = {}

    @property
    def leaders(self) -> dict[int, str]:
        """Who led which term."""
        return self.cluster.leaders

    def watch(self, driver: Driver, disk: FaultyDisk) -> None:
        """Look at this driver's every step from now on. `disk` has its snapshots; see also `watch_executor`."""
        raft, watch = driver.raft, Watch()
        watch.term, watch.vote, watch.log_time = raft.term, raft.vote, raft.log_time
        word = self._words.setdefault(raft.member_id, Word())
        word.check(raft)
        step, marks, reads = raft.step, self.marks, self.reads
        answer, take = driver.desk.reads.answer_when_reached, driver.snapshots.taker.take
        marks.began(raft, getattr(driver.log, "torn_path", None))

        def watched_step(now_ms: int, events: Sequence[Event]) -> list[Effect]:
            was, term = raft.role, raft.term
            marks.stepping(raft, events)
            reads.stepping(events)
            for event in events:
                if isinstance(event, SnapshotTaken):
                    self._snapshot_taken(raft.member_id, event.snapshot, driver, disk)
            effects = step(now_ms, events)
            marks.stepped(raft, was, term, effects)
            watch.check(raft, effects)
            self.cluster.check(raft, effects)
            self.membership.check(raft, effects)
            reads.stepped(raft, effects)
            word.note(raft, effects)
            self.steps += 1
            self._on_step(raft.member_id, effects)
            return effects

        def watched_take(executor: Executor, raft: Raft, now_ms: int) -> None:
            take(executor, raft, now_ms)
            self.compare_state(raft.member_id, executor)  # so that whoever begins with it can be compared

        def watched_answer(query: WaitingQuery) -> None:
            try:
                if query.consistency == ConsistencyLevel.LINEARIZABLE_LEASE:
                    reads.at_once(raft, driver.executor.applied_index)
            except InvariantError as error:  # here it would only cost the client its connection
                driver.fail(error)
            else:
                answer(query)

        raft.step = watched_step  # type: ignore[method-assign]  # watched
        driver.snapshots.taker.take = watched_take  # type: ignore[method-assign]  # watched
        driver.desk.reads.answer_when_reached = watched_answer  # type: ignore[method-assign]  # watched

    def watch_executor(self, executor: Executor, driver: Callable[[], Driver | None]) -> None:
        """Look at all that is applied to this state. `driver`: whose it is, once it runs."""
        apply, is_new = executor.apply, True

        def watched_apply(block: Block) -> list[Outcome]:
            nonlocal is_new
            owner = driver()
            check(owner is not None and owner.executor is executor, "a state is applied to when it is in use")
            if owner is None:
                return []
            if is_new and executor.applied_index:  # 27: it came from a snapshot, of a state that was once looked at
                self.compare_state(owner.raft.member_id, executor)
            is_new = False
            outcomes = apply(block)
            self.marks.applied(block, outcomes)
            self.reads.applied(owner.raft, executor.applied_index)
            self._applied(owner.raft.member_id, executor, block, outcomes)
            return outcomes

        executor.apply = watched_apply  # type: ignore[method-assign]  # watched

    def _snapshot_taken(self, member: str, snapshot: SnapshotId, driver: Driver, disk: FaultyDisk) -> None:
        """28: members that take a snapshot at the same index write the same bytes."""
        kept = driver.snapshots.taker._snapshots.files  # as a test may look
        path = next((file.path for file in kept if id_of(file) == snapshot), "")
        if not disk.exists(path):
            return  # there are newer ones by now
        digest = blake2b(disk.contents(path), digest_size=16).digest()
        known, first = self._snapshots.setdefault(snapshot.index, (digest, member))
        self.snapshots_compared += first != member
        check(known == digest, "28: two members took unlike snapshots", snapshot.index, first, member)

    def _applied(self, member: str, executor: Executor, block: Block, outcomes: Sequence[Outcome]) -> None:
        index = executor.applied_index
        for outcome in outcomes:
            if isinstance(outcome, Ended) and outcome.why is End.EXPIRED and outcome.session not in self._expired:
                self._expired.add(outcome.session)
                self.on_expired(outcome.session)
        told = [("registered", o.session.id) if isinstance(o, Registered) else o for o in outcomes]
        sessions = [(s.id, s.sequence, s.ack, s.activity_index, s.event_index) for s in executor.sessions]
        digest = blake2b(repr((int(block.kind), block.time, told, sessions)).encode(), digest_size=16)
        digest.update(block.body)
        is_first = index not in self._effects
        known, first = self._effects.setdefault(index, (digest.digest(), member))
        self.blocks_compared += not is_first
        check(known == digest.digest(), "6: two members applied the same index unlike", index, first, member, told)
        if index in self._states or (is_first and len(self._effects) % PORTRAIT_EVERY == 0):
            self.compare_state(member, executor)

    def compare_state(self, member: str, executor: Executor) -> None:
        """30: members at the same index are in the same state."""
        index, state = executor.applied_index, picture(executor)
        known, first = self._states.setdefault(index, (state, member))
        self.states_compared += known is not state
        if known != state:
            apart = picture_differences(known, state)
            raise InvariantError(f"30: at {index}, {first} and {member} differ: {apart}")
