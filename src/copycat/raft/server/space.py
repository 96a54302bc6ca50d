"""How much room the disk has, and when a leader therefore takes no commands: before the disk is full, not after.

A full disk ends a member, and nothing can then be made smaller any more. So there is a mark above it: below, a leader
refuses commands, and everything else goes on, for it takes little and some of it makes room: sessions begin, live and
end, timers fire, members change, logs are let go of. It is good again by itself when there is room.

Nobody looks for each command: the disk is asked once a second, by the thread that writes snapshots.

Source: protocol §1.9; reliability §4 "Full disk".
"""

import asyncio
import logging
from collections.abc import Callable

from copycat.io.storage.storage import MEBIBYTE, Storage, StorageLevel
from copycat.raft.server.disk_worker import DiskWorker

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
HYSTERESIS = 8  # room must come back by this part more than was missed, or it would be told of again and again


class SpaceWatch:
    """One member's. Used on the loop's thread only. snapshot_bytes: what the newest snapshot takes, 0 without one.

    free_bytes: at the last look; None before the first, and where nobody looks: in memory, or with a `free_space_min`
    of 0. problem: why a leader takes no commands now, for people; None while there is room.
    """

    def __init__(self, storage: Storage, member: str, worker: DiskWorker, snapshot_bytes: Callable[[], int]) -> None:
        self.free_bytes: int | None = None
        self.problem: str | None = None
        self._storage = storage
        self._member = member
        self._worker = worker
        self._snapshot_bytes = snapshot_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = storage.level is StorageLevel.MEMORY or storage.free_space_min == 0

    @property
    def mark_bytes(self) -> int:
        """Below this there is too little: the snapshot that lets the log be shortened must still find room."""
        return self._storage.free_space_min + self._snapshot_bytes()

    def look(self) -> None:
        """Ask the disk, beside the loop, and again every second."""
        if self._is_closed:
            return
        found: list[int] = []

        def ask() -> None:
            found.append(self._storage.disk.free_space(self._storage.directory))

        self._worker.submit(ask, lambda error: self._told(found, error))

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _told(self, found: list[int], error: BaseException | None) -> None:
        if self._is_closed:
            return
        if error is None:
            self._judge(found[0])
        elif self.free_bytes is not None or self._timer is None:
            self.free_bytes = self.problem = None
            _log.warning("%s cannot tell how much room its disk has: %s", self._member, error)
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self.look)

    def _judge(self, free: int) -> None:
        self.free_bytes, mark, was_low = free, self.mark_bytes, self.problem is not None
        is_low = free < (mark + mark // HYSTERESIS if was_low else mark)
        self.problem = self._describe(free, mark) if is_low else None
        extra = {"free_bytes": free, "mark_bytes": mark, "directory": self._storage.directory}
        if is_low and not was_low:
            _log.warning("%s, so as a leader it takes no commands until there is more", self.problem, extra=extra)
        elif was_low and not is_low:
            _log.warning(
                "member %s has room again in %s, %s: as a leader it takes commands",
                self._member,
                self._storage.directory,
                _mebibytes(free),
                extra=extra,
            )

    def _describe(self, free: int, mark: int) -> str:
        return (
            f"member {self._member} has {_mebibytes(free)} left on its disk in {self._storage.directory}, less than "
            f"the {_mebibytes(mark)} it needs to be safe: free some space there, or let a member that has more lead"
        )


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"
