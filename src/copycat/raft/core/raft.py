"""What every member has, and the one way in: `step(now, events) -> effects`.

`Raft` holds term, vote, log view and commit index; `raft.role` holds what its role needs and nothing else, so that
stepping down drops it. Each role's file reads as the answer to "what does a leader (follower, candidate) do?" and
ends with its table of handlers. The term rule runs first, here, in one place.

Durability is an event, not a held message. The core asks for `Store` and `Persist`, goes on, and answers only when
`Flushed` and `Persisted` come back: an acknowledgement is never made before what it vouches for is on disk.

Source: Raft dissertation §3; protocol §3; ARCHITECTURE.md "The core's shape".
"""

from collections.abc import Callable, Sequence
from typing import Protocol
from zlib import crc32

from copycat.errors import broken, check
from copycat.raft.core import follower, leader, passive
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.dispatch import ON_EVENT, ROOMS
from copycat.raft.core.effects import (
    Committed,
    Effect,
    InstallSnapshot,
    MembershipChanged,
    Persist,
    RoleChanged,
    Send,
    Store,
    StoreReceived,
    Truncate,
)
from copycat.raft.core.events import Event
from copycat.raft.core.log_view import LogView
from copycat.raft.core.membership import Membership, Memberships, ReadMembership
from copycat.raft.protocol.entries import BlockKind
from copycat.raft.protocol.lives import Vouched
from copycat.raft.protocol.messages import (
    AppendResponse,
    BlockHead,
    Message,
    PollRequest,
    PollResponse,
    SnapshotId,
    VoteRequest,
    VoteResponse,
)

CARRY_MEMBERSHIP = (BlockKind.INITIALIZE, BlockKind.CONFIGURE)


class Role(Protocol):
    """What all roles share: a name to show and the time at which they want to be woken."""

    name: str
    deadline_ms: int


class Raft:
    """One member's consensus state. Owned by one driver; not thread-safe; does no I/O.

    member_id: this member.
    memberships: who takes part, as far as the log goes: oldest first, the last one in force.
    read_membership: the list that an entry carries.
    log: what is on disk, all of it durable.
    snapshot: the newest one on disk, from which this member's state goes on; None: the state is empty.
    random: returns a float in [0, 1); the only source of randomness (election timeouts).
    now_ms: a clock that counts suspension; the promise not to vote starts here (protocol §3.2).
    voting: False for a member whose log has a hole, or is known to be an older copy: it is refilled before it votes
        (protocol §1.2, §2.8).
    """

    def __init__(
        self,
        *,
        member_id: str,
        memberships: Sequence[Membership],
        read_membership: ReadMembership,
        config: RaftConfig,
        log: LogView,
        term: int,
        vote: str,
        log_time: int,
        random: Callable[[], float],
        now_ms: int,
        snapshot: SnapshotId | None = None,
        voting: bool = True,
    ) -> None:
        check(term >= log.last_term, "metadata is older than the log", term, log.last_term)
        self.member_id = member_id
        self.memberships = Memberships(memberships)
        self.read_membership = read_membership
        self._list_members()
        self.config = config
        self.log = log
        self.term, self.vote = term, vote
        self.persisted_term, self.persisted_vote = term, vote
        self.durable_index = log.last_index
        self.snapshot = snapshot
        self.commit_index = self.applied_index = 0 if snapshot is None else snapshot.index
        check(log.base_index <= self.commit_index <= log.last_index, "the log meets its snapshot", log.base_index)
        self.log_time = log_time
        self.leader: str | None = None
        self.now = now_ms
        self.heard_at = now_ms
        self.promised_until = now_ms + config.lease_ms if self.electors else now_ms
        self.flush_since: int | None = None  # since when the log has waited for its disk
        self.dead: set[str] = (
            set()
        )  # members whose link was reset and whose redial was refused; only tested, not walked
        self.vouched: dict[str, Vouched] = {}  # the others' latest word, given to this member, but while it leads
        self.random = random
        self.effects: list[Effect] = []
        self.role: Role = follower.enter(self) if voting else passive.enter(self)
        if self.voters == (member_id,) and voting:
            self.role.deadline_ms = now_ms  # a single member need not wait for anyone
        self.effects.clear()

    # -- the way in --------------------------------------------------------------------------------------------------

    def step(self, now_ms: int, events: Sequence[Event]) -> list[Effect]:
        """Take in what happened up to `now_ms`, in order, and return what to do about it, in order.

        `now_ms` must be read after the turn's input was drained (protocol §3.4); it never falls.
        """
        if now_ms < self.now:
            raise broken("time fell", now_ms, self.now)
        self.now = now_ms
        effects: list[Effect] = []
        self.effects = effects
        if now_ms >= self.role.deadline_ms:
            # Before any input: a leader that was paused past its timeout must step down before it believes
            # answers that waited in its sockets meanwhile.
            ROOMS[type(self.role)].on_deadline(self, self.role)
        for event in events:
            ON_EVENT[type(event)](self, event)
        ROOMS[type(self.role)].finish(self, self.role)
        return effects

    @property
    def deadline_ms(self) -> int:
        """When `step` wants to be called again even if nothing happens."""
        return self.role.deadline_ms

    @property
    def promised(self) -> bool:
        """Whether this member has promised a leader not to vote yet."""
        return self.now < self.promised_until

    @property
    def is_leader(self) -> bool:
        return type(self.role) is leader.Leader

    @property
    def is_handing_over(self) -> bool:
        """Whether this member leads, but lets another lead next."""
        return type(self.role) is leader.Leader and self.role.heir is not None

    @property
    def is_ready(self) -> bool:
        """Whether this member leads and has applied an entry of its own term."""
        return type(self.role) is leader.Leader and self.applied_index >= self.role.first_index

    # -- messages ----------------------------------------------------------------------------------------------------

    def may_wait(self, member: str, message: Message) -> bool:
        """Whether nobody waits for what this says, so that it may be taken in with whatever comes next."""
        role = self.role
        return (
            type(message) is AppendResponse
            and type(role) is leader.Leader
            and leader.may_wait(self, role, member, message)
        )

    def on_message(self, member: str, message: Message) -> None:
        """The term rule, then the role's own handler."""
        if isinstance(message, PollRequest | VoteRequest):
            # Polls propose a term without changing any; a promise to a live leader covers votes and their terms
            # (protocol §3.2), so neither reaches the term rule below.
            if isinstance(message, VoteRequest) and message.term > self.term and self.may_vote(member, message):
                self.adopt_term(message.term)
            self._on_candidate(member, message)
            return
        if message.term > self.term:
            self.adopt_term(message.term)
        handler = ROOMS[type(self.role)].HANDLERS.get(type(message))
        if handler is not None:
            handler(self, self.role, member, message)

    def _on_candidate(self, member: str, request: PollRequest | VoteRequest) -> None:
        """Answer a poll or a vote request; at most one vote per term, durable before it is sent.

        Answered from any role and for any candidate, known or not.

        Source: Raft dissertation §3.4, §3.6.1, §4.2.3, §9.6.
        """
        fresh = (request.last_term, request.last_index) >= (self.log.last_term, self.log.last_index)
        votes = type(self.role) is not passive.Passive
        if isinstance(request, PollRequest):
            granted = votes and fresh and request.term > self.term and self.may_vote_early(member)
            self.send(member, PollResponse(term=self.term, proposed=request.term, granted=granted))
            return
        granted = (
            votes
            and fresh
            and request.term == self.term
            and self.vote in ("", member)
            and type(self.role) is follower.Follower
            and self.may_vote(member, request)
        )
        if not granted:
            self.send(member, VoteResponse(term=self.term, granted=False))
            return
        self.set_vote(member)
        self.role.deadline_ms = self.now + self.election_timeout()
        self.tell_vote()

    def may_vote(self, candidate_id: str, request: VoteRequest) -> bool:
        """As below, unless the leader itself has asked for the election, after it stopped lease reads."""
        return request.transfer or self.may_vote_early(candidate_id)

    def may_vote_early(self, candidate_id: str) -> bool:
        """Whether an election may happen now, as far as this member knows (protocol §3.2, §3.3).

        Within the promise: never. Until the election timeout: only with evidence of its own that the leader is dead.
        A leader agrees once its majority is out of contact; before, it is itself the evidence of life.
        """
        if self.promised:
            return False
        if type(self.role) is leader.Leader:
            return leader.contact_ms(self, self.role) + self.config.lease_ms <= self.now
        if self.leader is None or self.leader == candidate_id or self.leader in self.dead:
            return True
        return self.now >= self.heard_at + self.config.election_timeout_ms

    def tell_vote(self) -> None:
        """Send the vote of this term once it is durable."""
        if self.vote not in ("", self.member_id) and (self.persisted_term, self.persisted_vote) == (
            self.term,
            self.vote,
        ):
            self.send(self.vote, VoteResponse(term=self.term, granted=True))

    # -- terms, votes, roles -----------------------------------------------------------------------------------------

    def adopt_term(self, term: int) -> None:
        """A higher term exists: whatever this member was, it follows. The vote is cleared only here."""
        check(term > self.term, "terms only grow", term, self.term)
        self.term, self.vote = term, ""
        self.leader = None
        self.effects.append(Persist(term, ""))
        if type(self.role) is passive.Passive:
            self.tell_role()
        else:
            self.become(follower.enter(self))

    def set_vote(self, member: str) -> None:
        """Vote for `member` in the current term, for good."""
        check(self.vote in ("", member), "one vote a term", self.term, self.vote, member)
        if self.vote != member:
            self.vote = member
            self.effects.append(Persist(self.term, member))

    def campaign(self) -> None:
        """Enter the next term and vote for oneself."""
        self.term += 1
        self.vote = self.member_id
        self.leader = None
        self.effects.append(Persist(self.term, self.vote))

    def become(self, role: Role) -> None:
        """Take a role, letting go of everything the old one held."""
        if type(self.role) is leader.Leader:
            leader.leave(self, self.role)
        self.role = role
        self.tell_role()

    def tell_role(self) -> None:
        self.effects.append(RoleChanged(role=self.role.name, term=self.term, leader=self.leader))

    def follow(self, member: str) -> None:
        """`member` leads this term."""
        check(self.leader in (None, member), "one leader a term", self.term, self.leader, member)
        if self.leader != member:
            self.leader = member
            self.tell_role()

    def election_timeout(self) -> int:
        """A random time between one and two election timeouts."""
        return int(self.config.election_timeout_ms * (1 + self.random()))

    def send(self, member: str, message: Message) -> None:
        self.effects.append(Send(member, message))

    # -- who takes part ----------------------------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """The list in force here."""
        return self.memberships.latest

    @property
    def may_campaign(self) -> bool:
        """Whether this member has a vote, or had one until a change that is not certain: then it may be the only one
        whose log is long enough to win, without counting itself (Raft dissertation §4.2.2).
        """
        return self.is_voter or any(
            self.member_id in each.active for each in self.memberships.possible(self.commit_index)
        )

    def _enter_membership(self, membership: Membership) -> None:
        """An entry with a list was appended: it is in force from now on (dissertation §4.1)."""
        before = self.membership
        self.memberships.append(membership)
        if before.body != membership.body:
            self._list_members()
            self.effects.append(MembershipChanged(membership))

    def _list_members(self) -> None:
        """voters: whose majority counts. electors: the voters but this member. others: all members but this one."""
        membership = self.membership
        self.voters = membership.active
        self.electors = tuple(voter for voter in self.voters if voter != self.member_id)
        self.others = tuple(member for member in membership.members if member != self.member_id)
        self.is_voter = self.member_id in self.voters

    # -- the log -----------------------------------------------------------------------------------------------------

    def store(self, kind: int, count: int, body: bytes) -> None:
        """Append a block of this leader's own term."""
        before = self.log.last_chain
        chain = crc32(body, before)
        first = self.log.last_index + 1
        self.log.append(first, count, self.term, chain, len(body))
        if kind in CARRY_MEMBERSHIP:
            self._enter_membership(self.read_membership(first, body))
        self._await_flush()
        self.effects.append(
            Store(
                first_index=first,
                count=count,
                term=self.term,
                kind=kind,
                time=self.log_time,
                chain_before=before,
                chain=chain,
                body=body,
            )
        )

    def store_received(self, blocks: Sequence[BlockHead]) -> None:
        """Append a leader's blocks; log time follows theirs."""
        for block in blocks:
            self.log.append(block.first_index, block.count, block.term, block.chain, block.size)
            if block.kind in CARRY_MEMBERSHIP:
                self._enter_membership(self.read_membership(block.first_index, block.body))
        self._await_flush()
        self.log_time = max(self.log_time, blocks[-1].time)
        self.effects.append(StoreReceived(blocks))

    def _await_flush(self) -> None:
        if self.flush_since is None:
            self.flush_since = self.now

    @property
    def disk_stalled(self) -> bool:
        """Whether a flush has been outstanding for longer than the election timeout (protocol §1.6)."""
        return self.flush_since is not None and self.now - self.flush_since > self.config.election_timeout_ms

    def truncate(self, index: int) -> None:
        """Drop a tail that conflicts with the leader's. What is committed is never dropped."""
        check(index >= self.commit_index, "a leader asked to drop committed entries", index, self.commit_index)
        self.log.truncate_after(index)
        self.durable_index = min(self.durable_index, index)
        self.effects.append(Truncate(index))
        if self.memberships.truncate_after(index):
            self._list_members()
            self.effects.append(MembershipChanged(self.memberships.latest))

    def go_on_from(self, snapshot: SnapshotId, membership: Membership, state: object) -> None:
        """A leader's snapshot takes the place of log and state: both lack what it covers."""
        check(snapshot.index > self.commit_index, "a snapshot takes nothing back", snapshot.index, self.commit_index)
        self.log.reset(snapshot.index, snapshot.term, snapshot.chain)
        self.commit_index = self.applied_index = self.durable_index = snapshot.index
        self.flush_since = None
        self.log_time = max(self.log_time, snapshot.time)
        self.effects.append(InstallSnapshot(snapshot, state))
        self.memberships.reset(membership)
        self._list_members()
        self.effects.append(MembershipChanged(membership))

    def commit(self, index: int) -> None:
        """Everything up to `index` is committed."""
        if index > self.commit_index:
            if index > self.log.last_index:
                raise broken("a commit index beyond the log", index, self.log.last_index)
            self.commit_index = index
            self.effects.append(Committed(index))
