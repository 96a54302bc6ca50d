"""What a snapshot holds, as records: the replicated half of a server, whole, so that another goes on from it.

Taking one must not stop the world. So `capture` looks at everything at once, but only takes hold of it: what goes on
changing is copied, what is only ever replaced is kept as it is. Records are made later, a few at a time, while commands
go on. They come in an order that follows from the state alone, so that replicas have the same bytes.

A record is a list, its kind first. Each section begins by saying how many follow, so nothing can be missing unseen; and
what is not known is not skipped: a replica that leaves out a piece of the state is another machine.

Source: protocol §8.4, §10.11; ARCHITECTURE.md "Apply is total".
"""

import enum
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from copycat.errors import InvariantError, SnapshotError, check
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.event_queues import EventBatch, EventQueue
from copycat.raft.machine.executor import Executor, Machines
from copycat.raft.machine.host import HALTING, Host
from copycat.raft.machine.sessions import Run, ServerSession
from copycat.raft.machine.timers import Timer

FORMAT = 1


class Kind(enum.IntEnum):
    """What a record is, and what follows its kind. Ids are never reused; an unknown one halts the member."""

    HEAD = 1  # format, index, log time, wall time, number of sessions, of timers, newest timer, number of machines
    # id, nonce, secret, timeout, sequence, ack, activity index, event index, event ack, number of runs, of batches
    SESSION = 2
    RUN = 3  # first sequence, count, last index, event index, results
    EVENTS = 4  # index, index of the batch before, the events
    TIMER = 5  # sequence, target, method, due, interval, arguments
    MACHINE = 6  # target, type name, type version; then its parts
    PART = 7  # of the machine's state, encoded
    END = 8  # of the machine's parts


class Section(enum.IntEnum):
    """What is no state machine; of those, the target is the name. Ids are never reused."""

    CLOCK = -1
    SESSIONS = -2
    TIMERS = -3
    REST = -4  # what is not told apart any more


SectionView = tuple[int, Iterator[list[Any]]]
"""A section of the state, and its records."""


_LENGTHS = {
    Kind.HEAD: 9, Kind.SESSION: 12, Kind.RUN: 6, Kind.EVENTS: 4, Kind.TIMER: 7, Kind.MACHINE: 4, Kind.PART: 2,
    Kind.END: 1,
}  # fmt: skip


# -- taking ------------------------------------------------------------------------------------------------------------


def capture(executor: Executor) -> Iterator[list[Any]]:
    """The state as it is now, as records that are made when they are asked for. Call it between two blocks.

    Raises SnapshotError, at once or with a record, that names the resource whose state cannot be taken or encoded.
    """
    return chain.from_iterable([records for _, records in _sections(executor, _machine_view)])


def sections(executor: Executor) -> list[SectionView]:
    """The same in pieces that can be told apart, in their order. Call it between two blocks.

    Of a state machine whose state cannot be taken or encoded only its own records raise SnapshotError.
    """
    return _sections(executor, _patient_view)


def _sections(executor: Executor, view: Callable[[Host], Iterator[list[Any]]]) -> list[SectionView]:
    clockwork, machines = executor.clockwork, executor.machines
    check(not clockwork.applying and not clockwork.overflowing, "a snapshot is taken between two blocks")
    sessions = [_session_view(session) for session in executor.sessions]
    timers, dues = clockwork.timers.view()
    states = [(host.target, view(host)) for host in machines.hosts.values()]
    head = [
        Kind.HEAD,
        FORMAT,
        executor.applied_index,
        clockwork.time,
        clockwork.wall_ms,
        len(sessions),
        len(timers),
        clockwork.timers.sequence,
        len(states),
    ]
    return [
        (Section.CLOCK, iter([head])),
        (Section.SESSIONS, chain.from_iterable(map(_session_records, sessions))),
        (Section.TIMERS, _timer_records(timers, dues, dict(machines.hosts), machines.codec)),
        *states,
    ]


_SessionView = tuple[list[Any], list[Run], list[EventBatch]]


def _session_view(session: ServerSession) -> _SessionView:
    runs, queue = list(session.runs), session.events
    batches = [] if queue is None else queue.waiting()
    fields = [
        session.id,
        session.nonce,
        session.secret,
        session.timeout_ms,
        session.sequence,
        session.ack,
        session.activity_index,
        session.event_index,
        0 if queue is None else queue.ack,
        len(runs),
        len(batches),
    ]
    return [Kind.SESSION, *fields], runs, batches


def _session_records(view: _SessionView) -> Iterator[list[Any]]:
    head, runs, batches = view
    yield head
    for run in runs:
        yield [Kind.RUN, *run]
    for batch in batches:
        yield [Kind.EVENTS, batch.index, batch.previous, batch.events]


def _timer_records(
    timers: list[Timer], dues: dict[int, int], hosts: dict[int, Host], codec: ValueCodec
) -> Iterator[list[Any]]:
    for timer in timers:
        sequence, target = timer.sequence, timer.target
        due = dues.get(sequence, timer.due)
        try:
            arguments = codec.encode_state(list(timer.arguments))
        except Exception as error:
            raise _named(error, f"a timer of {hosts[target].where}", "put into a snapshot") from error
        yield [Kind.TIMER, sequence, target, timer.method, due, timer.interval_ms, arguments]


def _machine_view(host: Host) -> Iterator[list[Any]]:
    try:
        parts = host.snapshot()
    except Exception as error:
        raise _named(error, host.where, "put into a snapshot") from error
    machine = host.machine
    head = [Kind.MACHINE, host.target, machine.type_name, machine.type_version]
    return chain([head], _part_records(parts, host.where), [[Kind.END]])


def _patient_view(host: Host) -> Iterator[list[Any]]:
    """As above, but what cannot be taken raises with the first record."""
    try:
        return _machine_view(host)
    except SnapshotError as error:
        return _refuse(error)


def _refuse(error: SnapshotError) -> Iterator[list[Any]]:
    yield from ()
    raise error


def _part_records(parts: Iterator[bytes], where: str) -> Iterator[list[Any]]:
    try:
        for part in parts:
            yield [Kind.PART, part]
    except Exception as error:
        raise _named(error, where, "put into a snapshot") from error


# -- going on from one -------------------------------------------------------------------------------------------------


def restore(executor: Executor, records: Iterable[list[Any]]) -> None:
    """Make a new executor what another was when its records were taken.

    Raises what halts the member: SnapshotError that names the resource which cannot be restored, MissingTypeError,
    InvariantError for records of a newer version. The executor is of no use then.
    """
    check(executor.applied_index == 0 and not executor.sessions, "a snapshot is restored into a new executor")
    clockwork, timers, left = executor.clockwork, executor.clockwork.timers, iter(records)
    form, index, clockwork.time, clockwork.wall_ms, sessions, waiting, newest, machines = _take(left, Kind.HEAD)
    if form != FORMAT:
        raise InvariantError(f"the snapshot has format {form}, and this version reads {FORMAT}: a newer one wrote it")
    executor.applied_index = clockwork.index = index
    for _ in range(sessions):
        executor.sessions.add(_restored_session(left))
    for _ in range(waiting):
        sequence, target, method, due, interval_ms, arguments = _take(left, Kind.TIMER)
        arguments = tuple(executor.machines.codec.decode_state(arguments))
        timers.put(sequence, target, method, arguments, due, interval_ms)
    timers.sequence = newest
    for _ in range(machines):
        _restore_machine(executor.machines, left)
    if next(left, None) is not None:
        raise InvariantError("the snapshot goes on behind its end: a newer version wrote it")


def _restored_session(left: Iterator[list[Any]]) -> ServerSession:
    head = _take(left, Kind.SESSION)
    session = ServerSession(*head[:4])
    session.sequence, session.ack, session.activity_index, event_index, event_ack, runs, batches = head[4:]
    for _ in range(runs):
        first, count, last_index, event_index_then, results = _take(left, Kind.RUN)
        session.runs.append((first, count, last_index, event_index_then, results))
    if event_index:
        session.events = queue = EventQueue()
        queue.index, queue.ack = event_index, event_ack
        for _ in range(batches):
            queue.put_back(*_take(left, Kind.EVENTS))
    return session


def _restore_machine(machines: Machines, left: Iterator[list[Any]]) -> None:
    target, name, version = _take(left, Kind.MACHINE)
    host = machines.hosts.get(target)
    if host is None:
        raise InvariantError(f"the snapshot holds a resource {target} that is not in its catalog")
    if (name, version) != (host.machine.type_name, host.machine.type_version):
        raise SnapshotError(
            f"the snapshot holds a state machine {name!r} version {version}, and this member runs "
            f"{host.where}: start it with the same one"
        )
    try:
        host.restore(_parts(left))
    except Exception as error:
        raise _named(error, host.where, "restored from a snapshot") from error


def _parts(left: Iterator[list[Any]]) -> Iterator[bytes]:
    while True:
        record = _next(left)
        if record == [Kind.END]:
            return
        (part,) = _fields(record, Kind.PART)
        yield part


def _take(left: Iterator[list[Any]], kind: Kind) -> list[Any]:
    return _fields(_next(left), kind)


def _next(left: Iterator[list[Any]]) -> list[Any]:
    record = next(left, None)
    if record is None:
        raise InvariantError("the snapshot ends before its end")
    return record


def _fields(record: list[Any], kind: Kind) -> list[Any]:
    """What a record of this kind holds."""
    if record[:1] != [kind] or len(record) != _LENGTHS[kind]:
        raise InvariantError(
            f"the snapshot holds a record of kind {record[:1]} and {len(record)} fields where {kind.name} of "
            f"{_LENGTHS[kind]} is due: a newer version wrote it"
        )
    return record[1:]


def _named(error: Exception, where: str, done: str) -> Exception:
    """What went wrong, naming whose state it is; what says that the process is unwell stays what it is."""
    if isinstance(error, (*HALTING, InvariantError)):
        return error
    return SnapshotError(f"{where} cannot be {done}: {str(error) or repr(error)}")
