"""A client from `open` to `close`: a session, its connection, and the turns in which frames leave and arrive.

Everything happens in callbacks of one loop: what is called during a turn leaves together at its end, and what arrives
together is taken in together. The only task is the one that dials.

Source: protocol §5.
"""

import asyncio
import logging
import random as random_module
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from copycat.errors import ClosedError, ConfigurationError, SessionExpiredError
from copycat.raft.client.channels import Channel, ConnectionPool
from copycat.raft.client.connector import Connector
from copycat.raft.client.lag import tell_of_lag
from copycat.raft.client.outcomes import (
    Delivered,
    Ended,
    Kept,
    Outcome,
    QueriesRefused,
    Registered,
    RegistrationRefused,
    Resolved,
)
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.client.session import ClientSession
from copycat.raft.client.states import ClientState, Loss, Recovery
from copycat.raft.client.submitter import Submitter
from copycat.raft.protocol.wire import Tag
from copycat.util.clock import Clock
from copycat.util.tasks import TaskOwner

_log = logging.getLogger(__name__)

EventHandler = Callable[[int, int, list[Any]], object]
"""Takes an event: its index in the log, its id, its arguments."""

PATIENCE_SECONDS_MIN, PATIENCE_SECONDS_MAX = 1.0, 8.0  # an election; whoever needs longer is given twice as much
CLOSE_SECONDS = 2.0
_KEEP_ALIVE = int(Tag.KEEP_ALIVE)
SLEEP_SECONDS_MIN = 0.01  # two clocks are read one after the other: less is not sleep


class ClientEngine:
    """Runs one client on one loop.

    addresses: where servers may be found. pool: dials them. discover: learn more of them from those that answer.
    on_state: called with every new state. on_stopped: called once, when no more operations are taken.
    clock: tells how long the machine slept; the rest is the loop's time.
    on_loss: called when the session, and all that rests on it, must be counted as lost: because by this client's own
        clock the cluster may have ended it; and when it is known to have ended. on_recovery: another has begun.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        pool: ConnectionPool,
        loop: AbstractEventLoop,
        *,
        timeout_ms: int,
        recovery: Recovery,
        discover: bool,
        selection: ServerSelection,
        strategy: ConnectionStrategy,
        random: random_module.Random,
        on_state: Callable[[ClientState], object],
        on_stopped: Callable[[], object],
        on_loss: Callable[[Loss], object],
        on_recovery: Callable[[int], object],
        clock: Clock,
    ) -> None:
        self.state = ClientState.CLOSED
        self.session = ClientSession(timeout_ms=timeout_ms, random=random)
        self.connector = Connector(
            addresses,
            pool,
            random=random,
            on_frames=self._on_frames,
            on_connected=self._on_connected,
            on_lost=self._on_lost,
            selection=selection,
            strategy=strategy,
        )
        self.submitter = Submitter(self.session, self.connector, loop, on_turn=self._flush, now=self._now)
        self._loop = loop
        self._clock = clock
        self._asleep = clock.boottime_ms() / 1000 - clock.monotonic()  # since the machine was started
        self._slept = 0.0  # of that, since this client began
        self._recovery = recovery
        self._discover = discover
        self._on_state = on_state
        self._on_stopped = on_stopped
        self._on_loss = on_loss
        self._on_recovery = on_recovery
        self.handlers: dict[tuple[int, int], EventHandler] = {}  # by target and instance
        self._tasks = TaskOwner("copycat-client", on_failure=self._stop)
        self._is_stopped = False
        self._is_expired = False  # the last session was lost, and the next has not begun
        self._is_lost = False  # what rested on the session was given up
        self._registered: Future[None] = loop.create_future()  # the first session has begun
        self._ended: Future[None] = loop.create_future()  # the last one has ended
        self._timer: TimerHandle | None = None
        self._timer_at = inf
        # Another server must still hear of the session in time: a third passes before a silence can be noticed.
        self._patience_min = min(PATIENCE_SECONDS_MIN, timeout_ms / 2000)
        self._patience = self._patience_min
        self._progress_at = self._now()
        self._is_owed = False  # at the last turn, a server owed an answer

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, and to register a session."""
        self._update_state()
        self._tasks.start(self.connector.run(), name="connector")

    async def wait_for_session(self) -> None:
        """Until the first session has begun. Raises ConfigurationError when the servers refuse it; ClosedError."""
        await asyncio.shield(self._registered)

    async def close(self) -> None:
        """Send what was called before, end the session, wait a little for the answers, and let go."""
        try:
            self._flush()
            self.session.leave()
            self._flush()
            if self.session.id and self.session.is_ready:
                await asyncio.wait([self._ended], timeout=CLOSE_SECONDS)
        finally:
            self._end("the client was closed")
            self.connector.leave("the client was closed")
            await self._tasks.close()

    def _stop(self, error: BaseException) -> None:
        """The client cannot go on."""
        _log.error("the client has stopped: %s", error)
        if not self._registered.done():
            self._registered.set_exception(error)
        self._end(str(error))

    def _end(self, why: str) -> None:
        """Whatever still waits has waited in vain."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._on_stopped()
        self.session.is_leaving = True
        for outcome in self.session.end(why):
            self._handle(outcome, self._now())
        self.submitter.fail_queries(lambda what: ClosedError(f"{what}: unanswered; {why}"))
        if not self._registered.done():
            self._registered.set_exception(ClosedError(why))
        self._registered.exception()  # or asyncio complains when nobody waits for it
        if self._timer is not None:
            self._timer.cancel()
        self._update_state()

    # -- connections -------------------------------------------------------------------------------------------------

    def _on_connected(self) -> None:
        connection = self.connector.connection
        if connection is not None:
            connection.on_writable.append(self._on_writable)
            self.session.queries.number_from(connection.first_request)
        self._progress_at = self._now()
        self._flush()

    def _on_lost(self) -> None:
        self.session.suspend()
        self._update_state()

    def _on_writable(self, connection: Channel) -> None:
        if connection is self.connector.connection:
            self._flush()

    def _on_frames(self, frames: list[bytes]) -> None:
        session, now = self.session, self._now()
        self._look_for_loss(now)  # what arrived while this process or its machine stood still does not make it good
        for frame in frames:
            notice = session.notice
            for outcome in session.receive(frame, now):
                self._handle(outcome, now)
            if session.notice is not notice:
                self._on_notice()
        self._update_state()
        self.submitter.end_turn_soon()  # with what those who were answered call next

    def _on_notice(self) -> None:
        notice = self.session.notice
        if self._discover:
            self.connector.learn(notice.members.values())
        if not notice.leader:
            self.connector.note("has no leader")
            return
        if not self.session.is_bound:
            self.connector.note(f"names {notice.leader} as leader, which has not answered yet")
        self.connector.follow(notice.leader, notice.members.get(notice.leader))

    def _handle(self, outcome: Outcome, now: float) -> None:
        match outcome:
            case Resolved():
                self.submitter.resolve(outcome)
            case QueriesRefused():
                self.submitter.refuse(outcome)
            case Ended():
                self._on_ended(outcome)
            case RegistrationRefused(detail):
                self._stop(ConfigurationError(f"the servers refuse the session: {detail}"))
            case Registered():
                self._on_session()
            case Delivered(batches):
                # Behind the wake-up of whoever awaits an earlier answer: events and answers are seen in their order.
                self._loop.call_soon(self._deliver, batches)
            case Kept():
                pass
        # A server that keeps the session alive and does not answer its commands may have lost them.
        if not (isinstance(outcome, Kept) and self.session.is_owed_results):
            self._patience = self._patience_min
            self._progress_at = now
        if self.session.id:
            self.connector.settle()
            self._is_lost = self._is_lost and self.session.keep_alive.lost_at <= now

    def _on_session(self) -> None:
        self._is_lost = False
        if self._is_expired:
            self._is_expired = False
            self._on_recovery(self.session.id)
        if not self._registered.done():
            self._registered.set_result(None)

    def _deliver(self, batches: list[list[Any]]) -> None:
        """Events to the handles they are for. One that fails does not keep the others from hearing."""
        handlers = self.handlers
        for index, *events in batches:
            for target, instance, event_id, *arguments in events:
                handler = handlers.get((target, instance))
                if handler is None:
                    continue  # the handle was closed meanwhile
                try:
                    handler(index, event_id, arguments)
                except Exception as error:
                    _log.exception("an event of resource %s could not be delivered: %r", target, error)

    @property
    def is_lost(self) -> bool:
        """Whether the session, by this client's own clock, may have ended."""
        return not self.session.id or self._is_lost or self._now() >= self.session.keep_alive.lost_at

    def _now(self) -> float:
        """The session's time, in seconds: the loop's, and what the machine has slept through besides.

        The loop's stands still meanwhile on most systems, and the cluster goes on.
        """
        asleep = self._clock.boottime_ms() / 1000 - self._clock.monotonic()
        if asleep > self._asleep + SLEEP_SECONDS_MIN:
            self._slept += asleep - self._asleep
            self._asleep = asleep
        return self._loop.time() + self._slept

    def _look_for_loss(self, now: float) -> None:
        """Tell, once, when by this client's own clock the cluster may have ended the session."""
        keep_alive = self.session.keep_alive
        if now >= keep_alive.lost_at and self.session.id and not self._is_lost:
            self._is_lost = True
            silence = now - keep_alive.confirmed_at
            why = f"no contact with a majority for {silence:.1f} s of a {keep_alive.timeout:g} s session"
            self._on_loss(Loss(why, is_over=False))

    def _on_ended(self, ended: Ended) -> None:
        self.submitter.end(ended)
        self._is_lost = True
        is_last = self.session.is_leaving or self._recovery is Recovery.CLOSE
        self._on_loss(Loss(f"the session ended: {ended.why}", is_over=True, is_last=is_last))
        if self.session.is_leaving:
            if not self._ended.done():
                self._ended.set_result(None)
            return
        self._is_expired = True
        _log.warning("the session was lost: %s", ended.why, extra={"why": ended.why})
        if self._recovery is Recovery.CLOSE:
            self._update_state()
            self.submitter.fail_queries(lambda what: SessionExpiredError(f"{what}: the session ended: {ended.why}"))
            self._tasks.start(self.close(), name="close")

    # -- turns -------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what is to be sent, and come back when there will be more."""
        connection, session, on_loop = self.connector.connection, self.session, self._loop.time()
        now = on_loop + self._slept  # if the machine has slept since that was looked at, what is sent counts as older
        if connection is not None and connection.writable:
            frames = session.take_frames(now)
            if len(frames) == 1 and frames[0][0] == _KEEP_ALIVE and session.is_patient:
                connection.send_some_time(frames[0])
            elif frames:
                connection.send(frames)
        is_owed, self._is_owed = self._is_owed, session.is_waiting
        if self._is_owed and not is_owed:
            self._progress_at = now  # patience counts from when the server began to owe something
        due = inf
        if connection is not None:
            if connection.writable:
                due = session.due
            if self._is_owed:
                due = min(due, self._progress_at + self._patience)
        if session.id and not self._is_lost:
            due = min(due, session.keep_alive.lost_at)
        self._wake_at(min(self.submitter.due, due - now + on_loop))

    def _wake_at(self, due: float) -> None:
        """A timer that is early is left alone: it finds nothing to do and is set anew."""
        if due >= self._timer_at or self._is_stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        on_loop, now = self._loop.time(), self._now()
        tell_of_lag(self._loop, on_loop - self._timer_at, self._timeout)
        self._timer, self._timer_at = None, inf
        self._look_for_loss(now)
        if on_loop >= self.submitter.due:
            self.submitter.expire(on_loop)
        is_overdue = now >= self._progress_at + self._patience
        if is_overdue and self.session.is_waiting and self.connector.connection is not None:
            self._lose_patience()
        self._update_state()
        self._flush()

    @property
    def _timeout(self) -> float:
        return self.session.keep_alive.timeout

    def _lose_patience(self) -> None:
        waited, self._patience = self._patience, min(2 * self._patience, PATIENCE_SECONDS_MAX)
        self._progress_at = self._now()
        # Also when there is no other server: this connection may be one that only this end believes in.
        what = "answer" if self.session.is_ready else "leader"
        self.connector.leave(f"no {what} for {waited:g} s", in_doubt=True)

    def _update_state(self) -> None:
        if self._is_stopped or self._ended.done():
            state = ClientState.CLOSED
        elif self._is_expired:
            state = ClientState.EXPIRED
        elif self.session.id and self.session.is_bound:
            state = ClientState.CONNECTED
        else:
            state = ClientState.SUSPENDED
        if state is not self.state:
            self.state = state
            self._on_state(state)
