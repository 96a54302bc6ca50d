"""All resources of a replica: which path leads to which state machine, and every operation to the right one.

The catalog, target 0, is a state machine like any other; creating a resource is one of its commands. Thus one loop
serves all, and consecutive operations of one target find it once.

Apply is total here too: whatever an operation, a timer or a session hook raises becomes a result or is passed over,
the same on every replica. Only what says that this *member* is unfit gets out and halts it; a missing type does.

Source: protocol §4.3, §5.7, §7.2.
"""

import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from msgspec import Raw

from copycat.errors import ConfigurationError, SerializationError, SnapshotError, UnknownResourceTypeError
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.host import HALTING, Clockwork, Host, failure_of
from copycat.raft.machine.sessions import NOBODY, ServerSession
from copycat.raft.machine.timers import Timer
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.state_machine import Commit, Executor, Session, StateMachine
from copycat.raft.protocol.wire import encode_msgpack
from copycat.resource.operations import (
    CATALOG,
    CREATE,
    DELETE,
    EXISTS,
    GET,
    PAGE_MAX,
    PATHS,
    Entry,
    check_path,
    check_type,
)
from copycat.resource.parts import iter_parts, rows

_log = logging.getLogger(__name__)

_FIXED = frozenset({type(None), bool, int, float, str, bytes, Failure})


class MissingTypeError(UnknownResourceTypeError, ImportError):
    """The log creates a resource of a type this member was not started with: it halts, for it cannot go on.

    An ImportError too, as all that is wrong with this member alone: it must not become a result (see HALTING).
    """


class ResourceManager:
    """The `Machines` of an executor that serves many resources.

    resources: the state machine classes this replica can run, see `copycat.resource.loading.machines_of`. Each is made
        once at the start, on trial, so that a broken `configure` is found before a client's create finds it. One that
        cannot be snapshotted is warned of.

    Raises ConfigurationError for two classes of one name and version, and what a class's `configure` raises.
    """

    def __init__(self, clockwork: Clockwork, codec: ValueCodec, resources: Sequence[type[StateMachine]]) -> None:
        self._clockwork = clockwork
        self.codec = codec
        self._types = {(each.type_name, each.type_version): each for each in resources}
        if len(self._types) != len(resources):
            raise ConfigurationError("two of the resources have one name and version")
        for each in resources:
            _try(each, codec)
        self.hosts: dict[int, Host] = {}  # in the order of their ids, for a dict keeps the order of insertion
        self._catalog = Catalog(self.hosts, self._types, clockwork, codec)
        self.hosts[CATALOG] = Host(CATALOG, self._catalog, clockwork, codec, "the catalog of resources")

    # -- what the executor calls -------------------------------------------------------------------------------------

    def execute(
        self, session: ServerSession, first_index: int, operations: list[list[Any]], *, alike: bool
    ) -> list[Any]:
        """The results of a batch of commands, at consecutive indices.

        Raises only what halts the member: MissingTypeError, and what says that the process is unwell.
        """
        if len(operations) == 1:
            return [self._run_one(session, first_index, 1, operations[0])]
        return self._run(session, first_index, 1, operations, alike)

    def query(self, session: ServerSession | None, operations: list[list[Any]], *, alike: bool) -> list[Any]:
        """The results of a batch of queries at the current state."""
        if len(operations) == 1:
            return [self._run_one(session or NOBODY, self._clockwork.index, 0, operations[0])]
        return self._run(session or NOBODY, self._clockwork.index, 0, operations, alike)

    def session_began(self, session: ServerSession) -> None:
        """Tell every resource, in the order of their ids."""
        for host in tuple(self.hosts.values()):
            _tell(host.machine.register, session)

    def session_ended(self, session: ServerSession, expired: bool) -> None:
        """Tell every resource, in the order of their ids, also those the session never used."""
        for host in tuple(self.hosts.values()):
            if expired:
                _tell(host.machine.expire, session)
            _tell(host.machine.close, session)

    def fire(self, timer: Timer) -> None:
        """A timer is due. Those of a resource that was deleted, or failed to be made, were dropped with it."""
        self.hosts[timer.target].fire(timer)

    def machine(self, resource_id: int) -> StateMachine:
        """The state machine of a resource. Raises KeyError."""
        return self.hosts[resource_id].machine

    @property
    def types(self) -> list[tuple[str, int]]:
        """The (name, version) of every type this replica can run, sorted."""
        return sorted(self._types)

    @property
    def allowed(self) -> list[tuple[str, int]]:
        """The types that may be created, sorted: those the log says every member can run. None at first."""
        return self._catalog.allowed

    def allow(self, types: list[tuple[str, int]]) -> None:
        """From here in the log on, these types may be created and no others. What was created stays."""
        self._catalog.allowed = sorted(types)

    # -- the hot path ------------------------------------------------------------------------------------------------

    def _run(
        self, session: ServerSession, index: int, step: int, operations: list[list[Any]], alike: bool
    ) -> list[Any]:
        """Run commands at `index` and on, by `step` 1; or queries, all at `index`, by `step` 0."""
        results = self._run_together(session, index, step, operations) if alike else []
        if results:
            if len(results) == len(operations):
                return results
            index += step * len(results)
            operations = operations[len(results) :]
        clockwork, hosts = self._clockwork, self.hosts
        time = clockwork.wall_ms
        add = results.append
        target, host = -1, None
        table: dict[int, Callable[..., Any]] = {}
        for operation in operations:
            if operation[0] != target:  # creating and deleting are operations of another target, so this stays true
                target = operation[0]
                host = hosts.get(target)
                table = {} if host is None else host.commands if step else host.queries
            handler = table.get(operation[2])
            clockwork.index = index
            commit = Commit(index, time, session, operation[1])
            index += step
            try:
                if handler is not None:
                    result = handler(commit, *operation[3:])
                    add(result if result.__class__ in _FIXED else _as_it_is(result))
                elif host is not None:
                    add(host.execute(table, commit, operation))  # says that there is no such operation
                else:
                    add(_nothing_at(target))
            except HALTING:
                raise
            except Exception as error:
                add(failure_of(error))
        return results

    def _run_one(self, session: ServerSession, index: int, step: int, operation: list[Any]) -> Any:
        """The result of one operation, as `_run` has it, without what only pays for several."""
        clockwork, host = self._clockwork, self.hosts.get(operation[0])
        clockwork.index = index
        if host is None:
            return _nothing_at(operation[0])
        commit = Commit(index, clockwork.wall_ms, session, operation[1])
        result = host.execute(host.commands if step else host.queries, commit, operation)
        return result if result.__class__ in _FIXED else _as_it_is(result)

    def _run_together(self, session: ServerSession, index: int, step: int, operations: list[list[Any]]) -> list[Any]:
        """What can be done in one go of operations that are alike: the results of so many from the front on."""
        target, instance = operations[0][:2]
        host = self.hosts.get(target)
        if host is None:
            return []
        self._clockwork.index = index
        commit = Commit(index, self._clockwork.wall_ms, session, instance)
        results = host.execute_many(host.commands if step else host.queries, commit, operations)
        if not _FIXED.issuperset(map(type, results)):
            results = [each if each.__class__ in _FIXED else _as_it_is(each) for each in results]
        return results


class Catalog(StateMachine, name="copycat.catalog", version=1):
    """Which path leads to which resource. Adds to and removes from `hosts`, which it shares with the manager."""

    def __init__(
        self,
        hosts: dict[int, Host],
        types: dict[tuple[str, int], type[StateMachine]],
        clockwork: Clockwork,
        codec: ValueCodec,
    ) -> None:
        self._hosts = hosts
        self._types = types
        self._clockwork = clockwork
        self._codec = codec
        self.allowed: list[tuple[str, int]] = []
        self._entries: dict[str, Entry] = {}  # in the order of their ids; none is ever changed
        self._paths: list[str] = []  # sorted, for pages

    def configure(self, executor: Executor) -> None:
        executor.register_command(CREATE, self._create)
        executor.register_command(DELETE, self._delete)
        executor.register_query(GET, self._get)
        executor.register_query(EXISTS, self._exists)
        executor.register_query(PATHS, self._page)

    def _create(self, commit: Commit, path: str, type_name: str, type_version: int, encoding: int) -> Entry:
        check_path(path)
        if type(type_name) is not str or type(type_version) is not int or type(encoding) is not int:
            raise SerializationError("a resource is created with a type name, a type version and an encoding version")
        entry = self._entries.get(path)
        if entry is not None:
            check_type(entry, path, type_name, type_version)
            return entry
        if (type_name, type_version) not in self.allowed:
            raise UnknownResourceTypeError(
                f"resources of type {type_name!r} version {type_version} cannot be created, for not every member is "
                "known to run it: start each with it, as resources=[...] or --resources module:Class"
            )
        try:
            self._hosts[commit.index] = self._make(commit.index, path, type_name, type_version)
        except Exception:
            self._clockwork.timers.drop(commit.index)
            raise
        self._entries[path] = entry = [commit.index, type_name, type_version, encoding]
        insort(self._paths, path)
        return entry

    def _make(self, resource_id: int, path: str, type_name: str, type_version: int) -> Host:
        machine = self._types.get((type_name, type_version))
        if machine is None:
            raise MissingTypeError(
                f"there is a resource of type {type_name!r} version {type_version} at {path!r}, and this member "
                "was started without it: start it with resources=[...] or --resources module:Class"
            )
        where = f"resource {path!r} of type {type_name!r} version {type_version}"
        return Host(resource_id, machine(), self._clockwork, self._codec, where)

    def _delete(self, commit: Commit, path: str, resource_id: int) -> bool:
        entry = self._entries.get(path)
        if entry is None or resource_id not in (0, entry[0]):
            return False
        del self._entries[path]
        del self._paths[bisect_left(self._paths, path)]
        host = self._hosts.pop(entry[0])
        self._clockwork.timers.drop(host.target)
        host.machine.delete()  # last: what it raises is the result, and the resource is gone all the same
        return True

    def snapshot(self) -> Iterator[Any]:
        """The types that may be created, then [path, entry] of every resource."""
        return chain([self.allowed], iter_parts(self._entries.copy().items()))

    def restore(self, parts: Iterable[Any]) -> None:
        """Make every resource anew; their states come from parts of their own."""
        self._clockwork.configuring_again = True
        try:
            left = iter(parts)
            self.allowed = next(left)
            for part in left:
                for path, entry in rows(part, 2):
                    self._hosts[entry[0]] = self._make(entry[0], path, entry[1], entry[2])
                    self._entries[path] = entry
        finally:
            self._clockwork.configuring_again = False
        self._paths = sorted(self._entries)

    def _get(self, commit: Commit, path: str) -> Entry | None:
        return self._entries.get(path)

    def _exists(self, commit: Commit, path: str) -> bool:
        return path in self._entries

    def _page(self, commit: Commit, prefix: str, type_name: str | None, after: str, limit: int) -> list[str]:
        found: list[str] = []
        for path in self._behind(prefix, after):
            if len(found) >= min(limit, PAGE_MAX) or not path.startswith(prefix):
                break
            if type_name is None or self._entries[path][1] == type_name:
                found.append(path)
        return found

    def _behind(self, prefix: str, after: str) -> Iterator[str]:
        start = bisect_left(self._paths, prefix)
        if after:
            start = max(start, bisect_right(self._paths, after))
        return (self._paths[at] for at in range(start, len(self._paths)))


def _try(machine: type[StateMachine], codec: ValueCodec) -> None:
    """Make one, as a create would."""
    clockwork = Clockwork()
    clockwork.applying = True
    host = Host(CATALOG, machine(), clockwork, codec, machine.type_name)
    try:
        list(host.snapshot())
    except SnapshotError as error:
        _log.warning("no snapshot can be taken while there is a %r: %s", machine.type_name, error)


def _as_it_is(result: Any) -> Raw | Failure:
    """What a later operation of the batch could still change, encoded as it is now."""
    try:
        return Raw(encode_msgpack(result))
    except HALTING:
        raise
    except Exception as error:
        return failure_of(error)


def _nothing_at(target: int) -> Failure:
    return Failure("UnknownResourceError", f"there is no resource {target}: it was deleted, or never was")


def _tell(hook: Callable[[Session], None], session: Session) -> None:
    """Call a session hook. What it raises is the same on every replica, and has no caller to tell."""
    try:
        hook(session)
    except HALTING:
        raise
    except Exception as error:
        _log.exception("%s failed at %r: %r", getattr(hook, "__qualname__", hook), session, error)
