"""How busy the machine is, and whether it is worth waiting."""

from pathlib import Path

import pytest
from benchmarks.quiet import Quiet, Reading, read_cpus, share

STAT = """\
cpu  10 20 30 400 50 1 2 3 7 0
cpu0 10 20 30 400 50 1 2 3 7 0
"""


def test_waiting_for_a_disk_is_not_work(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)

    assert read_cpus(tmp_path / "stat") == (66, 516)


def test_where_the_system_does_not_tell_nothing_is_known(tmp_path: Path) -> None:
    assert read_cpus(tmp_path / "nothing") is None
    assert share(None, (1, 2)) is None
    assert share((1, 2), (1, 2)) is None


@pytest.mark.parametrize(
    ("patience", "readings", "left", "found"),
    [
        (0, [(0, 0), (90, 100), (90, 200)], 1, 0.9),  # does not wait
        (9, [(0, 0), (90, 100), (100, 200), (180, 300), (200, 400), (210, 500)], 0, 0.1),
        (0.001, [(0, 0), (90, 100), (100, 200), (180, 300), (200, 400), (210, 500)], 2, 0.8),  # runs out
        (9, [(0, 0), (25, 100)], 0, 0.25),
    ],
)
async def test_it_waits_until_little_is_in_use(
    patience: float, readings: list[Reading], left: int, found: float
) -> None:
    quiet = Quiet(patience, sample=0.001, read=lambda: readings.pop(0))

    await quiet.wait()

    assert (len(readings), quiet.shares) == (left, [found])


async def test_it_does_not_wait_for_what_it_cannot_know() -> None:
    quiet = Quiet(9, sample=0.001, read=lambda: None)

    await quiet.wait()

    assert quiet.shares == []
