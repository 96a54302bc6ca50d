"""`copycat chaos`: real servers and clients under faults from outside, and what became of their promises."""

import asyncio
import json
import signal
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from copycat.cli.command import Command
from copycat.cli.settings import Setting, SettingError, one_of, positive_integer, positive_number
from copycat.cli.text import figure, table
from copycat.testing.chaos.faults import KINDS
from copycat.testing.chaos.run import Settings, Verdict
from copycat.testing.chaos.run import run as run_chaos
from copycat.util.loop_thread import new_event_loop

MEMBERS_MAX = 9

SETTINGS = (
    Setting(name="seconds", metavar="S", parse=positive_number, default=60.0, help="how long faults go on (60)"),
    Setting(
        name="faults",
        metavar="LIST",
        parse=one_of(*KINDS),
        is_list=True,
        default=tuple(KINDS),
        help=f"which: {','.join(KINDS)} (all of them)",
    ),
    Setting(name="members", metavar="N", parse=positive_integer, default=3, help="how many servers (3)"),
    Setting(name="clients", metavar="N", parse=positive_integer, default=5, help="how many client processes (5)"),
    Setting(name="seed", metavar="N", parse=int, default=0, help="which faults, and what the clients do (0)"),
    Setting(name="out", metavar="DIR", help="an empty directory for all there is to see; a new one if left out"),
)

EPILOG = """\
example: copycat chaos --seconds 30 --faults kill,partition

The servers are real processes with data of their own, behind a proxy for each link; so are the clients. In the end
everything is healed and must recover, all servers are killed once more, and what is there is held against what was
acknowledged. The directory has the history, the verdict, a picture to open in a browser (timeline.html), and all logs.
Of the same seed come the same faults; what processes make of them differs from run to run.

exit status: 0 nothing that must not be; 1 a promise was broken, or so little happened that it says nothing; 2 wrong
usage; 130 interrupted.
"""


def describe(verdict: Verdict, directory: Path) -> str:
    """For people."""
    rows = [
        ["operations", figure(sum(verdict.operations.values()))],
        *([f"  {name}", figure(count)] for name, count in verdict.operations.items()),
        ["changes of leader", figure(verdict.leader_changes)],
        ["longest stop of writes, s", figure(verdict.longest_stop_seconds, 2)],
        ["members ended by a failing disk", figure(verdict.ended_by_their_disk)],
        ["client processes", figure(verdict.clients_started)],
        *([f"fault: {name}", figure(count)] for name, count in verdict.faults.items()),
    ]
    checks = [
        [each.name, figure(each.checked), figure(each.parts), "ok" if each.is_kept else "BROKEN"]
        for each in verdict.checks
    ]
    lines = [table(["", "in all"], rows), "", table(["promise", "checked", "parts", ""], checks), ""]
    lines += [f"not possible here: {what}: {why}" for what, why in verdict.impossible.items()]
    lines += [f"{each.name}: {breach}" for each in verdict.checks for breach in each.breaches]
    lines += [f"{each.name}: there was nothing to check" for each in verdict.checks if not each.checked]
    lines += verdict.problems
    lines.append(f"{'Everything held' if verdict.is_good else 'That must not be'}; see {directory / 'timeline.html'}")
    return "\n".join(lines)


def make_directory(out: str | None) -> Path:
    """An empty directory. Raises SettingError."""
    if out is None:
        return Path(tempfile.mkdtemp(prefix="copycat-chaos-"))
    directory = Path(out).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_empty = not any(directory.iterdir())
    except OSError as error:
        raise SettingError(f"{directory} cannot be used: {error.strerror}") from error
    if not is_empty:
        raise SettingError(f"{directory} is not empty: name an empty directory, or leave out --out")
    return directory


def run(options: Namespace) -> int:
    """Run, and tell; 0 when every promise was kept."""
    if options.members > MEMBERS_MAX:
        raise SettingError(f"--members {options.members}: at most {MEMBERS_MAX} fit on one host")
    settings = Settings(
        seconds=options.seconds,
        kinds=tuple(dict.fromkeys(options.faults)),
        members=options.members,
        clients=options.clients,
        seed=options.seed,
    )
    directory = make_directory(options.out)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            verdict = runner.run(_play(directory, settings))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if options.json:
        print(json.dumps({**verdict.as_dict(), "directory": str(directory)}))
    else:
        print(describe(verdict, directory))
    return 0 if verdict.is_good else 1


async def _play(directory: Path, settings: Settings) -> Verdict:
    """Run. SIGTERM ends it as Ctrl-C does: with every process, those that are stopped too."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_chaos(directory, settings)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the verdict as one JSON object")


COMMAND = Command(
    name="chaos",
    summary="real servers and clients under faults from outside, judged",
    run=run,
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    prefix="COPYCAT_CHAOS_",
)
