"""Who this member is, which cluster it belongs to, and how a cluster forms. Sans-IO.

A new directory draws a random incarnation. A member that belongs to no cluster yet neither votes nor campaigns: a
first start and a wiped disk look alike. Once it has heard every listed member, all as new as itself and with the
same list, the cluster is formed; each computes the same id. Whoever comes later adopts that cluster if the cluster
knows its incarnation, and stops if the cluster knows another.

Source: protocol §2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from copycat.errors import ForeignDirectoryError, HandshakeError
from copycat.raft.protocol.configuration import Configuration
from copycat.raft.protocol.handshake import Hello, agree_version
from copycat.raft.protocol.lives import Life, Vouched
from copycat.raft.protocol.members import Member
from copycat.raft.server.places import Places


def cluster_id_of(incarnations: dict[str, bytes]) -> bytes:
    """BLAKE2b-128 over the sorted (id, incarnation) pairs."""
    digest = blake2b(digest_size=16)
    for member_id in sorted(incarnations):
        name = member_id.encode()
        digest.update(len(name).to_bytes(2, "big") + name + incarnations[member_id])
    return digest.digest()


@dataclass(slots=True, kw_only=True)
class Identity:
    """`cluster_id` is empty until formed; then `incarnations` names every member's.

    begins_with: the digest of the state this member was restored with, b"" for none: all must begin with the same.
    passive: ids of the members without a vote. removed: ids that have left, for certain.
    members: where each is dialled. places: how that is known.
    lives: the latest start of each member, this one among them. vouched: what the others have vouched for to this one.
    types: the (name, version) of each state machine type this member can run; `announced` holds the other members'.
    """

    member: Member
    members: Sequence[Member]
    incarnation: bytes
    cluster_id: bytes = b""
    incarnations: dict[str, bytes] = field(default_factory=dict)
    passive: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()
    joins: bool = False  # it asks a cluster to let it in, rather than form one
    awaits_vote: bool = False  # it was let in, and is to have a vote when it is level
    heard: dict[str, bytes] = field(default_factory=dict)
    begins_with: bytes = b""
    types: tuple[tuple[str, int], ...] = ()
    announced: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    lives: dict[str, Life] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    vouched: Callable[[], dict[str, Vouched]] = dict

    @property
    def is_formed(self) -> bool:
        return self.cluster_id != b""

    @property
    def cluster_name(self) -> str:
        """The first eight hex digits of the cluster id, for people."""
        return self.cluster_id.hex()[:8]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(member.id for member in self.members)

    @property
    def voters(self) -> list[Member]:
        return [member for member in self.members if member.id not in self.passive]

    def configure(self, configuration: Configuration, given: Sequence[Member]) -> None:
        """Go by the cluster's own list, and by `given`, this start's arguments, for where members are dialled."""
        self.places.record(configuration, given)
        self.members = self.places.to_dial(self.member)
        self.passive = frozenset(member.id for member in configuration.passive_members)
        self.incarnations = dict(configuration.incarnations) or self.incarnations
        self.lives = {name: life for name, life in self.lives.items() if name in (*self.incarnations, self.member.id)}

    def has_removed(self, hello: Hello) -> bool:
        """Whether it is that of a former member, which has not heard that it is none any more: our hello tells it."""
        return self.is_formed and hello.cluster_id == self.cluster_id and hello.member_id in self.removed

    def hello(self) -> Hello:
        """What this member says of itself now."""
        return Hello(
            role="member",
            cluster_id=self.cluster_id,
            member_id=self.member.id,
            incarnation=self.incarnation,
            incarnations=self.incarnations,
            removed=self.removed,
            members=self.ids,
            begins_with=self.begins_with,
            types=self.types,
            lives=self.lives,
            vouched=self.vouched(),
            places={
                **{name: each.address for name, each in self.places.recorded.items()},
                self.member.id: self.member.address,
            },
        )

    def hear(self, hello: Hello) -> bool:
        """Take in another member's hello. Returns whether this member became part of a formed cluster by it.

        Raises HandshakeError when the two cannot belong together; ForeignDirectoryError when this member's own
        directory cannot be used with that cluster.
        """
        agree_version(self.hello().versions, hello.versions)
        if hello.member_id == self.member.id and hello.incarnation != self.incarnation:
            raise HandshakeError(
                f"two members call themselves {self.member.id!r}: one at {self.member.address}, and the caller; "
                "give each member an id of its own"
            )
        formed = self._take_in(hello)
        self.announced[hello.member_id] = hello.types
        return formed

    def _take_in(self, hello: Hello) -> bool:
        if self.is_formed:
            self._check_peer(hello)
            return False
        if self.joins:
            raise HandshakeError(f"{self.member.id} has not been let into its cluster yet")
        if hello.cluster_id:
            self._adopt(hello)
            return True
        if hello.members != self.ids:
            raise HandshakeError(
                f"{hello.member_id} was started with members {', '.join(hello.members)}, but {self.member.id} with "
                f"{', '.join(self.ids)}: start every member with the same list"
            )
        if hello.begins_with != self.begins_with:
            raise HandshakeError(
                f"{hello.member_id} begins with {_state_name(hello.begins_with)}, but {self.member.id} with "
                f"{_state_name(self.begins_with)}: restore every member from the same backup, into an empty directory"
            )
        self.heard[hello.member_id] = hello.incarnation
        self.places.tell(hello.member_id, hello.places.get(hello.member_id))
        return self.form_if_all_heard()

    def note_lives(self, hello: Hello) -> bool:
        """Take over later starts of members that another knows of. Returns whether there are any."""
        later = {
            name: life
            for name, life in hello.lives.items()
            if name in self.incarnations and name != self.member.id and life.number > self._number_of(name)
        }
        self.lives.update(later)
        for name in later.keys() - {hello.member_id}:
            self.places.told.pop(name, None)  # of an earlier start: where it is now it will tell
        return bool(later)

    def note_place(self, hello: Hello) -> bool:
        """Dial a member where it says it is now, if it is known for what it says it is. Returns whether that is new."""
        name = hello.member_id
        is_known = self.incarnations.get(name) == hello.incarnation and self.lives.get(name) == hello.lives.get(name)
        if not self.is_formed or not is_known or not self.places.tell(name, hello.places.get(name)):
            return False
        self.members = self.places.to_dial(self.member)
        return True

    def moved(self, configuration: Configuration) -> Configuration:
        """With the members where they have told that they are."""
        return configuration.moved({**self.places.told, self.member.id: self.member})

    def count_past(self, hello: Hello) -> None:
        """This member's data is older than its latest start; let its own count as later."""
        name = self.member.id
        latest = max(self._number_of(name), hello.lives[name].number if name in hello.lives else 0)
        self.lives[name] = Life(latest + 1, self.lives[name].mark)

    def _number_of(self, name: str) -> int:
        life = self.lives.get(name)
        return life.number if life is not None else 0

    def common_types(self) -> list[tuple[str, int]] | None:
        """The types every member can run, sorted; None while some member has not announced its own."""
        if any(member_id not in self.announced for member_id in self.ids if member_id != self.member.id):
            return None
        common = set(self.types)
        for member_id, types in self.announced.items():
            if member_id in self.ids:
                common &= set(types)
        return sorted(common)

    def form_if_all_heard(self) -> bool:
        """Form the cluster when every listed member is known; a single member knows itself."""
        known = {**self.heard, self.member.id: self.incarnation}
        if self.is_formed or self.joins or any(member_id not in known for member_id in self.ids):
            return False
        self.incarnations = {member_id: known[member_id] for member_id in self.ids}
        self.cluster_id = cluster_id_of(self.incarnations)
        self.places.form(self.members, self.member)
        return True

    def _check_peer(self, hello: Hello) -> None:
        known = self.incarnations.get(hello.member_id)
        if self.member.id in hello.removed and hello.cluster_id == self.cluster_id:
            raise ForeignDirectoryError(
                f"{self.member.id} was removed from cluster {self.cluster_name}: its directory is of no more use; to "
                "come back, join under another id with an empty one"
            )
        if hello.member_id in self.removed:
            raise HandshakeError(f"{hello.member_id} was removed from cluster {self.cluster_name}")
        if hello.cluster_id and hello.cluster_id != self.cluster_id:
            raise HandshakeError(
                f"{hello.member_id} belongs to cluster {hello.cluster_id.hex()[:8]}, {self.member.id} to cluster "
                f"{self.cluster_name}: check addresses and data directories"
            )
        if known is not None and hello.incarnation != known:
            raise HandshakeError(
                f"{hello.member_id}'s directory is new, but cluster {self.cluster_name} knows another "
                f"{hello.member_id}: remove {hello.member_id}, then join under a new id"
            )

    def _adopt(self, hello: Hello) -> None:
        known = hello.incarnations.get(self.member.id)
        if known != self.incarnation:
            name, cluster = self.member.id, hello.cluster_id.hex()[:8]
            if known is None:
                raise ForeignDirectoryError(
                    f"{name}'s directory is new, and {hello.member_id} belongs to cluster {cluster}, which does not "
                    f"list {name}: check the member list and {hello.member_id}'s data directory"
                )
            raise ForeignDirectoryError(
                f"{name}'s directory is new, but cluster {cluster} knows another {name}: "
                f"remove {name}, then join under a new id"
            )
        self.cluster_id, self.incarnations = hello.cluster_id, dict(hello.incarnations)
        for name, address in hello.places.items():
            self.places.tell(name, address)
        self.places.form(self.members, self.member)


def _state_name(begins_with: bytes) -> str:
    """For people."""
    return f"the restored state {begins_with.hex()[:8]}" if begins_with else "nothing"
