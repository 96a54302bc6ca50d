"""Where members are dialled: where they say they are, else where this start's arguments have them, else by the log.

What the log has is what members said of themselves: of a cluster that forms, by their hellos. Arguments may have
another address for a member, by which this one alone reaches it; they count before the log, unless the log says that
the member has left there. A member that says it is elsewhere than the log has it has moved.

Source: protocol §2.4.
"""

from collections.abc import Iterable, Sequence

from copycat.errors import ConfigurationError
from copycat.raft.protocol.configuration import Configuration
from copycat.raft.protocol.members import Member


class Places:
    """`recorded`: by the cluster's own list. `told`: by the members themselves, in this process's time."""

    def __init__(self, recorded: Iterable[Member] = ()) -> None:
        self.recorded = {member.id: member for member in recorded}
        self.told: dict[str, Member] = {}
        self._given: dict[str, Member] = {}
        self._former: dict[str, list[str]] = {}

    def form(self, members: Sequence[Member], own: Member) -> None:
        """The cluster has formed: each of its members is where it said."""
        self.recorded = {member.id: self.told.get(member.id, member) for member in members} | {own.id: own}

    def record(self, configuration: Configuration, given: Sequence[Member]) -> None:
        """That is the cluster's own list now, and `given` are this start's arguments."""
        before, self.recorded = self.recorded, {member.id: member for member in configuration.all_members}
        self._given = {member.id: member for member in given}
        self._former = configuration.former
        for name, told in list(self.told.items()):
            has_moved_on = before.get(name) != self.recorded.get(name) and told.address in self._former.get(name, ())
            if name not in self.recorded or has_moved_on:
                del self.told[name]

    def tell(self, name: str, address: str | None) -> bool:
        """A member says where it is. Returns whether that is new, and an address at all."""
        if address is None or (name in self.told and self.told[name].address == address):
            return False
        try:
            self.told[name] = Member.parse(f"{name}={address}")
        except ConfigurationError:
            return False
        return True

    def to_dial(self, own: Member) -> list[Member]:
        """The members, each where it is dialled, in order of their ids."""
        return [own if name == own.id else self._to_dial(self.recorded[name]) for name in sorted(self.recorded)]

    def _to_dial(self, recorded: Member) -> Member:
        told, given = self.told.get(recorded.id), self._given.get(recorded.id)
        if told is not None and told != recorded:
            return told
        if given is not None and given.address not in self._former.get(recorded.id, ()):
            return given
        return recorded
