"""What clients and a leader may write to a log, at random: sessions that come and go, batches sent again, events
acknowledged or not, timers due or not, resources deleted and made anew.
"""

from typing import Any

from hypothesis import strategies as st

from copycat.atomic import DistributedAtomicValue
from copycat.atomic import value as value_
from copycat.collections import DistributedMap, DistributedSet, map_machine
from copycat.collections import set as set_
from copycat.coordination import DistributedLeaderElection, DistributedLock, DistributedTopic, line, topic
from copycat.raft.protocol.entries import KEEP_ALIVE, ItemKind
from copycat.raft.protocol.wire import decode_results, encode_operations
from copycat.resource.operations import CATALOG, CREATE, DELETE, GET
from tests.resource.harness import Replicas
from tests.resource.machines import ADD, REMEMBER, SET_TIMER, BankAccount, Counter

SESSIONS_MAX = 3

KINDS: dict[str, Any] = {
    "map": DistributedMap,
    "set": DistributedSet,
    "value": DistributedAtomicValue,
    "lock": DistributedLock,
    "election": DistributedLeaderElection,
    "topic": DistributedTopic,
    "counter": Counter,
    "bank": BankAccount,
}

keys = st.sampled_from([b"a", b"b", b"c"])
values = st.sampled_from([b"1", b"2"])
lifetimes = st.sampled_from([(0, 0), (0, 0), (500, 0), (3_000, 0), (0, 1), (2_000, 1)])
requests = st.integers(1, 4)


def operations(*each: Any) -> st.SearchStrategy[list[Any]]:
    """Flat rows: an id and its arguments."""
    return st.one_of(*each).map(
        lambda row: [part for each in row for part in (each if type(each) is tuple else [each])]
    )


OPERATIONS: dict[str, st.SearchStrategy[list[Any]]] = {
    "map": operations(
        st.tuples(st.just(map_machine.PUT), keys, values, lifetimes),
        st.tuples(st.just(map_machine.PUT), keys, values, lifetimes),
        st.tuples(st.just(map_machine.REMOVE), keys),
        st.tuples(st.just(map_machine.REPLACE_VALUE), keys, values, values, lifetimes),
        st.tuples(st.just(map_machine.CLEAR)),
        st.tuples(st.just(map_machine.LISTEN), st.integers(1, 3), st.none() | keys),
        st.tuples(st.just(map_machine.UNLISTEN), st.integers(1, 3), st.none() | keys),
    ),
    "set": operations(
        st.tuples(st.just(set_.ADD), keys, lifetimes),
        st.tuples(st.just(set_.ADD), keys, lifetimes),
        st.tuples(st.just(set_.REMOVE), keys),
        st.tuples(st.just(set_.CLEAR)),
        st.tuples(st.just(set_.LISTEN), st.integers(1, 2)),
        st.tuples(st.just(set_.UNLISTEN), st.integers(1, 2)),
    ),
    "value": operations(
        st.tuples(st.just(value_.SET), values, lifetimes),
        st.tuples(st.just(value_.GET_AND_SET), st.none() | values, st.just((0, 0))),
        st.tuples(st.just(value_.COMPARE_AND_SET), values, values, lifetimes),
        st.tuples(st.just(value_.LISTEN)),
        st.tuples(st.just(value_.UNLISTEN)),
    ),
    "topic": operations(
        st.tuples(st.just(topic.PUBLISH), values),
        st.tuples(st.just(topic.LISTEN)),
        st.tuples(st.just(topic.UNLISTEN)),
    ),
    "counter": operations(
        st.tuples(st.just(ADD), st.integers(-1, 3)),
        st.tuples(st.just(SET_TIMER), st.sampled_from([100, 2_000])),
        st.tuples(st.just(REMEMBER), st.sampled_from(["x", "y"])),
    ),
    "bank": operations(st.tuples(st.just(1), st.just(b"\x92\x05\xa1n") | st.just(b"\x92\x05\xc0") | st.just(b"bad"))),
}
OPERATIONS["lock"] = OPERATIONS["election"] = operations(
    st.tuples(st.just(line.CLAIM), requests, st.sampled_from([-1, -1, 0, 700, 3_000])),
    st.tuples(st.just(line.CLAIM), requests, st.just(-1)),
    st.tuples(st.just(line.WITHDRAW), requests),
    st.tuples(st.just(line.RELEASE), st.integers(5, 30)),
)


class History:
    """A log as clients and a leader write it, applied by two replicas that must agree."""

    def __init__(self, kinds: list[str]) -> None:
        self.log = Replicas(*(KINDS[kind] for kind in kinds), count=2)
        self.kinds = kinds
        self.sequences: dict[int, int] = {}
        self.batches: dict[int, list[tuple[int, list[list[Any]]]]] = {}
        self.open()
        for kind in kinds:
            self.create(0, kind)

    @property
    def executor(self) -> Any:
        return self.log.replicas[0].executor

    def session(self, number: int) -> int:
        """One that is open; there is always one."""
        if not len(self.executor.sessions):
            self.open()
        sessions = [session.id for session in self.executor.sessions]
        return int(sessions[number % len(sessions)])

    def target(self, kind: str) -> int:
        """The resource's id; that of none when it was deleted."""
        data = self.executor.query(None, encode_operations([[CATALOG, 0, GET, kind]]), 1)
        (entry,) = decode_results(data)
        return 99_999 if entry is None else int(entry[0])

    # -- what happens --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        if len(self.executor.sessions) < SESSIONS_MAX:
            session = self.log.register()
            self.sequences[session], self.batches[session] = 0, []

    def send(self, number: int, rows: list[list[Any]], ack: bool = False) -> None:
        session = self.session(number)
        first = self.sequences[session] + 1
        self.sequences[session] += len(rows)
        self.batches[session].append((first, rows))
        acked = first - 1 if ack else self.executor.sessions.get(session).ack
        self.log.append(ItemKind.COMMANDS, session, first, acked, len(rows), encode_operations(rows))

    def create(self, number: int, kind: str) -> None:
        machine = KINDS[kind].machine_class()
        self.send(number, [[CATALOG, 0, CREATE, kind, machine.type_name, machine.type_version, 1]])

    def delete(self, number: int, kind: str) -> None:
        self.send(number, [[CATALOG, 0, DELETE, kind, 0]])

    def commands(self, number: int, instance: int, kind: str, rows: list[list[Any]], ack: bool) -> None:
        target = self.target(kind)
        self.send(number, [[target, instance, *row] for row in rows], ack)

    def again(self, number: int, back: int) -> None:
        """A batch is sent again, whose answer may have been lost."""
        session = self.session(number)
        if self.batches[session]:
            first, rows = self.batches[session][-1 - back % len(self.batches[session])]
            self.log.append(ItemKind.COMMANDS, session, first, 0, len(rows), encode_operations(rows))

    def keep_alive(self, number: int, unacked: int, event_ack: float) -> None:
        session = self.executor.sessions.get(self.session(number))
        ack = max(0, session.sequence - unacked)
        blob = KEEP_ALIVE.pack(session.id, ack, int(session.event_index * event_ack))
        self.log.append(ItemKind.KEEP_ALIVE, 0, 0, 0, 1, blob)

    def end(self, number: int, expired: bool) -> None:
        self.log.end(self.session(number), expired=expired)

    def advance(self, seconds: float) -> None:
        self.log.advance(seconds)


numbers = st.integers(0, SESSIONS_MAX - 1)


def steps(kinds: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    commands = [
        st.tuples(
            st.just("commands"), numbers, st.integers(0, 1), st.just(kind), st.lists(rows, min_size=1, max_size=4),
            st.booleans(),
        )
        for kind, rows in OPERATIONS.items()
        if kind in kinds
    ]  # fmt: skip
    return st.one_of(
        *commands,
        *commands,
        st.tuples(st.just("open")),
        st.tuples(st.just("again"), numbers, st.integers(0, 3)),
        st.tuples(st.just("keep_alive"), numbers, st.integers(0, 3), st.sampled_from([0, 0.7, 1])),
        st.tuples(st.just("end"), numbers, st.booleans()),
        st.tuples(st.just("advance"), st.sampled_from([0.1, 0.5, 2])),
        st.tuples(st.just("delete"), numbers, st.sampled_from(kinds)),
        st.tuples(st.just("create"), numbers, st.sampled_from(kinds)),
    )


LEAVE: list[tuple[Any, ...]] = [
    ("advance", 0.6),
    ("keep_alive", 1, 1, 0.7),
    ("again", 0, 0),
    ("end", 0, True),
    ("advance", 5),
]
EVENTFUL: dict[str, list[tuple[Any, ...]]] = {
    "map": [
        ("open",),
        ("commands", 1, 0, "map", [[map_machine.LISTEN, 1, None], [map_machine.LISTEN, 3, b"b"]], False),
        ("commands", 1, 1, "map", [[map_machine.LISTEN, 3, None]], False),
        ("commands", 0, 0, "map", [[map_machine.PUT, b"b", b"1", 0, 1], [map_machine.PUT, b"a", b"1", 500, 1]], False),
        ("commands", 1, 0, "map", [[map_machine.PUT, b"c", b"1", 3_000, 0]], True),
        ("commands", 0, 0, "map", [[map_machine.PUT, b"d", b"1", 0, 1], [map_machine.PUT, b"b", b"2", 0, 1]], True),
        *LEAVE,
    ],
    "set": [
        ("open",),
        ("commands", 1, 0, "set", [[set_.LISTEN, set_.REMOVED], [set_.LISTEN, set_.ADDED]], False),
        ("commands", 0, 0, "set", [[set_.ADD, b"b", 0, 1], [set_.ADD, b"a", 500, 1]], False),
        ("commands", 1, 0, "set", [[set_.ADD, b"c", 3_000, 0]], True),
        *LEAVE,
    ],
    "value": [
        ("open",),
        ("commands", 1, 0, "value", [[value_.LISTEN], [value_.SET, b"1", 500, 0]], False),
        ("advance", 2),
        ("commands", 0, 0, "value", [[value_.SET, b"1", 3_000, 1]], False),
        *LEAVE,
    ],
    "topic": [
        ("open",),
        ("commands", 1, 0, "topic", [[topic.LISTEN]], False),
        ("commands", 1, 1, "topic", [[topic.LISTEN]], False),
        ("commands", 0, 0, "topic", [[topic.LISTEN], [topic.PUBLISH, b"1"], [topic.PUBLISH, b"2"]], False),
        ("commands", 0, 0, "topic", [[topic.PUBLISH, b"3"]], False),
        *LEAVE,
        ("commands", 1, 0, "topic", [[topic.PUBLISH, b"4"]], False),
    ],
    "counter": [
        ("open",),
        ("commands", 0, 0, "counter", [[ADD, 2], [SET_TIMER, 100], [SET_TIMER, 2_000]], False),
        *LEAVE,
    ],
    "bank": [("commands", 0, 0, "bank", [[1, b"\x92\x05\xa1n"]], False), *LEAVE],
}
EVENTFUL["lock"] = EVENTFUL["election"] = [
    ("open",),
    *(("commands", 0, 0, kind, [[line.CLAIM, 1, -1], [line.CLAIM, 2, 700]], False) for kind in ("lock", "election")),
    *(("commands", 1, 0, kind, [[line.CLAIM, 1, 3_000]], False) for kind in ("lock", "election")),
    *(("commands", 1, 1, kind, [[line.CLAIM, 1, -1]], False) for kind in ("lock", "election")),
    *LEAVE[:-1],
    *(("commands", 0, 0, kind, [[line.CLAIM, 5, 0]], False) for kind in ("lock", "election")),
    ("advance", 5),
]
