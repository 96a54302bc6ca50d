"""Damage that is done to a member's disk is damage that its log can see, wherever it is done."""

import pytest

from copycat.testing.disk import FaultyDisk
from copycat.testing.rot import damage, proven_end
from tests.io.storage.helpers import append, flush, make_disk, newest_segment, open_log

PLACES = [number / 40 for number in range(41)]
DIRECTORY = "data"


def disk_with_a_log(*, flushes: int, together: int = 1) -> FaultyDisk:
    """Its log was flushed so often, with some blocks each time."""
    disk = make_disk()
    log = open_log(disk)
    for number in range(flushes):
        for _ in range(together):
            append(log, b"%03d" % number * 100)
        flush(log)
    log.close()
    return disk


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["bit", "sector", "misdirected"])
def test_what_has_rotted_is_a_hole_and_never_a_torn_end(kind: str, place: float) -> None:
    disk = disk_with_a_log(flushes=12)
    before = disk.contents(newest_segment(disk))

    told = damage(disk, DIRECTORY, kind, place)

    if disk.contents(newest_segment(disk)) == before:  # a sector over itself
        assert kind == "misdirected"
        return
    log = open_log(disk)
    assert log.faulty_from is not None, told
    assert log.torn_path is None
    log.close()


@pytest.mark.parametrize("kind", ["bit", "sector", "misdirected"])
def test_what_was_flushed_in_one_is_not_touched_for_nothing_says_that_it_was(kind: str) -> None:
    disk = disk_with_a_log(flushes=1, together=12)
    before = disk.contents(newest_segment(disk))

    assert damage(disk, DIRECTORY, kind, 0.5) == "nothing: there is too little"

    assert disk.contents(newest_segment(disk)) == before


def test_what_is_damaged_further_on_is_not_believed() -> None:
    disk = disk_with_a_log(flushes=12)
    path = newest_segment(disk)
    sound = proven_end(disk.contents(path))
    disk.flip_bit(path, sound // 2 + 4096)
    damaged = proven_end(disk.contents(path))
    disk.flip_bit(path, 10)

    assert 4096 < damaged < sound
    assert proven_end(disk.contents(path)) == 0
    assert proven_end(b"") == 0


@pytest.mark.parametrize("kind", ["bit", "sector", "misdirected", "metadata"])
def test_a_disk_that_was_wiped_has_nothing_to_rot(kind: str) -> None:
    assert damage(FaultyDisk(), DIRECTORY, kind, 0.5) == "nothing: there is too little"
