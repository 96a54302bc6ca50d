"""What must hold of a member's state after every step, and of every change of it.

`Watch` checks one member step by step; `ClusterWatch` sees all members at once, as only a test can. Names and numbers
are those of reliability §1.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from copycat.errors import check
from copycat.raft.core.candidate import Candidate
from copycat.raft.core.effects import Effect, RoleChanged, Send, Store, Truncate
from copycat.raft.core.leader import Leader
from copycat.raft.core.quorum import majority
from copycat.raft.core.raft import CARRY_MEMBERSHIP, Raft
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.messages import AppendResponse, VoteRequest, VoteResponse

NEVER = 1 << 62  # a term that is not reached


@dataclass(slots=True)
class Watch:
    """Compares a member with what it was a step ago."""

    term: int = 0
    vote: str = ""
    commit_index: int = 0
    applied_index: int = 0
    log_time: int = 0
    match: dict[str, int] = field(default_factory=dict)

    def check(self, raft: Raft, effects: Iterable[Effect]) -> None:
        """Raise InvariantError when state, change of state or an effect is impossible."""
        check(raft.term >= self.term, "2: a term fell", self.term, raft.term)
        if raft.term == self.term:
            check(self.vote in ("", raft.vote), "2: a vote changed within its term", raft.term, self.vote, raft.vote)
        check(raft.commit_index >= self.commit_index, "8: the commit index fell", self.commit_index, raft.commit_index)
        check(raft.applied_index >= self.applied_index, "8: the applied index fell", raft.applied_index)
        check(
            raft.applied_index <= raft.commit_index <= raft.log.last_index, "8: applied, commit and last out of order"
        )
        check(raft.durable_index <= raft.log.last_index, "7: durable beyond the log", raft.durable_index)
        check(raft.log_time >= self.log_time, "24: log time fell", self.log_time, raft.log_time)
        check(raft.persisted_term <= raft.term, "2: a term was persisted before it was entered")
        if isinstance(raft.role, Leader):
            self._check_leader(raft, raft.role)
        else:
            self.match = {}
            check(
                not any(type(effect) is Store for effect in effects) or raft.role.name != "passive", "passives propose"
            )
        if isinstance(raft.role, Candidate) and not raft.role.polling:
            check(raft.vote == raft.member_id, "a candidate votes for itself", raft.vote)
        for effect in effects:
            self._check_effect(raft, effect)
        self.term, self.vote = raft.term, raft.vote
        self.commit_index, self.applied_index, self.log_time = raft.commit_index, raft.applied_index, raft.log_time

    def _check_leader(self, raft: Raft, role: Leader) -> None:
        check(raft.leader == raft.member_id, "a leader knows itself", raft.leader)
        self.match = {member: index for member, index in self.match.items() if member in role.members}
        for member, progress in role.members.items():
            fell = progress.match_index < self.match.get(member, 0) and not progress.refilling
            check(not fell, "7: a match index fell", member)
            check(progress.next_index > progress.match_index, "next must stay above match", member)
            check(progress.match_index <= raft.log.last_index, "7: match beyond the log", member)
            self.match[member] = progress.match_index
        if raft.commit_index > self.commit_index:
            term = raft.log.term_at(raft.commit_index)
            check(term == raft.term, "5: a leader counts who holds its own entries alone", raft.commit_index, term)
        if raft.commit_index > self.commit_index and not any(p.refilling for p in role.members.values()):
            voters = raft.membership.active
            holds = {member: progress.match_index for member, progress in role.members.items()}
            holds[raft.member_id] = raft.durable_index
            holders = sum(holds[voter] >= raft.commit_index for voter in voters)
            check(holders >= majority(len(voters)), "5: committed without a durable majority", raft.commit_index)

    def _check_effect(self, raft: Raft, effect: Effect) -> None:
        if isinstance(effect, Truncate):
            check(effect.index >= self.commit_index, "5: a committed entry was truncated", effect.index)
        elif isinstance(effect, Send):
            message = effect.message
            if isinstance(message, VoteRequest | VoteResponse) and getattr(message, "granted", True):
                check(raft.persisted_term >= message.term, "2: a vote left before it was durable", message)
            elif isinstance(message, AppendResponse) and message.accepted:
                check(message.match_index <= raft.durable_index, "7: vouched before the flush", message)
                check(raft.persisted_term >= message.term, "2: an answer left before its term was durable", message)


@dataclass(slots=True)
class ClusterWatch:
    """Remembers, over the life of a test, who led each term, who voted for whom, and what was committed."""

    leaders: dict[int, str] = field(default_factory=dict)
    votes: dict[tuple[str, int], str] = field(default_factory=dict)
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)  # end of a block -> (term, chain)
    ends: list[int] = field(default_factory=list)  # the keys of `committed`, in order of discovery
    # The latest term with a leader, and how many of `ends` its log was seen to hold.
    looked_at: tuple[int, int] = (0, 0)
    # How far each member was seen to have committed: below nothing of its log changes without a Truncate, which Watch
    # refuses there.
    compared: dict[int, tuple[Raft, int]] = field(default_factory=dict)

    def check(self, raft: Raft, effects: Iterable[Effect]) -> None:
        """1: one leader a term; 2: one vote a term; 4, 5, 6: what is committed stands in each later leader's log."""
        if isinstance(raft.role, Leader):
            known = self.leaders.setdefault(raft.term, raft.member_id)
            check(known == raft.member_id, "1: two leaders in a term", raft.term, known, raft.member_id)
            if raft.term >= self.looked_at[0]:
                self._check_completeness(raft, self.looked_at[1] if raft.term == self.looked_at[0] else 0)
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, VoteResponse) and effect.message.granted:
                known = self.votes.setdefault((raft.member_id, effect.message.term), effect.member)
                check(known == effect.member, "2: two votes in a term", raft.member_id, effect.message.term)
        if self.compared.get(id(raft)) == (raft, raft.commit_index):
            return
        self.compared[id(raft)] = (raft, raft.commit_index)
        # Also of an index long known: that its second holder has the same there is the point.
        end = raft.log.boundary_at_or_below(raft.commit_index)
        position = (raft.log.term_at(end) or 0, raft.log.chain_at(end) or 0)
        if end not in self.committed:
            self.ends.append(end)
        known_position = self.committed.setdefault(end, position)
        check(known_position == position, "6: two members committed different entries", end)

    def _check_completeness(self, raft: Raft, since: int) -> None:
        """A leader's log only grows: what it was seen to hold it holds."""
        for index in self.ends[since:]:
            if index < raft.log.base_index:
                continue  # a snapshot stands for it, whose last entry is compared
            term, chain = self.committed[index]
            check(raft.log.term_at(index) == term, "5: a leader lacks a committed entry", index)
            check(raft.log.chain_at(index) == chain, "4: a leader holds another entry", index)
        self.looked_at = (raft.term, len(self.ends))


@dataclass(slots=True)
class MembershipWatch:
    """Remembers all lists of members that ever stood in a log; from the first step of a cluster on.

    `cluster` is told of each step first.
    """

    cluster: ClusterWatch
    lists: dict[tuple[int, int], bytes] = field(default_factory=dict)  # by index and term of their entries
    places: list[tuple[int, int]] = field(default_factory=list)  # the keys of `lists`, sorted

    def check(self, raft: Raft, effects: Iterable[Effect]) -> None:
        """9: who takes part; 36: and has a vote."""
        for effect in effects:
            if isinstance(effect, Store) and effect.kind in CARRY_MEMBERSHIP:
                self._note_list(raft, effect)
            elif isinstance(effect, RoleChanged) and effect.role == "leader":
                self._check_election(raft, effect.term)  # in which it may be no more
        self._check_list(raft)

    def _check_election(self, raft: Raft, term: int) -> None:
        """36: those who vote, and they alone, elect."""
        name = raft.member_id
        voters = raft.membership.active
        granted = [voter for voter in voters if voter == name or self.cluster.votes.get((voter, term)) == name]
        check(len(granted) >= majority(len(voters)), "36: elected without a majority of the voters", name, granted)

    def _note_list(self, raft: Raft, effect: Store) -> None:
        """9: one change at a time, and none before something of the leader's own term is committed."""
        self.lists[effect.first_index, effect.term] = effect.body
        insort(self.places, (effect.first_index, effect.term))
        if effect.kind == BlockKind.CONFIGURE:
            term = raft.log.term_at(raft.commit_index)
            check(
                term == effect.term, "9: a change before anything of the own term was committed", raft.member_id, term
            )
            possible = {each.body for each in raft.memberships.possible(raft.commit_index)}
            check(len(possible) <= 2, "9: two changes of members at a time", raft.member_id, effect.first_index)

    def _check_list(self, raft: Raft) -> None:
        """9: in force is the latest list in the log, be it certain or not."""
        index, log = raft.membership.index, raft.log
        if index > log.base_index:
            held = self.lists.get((index, log.term_at(index) or 0))
            check(held == raft.membership.body, "9: a list is in force that the log does not hold", raft.member_id)
        for place, term in self.places[bisect_right(self.places, (index, NEVER)) :]:
            is_held = log.base_index < place <= log.last_index and log.term_at(place) == term
            check(not is_held, "9: a list in the log is not in force", raft.member_id, index, place)
