"""The wall clock of a process is shifted while it runs, and no other clock."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from copycat.testing.chaos.clock import ClockError, build_library, environment, set_shift
from tests.cli.support import first_line

PROGRAM = """
import sys, time, datetime
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), flush=True)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    try:
        return build_library(tmp_path)
    except ClockError as error:
        pytest.skip(str(error))


def test_a_shift_concerns_the_wall_clock_alone_and_at_once(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "shift"
    set_shift(file, 0)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(library, file),
    ) as process:
        assert process.stdin is not None
        for shift in (0, 100_000_000, -86_400, 0):
            set_shift(file, shift)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, date, monotonic = map(float, first_line(process).split())
            # Within an hour: this machine may be busy, and its clock may be corrected.
            assert abs(wall - time.time() - shift) < 3600
            assert abs(date - wall) < 3600
            assert abs(monotonic - time.monotonic()) < 3600
        process.stdin.close()


def test_a_machine_without_a_compiler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(ClockError, match="there is no C compiler"):
        build_library(tmp_path)
