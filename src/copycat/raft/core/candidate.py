"""What a candidate does: first asks whether it would win (the poll), then asks to be elected.

The poll changes nothing at anyone, so a member that was cut off does not raise terms when it returns. Requests for
votes leave only once the candidate's own vote is durable.

Source: Raft dissertation §3.4, §9.6; protocol §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copycat.raft.core import follower, install, leader
from copycat.raft.core.quorum import majority
from copycat.raft.protocol.lives import Vouched
from copycat.raft.protocol.messages import Append, Install, PollRequest, PollResponse, VoteRequest, VoteResponse

if TYPE_CHECKING:
    from copycat.raft.core.raft import Raft


@dataclass(slots=True, kw_only=True)
class Candidate:
    """Grants are counted by member, so a repeated answer counts once."""

    name: str = "candidate"
    deadline_ms: int
    polling: bool
    transfer: bool = False  # the leader asked for it
    granted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    is_lost: bool = False  # this election can no longer be won


def poll(raft: Raft) -> None:
    """Ask everyone whether an election in the next term would be won."""
    role = Candidate(deadline_ms=raft.now + raft.election_timeout(), polling=True, granted={raft.member_id})
    raft.become(role)
    request = PollRequest(term=raft.term + 1, last_index=raft.log.last_index, last_term=raft.log.last_term)
    for member in raft.electors:
        raft.send(member, request)
    if has_majority(raft, role):  # the only voter there is
        elect(raft)


def elect(raft: Raft, *, transfer: bool = False) -> None:
    """Campaign: the next term, a vote for oneself, and once that is durable the requests."""
    raft.campaign()
    raft.become(Candidate(deadline_ms=raft.now + raft.election_timeout(), polling=False, transfer=transfer))


def on_deadline(raft: Raft, role: Candidate) -> None:
    """Not decided in time: poll again, so that a member nobody can hear does not raise terms.

    An election waits for this member's own disk as long as that takes: another would wait behind it, and the next
    behind that, so that a disk slower than the timeout would let nobody lead.
    """
    if not role.polling and (raft.persisted_term, raft.persisted_vote) != (raft.term, raft.vote):
        role.deadline_ms = raft.now + raft.election_timeout()
    else:
        poll(raft)


def on_persisted(raft: Raft, role: Candidate) -> None:
    """The candidate's own vote is durable: it counts, and the others may be asked."""
    if role.polling or raft.persisted_vote != raft.member_id:
        return
    role.deadline_ms = raft.now + raft.election_timeout()  # for the others to answer, however long this has taken
    role.granted.add(raft.member_id)
    request = VoteRequest(
        term=raft.term, last_index=raft.log.last_index, last_term=raft.log.last_term, transfer=role.transfer
    )
    for member in raft.electors:
        raft.send(member, request)
    win(raft, role)


def on_poll_response(raft: Raft, role: Candidate, member: str, response: PollResponse) -> None:
    if role.polling and response.granted and response.proposed == raft.term + 1 and member in raft.electors:
        role.granted.add(member)
        if has_majority(raft, role):
            elect(raft)


def on_vote_response(raft: Raft, role: Candidate, member: str, response: VoteResponse) -> None:
    if role.polling or response.term != raft.term or member not in raft.electors:
        return
    if response.granted:
        role.granted.add(member)
        raft.vouched[member] = Vouched(raft.term, 0, True)
        win(raft, role)
    else:
        role.refused.add(member)
        give_up(raft, role)


def give_up(raft: Raft, role: Candidate) -> None:
    """Poll again soon if too many have refused or are dead: where votes were split, nobody leads this term.

    Should another have won after all, its first words come within a heartbeat; and the rivals must not meet again.
    """
    if not role.is_lost and len(raft.voters) - len(role.refused | raft.dead) < majority(len(raft.voters)):
        role.is_lost = True
        role.deadline_ms = min(role.deadline_ms, raft.now + int(raft.config.heartbeat_ms * (1 + raft.random())))


def win(raft: Raft, role: Candidate) -> None:
    """Lead once a majority has voted, and the candidate's own vote is durable, be it counted or not."""
    if raft.member_id in role.granted and has_majority(raft, role):
        leader.lead(raft)


def has_majority(raft: Raft, role: Candidate) -> bool:
    """Whether enough voters have granted what was asked; a candidate that is leaving does not count itself."""
    return sum(voter in role.granted for voter in raft.voters) >= majority(len(raft.voters))


def on_append(raft: Raft, role: Candidate, member: str, request: Append) -> None:
    """Somebody else leads this term: follow."""
    if request.term < raft.term:
        raft.send(member, follower.refusal(raft, request, raft.log.last_index))
        return
    following = follower.enter(raft)
    raft.become(following)
    follower.on_append(raft, following, member, request)


def on_install(raft: Raft, role: Candidate, member: str, request: Install) -> None:
    """As with an append; it comes again."""
    if request.term < raft.term:
        install.refuse(raft, member, request)
    else:
        raft.become(follower.enter(raft))
        raft.follow(member)


def on_flushed(raft: Raft, role: Candidate) -> None:
    """Nothing to vouch for to anyone."""


def on_unreachable(raft: Raft, role: Candidate, member: str) -> None:
    """A dead member cannot answer; the deadline covers that."""


def finish(raft: Raft, role: Candidate) -> None:
    """Nothing is coalesced."""


HANDLERS = {
    Append: on_append,
    Install: on_install,
    PollResponse: on_poll_response,
    VoteResponse: on_vote_response,
}
