"""What a leader does: appends, replicates, commits what a majority holds on disk, and knows when it no longer leads.

Once a turn, in `finish`, it sends each member what is new. Every sending belongs to a *round*; an answer to a round
says that its member still followed this leader when the round was sent. Reads, leases and the leader's own right to
stay rest on the send times of answered rounds, never on when answers came: an answer may have waited in a socket.

Source: Raft dissertation §3.5, §3.6.2, §6.4; protocol §3.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copycat.errors import broken, check
from copycat.raft.core import follower, install, succession
from copycat.raft.core.effects import ChangeRefused, ReadReady, ReadRefused, Replicate
from copycat.raft.core.membership import why_not
from copycat.raft.core.progress import Progress
from copycat.raft.core.quorum import agreed
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.lives import Vouched
from copycat.raft.protocol.messages import Append, AppendResponse, Install, InstallResponse

if TYPE_CHECKING:
    from copycat.raft.core.events import Proposed
    from copycat.raft.core.raft import Raft

# A lease is trusted for this share of what was promised: clocks may drift by a fifth within it (protocol §3.4).
LEASE_SHARE = 0.8

NEVER = 1 << 62


@dataclass(slots=True, kw_only=True)
class Leader:
    """`first_index` is the leader's first own entry: before it is applied, neither commands nor reads are served."""

    name: str = "leader"
    deadline_ms: int
    term: int
    first_index: int
    members: dict[str, Progress]
    time_base: int  # log time runs on from here ...
    time_from: int  # ... at this reading of the leader's clock
    elected_ms: int
    heartbeat_ms: int
    notice_ms: int = NEVER  # when members are told of the commit index, be there blocks to go with it or not
    round: int = 0
    sent: deque[tuple[int, int]] = field(default_factory=deque)  # (round, send time), oldest first
    reads: list[object] = field(default_factory=list)  # arrived since the last round was sent
    waiting: deque[tuple[int, int, list[object]]] = field(default_factory=deque)  # (round, index, reads)
    voting: list[Progress] = field(default_factory=list)  # of the members that vote
    counted_ms: int = 0  # contact with the majority when it was counted last
    heir: str | None = None  # who is to lead next; no commands are taken meanwhile
    heir_until_ms: int = NEVER
    has_handed_over: bool = False  # an heir was told to campaign: no lease holds in this term any more


def lead(raft: Raft) -> None:
    """Start leading: an entry of one's own, at once, so that the commit index of the term becomes known."""
    raft.leader = raft.member_id
    silence = max(raft.now - raft.heard_at, 0)
    role = Leader(
        deadline_ms=raft.now,
        term=raft.term,
        first_index=raft.log.last_index + 1,
        members={},
        time_base=raft.log_time + silence,
        time_from=raft.now,
        elected_ms=raft.now,
        heartbeat_ms=raft.now,
    )
    count_members(raft, role)
    raft.become(role)
    append(raft, role, BlockKind.INITIALIZE, 1, raft.membership.body)


def leave(raft: Raft, role: Leader) -> None:
    """Let go of what only a leader can answer. Commands already appended are not refused: their fate is open."""
    raft.heard_at = raft.now
    raft.vouched.update(vouched(raft, role))
    tokens = [*role.reads, *(token for _, _, tokens in role.waiting for token in tokens)]
    if tokens:
        raft.effects.append(ReadRefused(tokens))


def vouched(raft: Raft, role: Leader) -> dict[str, Vouched]:
    """What each member has vouched for to this leader, in its term."""
    words = {}
    for member, progress in role.members.items():
        word = raft.vouched.get(member)
        voted = word is not None and word.term == role.term and word.voted
        if voted or progress.match_index:
            words[member] = Vouched(role.term, progress.match_index, voted)
    return words


def propose(raft: Raft, role: Leader, event: Proposed) -> None:
    append(raft, role, BlockKind.ITEMS, event.count, event.body)


def append(raft: Raft, role: Leader, kind: int, count: int, body: bytes) -> None:
    """Stamp log time and append; time never falls and runs with this leader's clock (protocol §4.1)."""
    raft.log_time = max(raft.log_time, role.time_base + raft.now - role.time_from)
    raft.store(kind, count, body)


# -- who takes part --------------------------------------------------------------------------------------------------


def change(raft: Raft, role: Leader, body: bytes) -> None:
    """Append another list of members, which is in force at once.

    One at a time, and none before an own entry is committed: else two leaders could each change a list that the other
    does not know of (protocol §8.1; Raft dissertation §4.1, and the correction of 2015).
    """
    reason = why_not(raft.membership, raft.read_membership(raft.log.last_index + 1, body))
    if not raft.is_ready:
        reason = "the leader has not applied an entry of its own yet"
    elif raft.membership.index > raft.commit_index:
        reason = f"the change at index {raft.membership.index} is not committed yet"
    elif role.heir is not None:
        reason = f"leadership is being handed over to {role.heir}"
    if reason is not None:
        raft.effects.append(ChangeRefused(body, reason))
        return
    append(raft, role, BlockKind.CONFIGURE, 1, body)
    count_members(raft, role)


def count_members(raft: Raft, role: Leader) -> None:
    """Replicate to whoever is new, and count the votes of those that have one.

    Who has left is still told of that: it is let go of when the change is committed.
    """
    for member in raft.others:
        if member not in role.members:
            role.members[member] = Progress(
                next_index=raft.log.last_index + 1, contact_ms=raft.now, reachable=member not in raft.dead
            )
    role.voting = [role.members[member] for member in raft.electors]
    role.counted_ms = contact_ms(raft, role)


def settle_members(raft: Raft, role: Leader) -> None:
    """A list is committed: let go of whoever has left; if that is this leader itself, another leads."""
    for member in [member for member in role.members if member not in raft.others]:
        if role.members[member].reachable:
            replicate(raft, role, member, confirm=False, due=False)  # it hears that its leaving is certain
        del role.members[member]
    if not raft.is_voter:
        succession.abdicate(raft, role)


def read(raft: Raft, role: Leader, token: object) -> None:
    """Hold a linearizable read until a round sent from now on is confirmed."""
    role.reads.append(token)


# -- contact with the majority ---------------------------------------------------------------------------------------


def contact_ms(raft: Raft, role: Leader) -> int:
    """The send time of the latest round that a majority, this leader included, has acknowledged."""
    return agreed(tally(raft, raft.now, [progress.contact_ms for progress in role.voting]))


def tally(raft: Raft, own: int, others: list[int]) -> list[int]:
    """One value a voter. A leader that is leaving does not count itself (Raft dissertation §4.2.2)."""
    return [own, *others] if raft.is_voter else others


def lease_until(raft: Raft, role: Leader) -> int:
    """Until when a lease read may be answered without asking anyone (protocol §3.4)."""
    return 0 if role.has_handed_over else contact_ms(raft, role) + int(LEASE_SHARE * raft.config.lease_ms)


def on_deadline(raft: Raft, role: Leader) -> None:
    """Step down when no majority was in contact, or the own disk has stood still, for an election timeout."""
    limit = raft.config.election_timeout_ms
    if raft.disk_stalled or raft.now - contact_ms(raft, role) > limit:
        raft.leader = None
        raft.become(follower.enter(raft))


def on_append_response(raft: Raft, role: Leader, member: str, response: AppendResponse) -> None:
    """Believe an answer for the round it names and for the index it vouches for; late answers change nothing."""
    progress = role.members.get(member)
    if progress is None or response.term < raft.term:
        return
    acknowledge_round(role, progress, response.round)
    progress.echo_ms = max(progress.echo_ms, response.sent_ms)
    progress.refilling = response.refilling
    if response.refilling and not response.accepted:
        progress.lost(response.hint_index)
    if response.accepted:
        if response.match_index > raft.log.last_index:
            raise broken("a member vouches for entries nobody sent", member)
        progress.matched(response.match_index)
        if progress.transfer is None or progress.match_index >= raft.log.base_index:
            progress.transfer = None
            if progress.probing:
                progress.pipeline()
        return
    if response.hint_index < raft.log.base_index:
        install.begin(raft, member, progress)
    if response.hint_index + 1 < progress.next_index or progress.probing:
        hint = min(response.hint_index, progress.next_index - 1 if not progress.probing else response.hint_index)
        probe(raft, progress, raft.log.boundary_at_or_below(min(hint, raft.log.last_index)) + 1)


def may_wait(raft: Raft, role: Leader, member: str, response: AppendResponse) -> bool:
    """Whether an answer changes nothing for anybody but the member's own progress, which has nothing to wait for.

    All is committed, and a majority has answered a round as late: so neither a commit, nor a read, nor a lease hangs on
    this answer. The next turn is a heartbeat away at most.

    Source: docs/decisions/0020-answers-nobody-waits-for.md.
    """
    progress = role.members.get(member)
    return (
        progress is not None
        and response.accepted
        and raft.commit_index == raft.log.last_index < progress.next_index
        and not (progress.probing or progress.transfer or progress.refilling or response.refilling or role.waiting)
        and role.heir is None
        and response.term == raft.term
        and response.round <= confirmed_round(raft, role)
    )


def probe(raft: Raft, progress: Progress, next_index: int) -> None:
    """Ask at `next_index`, or where the log begins: a member that refuses there is sent a snapshot."""
    progress.probe(max(next_index, raft.log.base_index + 1))


def acknowledge_round(role: Leader, progress: Progress, answered: int) -> None:
    if answered <= progress.acknowledged_round:
        return
    progress.acknowledged_round = answered
    for number, sent_ms in reversed(role.sent):
        if number <= answered:
            progress.contact_ms = max(progress.contact_ms, sent_ms)
            break


def on_reachable(raft: Raft, role: Leader, member: str) -> None:
    """A fresh link: whatever was on the old one may be lost, so probe, at once."""
    progress = role.members.get(member)
    if progress is not None:
        progress.reachable = True
        probe(raft, progress, progress.next_index if progress.probing else progress.match_index + 1)
        role.heartbeat_ms = raft.now


def on_unreachable(raft: Raft, role: Leader, member: str) -> None:
    progress = role.members.get(member)
    if progress is not None:
        progress.reachable = False
        progress.transfer = None  # what it has come to is asked for when it is back
        probe(raft, progress, progress.match_index + 1 if not progress.probing else progress.next_index)


def on_flushed(raft: Raft, role: Leader) -> None:
    """Counted once, in `finish`."""


def on_persisted(raft: Raft, role: Leader) -> None:
    """A leader's term and vote were durable before it led."""


def on_commit_awaited(raft: Raft, role: Leader) -> None:
    """Members have clients that wait for what they will apply."""
    role.notice_ms = raft.now


# -- once a turn -----------------------------------------------------------------------------------------------------


def finish(raft: Raft, role: Leader) -> None:
    """Commit, release reads, and tell each member what is new; then decide when to wake."""
    advance(raft, role)
    if raft.role is not role:
        return  # it has left
    if role.waiting:
        release(raft, role)
    succession.hand_over(raft, role)
    due = raft.now >= role.heartbeat_ms
    confirm = due or bool(role.reads)
    news = [*role.members] if confirm else to_be_told(raft, role)
    if news or confirm:
        role.round += 1
        role.sent.append((role.round, raft.now))
        forget_rounds(raft, role)
    if role.reads:
        role.waiting.append((role.round, raft.commit_index, role.reads))
        role.reads = []
    if due:
        role.heartbeat_ms = raft.now + raft.config.heartbeat_ms
        install.ask_again(raft, role)
    for member in news:
        if role.members[member].reachable:
            replicate(raft, role, member, confirm, due)
    if role.notice_ms != NEVER and all_are_told(raft, role):
        role.notice_ms = NEVER
    if role.waiting:
        release(raft, role)  # a single member is its own majority
    set_deadline(raft, role, due)


def to_be_told(raft: Raft, role: Leader) -> list[str]:
    """The members for which there is something."""
    last, notice = raft.log.last_index, raft.now >= role.notice_ms
    return [
        member
        for member, progress in role.members.items()
        if (notice or progress.next_index <= last) and progress.reachable and has_news(raft, progress, notice)
    ]


def all_are_told(raft: Raft, role: Leader) -> bool:
    """Whether all that can be reached have been told of what is committed."""
    for progress in role.members.values():
        if progress.reachable and progress.told_commit < raft.commit_index:
            return False
    return True


def set_deadline(raft: Raft, role: Leader, due: bool) -> None:
    """When to wake. Contact is counted every heartbeat, or when what was counted last would mean to step down: it only
    becomes later.
    """
    limit = raft.config.election_timeout_ms + 1
    if due or role.counted_ms + limit <= raft.now:
        role.counted_ms = contact_ms(raft, role)
    role.deadline_ms = min(role.heartbeat_ms, role.heir_until_ms, role.counted_ms + limit)
    if role.notice_ms > raft.now:  # else it waits for a member's answer
        role.deadline_ms = min(role.deadline_ms, role.notice_ms)
    if raft.flush_since is not None:
        role.deadline_ms = min(role.deadline_ms, raft.flush_since + limit)


def advance(raft: Raft, role: Leader) -> None:
    """Commit the highest entry of this term that a majority holds durably; earlier terms follow with it.

    Source: Raft dissertation §3.6.2 (never commit an earlier term's entry by counting).
    """
    if raft.commit_index == raft.log.last_index:
        return
    index = agreed(tally(raft, raft.durable_index, [progress.match_index for progress in role.voting]))
    if index > raft.commit_index and index >= role.first_index:
        settles = raft.commit_index < raft.membership.index <= index
        raft.commit(index)
        if settles:
            settle_members(raft, role)
        role.notice_ms = min(role.notice_ms, raft.now + raft.config.notice_ms)


def confirmed_round(raft: Raft, role: Leader) -> int:
    """The latest round that a majority has answered."""
    return agreed(tally(raft, role.round, [progress.acknowledged_round for progress in role.voting]))


def release(raft: Raft, role: Leader) -> None:
    """Hand out the reads whose round a majority has confirmed."""
    confirmed = confirmed_round(raft, role)
    while role.waiting and role.waiting[0][0] <= confirmed:
        _, index, tokens = role.waiting.popleft()
        raft.effects.append(ReadReady(tokens, index))


def forget_rounds(raft: Raft, role: Leader) -> None:
    """Keep the send times of an election timeout: older ones prove nothing any more."""
    oldest = raft.now - raft.config.election_timeout_ms
    while len(role.sent) > 1 and role.sent[0][1] < oldest:
        role.sent.popleft()


def has_news(raft: Raft, progress: Progress, notice: bool) -> bool:
    """Whether there are blocks to send, or it is time for a commit index the member has not heard of."""
    if progress.transfer is not None or (progress.probing and progress.probe_sent):
        return False
    if progress.next_index <= raft.log.last_index:
        return progress.inflight_bytes < raft.config.inflight_bytes_max
    return notice and progress.told_commit < raft.commit_index


def replicate(raft: Raft, role: Leader, member: str, confirm: bool, due: bool) -> None:
    """Send one member what fits in flight, in appends of bounded size; or a heartbeat, if there is nothing."""
    progress = role.members[member]
    if progress.probing and due:
        progress.probe(progress.next_index)  # the last probe may be lost
    first = progress.next_index
    sent_any = False
    while not sent_any or (
        not progress.probing
        and first <= raft.log.last_index
        and progress.inflight_bytes < raft.config.inflight_bytes_max
    ):
        previous = first - 1
        room = progress.transfer is None and not (progress.probing and progress.probe_sent)
        if room and first <= raft.log.last_index and progress.inflight_bytes < raft.config.inflight_bytes_max:
            last, size = raft.log.run(first, raft.config.append_bytes_max)
            progress.sent(last, size)
        else:
            last = previous
        boundary = raft.log.boundary_at(previous)
        if boundary is None:
            raise broken("an append must follow a block", previous)
        raft.effects.append(
            Replicate(
                member=member,
                term=raft.term,
                previous_index=previous,
                previous_term=boundary[0],
                previous_chain=boundary[1],
                first_index=first,
                last_index=last,
                commit_index=raft.commit_index,
                log_index=raft.log.last_index,
                round=role.round,
                lease_ms=raft.config.lease_ms,
                echo_ms=progress.echo_ms,
                confirm=confirm,
                settled=raft.commit_index >= role.first_index,
            )
        )
        sent_any = True
        first = last + 1
    progress.told_commit = raft.commit_index


def on_append(raft: Raft, role: Leader, member: str, request: Append) -> None:
    """Another leader in this very term would break election safety; an older one is told of this term."""
    check(request.term < raft.term, "two leaders in one term", raft.term, raft.member_id, member)
    raft.send(member, follower.refusal(raft, request, raft.log.last_index))


def on_install(raft: Raft, role: Leader, member: str, request: Install) -> None:
    """As with an append."""
    check(request.term < raft.term, "two leaders in one term", raft.term, raft.member_id, member)
    install.refuse(raft, member, request)


HANDLERS = {
    Append: on_append,
    AppendResponse: on_append_response,
    Install: on_install,
    InstallResponse: install.on_install_response,
}
