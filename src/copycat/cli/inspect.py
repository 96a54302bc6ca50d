"""`copycat inspect`: what is in a data directory or a backup, whether it is sound, and what to do if it is not."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from copycat.cli import inspect_text as text
from copycat.cli.command import Command
from copycat.cli.machines import SETTINGS, machines_of_options
from copycat.cli.settings import SettingError
from copycat.cli.states import StateViews
from copycat.errors import ConfigurationError, UnknownResourceError
from copycat.io.serializer import Serializer
from copycat.io.storage.findings import Inspection
from copycat.io.storage.inspection import inspect_directory, inspect_file
from copycat.io.storage.read_only import ReadOnlyDisk, holder_of
from copycat.io.storage.storage import LOCK_FILE, explain
from copycat.raft.server.offline import configuration_of, records_of, replay

EPILOG = """\
example: copycat inspect data/a
         copycat inspect data/a --records 1200:1300
         copycat inspect data/a --at 1250 --resource users
         copycat inspect monday.backup

Reads only, and locks nothing; a directory in use may be looked at. --records and --at show what the directory holds,
whether or not its last entries were committed.

exit status: 0 all is sound; 1 something is damaged, or what was asked for is not there; 2 wrong usage.
"""


def run(options: Namespace) -> int:
    """Look, and print what was found."""
    if options.resource is not None and options.at is None:
        raise SettingError("--resource goes with --at: of which index?")
    disk = ReadOnlyDisk()
    found = find(disk, options.path)
    if options.records is not None:
        _records(disk, found, options)
    elif options.at is not None:
        _state(disk, found, options)
    else:
        configuration, index = configuration_of(disk, found)
        seen = text.as_dict(found, configuration, index)
        print(json.dumps(seen) if options.json else text.describe(seen))
    return 1 if found.damages else 0


def find(disk: ReadOnlyDisk, where: str) -> Inspection:
    """Look at a directory or a file. Raises: ConfigurationError if it is neither; StorageError."""
    path = Path(where)
    try:
        if path.is_file():
            return inspect_file(disk, where)
        if not path.is_dir():
            raise ConfigurationError(f"{where} is neither a data directory nor a file: name one that is there")
        found = inspect_directory(disk, where, in_use_by=holder_of(str(path / LOCK_FILE)))
    except OSError as error:
        raise explain(where, error) from error
    if found.metadata is None and not (found.segments or found.snapshots or found.damages):
        raise ConfigurationError(f"{where} holds no data of a member: name the directory given to a server as --data")
    return found


def _records(disk: ReadOnlyDisk, found: Inspection, options: Namespace) -> None:
    first, last = _range(options.records, found)
    for block in records_of(disk, found, first, last):
        seen = text.block_as_dict(block)
        print(json.dumps(seen) if options.json else text.describe_block(seen))


def _range(wanted: str, found: Inspection) -> tuple[int, int | None]:
    """FROM, or FROM:TO; nothing: all."""
    first, _, last = wanted.partition(":")
    if not all(part == "" or part.isdecimal() for part in (first, last)):
        raise SettingError(f"--records {wanted}: write FROM or FROM:TO, of indices")
    begin = int(first) if first else found.first_index
    end = int(last) if last else None
    if end is not None and end < begin:
        raise SettingError(f"--records {wanted}: {end} lies before {begin}")
    return begin, end


def _state(disk: ReadOnlyDisk, found: Inspection, options: Namespace) -> None:
    serializer = Serializer()
    index = None if options.at == "end" else _index(options.at)
    executor = replay(disk, found, machines_of_options(options), serializer, index)
    views = StateViews(executor, serializer)
    seen: dict[str, Any] = {"index": executor.applied_index, "log_time_ms": executor.clockwork.time}
    if options.resource is None:
        seen |= {"resources": views.resources(), "sessions": views.sessions()}
    else:
        try:
            seen["state"] = views.state(options.resource)
        except KeyError:
            raise UnknownResourceError(
                f"at index {executor.applied_index} there is no resource {options.resource!r}; there are: "
                f"{', '.join(repr(each['path']) for each in views.resources()) or 'none'}"
            ) from None
    print(json.dumps(seen) if options.json else text.describe_state(seen))


def _index(given: str) -> int:
    if not given.isdecimal():
        raise SettingError(f"--at {given}: write an index, or 'end'")
    return int(given)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR|FILE", help="a member's data directory, or a snapshot or backup")
    parser.add_argument(
        "--records", metavar="FROM[:TO]", nargs="?", const="", help="list the records of the log instead; all of them"
    )
    parser.add_argument("--at", metavar="INDEX", help="show the state at that index instead; 'end': the newest")
    parser.add_argument("--resource", metavar="PATH", help="with --at: the state of the resource at that path")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --records one on each line")


COMMAND = Command(
    name="inspect",
    summary="look into a data directory or a backup, and verify it",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
