"""What others have vouched for to this member, and what is to be done when this member has forgotten its own word.

A directory that was put back from a copy holds an older log, term or vote. The member cannot know; but those to whom it
vouched do, and say so whenever they greet it. What a member has vouched for in a term only grows within that term, and
nothing of a later term is older: so one who holds its word for more than the member itself knows of is the proof.

Source: protocol §2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from copycat.raft.core import leader
from copycat.raft.protocol.lives import Vouched

if TYPE_CHECKING:
    from copycat.raft.core.raft import Raft


def told(raft: Raft) -> dict[str, Vouched]:
    """By member, its latest word that this one holds. Of this process's time only: it is not kept on disk."""
    role = raft.role
    return {**raft.vouched, **leader.vouched(raft, role)} if isinstance(role, leader.Leader) else dict(raft.vouched)


def is_forgotten(raft: Raft, word: Vouched) -> bool:
    """Whether this member knows less than another holds its word for.

    One whose log is being refilled need not hold what it once did; it knows that already.
    """
    if word.term != raft.term:
        return word.term > raft.term
    if word.voted and raft.vote == "":
        return True
    return raft.durable_index < word.match_index and raft.role.name != "passive"
