"""What a follower does: believes its leader, keeps its log, and campaigns when the leader falls silent.

It answers an append twice, in effect: at once for the *round*, which confirms leadership, and when the blocks are on
disk for the *match*, which lets the leader commit. Both are one message, sent at most once a turn.

Source: Raft dissertation §3.4, §3.5; protocol §3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from copycat.errors import check
from copycat.raft.core import candidate, install
from copycat.raft.core.transfer import Reception
from copycat.raft.protocol.messages import Append, AppendResponse, Install, TimeoutNow

if TYPE_CHECKING:
    from copycat.raft.core.raft import Raft


@dataclass(slots=True, kw_only=True)
class Follower:
    """`verified_index` is the highest entry known to agree with this leader's log; nothing above it is vouched for."""

    name: str = "follower"
    deadline_ms: int
    verified_index: int = 0
    round: int = 0
    answer_now: bool = False
    told_match: int = 0
    fresh_until: int = 0  # a SERIALIZABLE read may be served until then ...
    fresh_commit: int = 0  # ... once this much is applied
    reception: Reception | None = None  # of a snapshot, from this leader
    spread_ms: int | None = None  # drawn once, that two who see the leader die do not campaign at the same moment


def enter(raft: Raft) -> Follower:
    return Follower(deadline_ms=raft.now + raft.election_timeout())


def on_deadline(raft: Raft, role: Follower) -> None:
    """Nothing heard for an election timeout, or the leader is known dead: ask whether an election would be won."""
    if raft.promised:
        role.deadline_ms = raft.promised_until
        return
    if not raft.may_campaign:
        # It is heard and answered, but elects nobody for itself: one that joins, or was removed.
        if raft.leader is not None:
            raft.leader = None
            raft.tell_role()
        role.deadline_ms = raft.now + raft.election_timeout()
        return
    if raft.disk_stalled and raft.electors:
        # Such a leader would have to step down again at once; let another lead.
        role.deadline_ms = raft.now + raft.election_timeout()
        return
    raft.leader = None
    candidate.poll(raft)


def on_append(raft: Raft, role: Follower, member: str, request: Append) -> None:
    """Take in a leader's blocks after the previous entry, if the logs agree there; else say where they may."""
    if request.term < raft.term:
        raft.send(member, refusal(raft, request, raft.log.last_index))
        return
    if raft.leader != member:
        raft.follow(member)
    raft.heard_at = raft.now
    raft.promised_until = max(raft.promised_until, raft.now + request.lease_ms)
    raft.dead.discard(member)
    role.spread_ms = None
    role.deadline_ms = raft.now + raft.election_timeout()
    hint = accept(raft, request)
    if hint is not None:
        if raft.persisted_term == raft.term:
            raft.send(member, refusal(raft, request, hint))
        return
    end = request.blocks[-1].last_index if request.blocks else request.previous_index
    role.verified_index = max(role.verified_index, end)
    role.round = max(role.round, request.round)
    role.answer_now = role.answer_now or request.confirm
    # Never beyond what this very request verified: a longer tail of ours may still conflict (reliability §5 (8)).
    raft.commit(min(request.commit_index, role.verified_index))
    if request.echo_ms:
        role.fresh_until = max(role.fresh_until, request.echo_ms + raft.config.freshness_ms)
        role.fresh_commit = max(role.fresh_commit, request.commit_index)


def accept(raft: Raft, request: Append) -> int | None:
    """Append what is new of `request`. Returns None when taken in, else the highest index that may still agree.

    Blocks already held are skipped, so a late or repeated request never truncates; only a *conflicting* block does.
    """
    log = raft.log
    if log.boundary_at(request.previous_index) != (request.previous_term, request.previous_chain):
        return where_to_agree(raft, request)
    for position, block in enumerate(request.blocks):
        held = log.term_at(block.first_index)
        if held == block.term and log.chain_at(block.last_index) == block.chain:
            continue
        if held is not None:
            raft.truncate(block.first_index - 1)
        raft.store_received(request.blocks[position:])
        break
    return None


def where_to_agree(raft: Raft, request: Append) -> int:
    """The highest index that may still agree with a leader whose block before `request` is not here."""
    log = raft.log
    if request.previous_index < log.base_index:
        return log.base_index
    term = log.term_at(request.previous_index)
    if term is None:
        return log.last_index
    if term != request.previous_term:
        return max(log.before_term_of(request.previous_index), raft.commit_index)
    # Same index and term but other bytes: what is committed must never differ, so stop rather than repair.
    check(request.previous_index > raft.commit_index, "diverged from the leader", request.previous_index)
    return log.boundary_at_or_below(max(request.previous_index - 1, raft.commit_index))


def refusal(raft: Raft, request: Append, hint_index: int) -> AppendResponse:
    return AppendResponse(
        term=raft.term,
        round=request.round,
        accepted=False,
        match_index=0,
        hint_index=hint_index,
        sent_ms=raft.now,
        refilling=raft.role.name == "passive",
    )


def on_timeout_now(raft: Raft, role: Follower, member: str, request: TimeoutNow) -> None:
    """The leader hands over: campaign without asking first, and say whose wish it is."""
    if request.term == raft.term and member == raft.leader and raft.is_voter:
        candidate.elect(raft, transfer=True)


def on_flushed(raft: Raft, role: Follower) -> None:
    """Answered once, in `finish`."""


def on_persisted(raft: Raft, role: Follower) -> None:
    raft.tell_vote()


def on_unreachable(raft: Raft, role: Follower, member: str) -> None:
    """The leader's connection was reset and its port refuses: no reason to wait out the whole silence.

    Its lease still binds: the promise made to it is kept to its end (protocol §3.3).
    """
    # Every redial is refused anew: drawing each time would leave the smallest of many draws, at all members.
    if member == raft.leader and member in raft.dead and role.spread_ms is None:
        role.spread_ms = int(raft.random() * raft.config.heartbeat_ms)
        role.deadline_ms = min(role.deadline_ms, max(raft.now, raft.promised_until) + role.spread_ms)


def finish(raft: Raft, role: Follower) -> None:
    """Answer the leader, once a turn: what was asked at once, and what has become durable."""
    answer(raft, role)


def answer(raft: Raft, role: Follower) -> None:
    """Vouch for the round and for everything verified and durable, once the term is durable too."""
    if raft.leader is None or raft.persisted_term != raft.term:
        return
    match = raft.log.boundary_at_or_below(min(raft.durable_index, role.verified_index))
    if role.answer_now or match > role.told_match:
        raft.send(
            raft.leader,
            AppendResponse(
                term=raft.term,
                round=role.round,
                accepted=True,
                match_index=match,
                hint_index=0,
                sent_ms=raft.now,
                refilling=raft.role.name == "passive",
            ),
        )
        role.told_match = max(match, role.told_match)
        role.answer_now = False


HANDLERS = {Append: on_append, Install: install.on_install, TimeoutNow: on_timeout_now}
