"""`copycat repair`: what is sound of a cluster that cannot go on, as a backup."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from copycat.cli.command import Command
from copycat.cli.inspect import find
from copycat.cli.machines import SETTINGS as MACHINE_SETTINGS
from copycat.cli.machines import machines_of_options
from copycat.cli.settings import Setting
from copycat.errors import ConfigurationError, StorageError
from copycat.io.serializer import Serializer
from copycat.io.storage.backup_file import BackupFile
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.findings import Inspection
from copycat.io.storage.read_only import ReadOnlyDisk, require_stopped
from copycat.io.storage.storage import LOCK_FILE
from copycat.raft.server.salvage import Salvage, survey, write_backup

SETTINGS = (
    Setting(name="to", metavar="FILE", help="the backup to write, which is not there yet", is_required=True),
    Setting(name="force", is_switch=True, default=False, help="replace a file that is there"),
    Setting(
        name="accept-loss",
        is_switch=True,
        default=False,
        help="write it although something that was acknowledged is lost, or may be",
    ),
    *MACHINE_SETTINGS,
)

EPILOG = """\
example: copycat repair data/a --to saved.backup

For a cluster that cannot go on by itself: a single member with a damaged log, or fewer members than a majority. Give
the directories of all members that there are; they must be stopped, and none is changed. The one that has the most is
written as a backup, and `copycat restore` makes a new cluster of it. A majority of whole directories loses nothing;
otherwise it says what is lost, and does nothing without --accept-loss.

exit status: 0 the backup is there; 1 refused, and the message says why; 2 wrong usage.
"""


def run(options: Namespace) -> int:
    """Look at the directories, say what is lost, write the backup."""
    disk = ReadOnlyDisk()
    target = BackupFile(OsDisk(), options.to, force=options.force)
    salvage = survey(disk, [_stopped(disk, directory) for directory in options.directories])
    if salvage.losses and not options.accept_loss:
        raise StorageError(
            f"with the state at index {salvage.best.end.index}, the best there is here, something is lost:\n"
            f"{_list(salvage)}\n"
            "If there is no better backup, and no other directory of these members, give --accept-loss"
        )
    file = write_backup(disk, salvage, machines_of_options(options), Serializer(), target)
    told = {
        "path": options.to,
        "index": file.header.index,
        "size": file.size,
        "from": salvage.best.found.where,
        "losses": salvage.losses,
    }
    if options.json:
        print(json.dumps(told))
        return 0
    print(f"{options.to}: the state at index {file.header.index}, {file.size} bytes, from {salvage.best.found.where}")
    print(f"lost:\n{_list(salvage)}" if salvage.losses else "nothing that was acknowledged is lost")
    print("make a new cluster of it: copycat restore")
    return 0


def _stopped(disk: ReadOnlyDisk, directory: str) -> Inspection:
    if not Path(directory).is_dir():
        raise ConfigurationError(f"{directory} is no directory: name the one given to a server as --data")
    require_stopped(directory, str(Path(directory) / LOCK_FILE))
    return find(disk, directory)


def _list(salvage: Salvage) -> str:
    return "\n".join(f"- {loss}" for loss in salvage.losses)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directories", metavar="DIR", nargs="+", help="data directories of stopped members")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="repair",
    summary="save what is sound of a cluster that cannot go on, as a backup",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
)
