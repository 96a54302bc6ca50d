"""Who takes part: a list that stands in the log, in force as soon as it is appended.

A change is an entry like any other, and can be taken back like any other: a member that drops it from its log goes back
to the list before. So all lists behind the one that is certain are kept, in the order of the log.

Source: Raft dissertation §4.1; protocol §8.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from copycat.errors import check


@dataclass(frozen=True, slots=True)
class Membership:
    """The list as of the entry at `index`; 0: as the cluster formed. `body` is that entry's, opaque here.

    `active` members vote. `passive` ones hold all that is committed, and have no vote.
    """

    index: int
    active: tuple[str, ...]
    passive: tuple[str, ...]
    body: bytes

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.active, *self.passive)


ReadMembership = Callable[[int, bytes], Membership]
"""The list in an entry, from its index and its body."""


class Memberships:
    """The lists along a log, oldest first; the last is in force."""

    def __init__(self, lists: Sequence[Membership]) -> None:
        check(len(lists) > 0, "a member knows who takes part")
        self._lists = list(lists)

    @property
    def latest(self) -> Membership:
        return self._lists[-1]

    def at(self, index: int) -> Membership:
        """The one in force at `index`, which is not below what was discarded."""
        return next((each for each in reversed(self._lists) if each.index <= index), self._lists[0])

    def possible(self, commit_index: int) -> list[Membership]:
        """Those that may turn out to be the cluster's: the one that is certain, and what was appended since."""
        certain = self.at(commit_index)
        return [each for each in self._lists if each.index >= certain.index]

    def append(self, membership: Membership) -> None:
        check(membership.index > self.latest.index or membership.index == 0, "lists follow the log", membership.index)
        self._lists.append(membership)

    def truncate_after(self, index: int) -> bool:
        """Go back to the list in force at `index`; returns whether it is another than before."""
        before = self.latest
        while self.latest.index > index and len(self._lists) > 1:
            self._lists.pop()
        return self.latest is not before

    def discard_to(self, index: int) -> None:
        """Forget those that nothing can bring back, for the one in force at `index` is certain."""
        while len(self._lists) > 1 and self._lists[1].index <= index:
            del self._lists[0]

    def reset(self, membership: Membership) -> None:
        self._lists = [membership]


def why_not(old: Membership, new: Membership) -> str | None:
    """Why `new` cannot follow `old` in one step; None if it can.

    Any two majorities of lists that differ by one voter have a member in common; that is what keeps two leaders apart.
    """
    if not new.active:
        return "no member would be left to vote"
    if len(set(new.members)) != len(new.members):
        return "a member is listed twice"
    changed = set(old.active) ^ set(new.active)
    if len(changed) > 1:
        return f"the votes of {', '.join(sorted(changed))} would change at once; one at a time may"
    return None
