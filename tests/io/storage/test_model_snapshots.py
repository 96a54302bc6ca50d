"""A log that stands on snapshots, on a faulty disk, against a list: whatever a crash leaves, nothing is lost."""

import random
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from copycat.io.storage import Block, Log
from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.snapshots import Snapshots
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import (
    all_blocks,
    append,
    base_after,
    header_at,
    make_disk,
    open_log,
    open_snapshots,
    snapshot_bytes,
    take,
)

CHUNKS = [b"state" * 1000]


@dataclass(frozen=True)
class Content:
    """What a log has held, had it never been discarded: blocks behind a base."""

    base: LogBase = ORIGIN
    blocks: tuple[Block, ...] = ()

    def behind(self, base: LogBase) -> list[Block] | None:
        """The blocks behind `base`; None if that is no place of this content."""
        if base != self.base and base not in [base_after(block) for block in self.blocks]:
            return None
        return [block for block in self.blocks if block.first_index > base.index]

    @property
    def last_index(self) -> int:
        return self.blocks[-1].last_index if self.blocks else self.base.index


class LogOnSnapshots(RuleBasedStateMachine):
    """`history` holds each content the log has had since the last acknowledged flush, that one first.

    After a crash the log must be a part of one of them, from where it begins; and whatever was acknowledged, up to
    `acknowledged`, must be in the log or below the newest snapshot. No crash alone makes a fault.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disk: FaultyDisk = make_disk()
        self.snapshots: Snapshots = open_snapshots(self.disk)
        self.log: Log = self.open()
        self.model = Content()
        self.history = [self.model]
        self.acknowledged = 0
        self.term = 1

    def open(self) -> Log:
        newest = self.snapshots.newest()
        base = newest.header.base if newest is not None else None
        return open_log(self.disk, segment=14_000, cache=4_000, base=base)

    @property
    def floor(self) -> int:
        return max(self.snapshots.indices, default=0)

    # -- what a log is asked for

    @rule(size=st.sampled_from((0, 5, 300, 4000, 9000)), count=st.integers(1, 3), fill=st.integers(0, 255))
    def append(self, size: int, count: int, fill: int) -> None:
        block = append(self.log, bytes([fill]) * size, count=count, term=self.term)
        self.note(replace(self.model, blocks=(*self.model.blocks, block)))

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        lowest = max(self.floor, self.log.base.index)
        ends = [lowest, *(block.last_index for block in self.model.blocks if block.last_index > lowest)]
        index = data.draw(st.sampled_from(ends[-4:]))
        self.log.truncate_after(index)
        self.acknowledged = min(self.acknowledged, index)
        self.note(replace(self.model, blocks=tuple(each for each in self.model.blocks if each.last_index <= index)))
        self.term += 1

    @rule()
    def flush(self) -> None:
        job = self.log.take_flush()
        if job is not None:
            job.run()
            self.log.flushed(job)
            self.history = [self.model]
            self.acknowledged = self.model.last_index

    @rule(others=st.integers(0, 2), installs=st.booleans(), jump=st.integers(0, 5))
    def truncate_or_reset_under_a_flush(self, others: int, installs: bool, jump: int) -> None:
        """What a flush proves of what was rewritten meanwhile is nothing."""
        job = self.log.take_flush()
        for _ in range(others):
            self.append(300, 1, 7)
        if installs:
            self.install(jump, False)
        if job is not None:
            job.run()
            durable, term = self.log.flushed(job)
            assert (durable, term) == (self.log.durable_index, self.log.term_at(durable))
            self.acknowledged = max(self.acknowledged, durable)

    # -- snapshots

    @rule(data=st.data())
    def take_snapshot(self, data: st.DataObject) -> None:
        """Of what is committed, which may not be durable here."""
        blocks = [block for block in self.model.blocks if block.last_index > self.floor]
        if blocks:
            base = base_after(data.draw(st.sampled_from(blocks)))
            self.log.protect(base.index)
            take(self.snapshots, header_at(base), CHUNKS)

    @rule(jump=st.integers(0, 5), lower=st.booleans())
    def install(self, jump: int, lower: bool) -> None:
        """A leader's snapshot, of another history than ours from here on."""
        base = self.foreign_base(jump, lower)
        self.receive(base)
        self.log.reset(base)
        assert self.log.durable_index == base.index
        self.installed(base)

    @rule(back=st.integers(0, 3))
    def discard(self, back: int) -> None:
        self.discard_files(back)

    @rule(place=st.floats(0, 0.99))
    def rot(self, place: float) -> None:
        """The newest snapshot rots; if the log reaches back to the one before, nothing is lost."""
        if len(self.snapshots.indices) == 2 and self.log.base.index <= self.snapshots.indices[0]:
            newest = self.snapshots.newest()
            assert newest is not None
            self.disk.flip_bit(newest.path, int(place * newest.size))
            self.disk.end_process()
            self.recover()
            assert self.disk.exists(newest.path + ".bad")

    # -- crashes

    @rule(seed=st.integers(0, 2**32))
    def crash(self, seed: int) -> None:
        self.disk.crash(random.Random(seed))
        self.recover()

    @rule(
        seed=st.integers(0, 2**32),
        stop_after=st.integers(0, 30),
        work=st.sampled_from(("open", "flush", "take", "install", "discard")),
        jump=st.integers(0, 5),
        lower=st.booleans(),
    )
    def crash_while_working(self, seed: int, stop_after: int, work: str, jump: int, lower: bool) -> None:
        base = self.foreign_base(jump, lower)
        blocks = [block for block in self.model.blocks if block.last_index > self.floor]
        self.disk.stop_after = stop_after
        try:
            if work == "open":
                open_snapshots(self.disk)
                self.open()
            elif work == "take" and blocks:
                take(self.snapshots, header_at(base_after(blocks[-1])), CHUNKS)
            elif work == "install":
                self.receive(base)
                self.log.reset(base)
                self.run_flush()
            elif work == "discard":
                self.discard_files(0)
            else:
                self.run_flush()
        except PowerFailure:
            pass
        self.disk.crash(random.Random(seed))
        if work == "install" and base.index in open_snapshots(self.disk).indices:
            self.installed(base)
        self.recover()

    # -- how

    def note(self, content: Content) -> None:
        self.model = content
        self.history.append(content)

    def run_flush(self) -> None:
        job = self.log.take_flush()
        if job is not None:
            job.run()

    def discard_files(self, back: int) -> None:
        self.log.discard_before(self.snapshots.discardable_index + 1 - back)
        job = self.log.take_discard()
        if job is not None:
            assert self.log.take_discard() is None
            job.run()
            self.log.discarded(job)

    def foreign_base(self, jump: int, lower: bool) -> LogBase:
        """A committed place above all snapshots that our log does not have. Its term may be lower than ours there."""
        index = max(self.floor + 1, self.model.last_index - 2 + jump)
        held = next((block for block in self.model.blocks if block.first_index <= index <= block.last_index), None)
        lowest = self.snapshots.bases[-1].term if self.snapshots.bases else 1
        term = self.term + 1
        if lower and held is not None and held.term > lowest:
            term = held.term - 1
        return LogBase(index, term, 12345 + index, index * 5)

    def receive(self, base: LogBase) -> None:
        data = snapshot_bytes(header_at(base), CHUNKS)
        reception = self.snapshots.receive(base.index, base.term, len(data))
        for offset in range(0, len(data), 2000):
            reception.write(offset, data[offset : offset + 2000])
        reception.finish()

    def installed(self, base: LogBase) -> None:
        self.note(Content(base))
        self.acknowledged = base.index
        self.term = max(self.term, base.term) + 1

    def recover(self) -> None:
        self.snapshots = open_snapshots(self.disk)
        self.log = self.open()
        found = all_blocks(self.log)
        assert not self.log.is_faulty
        behind = [(past, past.behind(self.log.base)) for past in self.history]
        possible = [past for past, blocks in behind if blocks is not None and found == blocks[: len(found)]]
        assert possible
        assert self.log.last_index >= max(self.acknowledged, self.floor)
        expected = [b for b in self.model.behind(self.log.base) or [] if b.last_index <= self.acknowledged]
        assert found[: len(expected)] == expected
        past = possible[-1]
        kept = [block for block in past.blocks if block.last_index <= self.log.base.index]
        self.model = Content(past.base, (*kept, *found))
        self.history = [self.model]
        self.acknowledged = self.log.last_index
        self.term += 1

    @invariant()
    def log_and_model_agree(self) -> None:
        log = self.log
        assert all_blocks(log) == self.model.behind(log.base)
        assert log.first_index == log.base.index + 1
        assert log.last_index == self.model.last_index
        assert log.base.index <= log.durable_index <= log.last_index
        assert (log.term_at(log.base.index), log.chain_at(log.base.index)) == (log.base.term, log.base.chain)

    @precondition(lambda self: self.log.last_index > self.log.base.index)
    @rule(place=st.floats(0, 1))
    def read(self, place: float) -> None:
        blocks = all_blocks(self.log)
        block = blocks[int(place * (len(blocks) - 1))]
        assert self.log.read(block.last_index, block.last_index, 1) == [block]
        assert self.log.chain_at(block.last_index) == block.chain
        assert self.log.term_at(block.first_index) == block.term


TestLogOnSnapshots = LogOnSnapshots.TestCase
TestLogOnSnapshots.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
