"""A replica of one state machine, for whoever wants Raft without resources."""

from typing import Any

from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.host import Clockwork, Host
from copycat.raft.machine.sessions import NOBODY, ServerSession
from copycat.raft.machine.timers import Timer
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.state_machine import Commit, StateMachine

TARGET = 0


class SingleMachine:
    """Runs `machine` as the only target there is. Raises ConfigurationError for what its `configure` does wrong."""

    def __init__(self, machine: StateMachine, clockwork: Clockwork, codec: ValueCodec) -> None:
        where = f"state machine {machine.type_name or type(machine).__name__!r} version {machine.type_version}"
        self._host = Host(TARGET, machine, clockwork, codec, where)
        self._clockwork = clockwork
        self.hosts = {TARGET: self._host}
        self.codec = codec

    def execute(
        self, session: ServerSession, first_index: int, operations: list[list[Any]], *, alike: bool
    ) -> list[Any]:
        """The results of a batch of commands."""
        host, clockwork = self._host, self._clockwork
        results: list[Any] = []
        if alike and operations[0][0] == TARGET:
            clockwork.index = first_index
            commit = Commit(first_index, clockwork.wall_ms, session, operations[0][1])
            results = host.execute_many(host.commands, commit, operations)
        done = len(results)
        for index, operation in enumerate(operations[done:], first_index + done):
            clockwork.index = index
            if operation[0] != TARGET:
                results.append(_nothing_at(operation[0]))
            else:
                commit = Commit(index, clockwork.wall_ms, session, operation[1])
                results.append(host.execute(host.commands, commit, operation))
        return results

    def query(self, session: ServerSession | None, operations: list[list[Any]], *, alike: bool) -> list[Any]:
        """The results of a batch of queries."""
        host, clockwork = self._host, self._clockwork
        results: list[Any] = []
        if alike and operations[0][0] == TARGET:
            commit = Commit(clockwork.index, clockwork.wall_ms, session or NOBODY, operations[0][1])
            results = host.execute_many(host.queries, commit, operations)
        for operation in operations[len(results) :]:
            if operation[0] != TARGET:
                results.append(_nothing_at(operation[0]))
            else:
                commit = Commit(clockwork.index, clockwork.wall_ms, session or NOBODY, operation[1])
                results.append(host.execute(host.queries, commit, operation))
        return results

    def session_began(self, session: ServerSession) -> None:
        self._host.session_began(session)

    def session_ended(self, session: ServerSession, expired: bool) -> None:
        self._host.session_ended(session, expired)

    def fire(self, timer: Timer) -> None:
        self._host.fire(timer)

    @property
    def types(self) -> list[tuple[str, int]]:
        """Nothing can be created here."""
        return []

    @property
    def allowed(self) -> list[tuple[str, int]]:
        """As `types`."""
        return []

    def allow(self, types: list[tuple[str, int]]) -> None:
        """Nothing can be created here."""


def _nothing_at(target: int) -> Failure:
    return Failure("UnknownResourceError", f"this server runs one state machine and has no resource {target}")
