"""Fetching a backup: the leader's newest snapshot, of a state that holds all that was acknowledged before.

The file comes piece by piece, each asked for when the last was written, so neither side holds more than one. It is
written under a name aside, synced, verified whole and only then given its name: what has that name is a backup.

Only a leader hands out backups, for only it can tell what was acknowledged. Whoever else is asked names the leader.
Once it has begun it may lead no more: its file stays what it is. When it is lost before the end, another is asked, from
the beginning, for its snapshots are its own.

Source: protocol §8.7, §10.9.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from copycat.errors import (
    ConnectError,
    CopycatError,
    NoLeaderError,
    ProtocolError,
    StorageError,
)
from copycat.io.msgpack import UNREADABLE
from copycat.io.storage.backup_file import BackupFile
from copycat.io.storage.disk import Disk, OsDisk
from copycat.io.transport.transport import Connection, DialError, Transport
from copycat.raft.client.channels import HELLO
from copycat.raft.protocol.handshake import decode_hello
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
from copycat.util.address import Address

PIECE_BYTES = 256 << 10
BEGINNINGS_MAX = 5  # of the transfer; a cluster that changes its leader more often has other troubles
PAUSE_SECONDS = 0.1
GREETING_SECONDS = 2.0  # a server says who leads as soon as it is connected to, once its cluster has formed


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was taken: where it is, the last index it holds, its size in bytes, and of which cluster."""

    path: str
    index: int
    size: int
    cluster_id: bytes


class _LostError(Exception):
    """This server is of no use, or no longer: try another. `is_begun`: pieces had come."""

    def __init__(self, reason: str, *, is_begun: bool = False) -> None:
        super().__init__(reason)
        self.is_begun = is_begun


async def fetch_backup(
    transport: Transport,
    addresses: Sequence[str],
    path: str | Path,
    *,
    force: bool = False,
    timeout: float = 30.0,
    disk: Disk | None = None,
) -> Backup:
    """Have a backup of the cluster at these addresses written to `path`, which is a new file unless `force`.

    timeout: in seconds, how long to look for a leader, and to wait for each answer of it.

    Raises: ConfigurationError if there is such a file already; NoLeaderError or ConnectError, with what was tried, when
    no leader was found or it was lost again and again; StorageError when the leader cannot take a snapshot, or the file
    cannot be written; CorruptionError when what came is not sound. Nothing is left of it then; nor when cancelled, or
    else all of it, if that came too late.
    """
    fetcher = _Fetcher(transport, addresses, str(path), force, timeout, disk if disk is not None else OsDisk())
    return await fetcher.run()


class _Fetcher:
    """One backup, from whichever servers it takes."""

    def __init__(
        self, transport: Transport, addresses: Sequence[str], path: str, force: bool, timeout: float, disk: Disk
    ) -> None:
        self._transport = transport
        self._addresses = list(dict.fromkeys(addresses))
        self._path = path
        self._force = force
        self._timeout = timeout
        self._disk = disk
        self._tried: dict[str, str] = {}
        self._members: dict[str, str] = {}  # id to address, of those that answered at one
        self._leader: str | None = None  # the address of the leader last heard of

    async def run(self) -> Backup:
        BackupFile(self._disk, self._path, force=self._force)  # or it is in vain
        loop = asyncio.get_running_loop()
        deadline, beginnings = loop.time() + self._timeout, 0
        while True:
            for address in self._in_order():
                try:
                    return await self._fetch(address)
                except _LostError as lost:
                    self._tried[address] = str(lost)
                    if lost.is_begun:
                        beginnings += 1
                        deadline = loop.time() + self._timeout
                    if self._leader not in (None, address):
                        break  # it is known who leads
            if beginnings >= BEGINNINGS_MAX or loop.time() >= deadline:
                raise self._error(beginnings)
            await asyncio.sleep(PAUSE_SECONDS)

    def _in_order(self) -> list[str]:
        known = [self._leader] if self._leader is not None else []
        self._leader = None
        return list(dict.fromkeys([*known, *self._addresses]))

    def _error(self, beginnings: int) -> CopycatError:
        tried = "; ".join(f"{address}: {reason}" for address, reason in self._tried.items())
        advice = f"Run: copycat status {','.join(self._addresses)}"
        if beginnings:
            return ConnectError(f"the backup began {beginnings} times and was cut off. {tried}. {advice}")
        if self._members:
            return NoLeaderError(f"no leader gave a backup within {self._timeout:g} s. {tried}. {advice}")
        return ConnectError(f"no server answered within {self._timeout:g} s. {tried}. {advice}", tried=self._tried)

    async def _fetch(self, address: str) -> Backup:
        """Raises _LostError where another server may do; and what ends the whole."""
        answers = _Answers(address)
        try:
            connection = await self._transport.connect(
                Address.parse(address), HELLO, answers.take, timeout=min(5.0, self._timeout)
            )
        except DialError as error:
            raise _LostError(error.reason) from None
        except CopycatError as error:
            raise _LostError(str(error)) from None
        try:
            connection.on_close.append(answers.lost)
            if connection.is_closed:
                answers.lost(connection, None)
            hello = decode_hello(connection.peer_hello)
            self._members[hello.member_id] = address
            index, size = await self._begin(connection, answers, hello.member_id)
            return await self._transfer(connection, answers, index, size, hello.cluster_id)
        except ProtocolError as error:
            raise _LostError(str(error)) from error
        finally:
            connection.close()

    async def _begin(self, connection: Connection, answers: "_Answers", member: str) -> tuple[int, int]:
        """Ask, and wait until the snapshot is there: its index and size."""
        term = 0
        while True:
            frame = await answers.next(self._timeout if term else min(GREETING_SECONDS, self._timeout))
            if frame[0] == Tag.LEADER:
                heard = self._hear(frame, member)
                if heard > term:  # what was asked in an earlier term is forgotten
                    term = heard
                    answers.request += 1
                    connection.send(HEADER_BACKUP.pack(Tag.BACKUP, answers.request))
            elif frame[0] == Tag.BACKUP_REFUSED:
                raise _refused(frame)
            elif frame[0] == Tag.BACKUP_READY:
                _, request, index, size = unpack(HEADER_BACKUP_READY, frame)
                if request == answers.request:
                    return index, size

    def _hear(self, frame: bytes, member: str) -> int:
        """The term in which this member leads. Raises _LostError when that is another."""
        try:
            notice: dict[str, Any] = msgspec.msgpack.decode(frame[1:], type=dict[str, Any])
            term, leader, known = int(notice["term"]), str(notice["leader"]), dict(notice["members"])
        except (KeyError, TypeError, ValueError, *UNREADABLE) as error:
            raise ProtocolError(f"a notice of who leads cannot be read: {error}") from None
        if not leader:
            raise _LostError(f"{member} knows of no leader")
        if leader != member:
            self._leader = self._members.get(leader, str(known.get(leader, "")) or None)
            raise _LostError(f"{member} does not lead, but {leader}")
        return term

    async def _transfer(
        self, connection: Connection, answers: "_Answers", index: int, size: int, cluster_id: bytes
    ) -> Backup:
        """Ask for piece after piece, and write them."""
        file = BackupFile(self._disk, self._path, force=self._force)
        try:
            while file.size < size:
                length = min(PIECE_BYTES, size - file.size)
                connection.send(HEADER_BACKUP_READ.pack(Tag.BACKUP_READ, answers.request, file.size, length))
                data = await self._piece(answers, file.size, length)
                await _beside(partial(file.append, data))
            await _beside(partial(file.finish, index))
        except (_LostError, ProtocolError) as lost:
            await _beside(file.remove)
            raise _LostError(str(lost), is_begun=True) from None
        except OSError as error:
            await _beside(file.remove)
            raise StorageError(f"{self._path} cannot be written: {error.strerror or error}; nothing is left") from error
        except BaseException:
            file.remove()  # nobody writes to it any more
            raise
        return Backup(path=self._path, index=index, size=size, cluster_id=cluster_id)

    async def _piece(self, answers: "_Answers", offset: int, length: int) -> bytes:
        while True:
            frame = await answers.next(self._timeout)
            if frame[0] == Tag.BACKUP_REFUSED:
                raise _refused(frame)
            if frame[0] == Tag.BACKUP_PIECE:
                _, _, begins = unpack(HEADER_BACKUP_PIECE, frame)
                data = frame[HEADER_BACKUP_PIECE.size :]
                if begins != offset or len(data) != length:
                    raise ProtocolError(f"{len(data)} bytes from {begins} on came, {length} from {offset} on were due")
                return data


async def _beside(job: Callable[[], object]) -> None:
    """Run on a thread; when cancelled, only after it has ended, for a file must not be closed while it is written."""
    future = asyncio.get_running_loop().run_in_executor(None, job)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


class _Answers:
    """The frames of one connection, in order, and its end."""

    def __init__(self, address: str) -> None:
        self.request = 0  # the newest that was sent
        self._address = address
        self._frames: asyncio.Queue[bytes | _LostError] = asyncio.Queue()

    def take(self, _connection: Connection, frames: list[bytes]) -> None:
        for frame in frames:
            if frame:
                self._frames.put_nowait(frame)

    def lost(self, _connection: Connection, error: Exception | None) -> None:
        self._frames.put_nowait(_LostError(str(error) if error is not None else "closed the connection"))

    async def next(self, timeout: float) -> bytes:
        """The next frame. Raises _LostError, also when none comes in time."""
        try:
            async with asyncio.timeout(timeout):
                frame = await self._frames.get()
        except TimeoutError:
            raise _LostError(f"{self._address} did not answer within {timeout:g} s") from None
        if isinstance(frame, _LostError):
            raise frame
        return frame


def _refused(frame: bytes) -> Exception:
    _, _, reason = unpack(HEADER_BACKUP_REFUSED, frame)
    detail = frame[HEADER_BACKUP_REFUSED.size :].decode(errors="replace")
    if reason == Reason.UNAVAILABLE:
        return StorageError(f"the leader cannot take a backup: {detail}")
    return _LostError(detail)
