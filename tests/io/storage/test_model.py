"""A log on a faulty disk against a list: what was acknowledged stays, what was replaced never returns."""

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from copycat.io.storage import Block, Log
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import all_blocks, append, make_disk, open_log


class LogOnFaultyDisk(RuleBasedStateMachine):
    """`history` holds each content the log has had since the last acknowledged flush, that one first.

    After a crash the log must be a prefix of one of them, and must hold whatever of the acknowledged content no
    later truncation was asked to remove.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disk: FaultyDisk = make_disk()
        self.log: Log = self.open()
        self.model: list[Block] = []
        self.history: list[list[Block]] = [[]]
        self.acknowledged = 0  # this many blocks of the model survive anything
        self.term = 1

    def open(self) -> Log:
        return open_log(self.disk, segment=20_000, cache=4_000)

    @rule(size=st.sampled_from((0, 5, 300, 4000, 9000)), count=st.integers(1, 3), fill=st.integers(0, 255))
    def append(self, size: int, count: int, fill: int) -> None:
        self.model = [*self.model, append(self.log, bytes([fill]) * size, count=count, term=self.term)]
        self.history.append(self.model)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        keep = data.draw(st.integers(max(0, len(self.model) - 3), len(self.model)))
        self.log.truncate_after(self.model[keep - 1].last_index if keep else 0)
        self.model = self.model[:keep]
        self.acknowledged = min(self.acknowledged, keep)
        self.history.append(self.model)
        self.term += 1

    @rule()
    def flush(self) -> None:
        job = self.log.take_flush()
        if job is not None:
            job.run()
            self.log.flushed(job)
            self.history = [self.model]
            self.acknowledged = len(self.model)

    @rule()
    def prewrite(self) -> None:
        job = self.log.take_prewrite()
        if job is not None:
            job.run()
            self.log.prewritten(job)

    @rule(seed=st.integers(0, 2**32))
    def crash(self, seed: int) -> None:
        self.disk.crash(random.Random(seed))
        self.recover()

    @rule(seed=st.integers(0, 2**32), stop_after=st.integers(0, 12), reopening=st.booleans())
    def crash_while_working(self, seed: int, stop_after: int, reopening: bool) -> None:
        self.disk.stop_after = stop_after
        try:
            if reopening:
                self.open()
            else:
                job = self.log.take_flush()
                if job is not None:
                    job.run()
        except PowerFailure:
            pass
        self.disk.crash(random.Random(seed))
        self.recover()

    def recover(self) -> None:
        self.log = self.open()
        found = all_blocks(self.log)
        assert not self.log.is_faulty
        assert any(found == past[: len(found)] for past in self.history)
        assert found[: self.acknowledged] == self.model[: self.acknowledged]
        self.model = found
        self.history = [found]
        self.acknowledged = len(found)
        self.term += 1

    @invariant()
    def log_and_model_agree(self) -> None:
        assert all_blocks(self.log) == self.model
        assert self.log.last_index == (self.model[-1].last_index if self.model else 0)
        assert self.log.durable_index <= self.log.last_index


TestLogOnFaultyDisk = LogOnFaultyDisk.TestCase
TestLogOnFaultyDisk.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
