"""When this member takes a snapshot of its state, and how: a slice at a time, while commands go on.

The state is taken hold of between two blocks. Records are then made on the loop, a chunk whenever the thread that
writes them has written the last, so that no turn is long. The log may go once two snapshots cover it: one may rot.

What cannot be put into a snapshot, or has no room on the disk, costs the member nothing but the room that the log goes
on taking: it is told in status and log, and tried again.

Source: protocol §1.8, §8.4; docs/decisions/0011-snapshots-beside-the-commands.md.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator

from copycat.errors import LogError, SnapshotError, check
from copycat.io.storage.disk import is_full
from copycat.io.storage.snapshot_file import SnapshotFile, SnapshotHeader
from copycat.io.storage.snapshots import Snapshots, SnapshotWriter
from copycat.raft.core.events import Event, SnapshotTaken
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import capture
from copycat.raft.protocol.chunks import CHUNK_BYTES, encode_chunks
from copycat.raft.protocol.messages import SnapshotId
from copycat.raft.server.disk_worker import DiskWorker

_log = logging.getLogger(__name__)

RETRY_MS = 10_000
EARLY = 0.25


def id_of(file: SnapshotFile) -> SnapshotId:
    """How the core names this file."""
    header = file.header
    return SnapshotId(index=header.index, term=header.term, chain=header.chain, time=header.time, size=file.size)


class SnapshotTaker:
    """Used on the loop's thread only. `post` takes the core's events, `fail` what ends the member.

    log_bytes: how much of the log the newest snapshot does not cover. One is due when that reaches `due_bytes`, or as
    much as EARLY of it sooner, by `chance`; or `due_ms` after the last if anything was applied since, None: never.
    """

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        worker: DiskWorker,
        log_bytes: int,
        due_bytes: int,
        due_ms: int | None,
        chance: random.Random,
        now_ms: int,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.log_bytes = log_bytes
        self.chunk_bytes = CHUNK_BYTES
        self.problem: str | None = None  # why the last one failed; None once one has succeeded
        self.newest_index = max(snapshots.indices, default=0)
        self._snapshots = snapshots
        self._worker = worker
        self._due_bytes_max = due_bytes
        self._chance = chance
        self._draw_due_bytes()
        self._due_ms = due_ms
        self._due_at = now_ms + due_ms if due_ms is not None else None
        self._post = post
        self._fail = fail
        self._chunks: Iterator[bytes] = iter(())
        self._writer: SnapshotWriter | None = None
        self._waiting: list[asyncio.Future[int]] = []  # for one that begins from now on
        self._promised: list[asyncio.Future[int]] = []  # the one that is being taken

    @property
    def is_taking(self) -> bool:
        return self._writer is not None

    def is_due(self, now_ms: int) -> bool:
        """Whether one should begin; asked every turn."""
        if self._writer is not None:
            return False
        if self.log_bytes >= self._due_bytes or self._waiting:
            return self._due_at is None or self.problem is None or bool(self._waiting) or now_ms >= self._due_at
        return self._due_at is not None and now_ms >= self._due_at

    def ask(self) -> "asyncio.Future[int]":
        """One that begins from now on, at the next turn; gives its index. SnapshotError, or what the disk said."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def take(self, executor: Executor, raft: Raft, now_ms: int) -> None:
        """Begin one of the state as it is, unless the newest already is of this state."""
        self._promised, self._waiting = self._waiting, []
        index = executor.applied_index
        self._due_at = now_ms + self._due_ms if self._due_ms is not None else None
        if index <= self.newest_index:
            self._tell(self.newest_index)
            return
        self.log_bytes = 0
        self._draw_due_bytes()
        try:
            self._chunks = encode_chunks(capture(executor), self.chunk_bytes)
            self._writer = self._snapshots.begin(header_of(executor, raft, self._snapshots.cluster_id))
        except (SnapshotError, LogError, OSError) as error:
            self._failed(error, now_ms)
            return
        self._go_on(now_ms)

    def _draw_due_bytes(self) -> None:
        """So that not all members are busy with one at once: those that are not make a majority."""
        self._due_bytes = round(self._due_bytes_max * (1 - EARLY * self._chance.random()))

    def _go_on(self, began_ms: int) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            chunk = next(self._chunks, None)
        except SnapshotError as error:
            problem = error
            self._worker.submit(writer.abort, lambda _error: self._failed(problem, began_ms))
            return
        if chunk is None:
            self._finish(writer, began_ms)
        else:
            self._worker.submit(lambda: writer.write(chunk), lambda error: self._written(error, began_ms))

    def _written(self, error: BaseException | None, began_ms: int) -> None:
        if error is not None:
            self._failed(error, began_ms)
            return
        try:
            self._go_on(began_ms)
        except Exception as broken:
            self._fail(broken)

    def _finish(self, writer: SnapshotWriter, began_ms: int) -> None:
        files: list[SnapshotFile] = []

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._failed(error, began_ms)
                return
            (file,) = files
            self._writer, self.problem = None, None
            self.newest_index = file.header.index
            _log.info(
                "took a snapshot at index %d, %d bytes",
                file.header.index,
                file.size,
                extra={"index": file.header.index, "size_bytes": file.size, "path": file.path},
            )
            self._post(SnapshotTaken(id_of(file), self._snapshots.discardable_index))
            self._tell(file.header.index)

        self._worker.submit(lambda: files.append(writer.finish()), done)

    def _failed(self, error: BaseException, began_ms: int) -> None:
        """The state cannot be encoded, or there is no room: later, perhaps. What else a disk says is its end."""
        self._writer, self._chunks = None, iter(())
        self.problem = str(error)
        if not isinstance(error, (SnapshotError, LogError)) and not is_full(error):
            self._fail(error)
        else:
            self._due_at = began_ms + RETRY_MS
            _log.warning("no snapshot was taken, and the log cannot be let go of: %s", error)
        promised, self._promised = self._promised, []
        for future in promised:
            if not future.done():
                future.set_exception(error)

    def received(self, index: int) -> None:
        """The member goes on from a leader's snapshot: what was being taken is of a state that is gone."""
        self.newest_index = max(self.newest_index, index)
        self.log_bytes = 0

    def close(self) -> None:
        """Whoever waits for a snapshot waits no longer."""
        for future in self._waiting + self._promised:
            future.cancel()
        self._writer = None

    def _tell(self, index: int) -> None:
        promised, self._promised = self._promised, []
        for future in promised:
            if not future.done():
                future.set_result(index)


def header_of(executor: Executor, raft: Raft, cluster_id: bytes) -> SnapshotHeader:
    """Of a snapshot of the state as it is."""
    index = executor.applied_index
    membership = raft.memberships.at(index)
    term, chain = raft.log.term_at(index), raft.log.chain_at(index)
    check(term is not None and chain is not None, "a snapshot ends with a block that the log knows", index)
    return SnapshotHeader(
        index=index,
        term=term or 0,
        chain=chain or 0,
        time=executor.clockwork.time,
        cluster_id=cluster_id,
        configuration=membership.body,
        configuration_index=membership.index,
    )
