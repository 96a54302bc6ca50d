"""Whether reads are answered by who still leads, as one can tell who sees all members at once.

What a linearizable read must show is committed somewhere when it arrives. Its server may not know that yet, or no
longer: then it must find that out before it answers, and the index it answers from shows whether it has. So a leader
that was replaced is found out by any read, even if nobody has written anything since.

Names and numbers are those of reliability §1.
"""

from collections.abc import Iterable

from copycat.errors import check
from copycat.raft.core.effects import Effect, ReadReady, ReadRefused
from copycat.raft.core.events import Event, ReadRequested
from copycat.raft.core.raft import Raft


class ReadWatch:
    """What is committed anywhere, and applied by anybody who leads, while reads arrive and are answered."""

    def __init__(self) -> None:
        self.checked = 0
        self._committed = 0
        self._led = 0  # the last index that somebody applied who led
        self._asked: dict[int, tuple[object, int]] = {}  # by identity: a read that waits, and what it must show

    def stepping(self, events: Iterable[Event]) -> None:
        """A member is about to take these in."""
        for event in events:
            if isinstance(event, ReadRequested):
                self._asked[id(event.token)] = (event.token, self._committed)

    def stepped(self, raft: Raft, effects: Iterable[Effect]) -> None:
        """11: a read shows all that was committed when it arrived."""
        for effect in effects:
            if isinstance(effect, ReadReady):
                for token in effect.tokens:
                    _, committed = self._asked.pop(id(token))
                    self.checked += 1
                    check(
                        effect.index >= committed,
                        "11: a read was let in without what was committed before it",
                        raft.member_id,
                        effect.index,
                        committed,
                    )
            elif isinstance(effect, ReadRefused):
                for token in effect.tokens:
                    self._asked.pop(id(token), None)
        self._committed = max(self._committed, raft.commit_index)

    def applied(self, raft: Raft, index: int) -> None:
        """A member has applied so far, and may answer for it if it leads."""
        if raft.is_leader:
            self._led = max(self._led, index)

    def at_once(self, raft: Raft, applied_index: int) -> None:
        """12: who answers by its lease has applied all that anybody was answered for."""
        self.checked += 1
        check(
            applied_index >= self._led,
            "12: a read by lease is answered without what another leader has applied",
            raft.member_id,
            applied_index,
            self._led,
        )
