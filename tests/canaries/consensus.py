"""Mistakes in elections, in replication, and in reads: `copycat.raft.core` and who drives it."""

from tests.canaries.canary import Canary

CONSENSUS = (
    Canary(
        name="A vote leaves before it is on the disk",
        module="copycat.raft.core.raft",
        before="""
            if self.vote not in ("", self.member_id) and (self.persisted_term, self.persisted_vote) == (
                self.term,
                self.vote,
            ):
        """,
        after='if self.vote not in ("", self.member_id):',
        danger="after a power cut the member votes again in the same term, for another: two leaders",
        judges=("1", "2"),
    ),
    Canary(
        name="A vote is cleared when the leader of its term is found",
        module="copycat.raft.core.raft",
        before="""
            if self.leader != member:
                self.leader = member
                self.tell_role()
        """,
        after="""
            if self.leader != member:
                self.leader, self.vote = member, ""
                self.effects.append(Persist(self.term, ""))
                self.tell_role()
        """,
        danger="the member may vote a second time in the term: two leaders",
        judges=("2",),
    ),
    Canary(
        name="A candidate asks for votes before its own is on the disk",
        module="copycat.raft.core.candidate",
        before="""
            raft.become(Candidate(deadline_ms=raft.now + raft.election_timeout(), polling=False, transfer=transfer))
        """,
        after="""
            raft.become(Candidate(deadline_ms=raft.now + raft.election_timeout(), polling=False, transfer=transfer))
            for member in raft.others:
                raft.send(
                    member, VoteRequest(term=raft.term, last_index=raft.log.last_index, last_term=raft.log.last_term)
                )
        """,
        danger="it leads a term that it has forgotten after a power cut, and votes in it for another",
        judges=("2",),
    ),
    Canary(
        name="A majority of an even number is half of it",
        module="copycat.raft.core.quorum",
        before="return voters // 2 + 1",
        after="return (voters + 1) // 2",
        danger="in a cluster of four, two halves elect a leader each, and both go on",
        judges=("1", "2", "5"),
    ),
    Canary(
        name="Half of an even number commits",
        module="copycat.raft.core.quorum",
        before="return ordered[len(ordered) // 2]",
        after="return ordered[(len(ordered) - 1) // 2]",
        danger="an acknowledged write is on two of four members, and the other two elect a leader without it",
        judges=("5",),
    ),
    Canary(
        name="A follower vouches for entries before they are on its disk",
        module="copycat.raft.core.follower",
        before="match = raft.log.boundary_at_or_below(min(raft.durable_index, role.verified_index))",
        after="match = raft.log.boundary_at_or_below(role.verified_index)",
        danger="a power cut takes acknowledged writes from a majority",
        judges=("5", "7"),
    ),
    Canary(
        name="A leader counts itself before its own disk has the entry",
        module="copycat.raft.core.leader",
        before="index = agreed(tally(raft, raft.durable_index, [progress.match_index for progress in role.voting]))",
        after="index = agreed(tally(raft, raft.log.last_index, [progress.match_index for progress in role.voting]))",
        danger="a power cut takes acknowledged writes from a majority",
        judges=("5",),
    ),
    Canary(
        name="A late append cuts off what stands behind its end",
        module="copycat.raft.core.follower",
        before="""
            for position, block in enumerate(request.blocks):
                held = log.term_at(block.first_index)
        """,
        after="""
            end = request.blocks[-1].last_index if request.blocks else request.previous_index
            if log.last_index > end:
                raft.truncate(end)
            for position, block in enumerate(request.blocks):
                held = log.term_at(block.first_index)
        """,
        danger="a repeated or delayed request takes back entries that were vouched for",
        judges=(
            "a commit index beyond the log",
            "4",
            "5",
            "7",
            "a leader asked to drop committed entries",
            "truncation must fall between blocks",
        ),
    ),
    Canary(
        name="A commit index goes where it is told, back too",
        module="copycat.raft.core.raft",
        before="if index > self.commit_index:",
        after="if index != self.commit_index:",
        danger="what is committed loses its protection, and reads are answered with an older state",
        judges=("8",),
    ),
    Canary(
        name="A block that was replaced is applied, because it was still at hand",
        module="copycat.raft.server.driver",
        before="self._recent.truncate_after(effect.index)",
        after="pass",
        danger="one member applies what was never committed",
        judges=("6", "blocks are applied in order", "no time passed"),
    ),
)
