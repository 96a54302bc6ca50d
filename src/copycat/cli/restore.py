"""`copycat restore`: a new cluster from a backup."""

import json
import random
from argparse import ArgumentParser, Namespace
from pathlib import Path

from copycat.cli.command import Command
from copycat.cli.machines import SETTINGS as MACHINE_SETTINGS
from copycat.cli.machines import machines_of_options
from copycat.cli.settings import Setting, SettingError
from copycat.io.serializer import Serializer
from copycat.io.storage.read_only import ReadOnlyDisk
from copycat.io.storage.storage import Storage
from copycat.raft.protocol.members import Member, parse_members
from copycat.raft.server.restoring import read_backup, require_empty, write_directory

SETTINGS = (
    Setting(name="id", help="the member to make, one of those in --members"),
    Setting(
        name="members",
        metavar="LIST",
        help="every member of the new cluster: a=host:port,b=host:port,...",
        is_required=True,
    ),
    Setting(name="data", metavar="DIR", help="the directory to make, new or empty", is_required=True),
    Setting(
        name="all",
        is_switch=True,
        default=False,
        help="make every member, each in a directory of its id under --data: for one host",
    ),
    *MACHINE_SETTINGS,
)

EPILOG = """\
example: copycat restore monday.backup --id a --members a=10.0.0.1:5001,b=10.0.0.2:5001,c=10.0.0.3:5001 --data data/a

Run it once for each member, on its host, with the same backup and the same members; then start them. They are a new
cluster: with the state of the backup, without its sessions, so locks are free and ephemeral entries gone, and with
indices, and so fencing tokens, far above all of the old one. Stop the old one first, or its clients go on there.

exit status: 0 done; 1 refused, and nothing was written: the message says why; 2 wrong usage.
"""


def run(options: Namespace) -> int:
    """Verify, make the state, write the directories."""
    members = parse_members(options.members)
    chosen = _chosen(options, members)
    storages = {member: Storage(Path(options.data) / member.id if options.all else options.data) for member in chosen}
    for storage in storages.values():
        require_empty(storage)
    restored = read_backup(ReadOnlyDisk(), options.file, machines_of_options(options), Serializer())
    for member, storage in storages.items():
        write_directory(storage, restored, member, members, random.SystemRandom())
    made = {member.id: storage.directory for member, storage in storages.items()}
    if options.json:
        told = {"backup_index": restored.backup.index, "index": restored.base.index, "directories": made}
        print(json.dumps(told | {"begins_with": restored.digest.hex()}))
        return 0
    print(
        f"{options.file}: the state at index {restored.backup.index} of cluster "
        f"{restored.backup.cluster_id.hex()[:8] or 'unknown'} goes on at index {restored.base.index} in "
        f"{', '.join(made.values())}"
    )
    listed = ",".join(map(str, members))
    print("when every member is restored, start each:")
    for name, directory in made.items():
        print(f"  copycat server --id {name} --members {listed} --data {directory}")
    return 0


def _chosen(options: Namespace, members: tuple[Member, ...]) -> list[Member]:
    if options.all == (options.id is not None):
        raise SettingError("say which member to make: either --id, or --all for one host")
    chosen = [member for member in members if options.all or member.id == options.id]
    if not chosen:
        raise SettingError(f"--id {options.id} is not one of the members: {', '.join(each.id for each in members)}")
    return chosen


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a backup, or a snapshot from a data directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="restore",
    summary="make the data of a new cluster from a backup",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
