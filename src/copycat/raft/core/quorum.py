"""What a majority of the voters agrees on."""

from collections.abc import Iterable


def majority(voters: int) -> int:
    """How many of `voters` make a majority."""
    return voters // 2 + 1


def agreed(values: Iterable[int]) -> int:
    """The highest value that a majority of the voters has reached; one value a voter.

    Source: Raft dissertation §3.6.2.
    """
    ordered = sorted(values, reverse=True)
    return ordered[len(ordered) // 2]
