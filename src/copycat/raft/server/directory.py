"""What a member finds in its data directory when it starts, and what it must write there before it may act.

Source: protocol §1, §2.1 to §2.6.
"""

import logging
import random
from collections.abc import Callable, Sequence

import msgspec

from copycat.errors import CorruptionError, DivergenceError, ForeignDirectoryError, InvariantError
from copycat.io.storage.log import Log
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.metadata import Metadata, MetadataKeeper
from copycat.io.storage.snapshot_file import SnapshotFile
from copycat.io.storage.snapshots import Snapshots
from copycat.io.storage.storage import Storage, explain
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.log_view import LogView
from copycat.raft.core.membership import Membership
from copycat.raft.core.raft import CARRY_MEMBERSHIP, Raft
from copycat.raft.protocol.configuration import Configuration, decode_configuration
from copycat.raft.protocol.lives import Life
from copycat.raft.protocol.members import Member
from copycat.raft.server.beginning import require_beginning
from copycat.raft.server.identity import Identity
from copycat.raft.server.lives import next_life
from copycat.raft.server.snapshot_taker import id_of

_log = logging.getLogger(__name__)


class Directory:
    """A member's data, locked from `open` to `close`."""

    def __init__(self, storage: Storage, member: Member, members: Sequence[Member], chance: random.Random) -> None:
        self._storage = storage
        self._member = member
        self._members = members
        self._random = chance
        self._keeper: MetadataKeeper | None = None
        self._metadata: Metadata | None = None

    @property
    def path(self) -> str:
        """Where it is, for people."""
        return str(self._storage.directory)

    def open(self) -> Identity:
        """Lock the directory and read who this member is; a new directory draws an incarnation. The start is counted.

        Raises: DirectoryInUseError, ForeignDirectoryError, CorruptionError, StorageError, ConfigurationError.
        """
        self._storage.lock()
        self._keeper = keeper = self._storage.open_metadata()
        try:
            metadata = keeper.load()
            if metadata is None:
                metadata = Metadata(0, "", self._member.id, self._random.getrandbits(128).to_bytes(16, "big"))
            elif metadata.member_id != self._member.id:
                raise ForeignDirectoryError(
                    f"{self._storage.directory} belongs to member {metadata.member_id!r}, not to {self._member.id!r}: "
                    "give each member a directory of its own"
                )
            known = {name: Life(*life) for name, life in metadata.lives.items()}
            lives = {**known, self._member.id: next_life(known.get(self._member.id), self._random)}
            self._metadata = metadata = keeper.save(msgspec.structs.replace(metadata, lives=lives))
        except OSError as error:
            raise explain(self._storage.directory, error) from error
        if metadata.begins_with and not metadata.cluster_id:
            require_beginning(self._storage, metadata, self._members)
        return Identity(
            member=self._member,
            members=self._members_in_force(metadata),
            incarnation=metadata.incarnation,
            cluster_id=metadata.cluster_id,
            incarnations=dict(metadata.incarnations),
            begins_with=metadata.begins_with,
            passive=frozenset(Member.parse(text).id for text in metadata.passive),
            lives=lives,
            awaits_vote=metadata.awaits_vote,
        )

    def _members_in_force(self, metadata: Metadata) -> list[Member]:
        """Once formed the cluster's own list counts; only addresses are taken from this start's arguments first."""
        if not metadata.members:
            return list(self._members)
        known = {member.id: member for member in map(Member.parse, metadata.members + metadata.passive)}
        given = {member.id: member for member in self._members}
        differences = [
            *(f"{name} is not a member" for name in sorted(set(given) - set(known))),
            *(f"{name} was left out" for name in sorted(set(known) - set(given))),
            *(
                f"{name} is at {given[name].address}, was at {known[name].address}"
                for name in sorted(set(given) & set(known))
                if given[name] != known[name]
            ),
        ]
        if differences:
            _log.warning(
                "the member list given is not the cluster's own, which counts: %s",
                "; ".join(differences),
                extra={"given": sorted(given), "known": sorted(known)},
            )
        return [given.get(name, known[name]) for name in sorted(known)]

    def save_formed(self, identity: Identity) -> None:
        """Remember the cluster this member now belongs to, durably."""
        self.save_members(identity)()

    def save_members(self, identity: Identity) -> Callable[[], None]:
        """What makes the members as they are now durable; for the disk's thread, where votes are saved."""
        recorded = sorted(identity.places.recorded.values())
        changes: dict[str, object] = {
            "cluster_id": identity.cluster_id,
            "incarnations": dict(identity.incarnations),
            "members": [str(member) for member in recorded if member.id not in identity.passive],
            "passive": [str(member) for member in recorded if member.id in identity.passive],
            "lives": dict(identity.lives),
            "awaits_vote": identity.awaits_vote,
        }
        return lambda: self._save(**changes)

    def mark_diverged(self, index: int) -> Callable[[], None]:
        """What makes it durable that this member's state is not that of the others; for the disk's thread."""
        return lambda: self._save(diverged_at=index)

    def require_undiverged(self, *, checks: bool) -> None:
        """Raises DivergenceError for a member that was found to have another state, unless nobody checks that here."""
        index, name = self._known().diverged_at, self._member.id
        if not index:
            return
        if checks:
            raise DivergenceError(
                f"{self._storage.directory}: at index {index} the state of member {name} was not that of the others, "
                f"and what it would go on from may hold that state. Remove it (`copycat member remove {name}`) and "
                "join under a new id with an empty directory; if no majority agreed, restore a new cluster from the "
                "one state that is right. With checks off (check_interval=0) it starts all the same",
                index=index,
            )
        _log.warning("%s goes on with a state that was not that of the others at index %d", name, index)

    def save_lives(self, identity: Identity, *, outdated: bool = False) -> Callable[[], None]:
        """Likewise, the members' latest starts; and with `outdated` that this one's data is an older copy."""
        changes: dict[str, object] = {"lives": dict(identity.lives)}
        if outdated:
            changes["outdated"] = True
        return lambda: self._save(**changes)

    def save_refilled(self) -> None:
        """Make durable that this member's data is as new as any. Called on the disk's thread."""
        if self._known().outdated:
            self._save(outdated=False)

    def save_vote(self, term: int, vote: str) -> None:
        """Make term and vote durable. Called on the disk's thread, one call after another."""
        self._save(term=term, vote=vote)

    def _save(self, **changes: object) -> None:
        keeper, metadata = self._keeper, self._metadata
        if keeper is None or metadata is None:
            raise InvariantError("a directory is open before it is written to")
        self._metadata = keeper.save(msgspec.structs.replace(metadata, **changes))

    def open_snapshots(self) -> Snapshots:
        """Find the snapshots of a formed member. Raises: StorageError and its kinds."""
        return self._storage.open_snapshots(cluster_id=self._known().cluster_id)

    def open_log(self, snapshots: Snapshots) -> tuple[SnapshotFile | None, Log | MemoryLog]:
        """The newest sound snapshot, if there is one, and the log, recovered, that goes on from it.

        Raises: CorruptionError and the other StorageErrors.
        """
        try:
            newest = snapshots.newest()
        except CorruptionError as error:
            return None, self._log_without_snapshots(snapshots, error)
        except OSError as error:
            raise explain(self._storage.directory, error) from error
        return newest, self._recover_log(newest)

    def _log_without_snapshots(self, snapshots: Snapshots, why: CorruptionError) -> Log | MemoryLog:
        """None is sound. A log that is whole does without; another is refilled by the other members, if there are any.

        Raises: `why`, if there are none.
        """
        try:
            log = self._recover_log(None)
        except CorruptionError:
            raise why from None
        if log.is_faulty:
            _log.error("%s This member does not vote before.", why)
        else:
            _log.warning("no snapshot is sound, but the log is whole and is used alone: %s", why)
        try:
            snapshots.set_aside()
        except OSError as error:
            log.close()
            raise explain(self._storage.directory, error) from error
        return log

    def _recover_log(self, newest: SnapshotFile | None) -> Log | MemoryLog:
        metadata = self._known()
        log = self._storage.open_log(
            cluster_id=metadata.cluster_id, base=newest.header.base if newest is not None else None
        )
        if log.is_faulty and len(metadata.incarnations) == 1:
            raise CorruptionError(
                f"{self._storage.directory}: block {log.faulty_from} was durable and is damaged, and a cluster of one "
                "has no other copy: restore a backup, or save what comes before it with `copycat repair`"
            )
        return log

    def restore(
        self,
        newest: SnapshotFile | None,
        log: Log | MemoryLog,
        config: RaftConfig,
        chance: Callable[[], float],
        now_ms: int,
    ) -> Raft:
        """The core as it was when the member stopped. Raises: ForeignDirectoryError when it was removed."""
        metadata = self._known()
        view = LogView(log.base.index, log.base.term, log.base.chain)
        carrying: list[int] = []
        for first, count, term, kind, size, chain, _time in log.blocks_info():
            view.append(first, count, term, chain, size)
            if kind in CARRY_MEMBERSHIP:
                carrying.append(first)
        return Raft(
            member_id=self._member.id,
            memberships=self._memberships(newest, log, carrying, metadata),
            read_membership=read_membership,
            config=config,
            log=view,
            term=max(metadata.term, view.last_term),
            vote=metadata.vote if metadata.term >= view.last_term else "",
            log_time=max(log.last_time, newest.header.time if newest is not None else 0),
            random=chance,
            now_ms=now_ms,
            snapshot=id_of(newest) if newest is not None else None,
            voting=not log.is_faulty and not metadata.outdated,
        )

    def _memberships(
        self, newest: SnapshotFile | None, log: Log | MemoryLog, carrying: list[int], metadata: Metadata
    ) -> list[Membership]:
        """The snapshot's list, or that of forming, then those along the log: they win over arguments."""
        if newest is not None and newest.header.cluster_id:  # one without was restored, before there was a cluster
            first = read_membership(newest.header.configuration_index, newest.header.configuration)
        else:
            formed = Configuration(
                cluster_id=metadata.cluster_id,
                members=metadata.members,
                passive=metadata.passive,
                incarnations=metadata.incarnations,
            )
            first = read_membership(0, formed.encode())
        lists = [first]
        for index in carrying:
            if index > first.index:
                (block,) = log.read(index, index, 1)
                lists.append(read_membership(index, block.body))
        # Of later ones it is not known yet whether they are committed; and until then this member may be needed.
        if self._member.id in decode_configuration(first.body).removed:
            raise ForeignDirectoryError(
                f"member {self._member.id!r} was removed by the configuration at index {first.index} of its log: to "
                "come back, join under another id with an empty directory"
            )
        return lists

    def _known(self) -> Metadata:
        if self._metadata is None:
            raise InvariantError("a directory is open before its log is")
        return self._metadata

    def close(self) -> None:
        """Unlock the directory. Harmless when repeated."""
        self._storage.close()


def read_membership(index: int, body: bytes) -> Membership:
    """Who takes part, as the core goes by it. Raises ProtocolError."""
    configuration = decode_configuration(body)
    active = tuple(member.id for member in configuration.active_members)
    return Membership(index, active, tuple(member.id for member in configuration.passive_members), body)
