"""The desk between clients and consensus: takes their frames, passes them on, and brings answers back.

A leader answers. Any other server hands the frame to its leader, unread, and the leader's answer back. Whenever a
client's frames may have been lost on that way, it is told so by a LEADER notice, and sends again what is unanswered:
so this desk keeps nothing for others and promises nothing it does not hold.

Source: protocol §5, §5.8.
"""

import logging
import random
from collections.abc import Callable
from typing import Protocol

from copycat.errors import ProtocolError
from copycat.raft.core.events import CommitAwaited, Event
from copycat.raft.core.follower import Follower
from copycat.raft.core.leader import Leader, lease_until
from copycat.raft.core.membership import Membership
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import CheckDue, Configured, Ended, Executor, Kept, Outcome, Registered, Results
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import (
    HEADER_ENDED,
    HEADER_EVENTS_AFTER,
    HEADER_KEPT,
    HEADER_REGISTERED,
    KEPT_SESSION,
    Reason,
    Tag,
    encode_msgpack,
    unpack,
)
from copycat.raft.server.backups import Backups, WaitingBackup
from copycat.raft.server.changes import Changes
from copycat.raft.server.checks import Checks
from copycat.raft.server.contacts import propose_expiries, propose_moves, propose_tick, propose_types
from copycat.raft.server.delivery import Delivery
from copycat.raft.server.identity import Identity
from copycat.raft.server.intake import Intake, encode_results_frame
from copycat.raft.server.keep_alives import KeepAlives
from copycat.raft.server.limits import ServerLimits
from copycat.raft.server.origins import ClientConnection, Origin, RelayedClient
from copycat.raft.server.peers import Peers
from copycat.raft.server.reads import Reads, WaitingQuery
from copycat.raft.server.relay import Relay
from copycat.raft.server.snapshots import ServerSnapshots

_log = logging.getLogger(__name__)


class Turns(Protocol):
    """What the desk asks of the driver."""

    raft: Raft
    executor: Executor
    snapshots: ServerSnapshots

    def wake(self) -> None: ...

    def post(self, event: Event) -> None: ...

    def now_ms(self) -> int: ...


class Desk:
    """One server's desk."""

    def __init__(
        self, *, driver: Turns, peers: Peers, identity: Identity, limits: ServerLimits, chance: random.Random
    ) -> None:
        self._driver = driver
        self._peers = peers
        self._identity = identity
        self._limits = limits
        self._random = chance
        self._clients: dict[int, ClientConnection] = {}
        self._held: list[tuple[Origin, bytes]] = []  # for a leader that is not ready yet
        self._held_bytes = 0
        self.told: list[Origin] = []  # of events and results, since `flush`
        self._turned_away: list[Origin] = []  # whose frames found no room there
        self.intake: Intake | None = None  # while this server leads and is ready
        self.reads = Reads(driver, limits.max_waiting_queries)
        self.delivery = Delivery(driver)
        self.relay = Relay(peers, self._clients, take_in=self._as_leader, settle=self._settle)
        self._keep_alives = KeepAlives(driver, self._pass_on)
        self.backups: Backups  # set once, before the driver starts
        self.checks: Checks  # likewise
        self.changes = Changes(driver.post)
        self.on_members: Callable[[Membership], object] = _silence_members  # called when others are in force here
        self.on_configured: Callable[[int, bytes], object] = _silence_configured  # called when that is certain
        self.on_notice: Callable[[], object] = _silence  # called when who leads may have changed

    # -- connections -------------------------------------------------------------------------------------------------

    def connected(self, client: ClientConnection) -> None:
        self._clients[client.route] = client
        client.connection.on_writable.append(lambda _connection: self._has_read(client))
        self._announce_to(client, self._notice())

    def _has_read(self, client: ClientConnection) -> None:
        self.delivery.has_read(client)
        if client.has_missed:
            client.has_missed = False
            self._announce_to(client, self._notice())

    def disconnected(self, client: ClientConnection) -> None:
        self._clients.pop(client.route, None)
        self._keep_alives.forget(client)
        self.delivery.disconnected(client)
        self.backups.disconnected(client)
        if self.intake is not None:
            self.intake.disconnected(client)

    @property
    def client_count(self) -> int:
        return len(self._clients)

    def announce(self, *, again: bool = False) -> None:
        """Tell every client who leads, if that changed, or `again` because frames may have been lost."""
        notice = self._notice()
        self.on_notice()
        self.checks.tell()
        for client in self._clients.values():
            if again or client.announced != notice:
                self._announce_to(client, notice)

    def _announce_to(self, client: ClientConnection, notice: bytes) -> None:
        client.announced = notice
        client.settled.clear()
        client.send(notice)

    @property
    def known_leader(self) -> str | None:
        """The leader, if this server leads and is ready, or can reach it."""
        leader = self._driver.raft.leader
        if self.intake is not None or (leader is not None and self._peers.is_up(leader)):
            return leader
        return None

    def _notice(self) -> bytes:
        term, leader = self._driver.raft.term, self.known_leader or ""
        members = {member.id: member.address for member in self._identity.members}
        return _LEADER_TAG + encode_msgpack({"term": term, "leader": leader, "members": members})

    # -- frames ------------------------------------------------------------------------------------------------------

    def from_client(self, client: ClientConnection, frame: bytes) -> None:
        """A frame of a client connected here. Raises ProtocolError."""
        tag = frame[0]
        if tag == _KEEP_ALIVE:
            urgent = self._keep_alives.take(client, frame)
            if urgent is None:
                return
            frame = urgent
        if self._keep_alives.waiting:
            self._keep_alives.release(client)
        intake = self.intake
        handler = AS_LEADER.get(tag) if intake is not None else None
        if intake is not None and handler is not None:  # the usual, at a leader
            handler(intake, client, frame)
            self._driver.wake()
        else:
            self._handle(client, frame)

    def _handle(self, client: ClientConnection, frame: bytes) -> None:
        raft = self._driver.raft
        if frame[0] == Tag.EVENTS_AFTER:
            _, session_id, index = unpack(HEADER_EVENTS_AFTER, frame)
            self.delivery.send_after(session_id, client, index)
        elif frame[0] == Tag.BACKUP:
            self._backup(client, frame)
        elif frame[0] == Tag.BACKUP_READ:
            self.backups.read(client, frame)
        elif frame[0] not in PASSED_ON:
            raise _unknown(frame)  # here, where it costs the connection it came on
        elif self.intake is not None or raft.is_leader:
            self._as_leader(client, frame)
        elif frame[0] == Tag.QUERY and self._answers_itself(client, frame):
            return
        elif raft.leader is not None:
            self.relay.forward(raft.leader, client, frame)

    def _pass_on(self, waiting: list[tuple[ClientConnection, bytes]]) -> None:
        """Keep-alives that have waited for one another."""
        raft = self._driver.raft
        if raft.is_leader:
            for client, frame in waiting:
                self._as_leader(client, frame)
        elif raft.leader is not None:
            self.relay.forward_many(raft.leader, waiting)

    def _as_leader(self, origin: Origin, frame: bytes) -> None:
        intake = self.intake
        if intake is None:
            self._hold(origin, frame)
            return
        tag = frame[0] if frame else 0
        if tag == Tag.QUERY:
            self._query(intake, WaitingQuery.read(origin, frame))
        elif tag == Tag.CHANGE_MEMBERS:
            self.changes.ask(self._driver.raft, origin, frame)
        else:
            handler = AS_LEADER.get(tag)
            if handler is None:
                raise _unknown(frame)
            handler(intake, origin, frame)
        self._driver.wake()

    def _hold(self, origin: Origin, frame: bytes) -> None:
        """Keep what comes between the election and the first own entry, within bounds."""
        if not self._driver.raft.is_leader:
            return  # whoever passed it on will hear of the leader, and tell the client
        if self._held_bytes + len(frame) <= self._limits.max_held_bytes:
            self._held.append((origin, frame))
            self._held_bytes += len(frame)
        elif origin not in self._turned_away:
            self._turned_away.append(origin)

    # -- queries -----------------------------------------------------------------------------------------------------

    def _query(self, intake: Intake, query: WaitingQuery) -> None:
        if (why := intake.why_not(query.session, query.sequence)) is not None:
            query.refuse(Reason.OVERLOADED, why)
        elif query.consistency == ConsistencyLevel.LINEARIZABLE or not self._may_answer_at_once(query.consistency):
            self.reads.confirm_first(query)
        else:
            self.reads.answer_when_reached(query)

    def _may_answer_at_once(self, consistency: int) -> bool:
        raft = self._driver.raft
        if consistency == ConsistencyLevel.SERIALIZABLE:
            return True
        return isinstance(raft.role, Leader) and self._driver.now_ms() < lease_until(raft, raft.role)

    def _answers_itself(self, client: ClientConnection, frame: bytes) -> bool:
        """Whether this follower answered: its knowledge is recent, and it has all this client has seen or done."""
        query = WaitingQuery.read(client, frame)
        raft, executor = self._driver.raft, self._driver.executor
        if query.consistency != ConsistencyLevel.SERIALIZABLE or not isinstance(raft.role, Follower):
            return False
        session = executor.sessions.get(query.session)
        reached = (session is not None and session.sequence >= query.sequence) or not query.session
        fresh = self._driver.now_ms() <= raft.role.fresh_until and executor.applied_index >= raft.role.fresh_commit
        if not (reached and fresh and executor.applied_index >= query.floor):
            return False
        self.reads.answer_when_reached(query)
        return True

    def _backup(self, client: ClientConnection, frame: bytes) -> None:
        """Only a leader's holds all that was acknowledged before it was asked for."""
        backup = WaitingBackup.of(client, frame, self.backups)
        if self.intake is None:
            leader = self.known_leader
            addresses = {member.id: member.address for member in self._identity.members}
            known = f"{leader} leads, at {addresses.get(leader, '?')}" if leader else "no leader is known"
            backup.refuse(Reason.NO_LEADER, f"{self._identity.member.id} does not lead; {known}")
            return
        self.reads.confirm_first(backup)
        self._driver.wake()

    # -- leading -----------------------------------------------------------------------------------------------------

    def lead(self) -> None:
        """This server leads and is ready: take in what was held, and tell its clients."""
        self.intake = intake = Intake(
            sessions=self._driver.executor.sessions,
            limits=self._limits,
            space=self._driver.snapshots.space,
            chance=self._random,
            now_ms=self._driver.now_ms,
        )
        propose_types(intake, self._driver.executor.machines, self._identity.common_types())
        held, self._held, self._held_bytes = self._held, [], 0
        for origin, frame in held:
            try:
                self._as_leader(origin, frame)
            except ProtocolError as error:
                _log.warning("dropped a client's frame: %s", error)
        self.announce()
        turned_away, self._turned_away = self._turned_away, []
        for origin in turned_away:  # a follower's clients have heard of this leader already, and sent in vain
            origin.send(self._notice())

    def stop_leading(self) -> None:
        """Another leads, or nobody: what was not answered is asked again by those who asked."""
        self.intake = None
        self._held.clear()
        self._held_bytes = 0
        self._turned_away.clear()
        self.reads.forget()
        self.changes.forget(self._driver.raft)

    def members_changed(self, membership: Membership) -> None:
        """Others take part from here on, though it is not certain yet."""
        self.on_members(membership)
        self.announce()

    def watch(self, now_ms: int, log_time_now: int, *, idle: bool) -> None:
        """What a leader looks after every heartbeat. `idle`: nothing in the log waits to be applied."""
        intake, executor = self.intake, self._driver.executor
        if intake is not None:
            self.checks.propose(intake, now_ms)
            propose_moves(self._driver.raft, self._identity, self._driver.post)
            propose_expiries(intake, executor.sessions, now_ms)
            if idle:
                propose_types(intake, executor.machines, self._identity.common_types())
                propose_tick(intake, executor.clockwork.timers, log_time_now)

    def state_replaced(self) -> None:
        """A follower went on from its leader's snapshot: what its clients wait for may be there."""
        self.delivery.state_replaced()
        self._driver.executor.take_published()

    def confirmed(self, session_id: int, origin: Origin) -> None:
        """The session lives on this connection, which may be one of ours."""
        if isinstance(origin, ClientConnection):
            self._settle(session_id, origin)

    def _settle(self, session_id: int, client: ClientConnection) -> None:
        """The session lives on this connection of ours, as its leader says: its events go down it."""
        client.settled.add(session_id)
        self.delivery.bind(session_id, client)

    def deliver(self, outcomes: list[Outcome]) -> None:
        """Entries were applied: tell the clients whose they are. The results of a connection's sessions go together."""
        intake = self.intake
        answers: dict[Origin, list[bytes]] = {}
        for outcome in outcomes:
            if type(outcome) is Results:
                if intake is not None and (origin := intake.origin_of(outcome.session)) is not None:
                    answers.setdefault(origin, []).append(encode_results_frame(outcome))
                continue
            self._answer(answers)  # before, say, the word that a session has ended
            if intake is not None:
                DELIVER.get(type(outcome), _nothing)(self, intake, outcome)
            if type(outcome) is Ended:
                self.delivery.ended(outcome.session)
            elif type(outcome) is Configured:
                self.changes.applied(outcome.index, outcome.body)
                self.on_configured(outcome.index, outcome.body)
            elif type(outcome) is CheckDue:
                self.checks.begin()
        self._answer(answers)
        published = self._driver.executor.take_published()
        if published:
            clients = self.delivery.published(published)
            if intake is not None:
                self.told += clients
                if len(clients) < len(published):
                    self._driver.post(CommitAwaited())

    def _answer(self, answers: dict[Origin, list[bytes]]) -> None:
        for origin, frames in answers.items():
            origin.send_many(frames)
        self.told += answers
        answers.clear()

    def flush(self) -> None:
        """Write what `deliver` has sent."""
        told, self.told = self.told, []
        for origin in told:
            origin.flush()


def _unknown(frame: bytes) -> ProtocolError:
    return ProtocolError(f"a client sent a frame with tag {frame[:1].hex() or 'none'}, which no client sends")


def _silence() -> None:
    """Nobody waits for a leader."""


def _silence_members(_membership: Membership) -> None:
    """Nobody dials anybody."""


def _silence_configured(_index: int, _body: bytes) -> None:
    """Nobody leaves."""


def _registered(desk: Desk, intake: Intake, outcome: Registered) -> None:
    session = outcome.session
    origin = intake.registered(session)
    if origin is not None:
        origin.send(
            HEADER_REGISTERED.pack(Tag.REGISTERED, session.nonce, session.id, session.secret, session.timeout_ms)
        )
        desk.confirmed(session.id, origin)


def _kept(desk: Desk, intake: Intake, outcome: Kept) -> None:
    """To each connection the word about its sessions; what goes to other members' clients travels together."""
    origins: dict[Origin, list[int]] = {}
    for session_id in outcome.alive:
        origin = intake.origin_of(session_id)
        if origin is not None:
            origins.setdefault(origin, []).append(session_id)
    elsewhere: dict[str, list[tuple[int, bytes]]] = {}
    for origin, sessions in origins.items():
        kept = [KEPT_SESSION.pack(session_id, intake.stamp_of(session_id)) for session_id in sessions]
        frame = HEADER_KEPT.pack(Tag.KEPT, len(kept)) + b"".join(kept)
        if isinstance(origin, RelayedClient):
            elsewhere.setdefault(origin.member, []).append((origin.route, frame))
            continue
        origin.send(frame)
        for session_id in sessions:
            desk.confirmed(session_id, origin)
    for member, answers in elsewhere.items():
        desk.relay.answer_many(member, answers)


def _ended(_desk: Desk, intake: Intake, outcome: Ended) -> None:
    origin = intake.ended(outcome.session)
    if origin is not None:
        origin.send(HEADER_ENDED.pack(Tag.ENDED, outcome.session, outcome.why))


def _nothing(_desk: Desk, _intake: Intake, _outcome: Outcome) -> None:
    """Of a batch refused at apply its client hears nothing: only a newer leader's session can have moved past it."""


_LEADER_TAG = bytes([Tag.LEADER])
_KEEP_ALIVE = int(Tag.KEEP_ALIVE)  # at hand, for every frame asks

AS_LEADER: dict[int, Callable[[Intake, Origin, bytes], None]] = {
    Tag.BATCH: Intake.batch,
    Tag.REGISTER: Intake.register,
    Tag.KEEP_ALIVE: Intake.keep_alive,
    Tag.UNREGISTER: Intake.unregister,
}

PASSED_ON = frozenset({Tag.QUERY, Tag.CHANGE_MEMBERS, *AS_LEADER})

DELIVER: dict[type, Callable[..., None]] = {
    Registered: _registered,
    Kept: _kept,
    Ended: _ended,
}
