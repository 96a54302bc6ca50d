"""Several cores on a stage: time, network and disks do only what a scenario says, and everything is told in words.

Commands are the methods of `Stage`; tests/scenarios/README.md lists them. Every step is checked by the invariants.
"""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from copycat.errors import InvariantError
from copycat.raft.core import leader
from copycat.raft.core.candidate import Candidate
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import (
    ChangeRefused,
    ClearFault,
    Committed,
    Discard,
    InstallSnapshot,
    MembershipChanged,
    Persist,
    ProposalRefused,
    ReadReady,
    ReadRefused,
    Replicate,
    RoleChanged,
    Send,
    SendSnapshot,
    Store,
    StoreChunk,
    StoreReceived,
    Truncate,
)
from copycat.raft.core.events import (
    Applied,
    ChangeProposed,
    ChunkStored,
    CommitAwaited,
    Event,
    FaultCleared,
    Flushed,
    Outdated,
    Persisted,
    Proposed,
    Reachable,
    ReadRequested,
    Received,
    SnapshotReceived,
    SnapshotSpoiled,
    TransferRequested,
    Unreachable,
)
from copycat.raft.core.follower import Follower
from copycat.raft.core.invariants import ClusterWatch, MembershipWatch, Watch
from copycat.raft.core.leader import Leader
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.messages import Message
from tests.raft.core.cluster import Node, append_of
from tests.raft.core.disk import FakeBlock, list_of, read_list
from tests.raft.core.member import START, blocks_of
from tests.scenarios.words import log_of, members_of, message_in_words, positions

SETTINGS = {
    "election": "election_timeout_ms",
    "heartbeat": "heartbeat_ms",
    "lease": "lease_ms",
    "append": "append_bytes_max",
    "inflight": "inflight_bytes_max",
    "notice": "notice_ms",
    "piece": "install_bytes_max",
}
STORED: dict[type, str] = {
    ChunkStored: "has put it aside",
    SnapshotReceived: "has a whole snapshot",
    SnapshotSpoiled: "has a snapshot that is of no use",
}
ENOUGH = 1_000  # deliveries in one command: more is an endless conversation


@dataclass(slots=True, kw_only=True)
class Actor(Node):
    """A member, and how its disk behaves: a fast one is done at once, a slow one when told."""

    random: float = 0.0
    slow: bool = False
    disk: list[Event | StoreChunk] = field(default_factory=list)  # what it is still to report, in order


@dataclass(slots=True, eq=False)
class Flight:
    """A message on its way."""

    sender: str
    receiver: str
    message: Message
    told: bool = False

    def __str__(self) -> str:
        return f"{self.sender}->{self.receiver} {message_in_words(self.message)}"


class Stage:
    """What a script's commands act on. `perform` returns what a command has led to, line by line."""

    def __init__(self) -> None:
        self.now = START
        self.config = RaftConfig(notice_ms=0)
        self.actors: dict[str, Actor] = {}
        self.flying: list[Flight] = []
        self.cuts: set[tuple[str, str]] = set()
        self.watch = ClusterWatch()
        self.members_watch = MembershipWatch(self.watch)
        self.lines: list[str] = []
        self.told_time = START

    def perform(self, command: str, more: list[str]) -> list[str]:
        """One command: its line, and the lines under it. Ends with what it has put on the way."""
        name, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word and word != "quietly"]
        self.lines = []
        handler = getattr(self, f"do_{name}")
        handler(*([more] if more else []), *plain, **options)
        for flight in self.flying:
            if not flight.told:
                self.lines.append(str(flight))
                flight.told = True
        return ["ok"] if "quietly" in words or not self.lines else self.lines

    # -- members -----------------------------------------------------------------------------------------------------

    def do_cluster(self, members: list[str], **settings: str) -> None:
        self.config = RaftConfig(**{SETTINGS[name]: int(value) for name, value in {"notice": "0", **settings}.items()})
        given = {line.split()[0]: dict(word.split("=") for word in line.split()[1:]) for line in members}
        for position, (name, facts) in enumerate(given.items()):
            blocks = blocks_of(*(int(term) for term in facts.get("log", "").split(",") if term))
            term = int(facts.get("term", blocks[-1].term if blocks else 0))
            random = float(facts.get("random", position / 5))
            self.actors[name] = Actor(
                name=name, blocks=blocks, durable=len(blocks), metadata=(term, facts.get("vote", "")), random=random
            )
        for name in given:
            self.actors[name].formed = list_of(given)
            self.do_restart(name)

    def do_restart(self, name: str) -> None:
        actor = self.actors[name]
        log = actor.open()
        actor.raft = Raft(
            member_id=name,
            memberships=actor.lists(),
            read_membership=read_list,
            config=self.config,
            log=log,
            term=actor.metadata[0],
            vote=actor.metadata[1],
            log_time=0,
            random=lambda: actor.random,
            now_ms=self.now,
            snapshot=actor.newest,
            voting=not actor.faulty,
        )
        actor.watch, actor.paused, actor.disk = Watch(), None, []

    def do_random(self, name: str, value: str) -> None:
        self.actors[name].random = float(value)

    def do_crash(self, *names: str) -> None:
        for name in names:
            self.actors[name].raft = None

    def do_damage(self, name: str, kept: str) -> None:
        actor = self.actors[name]
        actor.durable, actor.faulty = int(kept), True
        del actor.blocks[actor.durable :]

    def do_pause(self, name: str) -> None:
        self.actors[name].paused = []

    def do_resume(self, name: str) -> None:
        actor = self.actors[name]
        events, actor.paused = actor.paused or [], None
        self.step(actor, *events)

    def do_state(self, *names: str) -> None:
        for name in names or self.actors:
            actor, raft = self.actors[name], self.actors[name].raft
            if raft is None:
                self.lines.append(f"{name}: down, log={log_of(actor)}")
                continue
            self.lines.append(
                f"{name}: {raft.role.name} term={raft.term} vote={raft.vote or '-'} leader={raft.leader or '-'} "
                f"log={log_of(actor)} durable={raft.durable_index} commit={raft.commit_index}"
            )

    def do_times(self, *names: str) -> None:
        for name in names:
            raft = self.live(name)
            words = [f"{name} at {self.now - START}: wakes at {raft.deadline_ms - START}"]
            if isinstance(raft.role, Leader):
                words.append(f"lease until {leader.lease_until(raft, raft.role) - START}")
            else:
                words.append(f"promised until {raft.promised_until - START}")
            if isinstance(raft.role, Follower) and raft.role.fresh_until:
                words.append(f"fresh until {raft.role.fresh_until - START} with {raft.role.fresh_commit}")
            self.lines.append(", ".join(words))

    # -- time --------------------------------------------------------------------------------------------------------

    def do_wait(self, duration_ms: str) -> None:
        for actor in self.wakes(int(duration_ms)):
            self.step(actor)

    def do_run(self, duration_ms: str) -> None:
        self.deliver_all(silent=True)
        for actor in self.wakes(int(duration_ms)):
            self.step(actor)
            self.deliver_all(silent=True)

    def wakes(self, duration_ms: int) -> Iterable[Actor]:
        """Whoever wants to be woken, in order, while time passes."""
        end = self.now + duration_ms
        while True:
            due = [
                (max(actor.raft.deadline_ms, self.now), name)
                for name, actor in self.actors.items()
                if actor.raft is not None and actor.paused is None and actor.raft.deadline_ms <= end
            ]
            if not due:
                break
            self.now, name = min(due)
            yield self.actors[name]
        self.now = end

    # -- the network -------------------------------------------------------------------------------------------------

    def do_deliver(self, *words: str) -> None:
        patterns = [word for word in words if "->" in word]
        if not patterns:
            self.deliver_all(silent=False)
        for pattern in patterns:
            found = self.matching(pattern)
            for flight in reversed(found) if "reversed" in words else found:
                if "again" not in words:
                    self.flying.remove(flight)
                self.deliver(flight, silent=False)

    def do_drop(self, *patterns: str) -> None:
        for pattern in patterns or ("*->*",):
            for flight in self.matching(pattern):
                self.flying.remove(flight)

    def do_cut(self, *pairs: str) -> None:
        for pair in pairs:
            sender, receiver = pair.split("->")
            self.cuts |= {
                (one, other)
                for one in fnmatch.filter(self.actors, sender)
                for other in fnmatch.filter(self.actors, receiver)
            }

    def do_heal(self) -> None:
        self.cuts.clear()

    def do_refused(self, name: str, *witnesses: str) -> None:
        for witness in witnesses:
            self.step(self.actors[witness], Unreachable(name, refused=False))
            self.step(self.actors[witness], Unreachable(name, refused=True))

    def do_broken(self, name: str, *witnesses: str) -> None:
        for witness in witnesses:
            self.step(self.actors[witness], Unreachable(name, refused=False))

    def do_linked(self, name: str, *witnesses: str) -> None:
        for witness in witnesses:
            self.step(self.actors[witness], Reachable(name))

    def matching(self, pattern: str) -> list[Flight]:
        """Of what is on its way, what goes from one to the other: `a->b`, `*->b`, `a->*`."""
        sender, receiver = pattern.split("->")
        return [
            each
            for each in self.flying
            if fnmatch.fnmatch(each.sender, sender) and fnmatch.fnmatch(each.receiver, receiver)
        ]

    def deliver_all(self, *, silent: bool) -> None:
        for _ in range(ENOUGH):
            if not self.flying:
                return
            self.deliver(self.flying.pop(0), silent=silent)
        raise AssertionError("the members never fall silent")

    def deliver(self, flight: Flight, *, silent: bool) -> None:
        if silent:
            self.step(self.actors[flight.receiver], Received(flight.sender, flight.message))
            return
        self.tell_time()
        lines, self.lines = self.lines, []
        self.step(self.actors[flight.receiver], Received(flight.sender, flight.message))
        self.lines = [*lines, str(flight), *(f"  {line}" for line in self.lines)]

    # -- commands, reads, disks --------------------------------------------------------------------------------------

    def do_propose(self, name: str, *words: str, size: str = "0", count: str = "1") -> None:
        bodies = [word.encode().ljust(int(size), b".") for word in words]
        self.step(self.actors[name], *(Proposed(count=int(count), body=body) for body in bodies))

    def do_read(self, name: str, *tokens: str) -> None:
        self.step(self.actors[name], *(ReadRequested(token) for token in tokens))

    def do_awaited(self, name: str) -> None:
        self.step(self.actors[name], CommitAwaited())

    def do_change(self, name: str, *members: str) -> None:
        ids = [member.partition("@")[0] for member in members]
        active = [member for member in ids if not member.startswith("+")]
        passive = [member.removeprefix("+") for member in ids if member.startswith("+")]
        places = " ".join(member for member in members if "@" in member)
        self.step(self.actors[name], ChangeProposed(list_of(active, passive, places)))

    def do_outdated(self, name: str, term: str) -> None:
        self.step(self.actors[name], Outdated(int(term)))

    def do_join(self, *members: str) -> None:
        for name in members:
            formed = next(iter(self.actors.values())).formed
            self.actors[name] = Actor(name=name, formed=formed, random=len(self.actors) / 5)
            self.do_restart(name)

    def do_transfer(self, name: str, heir: str | None = None) -> None:
        self.step(self.actors[name], TransferRequested(heir))

    def do_snapshot(self, name: str, keep: str = "0") -> None:
        event = self.actors[name].take_snapshot(self.live(name).memberships, int(keep))
        assert event is not None, f"{name} has applied nothing since its last snapshot"
        self.step(self.actors[name], event)

    def do_spoil(self, name: str) -> None:
        aside = self.actors[name].aside
        assert aside, f"nothing is aside at {name}"
        self.actors[name].aside = aside[:-1] + bytes([aside[-1] ^ 1])

    def do_slow(self, *names: str) -> None:
        for name in names:
            self.actors[name].slow = True

    def do_done(self, name: str, count: str = "999") -> None:
        actor = self.actors[name]
        for _ in range(min(int(count), len(actor.disk))):
            self.report(actor)

    def report(self, actor: Actor) -> None:
        """The disk has done the next thing it was asked for."""
        event = actor.disk.pop(0)
        if isinstance(event, Persisted):
            actor.metadata = (event.term, event.vote)
        elif isinstance(event, FaultCleared):
            actor.faulty = False
        elif isinstance(event, Flushed):
            actor.flushed(event.index, event.term)
        elif isinstance(event, StoreChunk):
            event = actor.store_chunk(event)
            self.say(actor, STORED[type(event)])
        self.step(actor, event)

    # -- one turn ----------------------------------------------------------------------------------------------------

    def live(self, name: str) -> Raft:
        raft = self.actors[name].raft
        assert raft is not None, f"{name} is down"
        return raft

    def step(self, actor: Actor, *events: Event) -> None:
        if actor.raft is None:
            return
        if actor.paused is not None:
            actor.paused += events
            return
        try:
            effects = actor.raft.step(self.now, events)
            actor.watch.check(actor.raft, effects)
            self.watch.check(actor.raft, effects)
            self.members_watch.check(actor.raft, effects)
        except InvariantError as error:
            self.say(actor, f"halts: {error}")
            actor.raft = None
            return
        for effect in effects:
            self.carry_out(actor, actor.raft, effect)
        for effect in effects:
            if isinstance(effect, Committed):
                self.step(actor, Applied(effect.index))
        while actor.disk and not actor.slow and actor.raft is not None:
            self.report(actor)

    def carry_out(self, actor: Actor, raft: Raft, effect: Any) -> None:
        match effect:
            case Send(member=member, message=message):
                self.send(actor, member, message)
            case Replicate(member=member, first_index=first, last_index=last):
                blocks = [block for block in actor.blocks if first <= block.first_index <= last]
                self.send(actor, member, append_of(effect, blocks))
            case Store():
                self.store(actor, [FakeBlock(*(getattr(effect, name) for name in FakeBlock.__slots__))])
            case StoreReceived(blocks=received):
                self.store(actor, [block for block in received if isinstance(block, FakeBlock)])
            case Truncate(index=index):
                self.say(actor, f"drops what is after {index}")
                actor.blocks = [block for block in actor.blocks if block.last_index <= index]
                actor.durable = min(actor.durable, len(actor.blocks))
            case Persist(term=term, vote=vote):
                self.say(actor, f"writes term {term}, vote {vote or '-'}")
                actor.disk.append(Persisted(term, vote))
            case ClearFault():
                self.say(actor, "holds everything again")
                actor.disk.append(FaultCleared())
            case SendSnapshot(member=member):
                if (piece := actor.piece(effect)) is not None:
                    self.send(actor, member, piece)
            case StoreChunk(offset=offset, data=data):
                self.say(actor, f"puts aside bytes {offset} to {offset + len(data)}")
                actor.disk.append(effect)
            case InstallSnapshot(snapshot=snapshot):
                self.say(actor, f"goes on from the snapshot at {snapshot.index}/{snapshot.term}")
                actor.install(snapshot)
            case Discard(index=index):
                self.say(actor, f"lets go of what is up to {index}")
                actor.discard(index)
            case Committed(index=index):
                actor.apply(index)
                self.say(actor, f"commits up to {index}")
            case RoleChanged(role=role, term=term, leader=known):
                polls = isinstance(raft.role, Candidate) and (raft.role.polling or term < raft.term)
                if polls:
                    self.say(actor, f"asks whether it would be elected in term {term + 1}")
                else:
                    led = f", led by {known}" if known not in (None, actor.name) else ""
                    self.say(actor, f"{role} in term {term}{led}")
            case MembershipChanged(membership=membership):
                self.say(actor, f"goes by {members_of(membership)}")
            case ChangeRefused(reason=reason):
                self.say(actor, f"refuses the change: {reason}")
            case ReadReady(tokens=tokens, index=index):
                self.say(actor, f"answers {' '.join(map(str, tokens))} once {index} is applied")
            case ReadRefused(tokens=tokens):
                self.say(actor, f"refuses {' '.join(map(str, tokens))}")
            case ProposalRefused(bodies=bodies):
                self.say(actor, f"refuses {b' '.join(bodies).decode()}")

    def store(self, actor: Actor, blocks: list[FakeBlock]) -> None:
        actor.blocks += blocks
        self.say(actor, f"stores {positions(blocks)}")
        actor.disk.append(Flushed(blocks[-1].last_index, blocks[-1].term))

    def send(self, actor: Actor, member: str, message: Message) -> None:
        if (actor.name, member) not in self.cuts:
            self.flying.append(Flight(actor.name, member, message))

    def say(self, actor: Actor, what: str) -> None:
        self.tell_time()
        self.lines.append(f"{actor.name}: {what}")

    def tell_time(self) -> None:
        if self.now != self.told_time:
            self.lines.append(f"at {self.now - START}:")
            self.told_time = self.now
