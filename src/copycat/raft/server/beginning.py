"""What a restored member begins with: a state at an index, the same for all members of the new cluster.

The directory holds, in this order of writing: metadata that names the digest of the state, a segment that begins behind
it, and the snapshot. So one that was not restored to its end is known by its missing snapshot, and cannot be taken for
a member that begins with nothing.

Source: protocol §2.2, §8.8.
"""

import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from copycat.errors import ConfigurationError, CorruptionError
from copycat.io.storage.base import LogBase
from copycat.io.storage.metadata import Metadata
from copycat.io.storage.storage import Storage
from copycat.raft.protocol.configuration import decode_configuration
from copycat.raft.protocol.members import Member

_BASE = struct.Struct("<QQIQ")
_LENGTH = struct.Struct("<I")


def digest_of(base: LogBase, chunks: Iterable[bytes]) -> bytes:
    """BLAKE2b-128 over where a state stands (index, term, chain, log time) and the chunks of its snapshot."""
    digest = blake2b(_BASE.pack(base.index, base.term, base.chain, base.time), digest_size=16)
    for chunk in chunks:
        digest.update(_LENGTH.pack(len(chunk)))
        digest.update(chunk)
    return digest.digest()


def require_beginning(storage: Storage, metadata: Metadata, members: Sequence[Member]) -> None:
    """The state that this member, which has no cluster yet, was restored with is there, and for these members.

    Raises: CorruptionError if it is not, or has rotted; ConfigurationError for other members than it was restored for.
    """
    again = "remove the directory and restore the backup again"
    try:
        file = storage.open_snapshots().newest()
    except CorruptionError as error:
        raise CorruptionError(f"{error}; {again}") from error
    if file is None:
        raise CorruptionError(f"{storage.directory}: the state it was to be restored with is not there; {again}")
    if digest_of(file.header.base, file.chunks()) != metadata.begins_with:
        raise CorruptionError(f"{file.path}: this is not the state that the member was restored with; {again}")
    configuration = decode_configuration(file.header.configuration)
    restored_for = sorted(Member.parse(text).id for text in configuration.members)
    if restored_for != sorted(member.id for member in members):
        raise ConfigurationError(
            f"{storage.directory} was restored for members {', '.join(restored_for)}: start every member with that list"
        )
