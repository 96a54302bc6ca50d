"""The hashes of one state, section by section, made a piece at a time while commands go on.

The state is taken hold of between two blocks, as for a snapshot. Pieces of it are encoded on the loop, one whenever the
thread beside it has hashed the last, and let go of.

What exceptions say is left out of the results that are kept for clients: it may differ between replicas that are alike
in everything else, by an address in memory or the words of another release of Python.

Source: protocol §5.7, §8.10; docs/decisions/0014-states-are-compared-while-the-cluster-runs.md.
"""

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from copycat.errors import ProtocolError, SnapshotError
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import Kind, Section, sections
from copycat.raft.protocol.hashes import DIGEST_BYTES, NOT_HASHED, Hashes
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.wire import decode_results, encode_msgpack, encode_results

FORMAT = 1
"""Of what is hashed, and how: hashes of another one say nothing of a state."""

PIECE_BYTES = 64 << 10
RECORD_BYTES = 64  # what a record costs beside its bytes
SECTIONS_MAX = 50_000  # so that a report fits a frame many times

Piece = list[tuple[int, bytes | None]]
"""Encoded records, each with its section; None: the rest of this section cannot be encoded."""


class StateHasher:
    """Of the state of `executor` as it is now; make it between two blocks. `pieces` is for the loop, `add` for any one
    thread, and `hashes` for whoever comes when all pieces were added.
    """

    def __init__(self, executor: Executor) -> None:
        self.index = executor.applied_index
        self._sections = deque(sections(executor))
        self._digests: dict[int, bytes] = {}
        self._section: int | None = None
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._is_whole = True

    def pieces(self) -> Iterator[Piece]:
        """Each is made when it is asked for. Raises what halts the member."""
        piece: Piece = []
        size = taken = 0
        while self._sections:
            section, records = self._sections.popleft()
            if section >= 0:
                taken += 1
            name = section if taken <= SECTIONS_MAX else int(Section.REST)
            try:
                for record in records:
                    data = encode_msgpack(_without_messages(record))
                    piece.append((name, data))
                    size += len(data) + RECORD_BYTES
                    if size >= PIECE_BYTES:
                        yield piece
                        piece, size = [], 0
            except SnapshotError:
                piece.append((name, None))
        yield piece

    def add(self, piece: Piece) -> None:
        """Hash a piece behind the last."""
        for section, data in piece:
            if section != self._section:
                self._end_section()
                self._section = section
            if data is None:
                self._is_whole = False
            else:
                self._hash.update(data)

    def hashes(self) -> Hashes:
        """Of every section that holds anything."""
        self._end_section()
        return list(self._digests.items())

    def _end_section(self) -> None:
        if self._section is not None:
            self._digests[self._section] = self._hash.digest() if self._is_whole else NOT_HASHED
        self._section, self._is_whole = None, True
        self._hash = blake2b(digest_size=DIGEST_BYTES)


def _without_messages(record: list[Any]) -> list[Any]:
    """A record as it is to be hashed."""
    if record[0] != Kind.RUN:
        return record
    try:
        results = decode_results(record[-1])
    except ProtocolError:
        return record
    if not any(type(result) is Failure for result in results):
        return record
    kept = [Failure(result.kind, "") if type(result) is Failure else result for result in results]
    return [*record[:-1], encode_results(kept)]
