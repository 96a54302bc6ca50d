"""The snapshots of one server: taken, sent, received, and room kept for the next, with one thread beside the loop."""

import random
from collections.abc import Callable

from copycat.io.storage.snapshots import Snapshots
from copycat.io.storage.storage import Storage
from copycat.raft.core.events import Event
from copycat.raft.machine.executor import Executor
from copycat.raft.server.directory import read_membership
from copycat.raft.server.disk_worker import DiskWorker
from copycat.raft.server.peers import Peers
from copycat.raft.server.snapshot_exchange import SnapshotReceiver, SnapshotSender
from copycat.raft.server.snapshot_taker import SnapshotTaker
from copycat.raft.server.space import SpaceWatch


class ServerSnapshots:
    """`post` takes the core's events, `fail` what ends the member. `log_bytes`: what the newest snapshot lacks."""

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        storage: Storage,
        member: str,
        worker: DiskWorker,
        peers: Peers,
        make_executor: Callable[[], Executor],
        log_bytes: int,
        chance: random.Random,
        now_ms: int,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        interval = storage.snapshot_interval
        self.taker = SnapshotTaker(
            snapshots=snapshots,
            worker=worker,
            log_bytes=log_bytes,
            due_bytes=storage.snapshot_log_size,
            due_ms=round(interval * 1000) if interval is not None else None,
            chance=chance,
            now_ms=now_ms,
            post=post,
            fail=fail,
        )
        self.sender = SnapshotSender(snapshots, worker, peers, post, fail)
        self.receiver = SnapshotReceiver(snapshots, worker, make_executor, read_membership, post, fail)
        self.space = SpaceWatch(storage, member, worker, lambda: snapshots.newest_size)
        self._worker = worker

    def close(self) -> None:
        """Finish what is on its way to the disk; what is half done is removed by the next start."""
        self.taker.close()
        self.space.close()
        self.sender.stop()
        self._worker.close()
