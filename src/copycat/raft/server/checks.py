"""Whether members that applied the same log hold one state: asked in the log, answered by all, judged by the leader.

Every so often a leader appends a CHECK. Each member hashes its state as it is behind that block, beside its commands,
and tells the leader. A member whose state is not that of a majority halts: what it would answer, or pass on in a
snapshot, is wrong. Where no majority can agree, all halt, for nobody knows what is right.

Nothing rests on who leads: members tell the next leader what they told the last, once more when a link is new, and an
index that never comes to a verdict is followed by others. A member that was away, or went on from a snapshot, says
nothing of the indices it has not applied, and is waited for as little.

Source: protocol §8.10; docs/decisions/0014-states-are-compared-while-the-cluster-runs.md; reliability §1 (30).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from copycat.errors import DivergenceError
from copycat.io.storage.snapshots import Snapshots
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import Section, capture
from copycat.raft.protocol.chunks import encode_chunks
from copycat.raft.protocol.entries import ItemKind
from copycat.raft.protocol.hashes import (
    Finding,
    Hashes,
    StateReport,
    StateVerdict,
    decode_report,
    decode_verdict,
)
from copycat.raft.protocol.wire import Tag, encode_msgpack
from copycat.raft.server.disk_worker import DiskWorker
from copycat.raft.server.intake import Intake
from copycat.raft.server.peers import Peers
from copycat.raft.server.snapshot_taker import header_of
from copycat.raft.server.state_hashes import FORMAT, Piece, StateHasher
from copycat.raft.server.verdicts import judge, sections_apart

_log = logging.getLogger(__name__)

KEPT = 4  # indices of which reports are kept: the one asked of last, and those that members are late with
NAMED_MAX = 3  # of the resources that differ, in a message

NAMES: dict[int, str] = {
    Section.CLOCK: "the clock",
    Section.SESSIONS: "the sessions",
    Section.TIMERS: "the timers",
    Section.REST: "the resources that are not told apart",
}


class Member(Protocol):
    """What is asked of the driver."""

    raft: Raft
    executor: Executor

    @property
    def is_running(self) -> bool: ...

    def fail(self, error: BaseException) -> None: ...

    def save(self, job: Callable[[], object]) -> None: ...

    def now_ms(self) -> int: ...


class Checks:
    """One server's. Used on the loop's thread only.

    interval_ms: how often one is due while this member leads; 0: it asks for none and answers none.
    mark: makes the job that remembers, durably, at which index this member's state was found to be another.
    checked_index: up to where this member's state is known to be the majority's. problem: members differ, and it is not
    known yet who is right; for people.
    """

    def __init__(
        self,
        *,
        driver: Member,
        peers: Peers,
        snapshots: Snapshots | None,
        worker: DiskWorker,
        interval_ms: int,
        mark: Callable[[int], Callable[[], object]],
    ) -> None:
        self.checked_index = 0
        self.problem: str | None = None
        self._driver = driver
        self._peers = peers
        self._snapshots = snapshots
        self._worker = worker
        self._interval_ms = interval_ms
        self._mark = mark
        self._due_ms = driver.now_ms() + interval_ms
        self._asked_index = 0  # of the last CHECK applied
        self._hasher: StateHasher | None = None
        self._pieces: Iterator[Piece] = iter(())
        self._own: dict[int, Hashes] = {}  # by index, oldest first
        self._reports: dict[int, dict[str, Hashes]] = {}  # what others said, likewise
        self._told: set[tuple[int, str]] = set()  # who has heard what was found
        self._doubted_index = 0

    # -- asking, and making one's own answer ---------------------------------------------------------------------------

    def propose(self, intake: Intake, now_ms: int) -> None:
        """What a leader does every heartbeat: ask for a check if one is due and there is something new to compare."""
        raft, applied = self._driver.raft, self._driver.executor.applied_index
        if not self._interval_ms or now_ms < self._due_ms or self._hasher is not None:
            return
        self._due_ms = now_ms + self._interval_ms
        if len(raft.membership.members) > 1 and applied > self._asked_index:
            intake.add(ItemKind.CHECK)

    def begin(self) -> None:
        """A CHECK was applied: hash the state as it is, unless an earlier one is still being hashed."""
        self._asked_index = self._driver.executor.applied_index
        self._due_ms = self._driver.now_ms() + self._interval_ms
        if self._interval_ms and self._hasher is None:
            self._hasher = StateHasher(self._driver.executor)
            self._pieces = self._hasher.pieces()
            self._go_on(self._hasher)

    def _go_on(self, hasher: StateHasher) -> None:
        piece = next(self._pieces, None)
        if piece is not None:
            self._worker.submit(lambda: hasher.add(piece), lambda error: self._added(hasher, error))
            return
        self._hasher = None
        self._own[hasher.index] = hasher.hashes()
        self._forget_old(self._own)
        self.tell()

    def _added(self, hasher: StateHasher, error: BaseException | None) -> None:
        if not self._driver.is_running:
            return
        try:
            if error is not None:
                raise error
            self._go_on(hasher)
        except Exception as broken:
            self._driver.fail(broken)

    def tell(self) -> None:
        """Tell whoever leads what this member's state was at the newest index; for a leader is new, or its link."""
        raft = self._driver.raft
        if not self._own:
            return
        newest = max(self._own)
        if raft.is_leader:
            self._judge(newest)
        elif raft.leader is not None:
            self._send(raft.leader, Tag.STATE_REPORT, StateReport(newest, FORMAT, self._own[newest]))

    # -- what the others say -------------------------------------------------------------------------------------------

    def reported(self, member: str, data: bytes) -> None:
        """A member's STATE_REPORT. Raises ProtocolError."""
        report = decode_report(data)
        if report.format != FORMAT:
            return  # of another release, which may encode a state otherwise
        self._reports.setdefault(report.index, {})[member] = report.hashes
        self._forget_old(self._reports)
        self._told.discard((report.index, member))
        if self._driver.is_running and self._driver.raft.is_leader and report.index in self._reports:
            self._judge(report.index)

    def found(self, member: str, data: bytes) -> None:
        """A leader's STATE_VERDICT. Raises ProtocolError."""
        verdict = decode_verdict(data)
        own = dict(self._own.get(verdict.index, []))
        if not own or not self._driver.is_running:
            return
        if verdict.finding == Finding.EQUAL:
            self._agrees(verdict.index)
        elif verdict.finding == Finding.NO_MAJORITY:
            self._halt_without_majority(verdict.index, verdict.detail)
        elif verdict.hashes and all(own.get(section) != digest for section, digest in verdict.hashes):
            self._halt_apart(verdict.index, verdict.hashes, verdict.detail)
        else:
            _log.warning("%s is told by %s that its state differs where it does not: passed over", self._id, member)

    # -- judging -------------------------------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return self._driver.raft.member_id

    def _judge(self, index: int) -> None:
        raft = self._driver.raft
        known = {**self._reports.get(index, {}), **({self._id: self._own[index]} if index in self._own else {})}
        reports = {member: hashes for member, hashes in known.items() if member in raft.membership.members}
        if not reports:
            return
        verdict = judge(reports, raft.voters)
        detail = self._describe(reports, verdict.parties) if len(verdict.parties) > 1 else ""
        if not verdict.agreed:
            if verdict.is_hopeless:
                for member in raft.others:
                    self._send(member, Tag.STATE_VERDICT, StateVerdict(index, Finding.NO_MAJORITY, [], detail))
                self._halt_without_majority(index, detail)
            elif len(verdict.parties) > 1:
                self._doubt(index, detail)
            return
        majority = ", ".join(verdict.agreed)
        for member in verdict.agreed:
            self._tell_once(member, StateVerdict(index, Finding.EQUAL, [], ""))
        for member, hashes in verdict.differing.items():
            if (index, member) not in self._told:
                _log.error("the state of member %s at index %d is not the majority's: %s", member, index, detail)
            self._tell_once(member, StateVerdict(index, Finding.DIFFERS, hashes, majority))
        if self._id in verdict.agreed:
            self._agrees(index)
        elif self._id in verdict.differing:
            self._halt_apart(index, verdict.differing[self._id], majority)

    def _tell_once(self, member: str, verdict: StateVerdict) -> None:
        if member != self._id and (verdict.index, member) not in self._told:
            self._told.add((verdict.index, member))
            self._send(member, Tag.STATE_VERDICT, verdict)

    def _agrees(self, index: int) -> None:
        if index >= self.checked_index:
            self.checked_index, self.problem = index, None

    def _doubt(self, index: int, detail: str) -> None:
        """Members differ, and those that have not answered decide who is right."""
        self.problem = (
            f"states differ at index {index}, and more members must answer before it is known whose: {detail}"
        )
        if index > self._doubted_index:
            self._doubted_index = index
            _log.error("%s", self.problem, extra={"index": index})

    # -- halting -------------------------------------------------------------------------------------------------------

    def _halt_apart(self, index: int, theirs: Hashes, majority: str) -> None:
        """This member's state is not the majority's."""
        own = dict(self._own[index])
        apart = {self._name(section): (own.get(section, b"").hex(), digest.hex()) for section, digest in theirs}
        named = [
            f"{name} has hash {mine or 'none'} here and {right or 'none'} with {majority}"
            for name, (mine, right) in list(apart.items())[:NAMED_MAX]
        ]
        more = f", and {len(apart) - NAMED_MAX} more differ" if len(apart) > NAMED_MAX else ""
        self._halt(
            index,
            f"30: at index {index} the state of member {self._id} is not the majority's: {'; '.join(named)}{more}",
            f"Remove the member (`copycat member remove {self._id}`) and join under a new id with an empty directory",
            apart,
        )

    def _halt_without_majority(self, index: int, detail: str) -> None:
        """Nobody knows which state is right."""
        self._halt(
            index,
            f"30: at index {index} no majority of the members holds one state: {detail}",
            "Look at what each member has put aside, and restore a new cluster from the one that is right",
            {},
        )

    def _halt(self, index: int, what: str, advice: str, apart: Mapping[str, tuple[str, str]]) -> None:
        """Take no further turn. What the member holds is put aside by the thread beside the loop, which `close` waits
        for."""
        driver = self._driver
        driver.save(self._mark(index))
        dump = self._put_aside()
        where = f"What it holds is put aside as {dump}" if dump else "What it holds could not be put aside"
        error = DivergenceError(f"{what}. {where}. {advice}", index=index, differences=dict(apart), dump=dump)
        self._peers.flush()
        driver.fail(error)

    def _put_aside(self) -> str:
        """Begin to write the whole state as it is now; returns where, "" for nowhere."""
        executor, snapshots = self._driver.executor, self._snapshots
        if snapshots is None:
            return ""
        try:
            header = header_of(executor, self._driver.raft, snapshots.cluster_id)
            chunks: Iterable[bytes] = encode_chunks(capture(executor))  # nothing changes it any more
        except Exception as error:  # whatever it is, the member must halt
            _log.error("the state of %s cannot be put aside: %s", self._id, error)
            return ""
        path = snapshots.evidence_path(header)

        def done(error: BaseException | None) -> None:
            if error is not None:
                _log.error("the state of %s could not be put aside as %s: %s", self._id, path, error)

        self._worker.submit(lambda: snapshots.put_aside(header, chunks), done)
        return path

    # -- names ---------------------------------------------------------------------------------------------------------

    def _name(self, section: int) -> str:
        """For people."""
        if section < 0:
            return NAMES.get(section, f"section {section}")
        host = self._driver.executor.machines.hosts.get(section)
        return host.where if host is not None else f"resource {section}, which {self._id} does not have"

    def _describe(self, reports: Mapping[str, Hashes], parties: Iterable[Iterable[str]]) -> str:
        """Who has what where the first two differ."""
        apart = sections_apart(reports)
        held = [
            f"{', '.join(party)}: {dict(reports[next(iter(party))]).get(apart[0], b'').hex() or 'none'}"
            for party in parties
        ]
        more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
        return f"hashes of {self._name(apart[0])}{more}: {'; '.join(held)}"

    def _send(self, member: str, tag: Tag, said: StateReport | StateVerdict) -> None:
        self._peers.send(member, bytes([tag]) + encode_msgpack(said))
        self._peers.flush()

    def _forget_old(self, by_index: dict[int, Hashes] | dict[int, dict[str, Hashes]]) -> None:
        for index in sorted(by_index)[:-KEPT]:
            del by_index[index]
        self._told = {(index, member) for index, member in self._told if index in self._reports or index in self._own}
