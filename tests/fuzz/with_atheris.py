"""The targets of `targets.py` under atheris, which keeps what takes new branches and goes on from there.

Run by `make fuzz`. Each target has a process and its share of the time. It is stopped by the first error that is not
documented, by memory out of proportion, and by an input that takes too long. What was learned stays in `.fuzz`, and so
does the input that a target failed at.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.support import judge

FOLDER = Path(".fuzz")
INPUT_BYTES_MAX = 4096
INPUT_SECONDS_MAX = 5  # otherwise there are thousands in a second
MEMORY_MEBIBYTES_MAX = 1024


def main() -> int:
    """Try the targets one after another; 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="for all targets together (300)")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these targets")
    parser.add_argument(
        "--input", metavar="FILE", type=Path, help="try this alone, which the target of --only failed at"
    )
    options = parser.parse_args()
    from tests.fuzz.targets import TARGETS  # the process that fuzzes imports it otherwise

    names = options.only or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if options.input is not None:
        data = options.input.read_bytes()
        target = TARGETS[names[0]]
        print(judge(lambda: target.read(data), len(data), *target.documented))
        return 0
    failed = [name for name in names if not holds(name, max(1, options.seconds // len(names)))]
    print(f"{len(names) - len(failed)} of {len(names)} targets held" + "".join(f"; not {name}" for name in failed))
    return 1 if failed else 0


def holds(name: str, seconds: int) -> bool:
    """Whether a target did, for so long. Prints how it went."""
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MEBIBYTES_MAX}",
        f"-artifact_prefix={FOLDER}/{name}-",
    ]
    child = [sys.executable, "-c", f"from tests.fuzz.with_atheris import fuzz; fuzz({name!r}, {limits!r})"]
    done = subprocess.run(
        child, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    runs = re.search(r"^Done (\d+ runs)", done.stdout, re.MULTILINE)
    print(f"{name:16} {'held' if done.returncode == 0 else 'FAILED'}, {runs[1] if runs else 'stopped'}", flush=True)
    if done.returncode != 0:
        print(done.stdout[-4000:], flush=True)
    return done.returncode == 0


def fuzz(name: str, limits: list[str]) -> None:
    """Try one target until libFuzzer ends this process."""
    import atheris  # installed by `make fuzz` alone

    with atheris.instrument_imports(include=["copycat"]):  # hence these come late
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(target.sound):
        (corpus / f"sound-{number}").write_bytes(each)

    def try_one(data: bytes) -> None:
        judge(lambda: target.read(data), len(data), *target.documented, count_calls=False)

    atheris.Setup([sys.argv[0], *limits, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
