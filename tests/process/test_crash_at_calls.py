"""A server that is killed at, or fails in, any system call on its way to the disk keeps what it has acknowledged.

strace stops it at the n-th call that concerns its data. A few are tried each time, and all, one after another, with
`make calls`, which takes some minutes.
"""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from copycat.raft.server.fatal import EXIT_STATUS
from copycat.testing.chaos.servers import why_no_strace
from tests.process.support import Numbers, ProcessCluster, client_of

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}"),
]

FEWEST = {"openat": 8, "pwrite64": 15, "fdatasync": 15, "fsync": 3, "rename": 3, "ftruncate": 1}
"""How many there are at least, from an empty directory on, in one thread: strace counts each thread's by themselves."""

CALLS = tuple(FEWEST)
KILL, FAIL = "signal=SIGKILL", "error=EIO"
STATUSES = {KILL: (-9,), FAIL: (EXIT_STATUS, 1)}  # 1: the server could not even start
PUTS = 12
SEGMENT = "copycat-00000001-00000000000000000001.log"
FILES = ("lock", *(name + end for name in ("metadata-a", "metadata-b", SEGMENT) for end in ("", ".tmp")))


@dataclass(frozen=True)
class Injection:
    """What happens at the `number`-th `call`, from 1 on. Only calls count that concern the data."""

    call: str
    number: int
    effect: str

    def __str__(self) -> str:
        return f"{self.effect} at {self.call} {self.number}"

    def command(self, data: Path, trace: Path) -> list[str]:
        paths = [word for path in (data, *(data / name for name in FILES)) for word in ("-P", str(path))]
        inject = f"inject={self.call}:{self.effect}:when={self.number}"
        return ["strace", "-f", "-qq", "-o", str(trace), *paths, "-e", f"trace={self.call}", "-e", inject]


async def put_all(cluster: ProcessCluster) -> list[int | None]:
    """What each put found; a call that is under way when the server ends is seen through when it is back."""
    async with client_of(cluster, timeout=50) as client:
        numbers = await client.create("numbers", Numbers)
        found = [await numbers.put("key", number) for number in range(PUTS)]
        assert await numbers.get("key") == PUTS - 1
        return found


async def happens(directory: Path, injection: Injection) -> bool:
    """Put while that is to happen, and go on when the server is back. Returns whether it did happen."""
    trace = directory / "trace"
    cluster = ProcessCluster(directory, 1, wrapper=injection.command(directory / "a", trace))
    try:
        cluster.start()
        async with asyncio.TaskGroup() as tasks:
            putting = tasks.create_task(put_all(cluster))
            while cluster.is_running("a") and not putting.done():
                await asyncio.wait((putting,), timeout=0.02)
            has_ended = not cluster.is_running("a")
            assert has_ended or "INJECTED" not in trace.read_text(), f"it went on after {injection}"
            if has_ended:
                status = await cluster.ended("a")
                assert status in STATUSES[injection.effect], f"exit status {status} after {injection}"
                cluster.wrapper = ()
                cluster.start()
            assert await putting == [None, *range(PUTS - 1)], f"after {injection}"
        assert await cluster.hang_up("a") == 0
    except BaseException as error:
        error.add_note(f"{injection}\n{cluster.logs()}")
        raise
    finally:
        cluster.kill()
    return has_ended


@pytest.mark.parametrize(
    "injection",
    [
        Injection("openat", 6, KILL),
        Injection("rename", 3, KILL),
        Injection("pwrite64", 14, KILL),
        Injection("fdatasync", 14, FAIL),
    ],
    ids=str,
)
async def test_what_a_server_acknowledged_is_there_after_a_call_that_killed_it_or_failed(
    injection: Injection, tmp_path: Path
) -> None:
    assert await happens(tmp_path, injection)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [KILL, FAIL])
@pytest.mark.parametrize("call", CALLS)
async def test_it_is_there_whichever_call_it_was(call: str, effect: str, tmp_path: Path) -> None:
    number = 1
    while True:
        directory = tmp_path / str(number)
        directory.mkdir()
        if not await happens(directory, Injection(call, number, effect)):
            break
        shutil.rmtree(directory)
        number += 1
    assert number > FEWEST[call], f"only {number - 1} calls were stopped at"
