"""One core driven by hand, for scenarios written out event by event: its disk and network do only what a test says."""

from collections.abc import Iterable, Sequence
from zlib import crc32

from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import Committed, Effect, Replicate, RoleChanged, Send
from copycat.raft.core.events import Applied, Event, Flushed, Persisted, Proposed, Received
from copycat.raft.core.invariants import Watch
from copycat.raft.core.leader import Leader
from copycat.raft.core.log_view import LogView
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.messages import Append, AppendResponse, Message, PollResponse, SnapshotId, VoteResponse
from tests.raft.core.disk import FakeBlock, list_of, read_list

START = 1_000
CONFIGURATION = b"a,b,c"


def blocks_of(*terms: int, after: Sequence[FakeBlock] = (), count: int = 1, body: bytes = b"") -> list[FakeBlock]:
    """A block of `count` entries for each term, behind `after`; equal histories have equal chains."""
    made: list[FakeBlock] = []
    for term in terms:
        last = made[-1] if made else after[-1] if after else None
        first = last.last_index + 1 if last else 1
        before = last.chain if last else 0
        data = body or b"%d in term %d" % (first, term)
        made.append(
            FakeBlock(
                first_index=first,
                count=count,
                term=term,
                kind=2,
                time=first * 10,
                chain_before=before,
                chain=crc32(data, before),
                body=data,
            )
        )
    return made


def snapshot_at(log: LogView) -> SnapshotId:
    """The snapshot that a log begins behind."""
    return SnapshotId(
        index=log.base_index, term=log.base_term, chain=log.base_chain, time=log.base_index * 10, size=100
    )


def append_to(
    held: Sequence[FakeBlock],
    blocks: Sequence[FakeBlock] = (),
    *,
    term: int,
    commit: int = 0,
    round: int = 1,
    lease_ms: int = 0,
    echo_ms: int = 0,
    confirm: bool = False,
    settled: bool = False,
    last_index: int | None = None,
) -> Append:
    """A leader's append of `blocks` behind `held`."""
    previous = held[-1] if held else None
    end = blocks[-1].last_index if blocks else previous.last_index if previous else 0
    return Append(
        term=term,
        previous_index=previous.last_index if previous else 0,
        previous_term=previous.term if previous else 0,
        previous_chain=previous.chain if previous else 0,
        commit_index=commit,
        last_index=end if last_index is None else last_index,
        round=round,
        lease_ms=lease_ms,
        echo_ms=echo_ms,
        confirm=confirm,
        settled=settled,
        blocks=blocks,
    )


class Member:
    """The core of `a`, one of `size` voters, holding `blocks` durably behind `base`. All its steps are watched."""

    def __init__(
        self,
        blocks: Sequence[FakeBlock] = (),
        *,
        term: int = 0,
        vote: str = "",
        size: int = 3,
        random: float = 0.0,
        voting: bool = True,
        config: RaftConfig | None = None,
        base: LogView | None = None,
    ) -> None:
        log = base or LogView()
        for block in blocks:
            log.append(block.first_index, block.count, block.term, block.chain, block.size)
        self.now = START
        self.random = random
        self.watch = Watch()
        self.raft = Raft(
            member_id="a",
            memberships=[read_list(0, list_of(chr(ord("a") + position) for position in range(size)))],
            read_membership=read_list,
            config=config or RaftConfig(notice_ms=0),
            log=log,
            term=term,
            vote=vote,
            log_time=blocks[-1].time if blocks else 0,
            random=lambda: self.random,
            now_ms=START,
            snapshot=snapshot_at(log) if log.base_index else None,
            voting=voting,
        )

    def step(self, *events: Event, after: int = 0) -> list[Effect]:
        """One turn, `after` milliseconds later than the last."""
        self.now += after
        effects = self.raft.step(self.now, events)
        self.watch.check(self.raft, effects)
        return effects

    def hear(self, member: str, message: Message, *, after: int = 0) -> list[Effect]:
        """One turn with one message."""
        return self.step(Received(member, message), after=after)

    def persist(self) -> list[Effect]:
        """Its term and vote reach the disk."""
        return self.step(Persisted(self.raft.term, self.raft.vote))

    def flush(self) -> list[Effect]:
        """Its whole log reaches the disk."""
        return self.step(Flushed(self.raft.log.last_index, self.raft.log.last_term))

    def follow(self, leader: str = "b", *, term: int | None = None, lease_ms: int = 0) -> None:
        """Follow `leader` in `term`, durably, with nothing yet verified."""
        number = self.raft.term if term is None else term
        self.hear(leader, append_to((), term=number, round=1, lease_ms=lease_ms))
        self.persist()

    def campaign(self) -> list[Effect]:
        """Wait for the deadline and win the poll: a candidate whose vote is not yet durable."""
        self.step(after=max(self.raft.deadline_ms - self.now, 0))
        granted = PollResponse(term=self.raft.term, proposed=self.raft.term + 1, granted=True)
        effects: list[Effect] = []
        for member in self.raft.others[: len(self.raft.voters) // 2]:
            effects = self.hear(member, granted)
        return effects

    def lead(self) -> list[Effect]:
        """Become leader with the fewest votes, its first entry neither durable nor answered."""
        self.campaign()
        effects = self.persist()
        for member in self.raft.others[: len(self.raft.voters) // 2]:
            effects = self.hear(member, VoteResponse(term=self.raft.term, granted=True))
        return effects

    def answer(
        self, member: str, *, round: int | None = None, match: int | None = None, sent_ms: int = 0, after: int = 0
    ) -> list[Effect]:
        """`member` has taken in what it was sent: all of the log and the newest round, if not told otherwise."""
        response = AppendResponse(
            term=self.raft.term,
            round=self.leading.round if round is None else round,
            accepted=True,
            match_index=self.raft.log.last_index if match is None else match,
            hint_index=0,
            sent_ms=sent_ms,
        )
        return self.hear(member, response, after=after)

    def refuse(self, member: str, hint: int, *, refilling: bool = False) -> list[Effect]:
        """`member` agrees with the log up to `hint` at most."""
        response = AppendResponse(
            term=self.raft.term,
            round=self.leading.round,
            accepted=False,
            match_index=0,
            hint_index=hint,
            sent_ms=0,
            refilling=refilling,
        )
        return self.hear(member, response)

    @property
    def leading(self) -> Leader:
        assert isinstance(self.raft.role, Leader)
        return self.raft.role


def messages(effects: Iterable[Effect]) -> list[tuple[str, Message]]:
    """What is sent, to whom, apart from a leader's appends."""
    return [(effect.member, effect.message) for effect in effects if isinstance(effect, Send)]


def appends(effects: Iterable[Effect], member: str | None = None) -> list[Replicate]:
    """A leader's appends, to one member or to all."""
    return [effect for effect in effects if isinstance(effect, Replicate) and member in (None, effect.member)]


def ranges(effects: Iterable[Effect], member: str) -> list[tuple[int, int]]:
    """First and last index of each append to a member; last below first in a heartbeat."""
    return [(effect.first_index, effect.last_index) for effect in appends(effects, member)]


def answers(effects: Iterable[Effect]) -> list[AppendResponse]:
    """A follower's answers to its leader."""
    return [message for _, message in messages(effects) if isinstance(message, AppendResponse)]


def committed(effects: Iterable[Effect]) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, Committed)]


def roles(effects: Iterable[Effect]) -> list[tuple[str, int, str | None]]:
    return [(effect.role, effect.term, effect.leader) for effect in effects if isinstance(effect, RoleChanged)]


# -- leaders to begin with --------------------------------------------------------------------------------------------

HISTORY = blocks_of(1, 2)


def elected(size: int = 3, **settings: int) -> Member:
    """The leader of term 3 with two older entries, its first own one (3) not yet durable anywhere."""
    member = Member(HISTORY, term=2, size=size, config=RaftConfig(**{"notice_ms": 0, **settings}))
    member.lead()
    return member


def ready(size: int = 3, **settings: int) -> Member:
    """A leader whose first entry is committed and applied, and which has told everyone so and heard back."""
    member = elected(size, **settings)
    member.flush()
    for other in member.raft.others:
        member.answer(other)
    member.step(Applied(3))
    for other in member.raft.others:
        member.answer(other)
    assert member.raft.is_ready
    return member


def propose(member: Member, body: bytes = b"x", *, count: int = 1, after: int = 0) -> list[Replicate]:
    """The appends that follow a proposal at once."""
    return appends(member.step(Proposed(count=count, body=body), after=after))
