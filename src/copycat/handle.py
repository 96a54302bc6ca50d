"""Copycat: what a program holds to reach its resources, by path.

CopycatClient and CopycatReplica are Copycats: they differ in whether a server comes with them, not in what follows
from here on. Resource classes come as arguments; this module knows none.
"""

from asyncio import Future
from collections.abc import Callable, Generator
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from copycat.errors import ResourceTypeError, UnknownResourceError
from copycat.io.serializer import ENCODING_VERSION, Serializer
from copycat.raft.client.client import BACKUP_SECONDS
from copycat.raft.protocol.operations import ConsistencyLevel
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
from copycat.resource.resource import Resource, ResourceContext, Submitter, Timeout, check_level, resource_class
from copycat.util.listeners import Listener

if TYPE_CHECKING:
    from pathlib import Path

    from copycat.raft.client.backup import Backup

R = TypeVar("R", bound=Resource)

TIMEOUT_SECONDS = 30.0
SESSION_TIMEOUT_SECONDS = 5.0
INSTANCE = 0  # the Copycat itself; its handles count from 1


class Client(Submitter, Protocol):
    """The session a Copycat stands on. It refuses use before `open`, after `close`, from foreign threads and forks."""

    async def open(self) -> Any:
        """Register a session."""

    async def close(self) -> None:
        """End the session."""

    async def status(self) -> Any:
        """How the cluster is, as one of its servers sees it."""

    async def backup(self, path: "str | Path", *, force: bool = False, timeout: float = ...) -> "Backup":
        """Have the cluster's state written to a file."""

    def on_state_change(self, callback: Callable[[Any], object]) -> Listener[Any]:
        """Hear of every change of `state`."""


class Copycat:
    """Creates, finds and deletes resources. Not made directly: see `copycat.open`, CopycatClient, CopycatReplica.

    client: the session all goes through; opened and closed with the Copycat.
    serializer: encodes keys, values and operations; None makes one that knows the built-in types. Register your types
        with it before the first use.
    timeout: in seconds, of every call that names none, here and on handles; None waits for ever.

    Every method raises when awaited, besides what it documents: ClosedError before `open` and after `close`,
    ThreadError and ForkedError in foreign threads and processes, and the errors of its session (see `copycat.errors`).
    """

    def __init__(
        self, client: Client, *, serializer: Serializer | None = None, timeout: float | None = TIMEOUT_SECONDS
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._instances = count(INSTANCE + 1)
        self.serializer = serializer if serializer is not None else Serializer()

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the session and wait until the cluster has a leader; returns the Copycat. Idempotent."""
        await self._client.open()
        return self

    async def close(self) -> None:
        """End the session: ephemeral values go, locks are released. Resources stay. Idempotent."""
        await self._client.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state} leader={self.leader}>"

    @property
    def state(self) -> object:
        """How the session stands: connected, suspended, expired or closed."""
        return self._client.state

    @property
    def leader(self) -> str | None:
        """The id of the leader last heard of; None if none was. Information only: nothing here needs to know."""
        return self._client.leader

    def on_state_change(self, callback: Callable[[Any], object]) -> Listener[Any]:
        """Call `callback` with every new `state`, on the loop that opened this. Closing the listener ends that."""
        return self._client.on_state_change(callback)

    async def status(self) -> Any:
        """How the cluster is, as one of its servers sees it: leader, members, and why there is no leader."""
        return await self._client.status()

    async def backup(self, path: "str | Path", *, force: bool = False, timeout: float = BACKUP_SECONDS) -> "Backup":
        """Write a backup of all resources to the new file `path`: all that was acknowledged before this is in it.

        It is the state at one index, `Backup.index`, taken while commands go on, and verified before the file gets its
        name. `copycat restore` makes a new cluster of it.

        force: replace a file that is there. timeout: in seconds, how long to look for a leader, and to wait for each of
        its answers.

        Raises: ConfigurationError if there is such a file; NoLeaderError, ConnectError; StorageError if the leader
        cannot take a snapshot, saying why, or the file cannot be written; CorruptionError. Nothing is left of it then.
        """
        return await self._client.backup(path, force=force, timeout=timeout)

    # -- resources ---------------------------------------------------------------------------------------------------

    async def create(
        self, path: str, resource: type[R], *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> R:
        """A handle on the resource at `path`, which is created unless it is there. Each handle is a participant.

        path: text, not empty, at most 512 bytes of UTF-8. There is no tree: "/a" and "a" are two paths.
        resource: the class, with type arguments if replies are to be decoded as such: `DistributedMap[str, User]`.
        consistency: of the handle's queries that name none; None leaves LINEARIZABLE, or what a query's class says.
        timeout: in seconds, of this call; handles have the Copycat's.

        Raises ResourceTypeError when `resource` is no Resource class or the path holds another type,
        UnknownResourceTypeError when a member was not started with the type, and what a path can do wrong:
        SerializationError, ConfigurationError, TooLargeError.
        """
        check_path(path)
        kind, arguments = resource_class(resource)
        machine = kind.machine_class()
        entry = await self._command(
            CREATE, (path, machine.type_name, machine.type_version, ENCODING_VERSION), timeout, f"create {path!r}"
        )
        return self._handle(kind, arguments, path, entry, consistency)

    async def get(
        self, path: str, resource: type[R], *, consistency: ConsistencyLevel | None = None, timeout: Timeout = ...
    ) -> R:
        """A handle on the resource at `path`, which must be there; parameters and errors are those of `create`.

        Raises UnknownResourceError when there is none.
        """
        check_path(path)
        kind, arguments = resource_class(resource)
        entry = await self._query(GET, (path,), timeout, f"get {path!r}")
        if entry is None:
            raise UnknownResourceError(f"there is no resource at path {path!r}; create it")
        machine = kind.machine_class()
        check_type(entry, path, machine.type_name, machine.type_version)
        return self._handle(kind, arguments, path, entry, consistency)

    async def exists(self, path: str, *, timeout: Timeout = ...) -> bool:
        """Whether there is a resource at `path`, of whatever type."""
        return bool(await self._query(EXISTS, (check_path(path),), timeout, f"exists {path!r}"))

    async def delete(self, path: str, *, timeout: Timeout = ...) -> bool:
        """Delete the resource at `path` and its state, everywhere. False if there is none."""
        return bool(await self._command(DELETE, (check_path(path), 0), timeout, f"delete {path!r}"))

    async def paths(
        self, prefix: str = "", resource: type[Resource] | None = None, *, timeout: Timeout = ...
    ) -> list[str]:
        """The paths that begin with `prefix`, in order; only those of one type if `resource` is given.

        Asks for 1,000 at a time, each with `timeout`: a path created or deleted meanwhile may be listed or not.
        """
        type_name = None if resource is None else resource_class(resource)[0].machine_class().type_name
        found: list[str] = []
        while True:
            after = found[-1] if found else ""
            page = await self._query(PATHS, (prefix, type_name, after, PAGE_MAX), timeout, f"paths {prefix!r}")
            found += page
            if len(page) < PAGE_MAX:
                return found

    # -- requests to the catalog ---------------------------------------------------------------------------------------

    def _command(self, operation_id: int, arguments: tuple[Any, ...], timeout: Timeout, what: str) -> Future[Any]:
        seconds = self._timeout if timeout is ... else timeout
        return self._client.command(CATALOG, INSTANCE, operation_id, arguments, timeout=seconds, what=what)

    def _query(self, operation_id: int, arguments: tuple[Any, ...], timeout: Timeout, what: str) -> Future[Any]:
        return self._client.query(
            CATALOG,
            INSTANCE,
            operation_id,
            arguments,
            consistency=ConsistencyLevel.LINEARIZABLE,
            timeout=self._timeout if timeout is ... else timeout,
            what=what,
        )

    def _handle(
        self,
        kind: type[R],
        arguments: tuple[Any, ...],
        path: str,
        entry: Entry,
        consistency: ConsistencyLevel | None,
    ) -> R:
        if entry[3] > ENCODING_VERSION:
            raise ResourceTypeError(
                f"path {path!r} was created with encoding version {entry[3]}; this process knows {ENCODING_VERSION}: "
                "upgrade it"
            )
        context = ResourceContext(
            client=self._client,
            serializer=self.serializer,
            path=path,
            resource_id=entry[0],
            instance=next(self._instances),
            type_arguments=arguments,
            consistency=None if consistency is None else check_level(consistency),
            timeout=self._timeout,
        )
        return kind(context)
