"""The `copycat` command: reads arguments, runs one command, turns errors into a message and an exit status."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from importlib import import_module

from copycat import __version__
from copycat.cli.command import Command
from copycat.cli.settings import SettingError, add_flags, resolve
from copycat.errors import CopycatError

NAMES = (
    "server",
    "status",
    "member",
    "backup",
    "restore",
    "inspect",
    "repair",
    "demo",
    "bench",
    "simulate",
    "chaos",
    "bench-client",
)
"""Every command, in the order of the help. Each is the COMMAND of the module of its name."""

EPILOG = """\
example: copycat demo

Settings come from flags, then from COPYCAT_* in the environment, then from the file named with --config.
exit status: 0 done; 1 failed, the message says why; 2 wrong usage; 130 interrupted.
"""
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `copycat` with `arguments`, None for the process's own; returns the exit status.

    Raises SystemExit as argparse does: 0 after --help and --version, 2 after a usage error.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    # A server starts sooner, and is smaller, without what simulates clusters and draws pictures.
    parser, parsers = make_parsers([load(name) for name in NAMES if name in given[:1]] or map(load, NAMES))
    options = parser.parse_args(given)
    command: Command = options.command
    try:
        resolve(command.settings, options, command=command.name, prefix=command.prefix, environment=os.environ)
        return command.run(options)
    except SettingError as error:
        parsers[command.name].error(str(error))
    except CopycatError as error:
        print(f"copycat {command.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Nothing may be flushed into that pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def load(name: str) -> Command:
    """The command of this name."""
    command: Command = import_module(f"copycat.cli.{name.replace('-', '_')}").COMMAND
    return command


def make_parsers(known: Iterable[Command]) -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """The parser of `copycat`, and those of these commands by name."""
    parser = ArgumentParser(
        prog="copycat",
        description="Your Python processes agree: replicated locks, leaders, maps and state machines.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"copycat {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parsers = {}
    for command in known:
        if command.summary:
            child = commands.add_parser(command.name, help=command.summary)
        else:
            child = commands.add_parser(command.name)  # argparse lists what has a help, even an empty one
        child.description, child.epilog = command.summary, command.epilog
        child.formatter_class = RawDescriptionHelpFormatter
        parsers[command.name] = child
        command.arguments(child)
        add_flags(child, command.settings)
        child.set_defaults(command=command)
    return parser, parsers
