"""`copycat.open`: the one line that begins a program."""

import asyncio
import logging
import os
import re
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Protocol

from copycat.client import CopycatClient
from copycat.errors import ConfigurationError
from copycat.handle import SESSION_TIMEOUT_SECONDS, TIMEOUT_SECONDS, Copycat
from copycat.io.serializer import Serializer
from copycat.io.transport.local import LocalTransport
from copycat.raft.protocol.members import Member

_log = logging.getLogger(__name__)

SCHEME = "copycat://"
ALONE = Member("node-1", "local", 2)
"""The member of a cluster of one, which nobody dials."""

_ADDRESSES = re.compile(r"[^/\\\s]+:\d+(,[^/\\\s]+:\d+)*")
_IN_MEMORY = object()


def open(
    target: Any = _IN_MEMORY,
    *,
    id: str | None = None,
    members: str | Iterable[str | Member] | None = None,
    listen: str | None = None,
    resources: Iterable[Any] = (),
    session_timeout: float = SESSION_TIMEOUT_SECONDS,
    timeout: float | None = TIMEOUT_SECONDS,
    serializer: Serializer | None = None,
) -> Copycat:
    """A Copycat, to be opened with `async with` or `await`.

    open():                           one replica in memory, private to this process: for tests and first steps.
    open("data/"):                    one replica whose data is kept in that directory.
    open("data/", id=, members=):     one member of a cluster; `listen` as for CopycatReplica.
    open("copycat://h1:5000,h2:5000"): a client of the servers there.

    target: a directory (text or a path), or a URL. resources: classes of your own that the replica allows.
    session_timeout: in seconds. timeout: in seconds, of calls that name none; None: for ever.

    Raises TypeError for a target that is neither text nor a path; ConfigurationError for an address without
    `copycat://`, for other URLs, and for arguments that do not go together.
    """
    if target is _IN_MEMORY:
        directory = None
        _log.warning(
            "copycat.open() is private to this process and kept in memory: other workers will not see it. To share "
            'across hosts: copycat.open("copycat://host:5001,..."); to keep the data: copycat.open("data/")'
        )
    elif not isinstance(target, str | os.PathLike):
        raise TypeError(
            f"copycat.open() takes a directory or a copycat:// URL, not {target!r}; without an argument it opens a "
            "replica in memory"
        )
    else:
        text = os.fspath(target)
        if text.startswith(SCHEME):
            _refuse_with_url(id=id, members=members, listen=listen, resources=tuple(resources))
            return CopycatClient(
                text.removeprefix(SCHEME).rstrip("/"),
                session_timeout=session_timeout,
                timeout=timeout,
                serializer=serializer,
            )
        if isinstance(target, str) and _ADDRESSES.fullmatch(text) and not os.path.exists(text):
            raise ConfigurationError(
                f"{text!r} looks like an address; to connect to servers write copycat.open({SCHEME + text!r})"
            )
        if "://" in text:
            raise ConfigurationError(
                f"{text!r} is neither a directory nor a {SCHEME} URL; to connect to servers write "
                f'copycat.open("{SCHEME}host:port,...")'
            )
        directory = text
    if (id is None) != (members is None):
        raise ConfigurationError("id= and members= go together: which of the members is this one?")
    if members is None and listen is not None:
        raise ConfigurationError("listen= is for one of several members: give id= and members= as well")
    # Here, for whoever opens a client needs no server.
    from copycat.io.storage.storage import Storage, StorageLevel
    from copycat.replica import CopycatReplica

    return CopycatReplica(
        ALONE if id is None else id,
        [ALONE] if members is None else members,
        storage=Storage(level=StorageLevel.MEMORY) if directory is None else Storage(directory),
        resources=resources,
        listen=listen,
        transport=LocalTransport() if members is None else None,
        session_timeout=session_timeout,
        timeout=timeout,
        serializer=serializer,
    )


def _refuse_with_url(**given: Any) -> None:
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise ConfigurationError(f"{', '.join(wrong)}= is for a replica; a URL opens a client of servers elsewhere")


class Openable(Protocol):
    """A Copycat, or a RaftServer or RaftClient."""

    async def open(self) -> Any: ...

    async def close(self) -> None: ...


class open_all:  # noqa: N801  # reads like the function it is next to
    """Open several at once: `await open_all(a, b, c)`, or `async with open_all(a, b, c):`.

    Copycats, RaftServers or RaftClients. Opened one after another, the first members of a cluster would wait for the
    others. If one cannot be opened, all are closed and its error is raised. Leaving `async with` closes all.
    """

    def __init__(self, *openables: Openable) -> None:
        self._openables = openables

    def __await__(self) -> Generator[Any, None, None]:
        return self._open().__await__()

    async def __aenter__(self) -> None:
        await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _open(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in self._openables:
                    tasks.create_task(each.open())
        except BaseExceptionGroup as failed:  # what failed first ended the others: it is the cause
            await self._close()
            raise failed.exceptions[0] from None
        except BaseException:
            await self._close()
            raise

    async def _close(self) -> None:
        outcomes = await asyncio.gather(*(each.close() for each in self._openables), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
