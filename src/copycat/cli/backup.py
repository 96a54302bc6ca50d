"""`copycat backup`: the state of a running cluster, in a file."""

import asyncio
import json
from argparse import ArgumentParser, Namespace

from copycat.cli.command import Command
from copycat.cli.settings import SOME_MEMBERS, Setting, SettingError, timeout
from copycat.raft.client.client import BACKUP_SECONDS, RaftClient
from copycat.raft.protocol.members import parse_members

SETTINGS = (
    SOME_MEMBERS,
    timeout(BACKUP_SECONDS, "how long to look for a leader, and to wait for each of its answers (30)"),
    Setting(name="force", is_switch=True, default=False, help="replace a file that is there"),
)

EPILOG = """\
example: copycat backup 127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003 monday.backup

All that was acknowledged before the command began is in it; commands go on meanwhile. The file gets its name when it is
whole and was verified. `copycat restore` makes a new cluster of it, `copycat inspect` shows what is in it.

exit status: 0 the file is there, and sound; 1 it is not: the message says why; 2 wrong usage.
"""


def run(options: Namespace) -> int:
    """Fetch it, and say what it is."""
    named = options.addresses or options.members
    if not named:
        raise SettingError("name the members: copycat backup host:port,... FILE")
    client = RaftClient(parse_members(named))
    backup = asyncio.run(client.backup(options.file, force=options.force, timeout=options.timeout))
    cluster = backup.cluster_id.hex()
    if options.json:
        print(json.dumps({"path": backup.path, "index": backup.index, "size": backup.size, "cluster_id": cluster}))
    else:
        print(f"{backup.path}: the state of cluster {cluster[:8]} at index {backup.index}, {backup.size} bytes")
    return 0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("addresses", metavar="MEMBERS", nargs="?", help="the same as --members")
    parser.add_argument("file", metavar="FILE", help="the file to write, which is not there yet")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="backup",
    summary="write the state of a running cluster to a file",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
