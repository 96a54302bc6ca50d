"""What follows from the hashes of several members' states at one index. Pure.

A majority of the members with a vote says what is right; members without one are compared and do not count. As long as
those that have not answered could still make a majority, nothing is decided.

Source: protocol §8.10.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from copycat.raft.core.quorum import majority
from copycat.raft.protocol.hashes import NOT_HASHED, Hashes


@dataclass(slots=True, kw_only=True)
class Verdict:
    """agreed: the members whose states are equal and that are a majority; none while there is no majority.

    differing: for each other member, where its state differs, and what the majority has there: NOT_HASHED where it
    has nothing. is_hopeless: there will be no majority. parties: the members by what they hold, the most votes first.
    """

    agreed: Sequence[str]
    differing: Mapping[str, Hashes]
    is_hopeless: bool
    parties: Sequence[Sequence[str]]


def judge(reports: Mapping[str, Hashes], voters: Sequence[str]) -> Verdict:
    """Compare what these members, one at least, say of one index."""
    parties = _parties(reports, voters)
    first, votes = parties[0], _votes(parties[0], voters)
    if votes >= majority(len(voters)):
        others = [member for party in parties[1:] for member in party]
        theirs, left_out = reports[first[0]], _left_out(reports)
        return Verdict(
            agreed=first,
            differing={member: differences(reports[member], theirs, left_out) for member in others},
            is_hopeless=False,
            parties=parties,
        )
    missing = sum(voter not in reports for voter in voters)
    hopeless = votes + missing < majority(len(voters))
    return Verdict(agreed=(), differing={}, is_hopeless=hopeless, parties=parties)


def differences(own: Hashes, theirs: Hashes, left_out: frozenset[int]) -> Hashes:
    """Every section where the two differ, with what `theirs` has there."""
    ours, others = dict(own), dict(theirs)
    return [
        (section, others.get(section, NOT_HASHED))
        for section in dict.fromkeys([*ours, *others])
        if section not in left_out and ours.get(section) != others.get(section)
    ]


def sections_apart(reports: Mapping[str, Hashes]) -> list[int]:
    """The sections in which any two differ."""
    everybody = list(reports.values())
    left_out = _left_out(reports)
    found = [section for other in everybody[1:] for section, _ in differences(everybody[0], other, left_out)]
    return list(dict.fromkeys(found))


def _left_out(reports: Mapping[str, Hashes]) -> frozenset[int]:
    """What some member could not hash."""
    return frozenset(section for hashes in reports.values() for section, digest in hashes if digest == NOT_HASHED)


def _parties(reports: Mapping[str, Hashes], voters: Sequence[str]) -> list[list[str]]:
    first = next(iter(reports.values()))
    if all(hashes == first for hashes in reports.values()):
        return [sorted(reports)]
    found: dict[tuple[tuple[int, bytes], ...], list[str]] = {}
    left_out = _left_out(reports)
    for member in sorted(reports):
        seen = tuple(each for each in reports[member] if each[0] not in left_out)
        found.setdefault(seen, []).append(member)
    return sorted(found.values(), key=lambda party: -_votes(party, voters))


def _votes(party: Sequence[str], voters: Sequence[str]) -> int:
    return sum(member in voters for member in party)
