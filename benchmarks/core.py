"""What consensus and state machines cost without disks and sockets: a turn of a leader, a block applied."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from benchmarks.micro import Timer, micro, time_with_pyperf
from benchmarks.wire import puts
from copycat.collections import DistributedMap
from copycat.collections.map_machine import GET
from copycat.io.serializer import encode_key
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import Committed, Effect, Replicate
from copycat.raft.core.events import Applied, Event, Flushed, Persisted, Proposed, Received
from copycat.raft.core.log_view import LogView
from copycat.raft.core.membership import Membership
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.entries import ItemKind, pack_item
from copycat.raft.protocol.messages import AppendResponse, PollResponse, VoteResponse
from copycat.raft.protocol.wire import encode_operations
from copycat.resource.operations import CATALOG, CREATE
from copycat.testing.local import Replicas
from copycat.testing.replicas import Block

MANY = 256
BODY = bytes(130)
MEMBERS = Membership(0, ("a", "b", "c"), (), b"")


class LeaderAlone:
    """The core of a leader of three, whose disk and followers answer at once."""

    def __init__(self) -> None:
        self._raft = Raft(
            member_id="a",
            memberships=[MEMBERS],
            read_membership=lambda _index, _body: MEMBERS,
            config=RaftConfig(),
            log=LogView(),
            term=0,
            vote="",
            log_time=0,
            random=lambda: 0.5,
            now_ms=0,
        )
        self._now = self._raft.deadline_ms
        self._step()
        self._step(Received("b", PollResponse(term=0, proposed=1, granted=True)))
        self._step(Persisted(1, "a"))
        self._settle(self._step(Received("b", VoteResponse(term=1, granted=True))))

    def propose(self, count: int) -> None:
        """A block from proposal to commit: four turns, as few as there can be."""
        self._settle(self._step(Proposed(count=count, body=BODY)))

    def _step(self, *events: Event) -> list[Effect]:
        return self._raft.step(self._now, events)

    def _settle(self, effects: Sequence[Effect]) -> None:
        last, term = self._raft.log.last_index, self._raft.term
        rounds = {effect.member: effect.round for effect in effects if isinstance(effect, Replicate)}
        self._step(Flushed(last, term))
        answers = [Received(member, answer(term, number, last)) for member, number in rounds.items()]
        committed = [each.index for each in self._step(*answers) if isinstance(each, Committed)]
        self._step(*map(Applied, committed))


def answer(term: int, number: int, match: int) -> AppendResponse:
    """A follower has everything."""
    return AppendResponse(term=term, round=number, accepted=True, match_index=match, hint_index=0, sent_ms=0)


class MapAlone:
    """A replica with one map and one session, which applies what it is given."""

    def __init__(self) -> None:
        self._replicas = Replicas(DistributedMap)
        self._executor = self._replicas.replicas[0].executor
        self._session = self._replicas.register()
        self._sequence = 0
        self._index = self._replicas.index
        machine = DistributedMap.machine_class()
        self.apply(encode_operations([[CATALOG, 0, CREATE, "m", machine.type_name, machine.type_version, 1]]), 1)
        self.target = self._index

    def apply(self, blob: bytes, count: int) -> None:
        """A block of one batch."""
        body = pack_item(ItemKind.COMMANDS, self._session, self._sequence + 1, self._sequence, count, blob)
        self._executor.apply(Block(self._index + 1, count, 0, body))
        self._sequence += count
        self._index += count

    def query(self, blob: bytes, count: int) -> None:
        """A batch of queries."""
        self._executor.query(None, blob, count)


def leader_turns(count: int) -> Timer:
    return Timer(lambda: partial(LeaderAlone().propose, count))


def apply_puts(count: int) -> Timer:
    """Keys come round after 40 batches."""

    def make() -> Callable[[], Any]:
        replica = MapAlone()
        rows = [[replica.target, *put[1:]] for put in puts(40 * count)]
        blobs = cycle([encode_operations(rows[at : at + count]) for at in range(0, len(rows), count)])
        return lambda: replica.apply(next(blobs), count)

    return Timer(make, count)


def query_gets(count: int) -> Timer:
    def make() -> Callable[[], Any]:
        replica = MapAlone()
        replica.apply(encode_operations([[replica.target, *put[1:]] for put in puts(count)]), count)
        blob = encode_operations([[replica.target, 1, GET, encode_key(f"user-{number}")] for number in range(count)])
        return partial(replica.query, blob, count)

    return Timer(make, count)


TIMERS = {
    "consensus, a block of 1 command": leader_turns(1),
    f"consensus, a block of {MANY} commands": leader_turns(MANY),
    "apply a put, alone in its block": apply_puts(1),
    f"apply a put, {MANY} in a block": apply_puts(MANY),
    "answer a get, alone": query_gets(1),
    f"answer a get, {MANY} together": query_gets(MANY),
}

BENCHMARK = micro("core", "Microseconds for one block through a leader's core, and for one operation of a map.", TIMERS)

if __name__ == "__main__":
    time_with_pyperf("benchmarks.core", TIMERS)
