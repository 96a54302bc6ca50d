"""What members know of one another beyond the log, and tell in their hellos: by it a copy of an older state is known.

Source: protocol §2.8, §10.7.
"""

from typing import NamedTuple


class Life(NamedTuple):
    """One start of a member: its number, counted in its directory, and a mark drawn at random.

    A copy of a directory that is started counts on from where it was made, so it has a number that was told before,
    perhaps with another mark. It then counts itself past the latest that it hears of; the mark stays the process's own.
    """

    number: int
    mark: bytes

    def supersedes(self, other: "Life") -> bool:
        """Whether whoever is alive by `other` cannot be the latest any more."""
        return self.number >= other.number and self != other


class Vouched(NamedTuple):
    """What a member has vouched for to the one that tells it: in `term`, that everything up to `match_index` is durable
    in its log, and whether it voted for the teller. Of earlier terms nothing is told.
    """

    term: int
    match_index: int
    voted: bool
