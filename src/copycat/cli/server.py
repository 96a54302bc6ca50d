"""`copycat server`: one member of a cluster, as a process of its own."""

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from copycat.cli.command import Command
from copycat.cli.settings import Setting, SettingError, natural_number, one_of, positive_integer
from copycat.errors import CopycatError, InvariantError
from copycat.io.storage.log import SEGMENT_BYTES
from copycat.io.storage.storage import FREE_SPACE_MIN, MEBIBYTE, Storage, StorageLevel
from copycat.io.transport.tcp import TcpTransport
from copycat.raft.core.config import RaftConfig
from copycat.raft.server.fatal import end_process
from copycat.raft.server.server import CHECK_SECONDS, RaftServer
from copycat.raft.server.status import Status
from copycat.replica import make_server
from copycat.resource.loading import load_resources
from copycat.util.loop_thread import new_event_loop

SETTINGS = (
    Setting(name="id", help="this member's id, one of those in --members", is_required=True),
    Setting(name="members", metavar="LIST", help="every member: a=host:port,b=host:port,...", is_required=True),
    Setting(name="data", metavar="DIR", help="where this member keeps its data; made if missing"),
    Setting(name="memory", is_switch=True, default=False, help="keep data in memory instead: it dies with the process"),
    Setting(name="listen", metavar="HOST:PORT", help="where to listen, if not at this member's address in --members"),
    Setting(
        name="join",
        is_switch=True,
        default=False,
        help="with a new directory: ask the cluster of the other --members to let this one in",
    ),
    Setting(
        name="no-vote",
        is_switch=True,
        default=False,
        help="with --join: stay without a vote; serves SERIALIZABLE reads, and counts for no majority",
    ),
    Setting(
        name="resources",
        metavar="MODULE:CLASS",
        is_list=True,
        default=(),
        help="a resource or state machine of your own to allow; may be repeated; every member needs the same",
    ),
    Setting(
        name="election-timeout",
        metavar="MS",
        parse=positive_integer,
        default=500,
        help="milliseconds without a leader before an election (500)",
    ),
    Setting(
        name="heartbeat",
        metavar="MS",
        parse=positive_integer,
        default=100,
        help="milliseconds between words of an idle leader (100)",
    ),
    Setting(
        name="insecure",
        is_switch=True,
        default=False,
        help="listen beyond this host without TLS: the network is trusted",
    ),
    Setting(
        name="snapshot-log-size",
        metavar="MIB",
        parse=positive_integer,
        default=SEGMENT_BYTES // MEBIBYTE,
        help="mebibytes of log from one snapshot of the state to the next (32); smaller: less disk, faster starts",
    ),
    Setting(
        name="free-space-min",
        metavar="MIB",
        parse=natural_number,
        default=FREE_SPACE_MIN // MEBIBYTE,
        help="mebibytes that must be free on the disk, beside room for a snapshot, for commands to be taken (128); 0: "
        "take them until it is full",
    ),
    Setting(
        name="check-interval",
        metavar="SECONDS",
        parse=natural_number,
        default=CHECK_SECONDS,
        help="seconds from one comparison of all members' states to the next (600), while this member leads; 0: never, "
        "and it takes part in none",
    ),
    Setting(
        name="log-level",
        metavar="LEVEL",
        parse=one_of("debug", "info", "warning", "error"),
        default="warning",
        help="debug, info, warning (the default) or error; the log goes to stderr",
    ),
)

EPILOG = """\
example: copycat server --id a --members a=127.0.0.1:5001,b=127.0.0.1:5002,c=127.0.0.1:5003 --data data/a

Runs until SIGTERM or SIGINT, which close it cleanly; a second one ends it at once. Without a majority it waits, and
logs what is missing. Prints one line once it is open and knows a leader.

exit status: 0 stopped by a signal; 1 could not start, or cannot go on: the message says why; 2 wrong usage; 70 the disk
failed.
"""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Service:
    """A server from its start to a signal, or to the error it cannot go on from."""

    def __init__(self, options: Namespace) -> None:
        self._transport = TcpTransport(insecure=options.insecure)
        self._server = server_of(options, transport=self._transport, on_fatal=self._on_fatal)
        self._options = options
        self._task: asyncio.Task[Any] | None = None
        self._is_stopping = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Serve until told to stop. Raises what kept the server from starting, or from going on."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop)
        if self._options.until_eof:
            loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        try:
            await self._server.open(timeout=None)
            _spare_collector()
            self._announce(self._server.status())
            await loop.create_future()  # until `_stop` cancels
        except asyncio.CancelledError:
            if self._task is None or not self._is_stopping:
                raise
            self._task.uncancel()
        finally:
            await self._server.close()
            await self._transport.close()
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        """Close. From now on signals have their usual effect, so that a second one ends the process at once."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        if self._options.until_eof:
            loop.remove_reader(sys.stdin.fileno())
        if self._task is not None and not self._is_stopping:
            self._is_stopping = True
            self._task.cancel()

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._stop()

    def _on_fatal(self, error: BaseException) -> None:
        end_process(error)
        self._failure = error
        self._stop()

    def _announce(self, status: Status) -> None:
        if self._options.json:
            print(json.dumps(status.as_dict()), flush=True)
            return
        where = "memory" if self._options.memory else self._options.data
        print(
            f"{status.id} serves {self._server.address} in cluster {status.cluster_id[:8]}, data in {where}; "
            f"{'it' if status.leader == status.id else status.leader} leads term {status.term}",
            flush=True,
        )


def server_of(options: Namespace, **more: Any) -> RaftServer:
    """The server the settings describe, not yet open. Raises SettingError and ConfigurationError."""
    if options.memory == (options.data is not None):
        raise SettingError("say where data is kept: either --data DIR, or --memory to lose it with the process")
    kept = {
        "snapshot_log_size": options.snapshot_log_size * MEBIBYTE,
        "free_space_min": options.free_space_min * MEBIBYTE,
    }
    storage = Storage(level=StorageLevel.MEMORY, **kept) if options.memory else Storage(options.data, **kept)
    return make_server(
        options.id,
        options.members,
        resources=resources_of(options.resources),
        storage=storage,
        listen=options.listen,
        join=options.join,
        vote=not options.no_vote,
        check_interval=options.check_interval,
        config=RaftConfig(
            election_timeout_ms=options.election_timeout,
            heartbeat_ms=options.heartbeat,
            lease_ms=options.election_timeout // 2,
        ),
        **more,
    )


def resources_of(names: Sequence[str]) -> list[Any]:
    """The classes named. Modules are looked for in the working directory, too."""
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return [resource for name in names for resource in load_resources(name)]


class _Formatter(logging.Formatter):
    """Leaves out the trace of errors that tell a person what to do; a bug's is kept."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CopycatError) and not isinstance(error, InvariantError):
            record.exc_info = None
        return super().format(record)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _spare_collector() -> None:
    """Have the collector of cycles look at less, and more rarely.

    At its defaults it runs several times in each large batch, over operations that are gone a moment later (1.5 % of a
    busy server's CPU), and now and then walks over everything there is, modules and recovered state among it, while
    all wait. Serving commands makes no cycles; what a state machine of one's own may make still goes, a little later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _open_as_many_files_as_allowed() -> None:
    """Every client is an open file, and the usual soft limit is for programs that cannot have many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # systems exist whose hard limit is more than they allow; clients are refused beyond the soft one


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print that one line as a JSON object: its status")
    parser.add_argument("--until-eof", action="store_true", help=SUPPRESS)  # its parent holds the other end of stdin


def run(options: Namespace) -> int:
    """Serve until a signal."""
    _log_to_stderr(options.log_level)
    _open_as_many_files_as_allowed()
    service = Service(options)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(service.run())
    return 0


COMMAND = Command(
    name="server",
    summary="run one member of a cluster",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
