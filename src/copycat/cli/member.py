"""`copycat member`: give a member a vote or take it, remove one, let another lead."""

import asyncio
import json
from argparse import ArgumentParser, Namespace

from copycat.cli.command import Command
from copycat.cli.settings import SOME_MEMBERS, SettingError, timeout
from copycat.io.transport.tcp import TcpTransport
from copycat.raft.inquiry.changes import change_members
from copycat.raft.protocol.configuration import Change, ChangeOutcome, ChangeRequest, decode_configuration
from copycat.raft.protocol.members import parse_members
from copycat.util.address import Address

SETTINGS = (
    SOME_MEMBERS,
    timeout(30.0, "how long to try (30)"),
)

EPILOG = """\
example: copycat member remove c --members 127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003

promote: give a member without a vote one, once it is level.  demote: take it.
remove: for good; its id never returns.  transfer: let it lead; without an id, whoever holds most.
A new member is added by starting it: copycat server --join.

exit status: 0 done, or so already; 1 not done, or not known whether it was, and the message says which; 2 wrong usage.
"""

ACTIONS = {str(each): each for each in Change if each is not Change.ADD}


async def ask(options: Namespace) -> ChangeOutcome:
    """Have it done. Raises: as `change_members`."""
    members = parse_members(options.members)
    addresses = [Address(member.host, member.port) for member in members]
    transport = TcpTransport()
    try:
        asked = ChangeRequest(ACTIONS[options.action], options.member)
        return await change_members(transport, addresses, asked, options.timeout)
    finally:
        await transport.close()


def run(options: Namespace) -> int:
    """Ask, and print what came of it."""
    if not options.members:
        raise SettingError("name the members: --members host:port,...")
    if not options.member and options.action != Change.TRANSFER:
        raise SettingError(f"name the member to {options.action}: copycat member {options.action} ID")
    outcome = asyncio.run(ask(options))
    configuration = decode_configuration(outcome.configuration) if outcome.configuration else None
    members = configuration.members if configuration is not None else None
    passive = configuration.passive if configuration is not None else None
    if options.json:
        print(json.dumps({"index": outcome.index, "members": members, "passive": passive}))
    elif members is not None:
        without = f"; without a vote {', '.join(passive)}" if passive else ""
        print(f"members as of index {outcome.index}: {', '.join(members)}{without}")
    else:
        print(f"{options.member or 'another member'} is to lead")
    return 0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=sorted(ACTIONS), help="what to do")
    parser.add_argument("member", metavar="ID", nargs="?", default="", help="with which member")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="member",
    summary="change who belongs to a cluster, or who leads it",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
