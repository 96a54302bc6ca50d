"""Blocks at hand to be applied: the same that the log would give, without reading it."""

import pytest

from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.record import Block
from copycat.raft.server import recent_blocks
from copycat.raft.server.recent_blocks import RecentBlocks
from tests.io.storage.helpers import next_block

EVERYTHING = 1 << 30


class Stage:
    """A log, its recent blocks, and how often the log was read."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.recent = RecentBlocks(self.log)
        self.reads = 0
        read = self.log.read

        def reading(first_index: int, last_index: int, max_bytes: int) -> list[Block]:
            self.reads += 1
            return read(first_index, last_index, max_bytes)

        self.log.read = reading  # type: ignore[method-assign]  # this one is watched

    def append(self, *counts: int, body: bytes = b"body") -> None:
        for count in counts:
            block = next_block(self.log, body, count=count)
            self.log.append(block)
            self.recent.push(block)

    def take(self, first: int, last: int, max_bytes: int = EVERYTHING) -> list[int]:
        return [block.first_index for block in self.recent.take(first, last, max_bytes)]


def test_what_was_appended_is_taken_once_up_to_the_last_whole_block() -> None:
    stage = Stage()
    stage.append(1, 2, 3, 1)
    assert stage.take(1, 5) == [1, 2]
    assert stage.take(4, 7) == [4, 7]
    assert stage.reads == 0


def test_no_more_is_taken_than_asked_for_but_one_block() -> None:
    stage = Stage()
    stage.append(1, 1, 1, body=b"x" * 10)
    assert stage.take(1, 3, max_bytes=11) == [1, 2]
    assert stage.take(3, 3, max_bytes=1) == [3]


def test_blocks_from_before_and_those_there_was_no_room_for_are_read_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.log.append(next_block(stage.log))  # by an earlier start
    monkeypatch.setattr(recent_blocks, "RECENT_BYTES_MAX", 25)
    stage.append(1, 1, 1, body=b"x" * 10)
    assert stage.take(1, 4) == [1, 2]
    assert stage.reads == 1
    assert stage.take(3, 4) == [3, 4]
    assert stage.reads == 1


def test_what_was_truncated_is_not_at_hand_any_more() -> None:
    stage = Stage()
    stage.append(1, 2, 1)
    stage.log.truncate_after(1)
    stage.recent.truncate_after(1)
    stage.append(3)
    assert stage.take(1, 4) == [1, 2]
    assert stage.reads == 0


def test_after_a_new_beginning_nothing_is_at_hand() -> None:
    stage = Stage()
    stage.append(1, 1)
    stage.recent.clear()
    assert stage.take(1, 2) == [1, 2]
    assert stage.reads == 1
