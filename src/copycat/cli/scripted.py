"""`copycat simulate --script`, `--shrink` and `--write`: one simulation, fault by fault."""

import json
import logging
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from copycat.cli.settings import Setting, SettingError, positive_integer
from copycat.testing.script import Script, ScriptError, parse
from copycat.testing.shrink import TRIES, shrink
from copycat.testing.simulator import SECONDS, Report, run_seed

SETTINGS = (
    Setting(name="script", metavar="FILE", help="do what this file says, instead of what a seed draws"),
    Setting(name="shrink", is_switch=True, help="if it fails, look for less that fails in the same way"),
    Setting(name="tries", metavar="N", parse=positive_integer, default=TRIES, help=f"runs to shrink by ({TRIES})"),
    Setting(name="write", metavar="FILE", help="write there what was done, or the least that fails, as a script"),
)


def is_wanted(options: Namespace) -> bool:
    """Whether one simulation is to be looked at, rather than many counted."""
    return bool(options.script or options.shrink or options.write)


def run(options: Namespace, describe: Callable[[Report], str]) -> int:
    """Simulate once; 0 when nothing failed. Raises SettingError for a file that cannot be read or written."""
    if options.seeds is not None and options.seeds != 1:
        raise SettingError("--script, --shrink and --write are about one simulation: name it with --seed, not --seeds")
    if options.script and options.seconds != SECONDS:
        raise SettingError("a script says itself how many seconds its faults go on: leave --seconds out")
    logging.disable(logging.CRITICAL)  # a cluster under faults has much to say
    if options.script:
        given = _read(Path(options.script))
        report = (given if options.seed is None else replace(given, seed=options.seed)).run()
    else:
        report = run_seed(options.seed or 0, seconds=options.seconds)
    tell = (lambda _: None) if options.json else _tell
    tell(describe(report))
    script = Script.of(report)
    if options.shrink and report.problems:
        script = shrink(script, tries=options.tries, tell=tell)
        tell(f"\n{script}")
    if options.write:
        _write(Path(options.write), script)
    if options.json:
        print(json.dumps({**report.as_dict(), "script": str(script)}))
    return 1 if report.problems else 0


def _tell(text: str) -> None:
    print(text, flush=True)


def _read(file: Path) -> Script:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from error
    except (ScriptError, UnicodeDecodeError) as error:
        raise SettingError(f"{file}: {error}") from error


def _write(file: Path, script: Script) -> None:
    try:
        file.write_text(str(script), encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{file} cannot be written: {error.strerror}") from error
