"""Mistakes about sessions: what executes once, what is told, and how long a session lives."""

from tests.canaries.canary import Canary

SESSIONS = (
    Canary(
        name="Events that a result speaks of count as heard",
        module="copycat.raft.client.events",
        before="""
            if index <= self.index:
                return False
        """,
        after="""
            self.index = max(self.index, index)
            if index <= self.index:
                return False
        """,
        danger="listeners miss events, and nobody can tell",
        judges=("14", "16", "34"),
    ),
    Canary(
        name="Events sent again on a new connection are heard again",
        module="copycat.raft.client.events",
        before="batches = [batch for batch in decode_events(frame) if batch[0] > self.index]",
        after="batches = decode_events(frame)",
        danger="listeners hear of the same change twice",
        judges=("16",),
    ),
    Canary(
        name="A keep-alive acknowledges events that were never sent",
        module="copycat.raft.machine.executor",
        before="session.acknowledge_events(event_ack)",
        after="session.acknowledge_events(session.event_index)",
        danger="events are forgotten before their listener has them",
        judges=("14", "16", "34"),
    ),
    Canary(
        name="A new leader counts the silence of sessions from before its election",
        module="copycat.raft.server.intake",
        before="self.contact_ms: dict[int, int] = {session.id: now for session in sessions}",
        after="self.contact_ms: dict[int, int] = {session.id: 0 for session in sessions}",
        danger="every change of leader ends all sessions, and releases locks that are held",
        judges=("18", "19", "21"),
    ),
    Canary(
        name="Results are forgotten before they were acknowledged",
        module="copycat.raft.machine.sessions",
        before="self.runs.append(run)",
        after="self.runs = deque([run])",
        danger="a client whose answer was lost never learns what became of its command",
        judges=("15", "34"),
    ),
    Canary(
        name="A command whose session ended is said not to have been applied",
        module="copycat.raft.client.submitter",
        before="for future in ended.sent:",
        after="""
            ended.unsent += ended.sent
            for future in ():
        """,
        danger="a program repeats what has happened",
        judges=("10", "16", "33"),
    ),
    Canary(
        name="What was sent in a session that ended is sent again in the next",
        module="copycat.raft.client.session",
        before="""
            ended.unsent += self._tokens
            outcomes.append(ended)
            self._start_anew()
        """,
        after="""
            again = [batch for batch in self._in_flight if batch.results is None]
            ended.unsent += self._tokens
            ended.sent.clear()
            outcomes.append(ended)
            self._start_anew()
            for batch in again:
                self._operations += batch.operations()
                self._tokens += batch.tokens
        """,
        danger="a command takes effect twice, for a new session's commands are new ones",
        judges=("15", "10", "13", "16"),
    ),
    Canary(
        name="A timer counts from the clock of its own member",
        module="copycat.raft.machine.host",
        before="name: str = callback.__name__",
        after="""
            import time

            name: str = callback.__name__
            delay_ms += time.monotonic_ns() // 1_000_000 - self._clockwork.time
        """,
        danger="members come to differ in what they hold",
        judges=("6", "23", "30"),
    ),
)
