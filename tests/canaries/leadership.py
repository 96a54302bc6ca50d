"""Mistakes about who may lead, what a leader commits, and which reads it may answer."""

from tests.canaries.canary import Canary

LEADERSHIP = (
    Canary(
        name="A vote looks at the length of the log alone",
        module="copycat.raft.core.raft",
        before="fresh = (request.last_term, request.last_index) >= (self.log.last_term, self.log.last_index)",
        after="fresh = request.last_index >= self.log.last_index",
        danger="a leader that was cut off with much that nobody has comes back and takes away what was acknowledged",
        judges=("4", "5", "6"),
    ),
    Canary(
        name="Entries of earlier terms commit by being counted",
        module="copycat.raft.core.leader",
        before="if index > raft.commit_index and index >= role.first_index:",
        after="if index > raft.commit_index:",
        danger="what was committed so is overwritten by a leader of a term in between",
        judges=("5",),
    ),
    Canary(
        name="A follower commits as much as the leader, whatever of it was compared",
        module="copycat.raft.core.follower",
        before="raft.commit(min(request.commit_index, role.verified_index))",
        after="raft.commit(min(request.commit_index, raft.log.last_index))",
        danger="a member applies an old tail that nobody has committed",
        judges=(
            "6",
            "blocks are applied in order",
            "a leader asked to drop committed entries",
            "applied beyond the commit index",
        ),
    ),
    Canary(
        name="A linearizable read is answered without asking whether one still leads",
        module="copycat.raft.core.leader",
        before="role.reads.append(token)",
        after="raft.effects.append(ReadReady([token], raft.commit_index))",
        danger="a leader that was replaced, and does not know it yet, answers with what was true before",
        judges=("10", "11"),
    ),
    Canary(
        name="What a follower has promised its leader is not kept",
        module="copycat.raft.core.follower",
        before="raft.promised_until = max(raft.promised_until, raft.now + request.lease_ms)",
        after="",
        danger="the old leader answers reads by its lease while another one writes",
        judges=("12",),
    ),
    Canary(
        name="A lease lasts for as long as its leader leads",
        module="copycat.raft.server.desk",
        before="return isinstance(raft.role, Leader) and self._driver.now_ms() < lease_until(raft, raft.role)",
        after="return isinstance(raft.role, Leader)",
        danger="a leader that was replaced, and does not know it yet, answers with what was true before",
        judges=("12",),
    ),
    Canary(
        name="A new leader answers before it has applied an entry of its own",
        module="copycat.raft.core.raft",
        before="return type(self.role) is leader.Leader and self.applied_index >= self.role.first_index",
        after="return type(self.role) is leader.Leader",
        danger="it does not know yet all that is committed, and reads miss what was acknowledged",
        judges=("10", "11", "12", "13"),
    ),
)
