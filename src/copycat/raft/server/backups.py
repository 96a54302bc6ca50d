"""Backups for clients: the leader takes a snapshot, and its file is read by whoever asked, piece by piece.

The request is confirmed like a linearizable read, so all that was acknowledged before it was made is in the state that
is snapshotted. From then on nothing depends on who leads: the file is of what was committed. It is held open for its
connection, for it may lose its name to newer ones before a slow reader has had all of it.

One piece is under way at a time for each connection, and few backups at a time: memory and open files are bounded.

Source: protocol §8.7.
"""

import logging
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from copycat.errors import CopycatError, LogError, ProtocolError
from copycat.io.storage.snapshot_file import SnapshotFile, SnapshotReader
from copycat.io.storage.snapshots import Snapshots
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import (
    HEADER_BACKUP,
    HEADER_BACKUP_PIECE,
    HEADER_BACKUP_READ,
    HEADER_BACKUP_READY,
    HEADER_BACKUP_REFUSED,
    Reason,
    Tag,
    unpack,
)
from copycat.raft.server.disk_worker import DiskWorker
from copycat.raft.server.origins import ClientConnection, Origin
from copycat.raft.server.reads import WaitingQuery

_log = logging.getLogger(__name__)

BACKUPS_MAX: Final = 4
"""Under way at a time; each holds a file open, perhaps one that has lost its name and takes room."""

PIECE_BYTES_MAX: Final = 256 << 10
"""What one BACKUP_READ may ask for: as large as the pieces that go to members."""


@dataclass(slots=True)
class Transfer:
    """One client's backup. `reader` is None until its snapshot is there."""

    client: ClientConnection
    request: int
    reader: SnapshotReader | None = None
    is_reading: bool = False
    is_over: bool = False


class Backups:
    """The backups under way at one server. Used on the loop's thread.

    ask: has a snapshot taken, and gives the index it covers. wake: has the driver take a turn.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        worker: DiskWorker,
        ask: Callable[[], "Future[int]"],
        wake: Callable[[], None],
    ) -> None:
        self._snapshots = snapshots
        self._worker = worker
        self._ask = ask
        self._wake = wake
        self._transfers: dict[int, Transfer] = {}  # by the client's route

    def begin(self, client: ClientConnection, request: int) -> None:
        """The state now holds all it must: have a snapshot taken of it, or of a later one."""
        if client.connection.is_closed:
            return
        self._end(client.route)
        if len(self._transfers) >= BACKUPS_MAX:
            refuse(client, request, Reason.OVERLOADED, f"{BACKUPS_MAX} backups are under way here: try again later")
            return
        transfer = self._transfers[client.route] = Transfer(client, request)
        self._ask().add_done_callback(partial(self._taken, transfer))
        self._wake()

    def read(self, client: ClientConnection, frame: bytes) -> None:
        """Send a piece of the file. Raises ProtocolError for what was not offered, or not waited for."""
        _, request, offset, length = unpack(HEADER_BACKUP_READ, frame)
        transfer = self._transfers.get(client.route)
        if transfer is None or transfer.reader is None or transfer.request != request or transfer.is_reading:
            raise ProtocolError("a client reads a backup that was not offered, or before it has had the last piece")
        if not 0 < length <= PIECE_BYTES_MAX or offset > transfer.reader.size:
            raise ProtocolError(f"a client reads {length} bytes of a backup from byte {offset} on, which cannot be")
        reader, pieces = transfer.reader, list[bytes]()
        transfer.is_reading = True

        def done(error: BaseException | None) -> None:
            transfer.is_reading = False
            if error is not None:
                self._failed(transfer, error)
            elif not transfer.is_over:
                client.send(HEADER_BACKUP_PIECE.pack(Tag.BACKUP_PIECE, request, offset) + pieces[0])

        self._worker.submit(lambda: pieces.append(reader.read(offset, length)), done)

    def disconnected(self, client: ClientConnection) -> None:
        """Nobody waits for it any more."""
        self._end(client.route)

    def _taken(self, transfer: Transfer, taken: "Future[int]") -> None:
        if taken.cancelled() or transfer.is_over:
            return
        error = taken.exception()
        if error is not None:
            self._failed(transfer, error)
            return
        index, found = taken.result(), list[tuple[SnapshotFile, SnapshotReader]]()

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._failed(transfer, error)
                return
            ((file, reader),) = found
            if transfer.is_over:
                self._close(reader)
                return
            transfer.reader = reader
            header = HEADER_BACKUP_READY.pack(Tag.BACKUP_READY, transfer.request, file.header.index, file.size)
            transfer.client.send(header)

        self._worker.submit(lambda: found.append(self._open(index)), done)

    def _failed(self, transfer: Transfer, error: BaseException) -> None:
        """There is no such snapshot, or it cannot be read: this costs the backup, and the client is told."""
        if not isinstance(error, (CopycatError, OSError)):
            raise error
        _log.warning("a backup failed: %s", error)
        if not transfer.is_over:
            refuse(transfer.client, transfer.request, Reason.UNAVAILABLE, str(error))
            self._end(transfer.client.route)

    def _end(self, route: int) -> None:
        transfer = self._transfers.pop(route, None)
        if transfer is not None:
            transfer.is_over = True
            if transfer.reader is not None:
                self._close(transfer.reader)

    def _close(self, reader: SnapshotReader) -> None:
        self._worker.submit(reader.close, lambda _error: None)  # behind a piece that is being read

    # On the worker's thread.

    def _open(self, index: int) -> tuple[SnapshotFile, SnapshotReader]:
        """The newest snapshot, which covers `index`, verified: what has rotted is not handed out."""
        file = next(reversed(self._snapshots.files), None)
        if file is None or file.header.index < index:
            raise LogError(f"there is no snapshot that covers index {index}")
        file.verify()
        return file, file.reader()


@dataclass(slots=True)
class WaitingBackup(WaitingQuery):
    """A request for a backup, which waits like a linearizable query."""

    backups: Backups = field(kw_only=True)

    @classmethod
    def of(cls, client: ClientConnection, frame: bytes, backups: Backups) -> "WaitingBackup":
        """Raises ProtocolError."""
        _, request = unpack(HEADER_BACKUP, frame)
        return cls(client, request, 0, 0, 0, ConsistencyLevel.LINEARIZABLE, 0, b"", backups=backups)

    def refuse(self, reason: Reason, detail: str) -> None:
        """Tell the client that this server takes none for it."""
        refuse(self.origin, self.request, reason, detail)

    def answer(self, executor: Executor, session: ServerSession | None) -> None:
        """The state holds all that was acknowledged before the request."""
        if isinstance(self.origin, ClientConnection):
            self.backups.begin(self.origin, self.request)


def refuse(client: Origin, request: int, reason: Reason, detail: str) -> None:
    """No backup, and why."""
    client.send(HEADER_BACKUP_REFUSED.pack(Tag.BACKUP_REFUSED, request, reason) + detail.encode())
