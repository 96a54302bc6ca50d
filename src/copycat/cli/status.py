"""`copycat status`: what every member of a cluster says of itself."""

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from copycat.cli.command import Command
from copycat.cli.settings import SOME_MEMBERS, SettingError, timeout
from copycat.cli.text import table
from copycat.raft.client.survey import ask_all, has_answered, summary
from copycat.raft.protocol.members import parse_members

SETTINGS = (
    SOME_MEMBERS,
    timeout(3.0, "how long to wait for each member (3)"),
)

EPILOG = """\
example: copycat status 127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003

Members that those named know of are asked as well.

exit status: 0 there is a leader; 1 there is none, and it says why; 2 wrong usage.
"""

COLUMNS = {
    "id": "id",
    "role": "role",
    "term": "term",
    "commit": "commit_index",
    "applied": "applied_index",
    "snapshot": "snapshot_index",
    "checked": "checked_index",
    "sessions": "sessions",
}


PROBLEMS = ("failure", "snapshot_problem", "space_problem", "check_problem")
"""What a person should look at: shown below the table."""


def describe(cluster: Mapping[str, Any]) -> str:
    """The summary for a person: a table, and a line on the leader."""
    rows, problems = [], []
    for name, answer in cluster["members"].items():
        if has_answered(answer):
            rows.append([str(answer[field]) for field in COLUMNS.values()])
            problems += [f"{name}: {answer[field]}" for field in PROBLEMS if answer.get(field)]
        else:
            rows.append([name, f"unreachable: {answer['unreachable']}"])
    if cluster["leader"]:
        line = f"{cluster['leader']} leads term {cluster['term']}"
    else:
        line = f"no leader: {cluster['why_no_leader']}"
    return "\n".join([table(list(COLUMNS), rows), line, *problems])


def run(options: Namespace) -> int:
    """Ask, and print what was answered."""
    named = options.addresses or options.members
    if not named:
        raise SettingError("name the members: copycat status host:port,...")
    members = parse_members(named)
    cluster = summary(asyncio.run(ask_all(members, options.timeout)))
    print(json.dumps(cluster) if options.json else describe(cluster))
    return 0 if cluster["leader"] else 1


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("addresses", metavar="MEMBERS", nargs="?", help="the same as --members")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="status",
    summary="ask every member how it is",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
