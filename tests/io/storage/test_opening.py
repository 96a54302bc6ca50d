"""Opening a log that stands on a snapshot: what both make together, and what is lost when one of them is."""

import logging
import random

import msgspec
import pytest

from copycat.errors import CorruptionError, InvariantError
from copycat.io.storage import Storage, StorageLevel
from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import (
    DIRECTORY,
    all_blocks,
    append,
    base_after,
    flush,
    make_disk,
    newest_segment,
    open_log,
)
from tests.io.storage.test_standing import FAR, firsts, remove_files, reopened, rolled, segments


def test_a_log_that_has_the_snapshots_last_block_is_kept_whole() -> None:
    for place in range(8):
        disk = make_disk()
        _, blocks = rolled(disk)
        log = reopened(disk, base_after(blocks[place]))
        assert (log.base, all_blocks(log), log.is_faulty) == (ORIGIN, blocks, False)
        with pytest.raises(InvariantError, match="never truncated"):
            log.truncate_after(2 * place)
        log.truncate_after(2 * place + 2)


def test_a_log_that_ends_before_the_snapshot_begins_anew_on_it() -> None:
    disk = make_disk()
    rolled(disk)
    log = reopened(disk, FAR)
    assert (log.base, log.last_index, log.durable_index, log.is_faulty) == (FAR, 100, 100, False)
    assert (log.last_term, log.last_time, log.last_chain) == (7, 9_000, 4711)
    assert firsts(disk) == [101]
    block = append(log, b"new")
    flush(log)
    disk.crash(random.Random(0), kept=0.0)
    again = reopened(disk, FAR)
    assert (again.base, all_blocks(again), again.last_time) == (FAR, [block], block.time)


@pytest.mark.parametrize("term", [4, 6, 9])
def test_a_log_of_another_history_begins_anew_on_the_snapshot(term: int) -> None:
    """Its entry there may be of a lower term or, from a leader that nobody followed, of a higher one."""
    disk = make_disk()
    _, blocks = rolled(disk)
    assert blocks[4].term == 5
    base = LogBase(10, term, 99, 1)
    log = reopened(disk, base)
    assert (log.base, all_blocks(log), log.is_faulty) == (base, [], False)


def test_a_snapshot_that_ends_within_a_block_of_another_term_is_of_another_history() -> None:
    disk = make_disk()
    rolled(disk)
    base = LogBase(9, 2, 99, 1)
    assert reopened(disk, base).base == base


def test_log_and_snapshot_that_contradict_each_other_are_refused_naming_both() -> None:
    disk = make_disk()
    _, blocks = rolled(disk)
    names = disk.list(DIRECTORY)
    base = base_after(blocks[4])
    for wrong in (msgspec.structs.replace(base, chain=1), msgspec.structs.replace(base, index=9)):
        with pytest.raises(
            CorruptionError, match=r"the log that begins in .*01\.log has term 5 .*the snapshot"
        ) as told:
            reopened(disk, wrong)
        assert f"at index {wrong.index}" in str(told.value)
        assert disk.list(DIRECTORY) == names


def test_a_log_that_begins_where_the_snapshot_ends_must_agree_with_it() -> None:
    disk = make_disk()
    log, blocks = rolled(disk)
    log.discard_before(9)
    remove_files(log)
    base = base_after(blocks[3])
    for wrong in ({"chain": 1}, {"term": 3}, {"term": 5}):
        with pytest.raises(CorruptionError, match="do not belong together"):
            reopened(disk, msgspec.structs.replace(base, **wrong))
    assert all_blocks(reopened(disk, base)) == blocks[4:]


def test_a_discarded_log_is_kept_from_where_it_begins() -> None:
    for place in (3, 4, 7):
        disk = make_disk()
        log, blocks = rolled(disk)
        log.discard_before(9)
        remove_files(log)
        again = reopened(disk, base_after(blocks[place]))
        assert (again.base, all_blocks(again), again.is_faulty) == (base_after(blocks[3]), blocks[4:], False)


@pytest.mark.parametrize("place", [None, 0, 2])
def test_a_log_that_begins_behind_the_snapshot_is_faulty_from_there_on(
    place: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    disk = make_disk()
    log, blocks = rolled(disk)
    log.discard_before(9)
    remove_files(log)
    names = disk.list(DIRECTORY)
    base = None if place is None else base_after(blocks[place])
    with caplog.at_level(logging.ERROR):
        again = reopened(disk, base)
    stands_on = base or ORIGIN
    assert (again.base, again.last_index, again.faulty_from) == (stands_on, stands_on.index, stands_on.index + 1)
    assert f"it begins at 9, and the newest sound snapshot ends at {stands_on.index}" in caplog.text
    assert "is refilled by its leader" in caplog.text
    assert disk.list(DIRECTORY) == names, "nothing is touched until something is written"
    for block in blocks[again.last_index // 2 :]:
        again.append(block)
    flush(again)
    assert sum(name.endswith(".faulty") for name in disk.list(DIRECTORY)) == 4
    last = reopened(disk, base)
    assert (all_blocks(last), last.faulty_from) == (blocks[stands_on.index // 2 :], stands_on.index + 1)


def test_a_snapshot_without_any_log_is_faulty() -> None:
    """A log has a file before there is a snapshot, so that file was lost, and what it vouched for."""
    disk = make_disk()
    log = reopened(disk, FAR)
    assert (log.base, log.faulty_from, disk.list(DIRECTORY)) == (FAR, 101, [])
    assert not reopened(make_disk()).is_faulty


def test_damage_below_the_snapshot_costs_nothing_where_a_sound_segment_begins_before_its_end() -> None:
    for damage in ("record", "header", "missing"):
        for bad in range(4):
            disk = make_disk()
            _, blocks = rolled(disk)
            path = segments(disk)[bad]
            if damage == "missing":
                disk.remove(path)
            else:
                disk.flip_bit(path, 20 if damage == "header" else SEGMENT_HEADER_BYTES + 100)
            log = reopened(disk, base_after(blocks[4]))
            assert not log.is_faulty
            # Of a damaged segment the end is unknown, but the next one says where it begins.
            begins = bad + 1 if (damage, bad) != ("missing", 0) else 1
            assert all_blocks(log) == blocks[begins:]
            assert log.base == base_after(blocks[begins - 1])
            aside = sum(name.endswith(".faulty") for name in disk.list(DIRECTORY))
            assert aside == begins - (damage == "missing")
            again = reopened(disk, base_after(blocks[4]))
            assert (all_blocks(again), again.is_faulty) == (blocks[begins:], False)


def test_damage_below_the_snapshot_in_the_segment_that_goes_beyond_it_is_a_fault_from_its_end_on() -> None:
    """What lay above may have been vouched for, and nothing tells how much there was."""
    disk = make_disk()
    log = open_log(disk)
    blocks = []
    for n in range(6):
        blocks.append(append(log, bytes([n]) * 60))
        flush(log)
    disk.flip_bit(newest_segment(disk), SEGMENT_HEADER_BYTES + 200)
    base = base_after(blocks[3])
    again = reopened(disk, base)
    assert (again.base, again.last_index, again.faulty_from) == (base, 4, 5)
    for block in blocks[4:]:
        again.append(block)
    again.clear_fault()
    flush(again)
    disk.crash(random.Random(0), kept=0.0)
    last = reopened(disk, base)
    assert (last.base, all_blocks(last), last.is_faulty) == (base, blocks[4:], False)


def test_damage_above_the_snapshot_is_a_fault_as_ever() -> None:
    disk = make_disk()
    _, blocks = rolled(disk)
    disk.flip_bit(segments(disk)[6], SEGMENT_HEADER_BYTES + 100)
    log = reopened(disk, base_after(blocks[2]))
    assert (log.base, log.faulty_from, all_blocks(log)) == (ORIGIN, 13, blocks[:6])


def test_a_damaged_header_of_the_only_segment_behind_a_snapshot_is_a_fault_from_its_end_on() -> None:
    disk = make_disk()
    log, _ = rolled(disk, 2)
    log.reset(FAR)
    append(log, b"new")
    flush(log)
    disk.flip_bit(newest_segment(disk), 20)
    again = reopened(disk, FAR)
    assert (again.base, again.faulty_from, all_blocks(again)) == (FAR, 101, [])


def test_a_torn_end_below_the_snapshot_is_saved_and_no_fault() -> None:
    disk = make_disk()
    log = open_log(disk)
    kept = append(log, b"kept")
    flush(log)
    append(log, b"y" * 60)
    flush(log)
    disk.flip_bit(newest_segment(disk), SEGMENT_HEADER_BYTES + 72 + 70)
    again = reopened(disk, FAR)
    assert (again.base, again.is_faulty) == (FAR, False)
    assert again.torn_path is not None
    assert disk.exists(again.torn_path)
    assert kept not in all_blocks(again)


def test_a_fault_under_repair_is_carried_over_a_reset_at_opening() -> None:
    disk = make_disk()
    _, blocks = rolled(disk)
    disk.flip_bit(segments(disk)[4], SEGMENT_HEADER_BYTES + 100)
    log = reopened(disk)
    log.append(blocks[4])
    flush(log)
    assert reopened(disk).faulty_from == 9
    again = reopened(disk, FAR)
    assert (again.base, again.faulty_from) == (FAR, 101)
    assert reopened(disk, FAR).faulty_from == 101


def test_a_storage_opens_a_log_with_a_base() -> None:
    disk = FaultyDisk()
    storage = Storage(DIRECTORY, disk=disk)
    log = storage.open_log()
    append(log)
    flush(log)
    log.close()
    assert storage.open_log(base=FAR).base == FAR
    memory = Storage(level=StorageLevel.MEMORY).open_log(base=FAR)
    assert (memory.base, memory.last_index, memory.durable_index) == (FAR, 100, 100)
    assert memory.take_discard() is None
    block = append(memory, b"one")
    assert (block.first_index, all_blocks(memory)) == (101, [block])
