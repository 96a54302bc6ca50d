"""What each command of `copycat` tells about itself."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from copycat.cli.settings import PREFIX, Setting


def _no_arguments(_parser: ArgumentParser) -> None:
    """Most commands have settings only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: `copycat NAME`.

    run: does the work, given every setting and argument; returns the exit status. Raises CopycatError, whose message
        is printed, for exit status 1.
    epilog: an example, and what the exit statuses mean.
    arguments: adds what is no setting. prefix: of the settings' names in the environment.
    summary: one line; a command without one is not listed.
    """

    name: str
    summary: str
    run: Callable[[Namespace], int]
    settings: Sequence[Setting] = ()
    epilog: str = ""
    arguments: Callable[[ArgumentParser], None] = _no_arguments
    prefix: str = PREFIX
