"""The driver: everything that arrived since the last turn of the event loop is handled together.

A turn takes the events and proposals that wait, steps the core, and performs its effects in order: append to the log,
send to members, apply what is committed, answer clients. Then the log is flushed, beside the loop when that may take
long, while the next turn's proposals gather. Durability comes back as an event.

Source: ARCHITECTURE.md "The core's shape"; docs/decisions/0008-flushing-beside-the-loop.md.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from copycat.errors import check
from copycat.io.storage.base import LogBase
from copycat.io.storage.log import Log
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import Block
from copycat.raft.core.effects import (
    ChangeRefused,
    ClearFault,
    Committed,
    Discard,
    Effect,
    InstallSnapshot,
    MembershipChanged,
    Persist,
    ProposalRefused,
    ReadReady,
    ReadRefused,
    Replicate,
    RoleChanged,
    Send,
    SendSnapshot,
    Store,
    StoreChunk,
    StoreReceived,
    Truncate,
)
from copycat.raft.core.events import Applied, Event, Flushed, Outdated, Persisted, ReadRequested, Received
from copycat.raft.core.leader import Leader
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Executor
from copycat.raft.protocol.message_wire import encode_append, encode_message
from copycat.raft.protocol.messages import Message
from copycat.raft.server.disk_worker import DiskWorker
from copycat.raft.server.flusher import Flusher
from copycat.raft.server.peers import Peers
from copycat.raft.server.recent_blocks import RecentBlocks
from copycat.raft.server.snapshots import ServerSnapshots
from copycat.util.clock import Clock

if TYPE_CHECKING:
    from copycat.raft.server.desk import Desk
    from copycat.raft.server.intake import Intake

_log = logging.getLogger(__name__)

PASSES_MAX = 3
APPLY_BYTES_A_PASS = 1 << 20


class SaveVote(Protocol):
    """Makes term and vote durable; called on the disk's thread."""

    def __call__(self, term: int, vote: str) -> object: ...


class Driver:
    """Owns one member's core, log and replicated state, on one event loop.

    on_fatal(error) is called once, when the member can go on no longer; it takes no further turn.
    """

    def __init__(
        self,
        *,
        raft: Raft,
        log: Log | MemoryLog,
        executor: Executor,
        peers: Peers,
        clock: Clock,
        save_vote: SaveVote,
        save_refilled: Callable[[], object],
        disk: DiskWorker,
        background: DiskWorker,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.raft = raft
        self.log = log
        self.executor = executor
        self.desk: Desk  # set once, before `start`
        self.snapshots: ServerSnapshots  # likewise
        self._peers = peers
        self._clock = clock
        self._save_vote = save_vote
        self._save_refilled = save_refilled
        self._disk = disk
        self._on_fatal = on_fatal
        self.flusher = Flusher(log, disk, background, clock, self.post, self.fail)
        self._loop = asyncio.get_running_loop()
        self._inbox: list[Event] = []
        self._recent = RecentBlocks(log)
        self._is_woken = False
        self._is_turning = False
        self._is_first = False  # nobody else can have on disk yet what this leader has just flushed
        self._is_running = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._contacts_ms = 0
        self._clear_fault = False
        self._frame: tuple[object, bytes] = (None, b"")  # the latest append, for members that get the same
        self.now_ms = clock.boottime_ms
        """The clock of promises and leases; read after the input it is to judge."""

    def start(self) -> None:
        """Take the first turn soon."""
        check(
            hasattr(self, "desk") and hasattr(self, "snapshots"), "a driver has a desk and snapshots before it starts"
        )
        self._is_running = True
        self.snapshots.space.look()
        self.wake()

    async def close(self) -> None:
        """Take no further turn, let the disk finish what it was given, and close the log."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
        self.snapshots.close()
        await self.flusher.close()

    @property
    def is_running(self) -> bool:
        return self._is_running

    def post(self, event: Event) -> None:
        """Something happened; this turn still handles it, or the next, if there will be one."""
        if self._is_running:
            self._inbox.append(event)
            if not self._is_turning and not self._is_woken:
                self.wake()

    def receive(self, member: str, message: Message) -> None:
        """A member said something. An answer that nobody waits for is taken in with whatever comes next."""
        if self._is_running:
            self._inbox.append(Received(member, message))
            if not self._is_turning and not self._is_woken and not self.raft.may_wait(member, message):
                self.wake()

    def outdated(self, term: int) -> None:
        """This member has no vote any more: before anything that waits can be answered with one."""
        if self._is_running:
            self._inbox.insert(0, Outdated(term))
            self.wake()

    def wake(self) -> None:
        """Take a turn soon."""
        if not self._is_woken and self._is_running:
            self._is_woken = True
            self._loop.call_soon(self._turn)

    def fail(self, error: BaseException) -> None:
        """The member cannot go on: a failed disk, or a broken invariant."""
        if self._is_running:
            self._is_running = False
            self._on_fatal(error)

    # -- a turn ------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._is_woken = False
        if not self._is_running:
            return
        self._is_turning = True
        has_news = False
        try:
            for _ in range(PASSES_MAX):
                self._pass()
                if not (has_news := self._has_news):
                    break
            self._is_turning = False
            if has_news or self.executor.applied_index < self.raft.commit_index:
                self.wake()
            self._arm()
        except Exception as error:
            self._is_turning = False
            self.fail(error)

    @property
    def _has_news(self) -> bool:
        """Whether another pass may do something.

        That what was sent just now is on the own disk decides nothing: a member's answer takes that with it.
        """
        inbox = self._inbox
        return len(inbox) > 1 or (bool(inbox) and not (self._is_first and type(inbox[0]) is Flushed))

    def _pass(self) -> None:
        """Events in, effects done, what is committed applied, the log on its way to the disk."""
        raft, desk = self.raft, self.desk
        was_durable = self.log.durable_index == self.log.last_index
        now = self._step()
        intake = desk.intake
        if intake is None:
            # The leader waits for the flush, and nobody for what is applied here.
            self.flusher.kick(beside=self.flusher.goes_beside(alone=True))
            if self._inbox:  # it was flushed on the loop, and the leader hears of it first
                self._step()
            self._apply()
            if raft.is_leader:
                self._begin_to_lead()
        else:
            beside = self.flusher.goes_beside(alone=not intake.waiting)
            if beside:
                self.flusher.kick(beside=True)  # the disk writes while commands are applied
            self._apply()
            if desk.told:
                desk.flush()  # clients hear of these before this loop waits for the disk
            if self._inbox:  # as do members whose clients wait for what was applied
                self._step()
            if not beside:
                self.flusher.kick(beside=False)
        self._is_first = was_durable and raft.is_leader and bool(raft.electors)
        if desk.reads.unanswered:
            desk.reads.release()
        if self.snapshots.taker.is_due(now):
            self.snapshots.taker.take(self.executor, raft, now)

    def _step(self) -> int:
        """Events in, effects done. Returns the time it was."""
        raft, desk = self.raft, self.desk
        events, self._inbox = self._inbox, []
        applied = self.executor.applied_index
        if applied > raft.applied_index:
            events.insert(0, Applied(applied))  # before a snapshot may take the place of what is applied
        now = self.now_ms()
        if desk.intake is not None:
            self._add_wishes(desk.intake, events, now)
        for effect in raft.step(now, events):
            PERFORM[type(effect)](self, effect)
        self._peers.flush()  # what is to be replicated leaves before this disk is waited for
        return now

    def _begin_to_lead(self) -> None:
        """The core leads: so does the desk, once the first entry of this term is applied."""
        if self.raft.is_ready:
            self.desk.lead()
            self._contacts_ms = 0
        if self.executor.applied_index > self.raft.applied_index or self.desk.intake is not None:
            self.wake()

    def _add_wishes(self, intake: "Intake", events: list[Event], now: int) -> None:
        """The clients' commands, gathered while the log was busy, and their reads."""
        if now >= self._contacts_ms:
            self._watch_contacts(now)
        # While leadership is handed over nothing is taken: the next leader gets it, or this one after all.
        if intake.waiting and not self.log.flushing and not self.raft.is_handing_over:
            events.extend(intake.take())
        if self.desk.reads.unanswered and (queries := self.desk.reads.take_arrived()):
            events.append(ReadRequested(queries))

    def _watch_contacts(self, now: int) -> None:
        """Every heartbeat: sessions gone silent, and timers that wait for time to pass."""
        role = self.raft.role
        if isinstance(role, Leader):
            self._contacts_ms = now + self.raft.config.heartbeat_ms
            idle = self.executor.applied_index == self.raft.log.last_index
            self.desk.watch(now, role.time_base + now - role.time_from, idle=idle)

    def _apply(self) -> None:
        """Apply what is committed, a bounded amount a pass, so that a long log does not silence a member."""
        executor, commit = self.executor, self.raft.commit_index
        if executor.applied_index >= commit:
            return
        size = 0
        for block in self._recent.take(executor.applied_index + 1, commit, APPLY_BYTES_A_PASS):
            self.desk.deliver(executor.apply(block))
            size += len(block.body)
            if size >= APPLY_BYTES_A_PASS:
                break

    def _arm(self) -> None:
        """Be woken when the core wants to be. An earlier alarm is left to ring: turns are cheap, timers less so."""
        deadline = self.raft.deadline_ms
        if self._timer is not None:
            if self._timer_ms <= deadline:
                return
            self._timer.cancel()
        self._timer_ms = deadline
        delay_ms = max(0, deadline - self.now_ms())
        self._timer = self._loop.call_later(min(delay_ms, 3_600_000) / 1000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.now_ms() >= self.raft.deadline_ms:
            self.wake()
        elif self._is_running:  # what it was set for has happened meanwhile
            self._arm()

    # -- effects -----------------------------------------------------------------------------------------------------

    def _store(self, effect: Store) -> None:
        self._append(
            Block(
                effect.first_index,
                effect.count,
                effect.term,
                effect.kind,
                effect.time,
                self._clock.wall_ms(),
                effect.chain_before,
                effect.chain,
                effect.body,
            )
        )

    def _store_received(self, effect: StoreReceived) -> None:
        for block in effect.blocks:
            check(isinstance(block, Block), "received blocks come with their bodies")
            self._append(block)  # type: ignore[arg-type]  # checked

    def _append(self, block: Block) -> None:
        self.log.append(block)
        self._recent.push(block)
        self.snapshots.taker.log_bytes += len(block.body)

    def _truncate(self, effect: Truncate) -> None:
        self.log.truncate_after(effect.index)
        self._recent.truncate_after(effect.index)

    def _clear(self, _effect: ClearFault) -> None:
        def done(error: BaseException | None) -> None:
            if error is not None:
                self.fail(error)
            elif self._is_running:
                self.flusher.clear_fault()

        self._disk.submit(self._save_refilled, done)

    def save(self, job: Callable[[], object]) -> None:
        """Have metadata written, in turn with votes."""
        self._disk.submit(job, lambda error: self.fail(error) if error is not None else None)

    def _persist(self, effect: Persist) -> None:
        def done(error: BaseException | None) -> None:
            if error is not None:
                self.fail(error)
            else:
                self.post(Persisted(effect.term, effect.vote))

        self._disk.submit(lambda: self._save_vote(effect.term, effect.vote), done)

    def _send(self, effect: Send) -> None:
        self._peers.send(effect.member, encode_message(effect.message))

    def _replicate(self, effect: Replicate) -> None:
        fields = (
            effect.term,
            effect.previous_index,
            effect.previous_term,
            effect.previous_chain,
            effect.commit_index,
            effect.log_index,
            effect.round,
            effect.lease_ms,
            effect.echo_ms,
            effect.confirm,
            effect.settled,
        )
        self._peers.send(effect.member, encode_append(fields, self._records(effect.first_index, effect.last_index)))

    def _records(self, first: int, last: int) -> bytes:
        """The log's own bytes of a range; members that are level get the same range, read once."""
        if first > last:
            return b""
        key = (first, last, self.raft.term)
        if self._frame[0] != key:
            records, reached = self.log.read_records(first, last, 1 << 62)
            check(reached == last, "a range to replicate ends with a block", first, last, reached)
            self._frame = (key, records)
        return self._frame[1]

    def _send_snapshot(self, effect: SendSnapshot) -> None:
        self.snapshots.sender.send(effect)

    def _store_chunk(self, effect: StoreChunk) -> None:
        self.snapshots.receiver.store(effect)

    def _install(self, effect: InstallSnapshot) -> None:
        """A leader's snapshot takes the place of log and state. Between two blocks, so nothing is half done."""
        state, snapshot = effect.state, effect.snapshot
        check(isinstance(state, Executor), "a snapshot that was received comes with its state", snapshot.index)
        self.executor = state  # type: ignore[assignment]  # checked
        self.log.reset(LogBase(snapshot.index, snapshot.term, snapshot.chain, snapshot.time))
        self._recent.clear()
        self.snapshots.taker.received(snapshot.index)
        self.desk.state_replaced()
        _log.info("%s goes on from its leader's snapshot at index %d", self.raft.member_id, snapshot.index)

    def _discard(self, effect: Discard) -> None:
        self.flusher.discard_to(effect.index)

    def _committed(self, effect: Committed) -> None:
        self.log.protect(effect.index)

    def _membership_changed(self, effect: MembershipChanged) -> None:
        self.desk.members_changed(effect.membership)

    def _change_refused(self, effect: ChangeRefused) -> None:
        self.desk.changes.refused(effect.body, effect.reason)

    def _read_ready(self, effect: ReadReady) -> None:
        for queries in effect.tokens:
            self.desk.reads.confirmed(queries, effect.index)  # type: ignore[arg-type]  # what `_add_wishes` put in

    def _read_refused(self, _effect: ReadRefused) -> None:
        """The clients ask again, at the next leader."""

    def _proposal_refused(self, _effect: ProposalRefused) -> None:
        """As with reads: nothing was appended, and the clients send it all again."""

    def _role_changed(self, effect: RoleChanged) -> None:
        _log.info(
            "%s is %s in term %d, leader %s",
            self.raft.member_id,
            effect.role,
            effect.term,
            effect.leader or "unknown",
            extra={"role": effect.role, "term": effect.term, "leader": effect.leader},
        )
        if effect.role != "leader":
            self.desk.stop_leading()
            self.snapshots.sender.stop()
        self.desk.announce()


PERFORM: dict[type[Effect], Callable[..., None]] = {
    Store: Driver._store,
    StoreReceived: Driver._store_received,
    Truncate: Driver._truncate,
    ClearFault: Driver._clear,
    Persist: Driver._persist,
    Send: Driver._send,
    Replicate: Driver._replicate,
    SendSnapshot: Driver._send_snapshot,
    StoreChunk: Driver._store_chunk,
    InstallSnapshot: Driver._install,
    Discard: Driver._discard,
    Committed: Driver._committed,
    MembershipChanged: Driver._membership_changed,
    ChangeRefused: Driver._change_refused,
    ReadReady: Driver._read_ready,
    ReadRefused: Driver._read_refused,
    ProposalRefused: Driver._proposal_refused,
    RoleChanged: Driver._role_changed,
}
