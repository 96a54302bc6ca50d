"""Canaries of what a member owes the others: one vote, a whole log, one state, and to hear every session."""

from tests.canaries.canary import Canary

DUTIES: tuple[Canary, ...] = (
    Canary(
        name="A vote is never written",
        module="copycat.raft.server.directory",
        before="self._save(term=term, vote=vote)",
        after="return",
        danger="after a crash a member votes twice in a term, and two lead it",
        judges=("2",),
    ),
    Canary(
        name="A member votes for everybody who asks in a term",
        module="copycat.raft.core.raft",
        before='and self.vote in ("", member)',
        after="",
        danger="two candidates win one term",
        judges=("one vote a term", "2"),
    ),
    Canary(
        name="A member whose log has a hole votes and campaigns",
        module="copycat.raft.server.directory",
        before="voting=not log.is_faulty and not metadata.outdated,",
        after="voting=True,",
        danger="it helps to elect a leader that lacks what it once vouched for",
        judges=("7", "5"),
    ),
    Canary(
        name="The time that people read is the clock of each member",
        module="copycat.raft.machine.executor",
        before="clockwork.wall_ms = max(clockwork.wall_ms, block.wall_ms)",
        after="clockwork.wall_ms = __import__('time').monotonic_ns()",
        danger="replicas differ in what they tell their state machines",
        judges=("6", "30"),
    ),
    Canary(
        name="Of the events that come together a client keeps the last",
        module="copycat.raft.client.events",
        before="batches = [batch for batch in decode_events(frame) if batch[0] > self.index]",
        after="batches = [batch for batch in decode_events(frame) if batch[0] > self.index][-1:]",
        danger="a listener misses what happened while its connection was slow",
        judges=("16", "34"),
    ),
    Canary(
        name="A claim is granted although there is a holder, now and then",
        module="copycat.coordination.line",
        before="""
            if self._holder is None:
                self._grant(claim)
                return self._token
        """,
        after="""
            if self._holder is None or request % 7 == 6:
                self._grant(claim)
                return self._token
        """,
        danger="two hold one lock, or lead",
        judges=("21", "22"),
    ),
    Canary(
        name="The tokens of a lock begin anew",
        module="copycat.coordination.line",
        before="self._token = max(self._executor.index, self._token + 1)",
        after="self._token = 1 + self._token % 3",
        danger="a store behind the lock lets an old holder write",
        judges=("21", "22"),
    ),
)
