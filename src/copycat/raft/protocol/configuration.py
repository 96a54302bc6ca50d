"""Who belongs to a cluster, as the log carries it, and the changes of it that may be asked for.

A leader's first entry carries the configuration in force; each change is an entry with the new one. Ids of those that
have left are kept, for an id never returns: what it once vouched for may be counted somewhere still.

Source: protocol §8.1, §10.4.
"""

import enum
from collections.abc import Mapping

import msgspec

from copycat.errors import ConfigurationError, ProtocolError
from copycat.io.msgpack import UNREADABLE
from copycat.raft.protocol.members import Member

FORMER_MAX = 8
"""Addresses of a member that has moved which are remembered as left: more than arguments of old are about."""


class Change(enum.StrEnum):
    """What can be asked for."""

    ADD = "add"  # as a member without a vote
    PROMOTE = "promote"  # give it a vote
    DEMOTE = "demote"  # take its vote
    REMOVE = "remove"  # for good
    TRANSFER = "transfer"  # let it lead; changes no configuration


class Configuration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`members` vote, `passive` ones do not; both in text form, sorted by id. `removed` holds ids.

    incarnations: of every member, by id. former: the latest addresses that a member has left, by id, newest last.
    """

    cluster_id: bytes
    members: list[str]
    passive: list[str] = []
    removed: list[str] = []
    incarnations: dict[str, bytes] = {}
    former: dict[str, list[str]] = {}

    @property
    def active_members(self) -> list[Member]:
        return [Member.parse(text) for text in self.members]

    @property
    def passive_members(self) -> list[Member]:
        return [Member.parse(text) for text in self.passive]

    @property
    def all_members(self) -> list[Member]:
        """In order of id."""
        return sorted([*self.active_members, *self.passive_members])

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    def added(self, member: Member, incarnation: bytes) -> "Configuration":
        """With a member more, that has no vote yet. Raises ConfigurationError that says what to do instead."""
        known = {each.id: each for each in self.all_members}
        if member.id in self.removed:
            raise ConfigurationError(
                f"{member.id} was a member once and was removed: join under another id, with an empty directory"
            )
        if member.id in known and self.incarnations.get(member.id) != incarnation:
            raise ConfigurationError(
                f"the cluster knows another {member.id}: remove it, then join under another id, with an empty directory"
            )
        others = [each for each in known.values() if each.id != member.id]
        if any(each.address == member.address for each in others):
            raise ConfigurationError(f"another member is at {member.address}")
        if member.id in known:
            return self
        return self._with(
            passive=[*self.passive_members, member], incarnations={**self.incarnations, member.id: incarnation}
        )

    def moved(self, places: Mapping[str, Member]) -> "Configuration":
        """With members where `places` has them; as it is, if they are there. Two are never at one address: then nobody
        moves.
        """
        known = {each.id: each for each in self.all_members}
        left = {name: known[name] for name, place in places.items() if name in known and known[name] != place}
        now = {name: places[name] if name in left else each for name, each in known.items()}
        if not left or len({each.address for each in now.values()}) < len(now):
            return self
        former = dict(self.former)
        for name, before in left.items():
            others = [each for each in former.get(name, []) if each not in (before.address, now[name].address)]
            former[name] = [*others, before.address][-FORMER_MAX:]
        return self._with(
            active=[now[each.id] for each in self.active_members],
            passive=[now[each.id] for each in self.passive_members],
            former=former,
        )

    def promoted(self, name: str) -> "Configuration":
        """With a vote for `name`; as it is, if it has one. Raises ConfigurationError."""
        self._require(name)
        moved = [each for each in self.passive_members if each.id == name]
        passive = [each for each in self.passive_members if each.id != name]
        return self._with(active=[*self.active_members, *moved], passive=passive)

    def demoted(self, name: str) -> "Configuration":
        """Without the vote of `name`; as it is, if it has none. Raises ConfigurationError."""
        self._require(name)
        self._require_another_vote(name)
        moved = [each for each in self.active_members if each.id == name]
        active = [each for each in self.active_members if each.id != name]
        return self._with(active=active, passive=[*self.passive_members, *moved])

    def without(self, name: str) -> "Configuration":
        """Without `name`, for good; as it is, if it has left already. Raises ConfigurationError."""
        if name in self.removed:
            return self
        self._require(name)
        self._require_another_vote(name)
        return self._with(
            active=[each for each in self.active_members if each.id != name],
            passive=[each for each in self.passive_members if each.id != name],
            removed=[*self.removed, name],
            incarnations={each: mark for each, mark in self.incarnations.items() if each != name},
        )

    def _with(
        self,
        *,
        active: list[Member] | None = None,
        passive: list[Member] | None = None,
        removed: list[str] | None = None,
        incarnations: dict[str, bytes] | None = None,
        former: dict[str, list[str]] | None = None,
    ) -> "Configuration":
        incarnations = dict(sorted((self.incarnations if incarnations is None else incarnations).items()))
        former = self.former if former is None else former
        return Configuration(
            cluster_id=self.cluster_id,
            members=self.members if active is None else [str(member) for member in sorted(active)],
            passive=self.passive if passive is None else [str(member) for member in sorted(passive)],
            removed=self.removed if removed is None else sorted(removed),
            incarnations=incarnations,
            former={name: former[name] for name in sorted(former) if name in incarnations},
        )

    def _require(self, name: str) -> None:
        known = [each.id for each in self.all_members]
        if name not in known:
            raise ConfigurationError(f"there is no member {name}; there are {', '.join(known)}")

    def _require_another_vote(self, name: str) -> None:
        if [each.id for each in self.active_members] == [name]:
            raise ConfigurationError(f"{name} is the only member with a vote: give another one a vote first")


class ChangeRequest(msgspec.Struct, frozen=True):
    """`member` is an id; to add one, its text form, and `incarnation` that of its directory."""

    change: Change
    member: str
    incarnation: bytes = b""


class ChangeOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """`error` is empty when it is done; `is_final` tells whether asking again may help. The rest: as of `index`."""

    index: int = 0
    error: str = ""
    is_final: bool = False
    configuration: bytes = b""


_decode = msgspec.msgpack.Decoder(Configuration).decode
_decode_request = msgspec.msgpack.Decoder(ChangeRequest).decode
_decode_outcome = msgspec.msgpack.Decoder(ChangeOutcome).decode


def decode_configuration(body: bytes) -> Configuration:
    """Raises ProtocolError."""
    try:
        return _decode(body)
    except UNREADABLE as error:
        raise ProtocolError(f"a configuration cannot be read: {error}") from None


def decode_change_request(data: bytes) -> ChangeRequest:
    """Raises ProtocolError."""
    try:
        return _decode_request(data)
    except UNREADABLE as error:
        raise ProtocolError(f"a change of members cannot be read: {error}") from None


def decode_change_outcome(data: bytes) -> ChangeOutcome:
    """Raises ProtocolError."""
    try:
        return _decode_outcome(data)
    except UNREADABLE as error:
        raise ProtocolError(f"the outcome of a change of members cannot be read: {error}") from None
