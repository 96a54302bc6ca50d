"""A program that embeds a server whose disk fails: after so many syncs, or, told "never", with the next line of stdin.

python -m tests.process.failing_disk ID MEMBERS DIRECTORY SYNCS
"""

import asyncio
import errno
import sys

from copycat.errors import CopycatError
from copycat.io.storage.storage import Storage
from copycat.replica import make_server
from tests.raft.server.disks import SpoiltDisk


class WearingDisk(SpoiltDisk):
    """Fails once it has synced `syncs_max` times."""

    def __init__(self, syncs_max: float) -> None:
        super().__init__()
        self._syncs_max = syncs_max

    def before_sync(self) -> None:
        if self.syncs >= self._syncs_max:
            self.sync_error = errno.EIO
        super().before_sync()


async def serve(member: str, members: str, directory: str, syncs: str) -> None:
    disk = WearingDisk(float("inf") if syncs == "never" else int(syncs))
    async with make_server(member, members, storage=Storage(directory, disk=disk)):
        say("open")
        await asyncio.to_thread(sys.stdin.readline)
        disk.sync_error = errno.EIO
        say("fails from now on")
        await asyncio.Event().wait()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    try:
        asyncio.run(serve(*sys.argv[1:]))
    except CopycatError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
