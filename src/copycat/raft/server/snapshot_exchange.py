"""Snapshots on their way between members: the leader's file is read piece by piece, and put together elsewhere.

The core says what to do when; here the files are read and written, on a thread beside the loop. A file is verified
before its first piece is sent: one that has rotted would come as far as the other's check, and begin anew for ever.

Source: protocol §8.5.
"""

import logging
from collections.abc import Callable

from copycat.errors import CorruptionError, InvariantError, LogError, ProtocolError
from copycat.io.storage.disk import is_full
from copycat.io.storage.snapshot_file import SnapshotFile, SnapshotReader
from copycat.io.storage.snapshots import Reception, Snapshots
from copycat.raft.core.effects import SendSnapshot, StoreChunk
from copycat.raft.core.events import ChunkStored, Event, SnapshotLost, SnapshotReceived, SnapshotSpoiled
from copycat.raft.core.membership import ReadMembership
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import restore
from copycat.raft.protocol.chunks import decode_chunks
from copycat.raft.protocol.message_wire import encode_message
from copycat.raft.protocol.messages import Install, SnapshotId
from copycat.raft.server.disk_worker import DiskWorker
from copycat.raft.server.peers import Peers
from copycat.raft.server.snapshot_taker import id_of

_log = logging.getLogger(__name__)


class SnapshotSender:
    """Reads what the core wants sent, and sends it. `post` takes the core's events, `fail` what ends the member."""

    def __init__(
        self,
        snapshots: Snapshots,
        worker: DiskWorker,
        peers: Peers,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._snapshots = snapshots
        self._worker = worker
        self._peers = peers
        self._post = post
        self._fail = fail
        # By member, and kept open: the file may lose its name to newer ones before a slow link has had all of it.
        self._open: dict[str, tuple[SnapshotId, SnapshotReader]] = {}

    def send(self, effect: SendSnapshot) -> None:
        if effect.length == 0:
            self._transmit(effect, b"")
            return
        pieces: list[bytes] = []

        def done(error: BaseException | None) -> None:
            if error is None:
                self._transmit(effect, pieces[0])
            elif isinstance(error, (CorruptionError, LogError)):
                _log.error("the snapshot at index %d cannot be sent: %s", effect.snapshot.index, error)
                self._post(SnapshotLost(effect.snapshot))
            else:
                self._fail(error)

        self._worker.submit(lambda: pieces.append(self._read(effect)), done)

    def stop(self) -> None:
        """This member leads no more: let go of the files."""
        self._worker.submit(self._close_files, lambda _error: None)

    def _transmit(self, effect: SendSnapshot, data: bytes) -> None:
        snapshot = effect.snapshot
        message = Install(
            term=effect.term,
            index=snapshot.index,
            last_term=snapshot.term,
            chain=snapshot.chain,
            time=snapshot.time,
            size=snapshot.size,
            serial=effect.serial,
            offset=effect.offset,
            data=data,
        )
        self._peers.send(effect.member, encode_message(message))
        self._peers.flush()

    # On the worker's thread.

    def _read(self, effect: SendSnapshot) -> bytes:
        known, file = self._open.get(effect.member, (None, None))
        if known != effect.snapshot or file is None:
            found = next((each for each in self._snapshots.files if id_of(each) == effect.snapshot), None)
            if found is None:
                raise LogError("there are newer ones, and it was removed")
            found.verify()
            if file is not None:
                file.close()
            file = found.reader()
            self._open[effect.member] = (effect.snapshot, file)
        return file.read(effect.offset, effect.length)

    def _close_files(self) -> None:
        for _, file in self._open.values():
            file.close()
        self._open.clear()


class SnapshotReceiver:
    """Puts a leader's pieces aside; the last one makes a snapshot of this member's own, and a state to go on from."""

    def __init__(
        self,
        snapshots: Snapshots,
        worker: DiskWorker,
        make_executor: Callable[[], Executor],
        read_membership: ReadMembership,
        post: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._snapshots = snapshots
        self._worker = worker
        self._make_executor = make_executor
        self._read_membership = read_membership
        self._post = post
        self._fail = fail
        self._reception: Reception | None = None

    def store(self, effect: StoreChunk) -> None:
        snapshot = effect.snapshot
        end = effect.offset + len(effect.data)
        executor = self._make_executor() if end == snapshot.size else None
        files: list[SnapshotFile] = []

        def done(error: BaseException | None) -> None:
            if error is None and not files:
                self._post(ChunkStored(snapshot, end))
            elif error is None:
                header = files[0].header
                membership = self._read_membership(header.configuration_index, header.configuration)
                self._post(SnapshotReceived(snapshot, membership, executor))
            elif isinstance(error, (ProtocolError, LogError)) or is_full(error):
                _log.warning("a leader's snapshot at index %d is of no use: %s", snapshot.index, error)
                self._post(SnapshotSpoiled(snapshot))
            else:
                self._fail(error)

        self._worker.submit(lambda: files.extend(self._store(effect, executor)), done)

    # On the worker's thread.

    def _store(self, effect: StoreChunk, executor: Executor | None) -> list[SnapshotFile]:
        """The file, once it is whole."""
        snapshot = effect.snapshot
        if effect.offset == 0:
            self._reception = self._snapshots.receive(snapshot.index, snapshot.term, snapshot.size)
        reception = self._reception
        if reception is None or (reception.index, reception.size) != (snapshot.index, snapshot.size):
            raise ProtocolError("it is another than the one of which pieces came before")
        reception.write(effect.offset, effect.data)
        if executor is None:
            return []
        self._reception = None
        file = reception.finish()
        if id_of(file) != snapshot:
            raise InvariantError(f"a leader announced {snapshot} and sent {id_of(file)}")
        restore(executor, decode_chunks(file.chunks()))
        return [file]
