"""What is called during one turn of the loop leaves together; results find their futures; deadlines pass.

A long turn leaves in parts, so that the servers begin with what was called first while the rest is being called: see
docs/decisions/0016-a-long-turn-leaves-in-parts.md.

Everything happens per turn or per batch. Per command there is an encoded operation, a future, and three appends: no
task, queue, timer or closure. Deadlines need no structure of their own, either: the earliest is remembered, and when
it comes, whatever waits is looked through. In steady work that is once per default timeout.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

from copycat.errors import (
    ApplicationError,
    ClosedError,
    CommandTimeoutError,
    ConfigurationError,
    CopycatError,
    DecodeError,
    IndeterminateError,
    Outcome,
    OverloadedError,
    ProtocolError,
    QueryTimeoutError,
    ResourceTypeError,
    RetryableError,
    SerializationError,
    SessionExpiredError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
    UsageError,
)
from copycat.raft.client.connector import Connector
from copycat.raft.client.future import CopycatFuture
from copycat.raft.client.outcomes import Ended, QueriesRefused, Resolved
from copycat.raft.client.session import ClientSession
from copycat.raft.protocol.operations import RESULT_TOO_LARGE, Failure
from copycat.raft.protocol.wire import Reason

# Waiting operations are looked through at most this often, in seconds, so a deadline passes at most so much late.
DEADLINE_GRAIN = 0.005

PART_COUNT = 256
"""So many operations leave before the turn in which they are called is over."""

# What a server may answer instead of executing. Any other name is an exception of the state machine's.
REFUSALS: dict[str, type[UsageError]] = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        ResourceTypeError,
        SerializationError,
        TooLargeError,
        UnknownResourceError,
        UnknownResourceTypeError,
        UsageError,
    )
}


class Submitter:
    """The futures of one client, on one loop.

    on_turn: called at the end of every turn in which something was submitted, and whenever PART_COUNT operations were.
    now: the session's time.
    connector: knows why something could not be sent.
    """

    def __init__(
        self,
        session: ClientSession,
        connector: Connector,
        loop: asyncio.AbstractEventLoop,
        *,
        on_turn: Callable[[], object],
        now: Callable[[], float],
    ) -> None:
        self._session = session
        self._connector = connector
        self._loop = loop
        self._on_turn = on_turn
        self._now = now
        self._is_turn_scheduled = False
        self._count = 0  # called since something was sent
        self._earliest = inf  # no deadline of a waiting operation is earlier
        self._looked_at = -inf

    # -- submitting ----------------------------------------------------------------------------------------------------

    def submit(
        self,
        operation: bytes,
        seconds: float | None,
        decode: Callable[[Any], Any] | None,
        what: str,
        consistency: int | None = None,
    ) -> CopycatFuture[Any]:
        """Start a command, or a query with its `consistency`; it leaves at the end of this turn, or with a part of it.

        One function, for there is nothing that is done more often here.
        """
        deadline = self._loop.time() + seconds if seconds is not None and seconds > 0 else _no_deadline(seconds)
        if deadline < self._earliest:
            self._earliest = deadline
        future: CopycatFuture[Any] = CopycatFuture(loop=self._loop)
        future.what, future.decode, future.deadline = what, decode, deadline
        if consistency is None:
            self._session.command(operation, future)
        else:
            self._session.query(operation, future, consistency)
        self._count += 1
        if not self._is_turn_scheduled:
            self.end_turn_soon()
        elif self._count >= PART_COUNT:
            self._send()
        return future

    def end_turn_soon(self) -> None:
        """Send what is to be sent when everything that is ready to run now has run."""
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_turn_scheduled = False
        self._send()

    def _send(self) -> None:
        self._count = 0
        self._on_turn()

    # -- results -------------------------------------------------------------------------------------------------------

    def resolve(self, outcome: Resolved) -> None:
        """Hand every result to its future, unless nobody waits for it any more."""
        for future, result in zip(outcome.tokens, outcome.results, strict=True):
            if future.done():
                continue
            if result.__class__ is Failure:
                future.set_exception(_error_of(result, outcome.are_commands))
                continue
            decode = future.decode
            try:
                value = result if decode is None else decode(result)
            except Exception as error:
                future.set_exception(_undecodable(future.what, error, outcome.are_commands))
            else:
                future.set_result(value)

    def refuse(self, outcome: QueriesRefused) -> None:
        """Fail queries that no server will answer."""
        for future in outcome.tokens:
            _fail(future, _refusal(outcome.reason, f"{future.what}: the servers refuse it: {outcome.detail}"))

    def end(self, ended: Ended) -> None:
        """The session is over: fail its commands, each by what is known of it."""
        closed = self._session.is_leaving
        for future in ended.sent:
            _fail(future, IndeterminateError(f"{future.what}: sent, but the session ended ({ended.why}) unanswered"))
        for future in ended.refused:
            _fail(future, _refusal(ended.reason, f"{future.what}: the servers refuse it: {ended.why}"))
        for future in ended.unsent:
            if closed:
                _fail(future, ClosedError(f"{future.what}: the client was closed before it was sent"))
            else:
                _fail(future, SessionExpiredError(f"{future.what}: not applied; the session ended: {ended.why}"))

    def fail_queries(self, error: Callable[[str], CopycatError]) -> None:
        """Fail every query with the error made for its name."""
        for future in self._session.queries.take_all():
            _fail(future, error(future.what))

    # -- deadlines -----------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When to call `expire`; infinity for never."""
        return max(self._earliest, self._looked_at + DEADLINE_GRAIN)

    def expire(self, now: float) -> None:
        """Fail what has waited until its deadline."""
        self._looked_at = now
        self._earliest = inf
        for futures in self._session.sent():
            self._expire_sent(futures, now)
        unsent = self._overdue(self._session.unsent, now)
        if unsent:
            self._session.withdraw(set(unsent).__contains__)
            for future in unsent:
                future.set_exception(self._unsent_error(future.what))
        queries = [future for futures in self._session.queries.waiting() for future in self._overdue(futures, now)]
        if queries:
            for future in queries:
                message = f"{future.what}: no answer in time, safe to repeat; {self._connector.describe()}"
                future.set_exception(QueryTimeoutError(message))
            for released in self._session.drop_queries(CopycatFuture.done, self._now()):
                self.resolve(released)

    def _overdue(self, futures: list[CopycatFuture[Any]], now: float) -> list[CopycatFuture[Any]]:
        """Those past their deadline; the others count for the next time."""
        overdue = []
        for future in futures:
            if future.done():
                continue
            if future.deadline <= now:
                overdue.append(future)
            elif future.deadline < self._earliest:
                self._earliest = future.deadline
        return overdue

    def _expire_sent(self, futures: list[CopycatFuture[Any]], now: float) -> None:
        """The session goes on with the command: another future takes the place of the one that gave up."""
        for future in self._overdue(futures, now):
            later = futures[futures.index(future)] = CopycatFuture(loop=self._loop)
            later.what, later.decode, later.deadline = future.what, future.decode, inf
            message = (
                f"{future.what} was sent, but no answer came in time. It may or may not have happened: wait on with "
                "`await error.operation`, or read before repeating"
            )
            future.set_exception(CommandTimeoutError(message, operation=later))

    def _unsent_error(self, what: str) -> RetryableError:
        session = self._session
        if not session.is_ready or not session.id:
            return self._connector.error(f"{what}: not sent")
        if session.obstacle:
            return OverloadedError(f"{what}: refused, and certainly not applied: {session.obstacle}")
        return OverloadedError(f"{what}: not sent: {session.last_sent - session.ack} earlier commands are unanswered")


def _no_deadline(seconds: float | None) -> float:
    """Infinity for None. Raises ConfigurationError for what is no span of time."""
    if seconds is not None:
        raise ConfigurationError(f"a timeout is a positive number of seconds, or None for ever; not {seconds!r}")
    return inf


def _fail(future: CopycatFuture[Any], error: CopycatError) -> None:
    if not future.done():
        future.set_exception(error)


def _error_of(failure: Failure, is_command: bool) -> CopycatError:
    if failure.kind == RESULT_TOO_LARGE:
        if is_command:
            message = f"applied, but the result was too large to be sent: {failure.message}; await such calls in turn"
            return TooLargeError(message, outcome=Outcome.APPLIED)
        return TooLargeError(f"the result is too large to be sent: {failure.message}")
    refusal = REFUSALS.get(failure.kind)
    if refusal is None:
        return ApplicationError(failure.message, kind=failure.kind)
    if refusal is SerializationError and is_command:  # of the operation, or of a result that was found too late
        return SerializationError(failure.message, outcome=Outcome.UNKNOWN)
    return refusal(failure.message)


def _refusal(reason: Reason | None, message: str) -> CopycatError:
    return TooLargeError(message) if reason is Reason.TOO_LARGE else ProtocolError(message)


def _undecodable(what: str, error: Exception, is_command: bool) -> CopycatError:
    outcome = Outcome.APPLIED if is_command else Outcome.NOT_APPLIED
    if isinstance(error, CopycatError):
        error.outcome = outcome
        return error
    failure = DecodeError(f"{what}: the result cannot be decoded: {error!r}", outcome=outcome)
    failure.__cause__ = error
    return failure
