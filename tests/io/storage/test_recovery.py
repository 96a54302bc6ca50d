"""What a crash or rot leaves, and what the log makes of it."""

import random
import struct
import zlib

import pytest

from copycat.errors import ForeignDirectoryError
from copycat.io.storage.record import HEADER_BYTES, record_bytes
from copycat.io.storage.segment import SEGMENT_HEADER_BYTES
from copycat.testing.disk import PowerFailure
from tests.io.storage.helpers import (
    DIRECTORY,
    all_blocks,
    append,
    flush,
    make_disk,
    newest_segment,
    open_log,
)


def test_a_batch_torn_at_any_byte_keeps_everything_before_it() -> None:
    """Goal: no place to cut loses an earlier block or invents one. Method: zero the file from every byte on."""
    disk = make_disk()
    log = open_log(disk)
    kept = [append(log, b"kept"), append(log, b"kept too")]
    flush(log)
    last = [append(log, b"last" * 5), append(log, b"very last")]
    flush(log)
    path = newest_segment(disk)
    whole = disk.contents(path)
    end = len(whole)
    start = end - sum(record_bytes(block.size) for block in last)
    for cut in range(start, end):
        torn = make_disk()
        file = torn.open(path, create=True)
        file.write_at(0, whole[:cut] + bytes(end - cut))
        torn.sync_directory(DIRECTORY)
        file.sync()
        recovered = open_log(torn)
        blocks = all_blocks(recovered)
        assert blocks[:2] == kept
        assert blocks == (kept + last)[: len(blocks)]
        assert not recovered.is_faulty
        assert recovered.torn_path is None or len(blocks) < 4
        appended = append(recovered, b"new")
        flush(recovered)
        torn.crash(random.Random(cut), kept=0.0)
        assert all_blocks(open_log(torn)) == [*blocks, appended]


def test_a_hole_between_pages_drops_later_records_of_the_batch() -> None:
    disk = make_disk()
    log = open_log(disk)
    kept = append(log)
    flush(log)
    blocks = [append(log, bytes([65 + n]) * 5000) for n in range(6)]
    flush(log)
    disk.overwrite(newest_segment(disk), 3 * 4096, bytes(4096))
    recovered = open_log(disk)
    assert all_blocks(recovered) == [kept, blocks[0]]
    assert recovered.torn_path is not None
    assert disk.exists(recovered.torn_path)
    assert not recovered.is_faulty


def test_a_truncated_block_never_comes_back_behind_a_shorter_new_one() -> None:
    for seed in range(200):
        disk = make_disk()
        log = open_log(disk, segment=9_000)
        kept = append(log, b"kept")
        for n in range(4):
            append(log, bytes([n]) * 2000)
        flush(log)
        log.truncate_after(1)
        replacement = append(log, b"new", term=2)
        flush(log)
        disk.crash(random.Random(seed))
        log = open_log(disk, segment=9_000)
        assert all_blocks(log) == [kept, replacement]
        assert not log.is_faulty


def test_a_crash_at_any_operation_of_a_truncation_leaves_the_old_or_the_new() -> None:
    for stop in range(40):
        disk = make_disk()
        log = open_log(disk)
        old = [append(log, b"old" * n) for n in range(1, 6)]
        flush(log)
        log.truncate_after(2)
        new = append(log, b"new", term=2)
        disk.stop_after = stop
        try:
            flush(log)
        except PowerFailure:
            pass
        else:
            break
        disk.crash(random.Random(stop))
        assert all_blocks(open_log(disk)) in (old, old[:2], [*old[:2], new])
    assert 3 < stop < 39


@pytest.mark.parametrize("position", [0, 2, 8, 30, 49, 60])
def test_a_flipped_bit_below_the_watermark_is_a_fault_and_nothing_is_cut(position: int) -> None:
    disk = make_disk()
    log = open_log(disk)
    blocks = []
    for n in range(4):
        blocks.append(append(log, bytes([n + 1]) * 60))
        flush(log)
    path = newest_segment(disk)
    disk.flip_bit(path, SEGMENT_HEADER_BYTES + record_bytes(60) + position)
    names = disk.list(DIRECTORY)
    recovered = open_log(disk)
    assert (recovered.is_faulty, recovered.faulty_from, recovered.last_index) == (True, 2, 1)
    assert disk.list(DIRECTORY) == names
    assert recovered.take_flush() is None
    for block in blocks[1:]:
        recovered.append(block)
    flush(recovered)
    recovered.close()
    assert disk.exists(path)
    assert any(name.endswith(".log") for name in disk.list(DIRECTORY))
    again = open_log(disk)
    assert all_blocks(again) == blocks
    assert again.faulty_from == 2
    again.clear_fault()
    flush(again)
    disk.crash(random.Random(3), kept=0.0)
    assert not open_log(disk).is_faulty


def test_a_flipped_bit_above_the_watermark_is_a_torn_end() -> None:
    disk = make_disk()
    log = open_log(disk)
    kept = append(log, b"kept")
    flush(log)
    append(log, b"y" * 60)
    flush(log)
    path = newest_segment(disk)
    disk.flip_bit(path, SEGMENT_HEADER_BYTES + record_bytes(4) + 70)
    recovered = open_log(disk)
    assert all_blocks(recovered) == [kept]
    assert not recovered.is_faulty


def test_a_missing_or_damaged_segment_is_a_fault() -> None:
    for damage in ("missing", "header", "record"):
        disk = make_disk()
        log = open_log(disk, segment=9_000)
        blocks = [append(log, bytes([n]) * 3000) for n in range(8)]
        flush(log)
        names = [f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY)]
        assert len(names) >= 4
        if damage == "missing":
            disk.remove(names[1])
        else:
            disk.flip_bit(names[1], 20 if damage == "header" else SEGMENT_HEADER_BYTES + 60)
        recovered = open_log(disk, segment=9_000)
        assert recovered.faulty_from == recovered.last_index + 1
        assert all_blocks(recovered) == blocks[: recovered.last_index]
        recovered.append(blocks[recovered.last_index])
        flush(recovered)
        assert any(name.endswith(".faulty") for name in disk.list(DIRECTORY))


def test_an_unknown_format_and_another_cluster_are_foreign() -> None:
    disk = make_disk()
    log = open_log(disk, cluster_id=b"a" * 16)
    append(log)
    flush(log)
    log.close()
    with pytest.raises(ForeignDirectoryError, match="belongs to cluster"):
        open_log(disk, cluster_id=b"b" * 16)
    open_log(disk).close()


def test_a_segment_of_a_later_format_is_foreign() -> None:
    disk = make_disk()
    log = open_log(disk)
    header = bytearray(log._segments[-1].header.encode())
    header[8] = 2
    size = struct.calcsize("<8sIIQQQQQ16sQI")
    header[size : size + 4] = zlib.crc32(header[:size]).to_bytes(4, "little")
    disk.overwrite(newest_segment(disk), 0, bytes(header))
    with pytest.raises(ForeignDirectoryError, match="format version 2"):
        open_log(disk)


def test_a_value_that_looks_like_records_proves_nothing() -> None:
    inner = make_disk()
    forged = open_log(inner)
    for _ in range(3):
        append(forged)
        flush(forged)
    value, _ = forged.read_records(1, 3, 1 << 20)
    disk = make_disk()
    log = open_log(disk)
    append(log, value)
    flush(log)
    disk.flip_bit(newest_segment(disk), SEGMENT_HEADER_BYTES + HEADER_BYTES)
    recovered = open_log(disk)
    assert not recovered.is_faulty
    assert recovered.last_index == 0


def test_blocks_read_from_the_cache_after_a_failed_sync_are_copied_and_made_durable() -> None:
    """Goal: a restarted process may count on what it recovered. Source: reliability, "fsync error"."""
    disk = make_disk()
    log = open_log(disk)
    append(log, b"durable")
    flush(log)
    append(log, b"only cached" * 1000)
    job = log.take_flush()
    assert job is not None
    disk.fail_syncs = True
    with pytest.raises(OSError, match="Input/output"):
        job.run()
    disk.fail_syncs = False
    restarted = all_blocks(open_log(disk))
    disk.crash(random.Random(0), kept=0.0)
    assert all_blocks(open_log(disk)) == restarted
    assert len(restarted) == 2


def test_a_sound_record_of_another_history_does_not_continue_the_log() -> None:
    disks = [make_disk(), make_disk()]
    for disk, body in zip(disks, (b"one", b"two"), strict=True):
        log = open_log(disk)
        append(log, body)
        append(log, b"same")
        flush(log)
    path = newest_segment(disks[0])
    second = SEGMENT_HEADER_BYTES + record_bytes(3)
    disks[0].overwrite(path, second, disks[1].contents(path)[second:])
    assert open_log(disks[0]).last_index == 1
