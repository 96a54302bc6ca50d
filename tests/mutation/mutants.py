"""Mutation tests: change one thing in a room, run the room's own tests, and see whether they notice.

The changes are Cosmic Ray's operators, and one more that leaves a statement out. Its own way of running was made for
*all* mutants of a project, one after the other and in place; a sample drawn from a seed, in copies of the tree, takes
minutes and disturbs nobody. Places are drawn first and then one of the changes possible there, or else the twelve ways
to replace a `+` would crowd out the one way to leave out an assignment.

Run by `make mutants`; see docs/how-to/run-the-mutation-tests.md.
"""

import argparse
import difflib
import os
import queue
import random
import re
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads(Path(__file__).with_name("mutation.toml").read_text(encoding="utf-8"))
MEMORY_BYTES_MAX = 4 << 30  # a mutant that gathers for ever fails instead of taking the machine with it
# Those that want arguments, and those that take identity for equality, which small numbers and classes do not notice.
OPERATORS_LEFT_OUT = re.compile(r"Variable|.*_(Eq|NotEq|Lt|LtE|Gt|GtE)_Is(Not)?$|.*_(Is_Eq|IsNot_NotEq)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change of one file."""

    path: Path  # below the root
    line: int
    code: str
    diff: str


class LeaveOut:
    """An operator in the shape of Cosmic Ray's: a statement of a function becomes `pass`.

    Not one that names a local variable: any test would notice that.
    """

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and enclosing(node, "funcdef") is not None:
            statement = node.children[0]
            names = statement.type == "expr_stmt" and statement.children[0].type == "name"
            if statement.type in ("expr_stmt", "atom_expr", "return_stmt", "raise_stmt", "del_stmt") and not names:
                yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[0] = parso.parse(node.children[0].get_first_leaf().prefix + "pass")
        return node


def operators() -> dict[str, Any]:
    """Every operator by name."""
    known = {name.partition("/")[2]: name for name in operator_names()}
    made = {short: get_operator(name)() for short, name in known.items() if not OPERATORS_LEFT_OUT.match(short)}
    return {**made, "LeaveOut": LeaveOut()}


def enclosing(node: Any, *types: str) -> Any:
    """The nearest node of one of `types` around `node`, or None."""
    node = node.parent
    while node is not None and node.type not in types:
        node = node.parent
    return node


def is_noise(leaf: Any) -> bool:
    """Whether a change at `leaf` says nothing about behaviour: a type, a declaration, a message, a log line."""
    if enclosing(leaf, "annassign", "tfpdef") is not None or enclosing(leaf, "fstring", "decorator") is not None:
        annotated = enclosing(leaf, "annassign")
        value = annotated.children[3] if annotated is not None and len(annotated.children) > 3 else None
        return value is None or not value.start_pos <= leaf.start_pos < value.end_pos
    around = enclosing(leaf, "funcdef", "classdef")
    in_head = around is not None and leaf.start_pos < around.children[-1].start_pos
    if in_head and (around.type == "classdef" or enclosing(leaf, "param") is None):
        return True  # bases and keywords of a class; what a function returns
    condition = enclosing(leaf, "if_stmt")
    if condition is not None and condition.children[1].get_code().strip() == "TYPE_CHECKING":
        return True
    statement = leaf if leaf.type == "simple_stmt" else enclosing(leaf, "simple_stmt")
    return statement is not None and statement.get_code(include_prefix=False).startswith(("logger.", '"""'))


def sites(room: Path) -> dict[tuple[Path, Any, str], list[tuple[str, int]]]:
    """Where a room can be changed, by place and kind of change: the operators and which of their occurrences."""
    found: dict[tuple[Path, Any, str], list[tuple[str, int]]] = defaultdict(list)
    named = operators()
    for path in sorted((ROOT / room).rglob("*.py")):
        tree = parso.parse(path.read_text(encoding="utf-8"))
        seen: dict[str, int] = defaultdict(int)
        for node in nodes(tree):
            for name, operator in named.items():
                for start, _ in operator.mutation_positions(node):
                    if not is_noise(tree.get_leaf_for_position(start, include_prefixes=True)):
                        found[path.relative_to(ROOT), start, name.partition("_")[0]].append((name, seen[name]))
                    seen[name] += 1
    return found


def nodes(node: Any) -> Iterator[Any]:
    """A tree in the order in which Cosmic Ray counts occurrences."""
    yield node
    for child in getattr(node, "children", []):
        yield from nodes(child)


def sample(room: Path, seed: int, count: int) -> Iterator[Mutant]:
    """`count` mutants of a room, at as many places."""
    chance = random.Random(f"{room.as_posix()} {seed}")
    possible = sites(room)
    places = list(possible)
    chance.shuffle(places)
    named = operators()
    made = 0
    for place in places:
        path, (line, _), _ = place
        name, occurrence = chance.choice(possible[place])
        text = (ROOT / path).read_text(encoding="utf-8")
        code = mutate_code(text, named[name], occurrence)
        if code is None or code == text or not compiles(code):
            continue
        lines = difflib.unified_diff(text.splitlines(), code.splitlines(), lineterm="", n=0)
        yield Mutant(
            path=path,
            line=line,
            code=code,
            diff="\n".join(f"    {text}" for text in lines if not text.startswith(("---", "+++", "@@"))),
        )
        made += 1
        if made == count:
            return


def compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


class Trial:
    """Runs the tests of one room on mutants, in copies of the tree."""

    def __init__(self, room: dict[str, Any], directory: Path, workers: int) -> None:
        tests = sorted(
            ROOT.joinpath(room["tests"]).rglob("test_*.py"), key=lambda path: (path.name in room["last"], path)
        )
        self._tests = [path.relative_to(ROOT).as_posix() for path in tests]
        self._copies: queue.Queue[Path] = queue.Queue()
        first = directory / "0"
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, first / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", first)
        began = time.monotonic()
        if (output := self._run(first, None, write_bytecode=True)) is not None:
            sys.exit(f"the tests fail without any mutant:\n{output}")
        self.seconds = time.monotonic() - began
        self._copies.put(first)
        for number in range(1, workers):
            shutil.copytree(first, directory / str(number))
            self._copies.put(directory / str(number))

    def verdict(self, mutant: Mutant) -> str:
        """ "survived", "killed", or "timeout", which is a kill too."""
        copy = self._copies.get()
        target = copy / mutant.path
        original, times = target.read_bytes(), target.stat()
        try:
            target.write_text(mutant.code, encoding="utf-8")
            output = self._run(copy, self.seconds * 4 + 60)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            target.write_bytes(original)
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))  # so that its bytecode is valid again
            self._copies.put(copy)
        return "survived" if output is None else "timeout" if "Timeout (>" in output else "killed"

    def _run(self, copy: Path, timeout_s: float | None, *, write_bytecode: bool = False) -> str | None:
        """None if all tests pass, else what was printed."""
        shutil.rmtree(copy / ".hypothesis", ignore_errors=True)  # what one mutant has taught must not serve the next
        flags = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--timeout={SETTINGS['test_timeout_s']}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *flags, *self._tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "" if write_bytecode else "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return None if done.returncode == 0 else done.stdout + done.stderr


def judge(name: str, seed: int, count: int, workers: int) -> bool:
    """Try a sample of one room and report; whether enough were killed."""
    room = SETTINGS["rooms"][name]
    mutants = list(sample(Path(room["source"]), seed, count))
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory, ThreadPoolExecutor(workers) as pool:
        trial = Trial(room, Path(directory), workers)
        print(f"{name}: {len(mutants)} mutants, seed {seed}; the tests take {trial.seconds:.0f} s", flush=True)
        counts = {"killed": 0, "timeout": 0, "survived": 0}
        for mutant, verdict in zip(mutants, pool.map(trial.verdict, mutants), strict=True):
            counts[verdict] += 1
            if verdict == "survived":
                print(f"  survived: {mutant.path}:{mutant.line}\n{mutant.diff}", flush=True)
    percent = 100 * (counts["killed"] + counts["timeout"]) / len(mutants)
    print(
        f"{name}: {percent:.0f} % killed: {counts['killed']} by a failing test, {counts['timeout']} by one that did "
        f"not end; {counts['survived']} survived; seed {seed}",
        flush=True,
    )
    return percent >= float(SETTINGS["killed_percent_min"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description="See docs/how-to/run-the-mutation-tests.md.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="the same sample again")
    parser.add_argument("--count", type=int, default=SETTINGS["count"], help="mutants of each room")
    parser.add_argument("--room", choices=SETTINGS["rooms"], help="this one only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at a time")
    chosen = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, hard))
    rooms = [chosen.room] if chosen.room else list(SETTINGS["rooms"])
    enough = [judge(room, chosen.seed, chosen.count, chosen.workers) for room in rooms]
    return 0 if all(enough) else 1


if __name__ == "__main__":
    sys.exit(main())
