"""What a canary is: a small, plausible mistake in one function of the product, made while that module is imported.

The mistake is some lines put in the place of others. Nothing is written to disk, and the package that is shipped knows
nothing of it: a process that wants a canary calls `let_in` before it imports anything of Copycat. A canary whose lines
are no longer there says so, instead of being a mistake that nobody makes.
"""

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from textwrap import dedent
from types import CodeType, ModuleType

SOURCE = Path(__file__).parent.parent.parent / "src"


class CanaryError(Exception):
    """The canary is none: the product has changed, and it must follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One mistake. In `module` these lines stand once, within one function; others are put in their place.

    name: the mistake as a sentence, without its full stop. before, after: whole lines, indented as a docstring may be;
    `after` is "" to leave them out. danger: what it does to those who rely on us. judges: what a problem speaks of that
    counts as finding it, one of them: numbers of invariants (reliability §1), or words of a check that has none.
    """

    name: str
    module: str
    before: str
    after: str
    danger: str
    judges: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file of the module."""
        return SOURCE.joinpath(*self.module.split(".")).with_suffix(".py")

    @property
    def function(self) -> str:
        """The function it is made in, with its class. Raises CanaryError."""
        source = self.path.read_text(encoding="utf-8")
        first, last = self._lines(source)
        name = _function_of(ast.parse(source), first, last)
        if name is None:
            raise CanaryError(f"{self.name}: its lines are not within one function of {self.module}")
        return name

    def applied_to(self, source: str) -> str:
        """The source with the mistake. Raises CanaryError."""
        first, last = self._lines(source)
        lines = source.splitlines()
        lines[first - 1 : last] = _indented(self.after, _indentation(lines[first - 1])) if self.after else []
        return "\n".join([*lines, ""])

    def _lines(self, source: str) -> tuple[int, int]:
        """The first and the last of its lines in the source."""
        lines = source.splitlines()
        count = len(_indented(self.before, ""))
        places = [
            at
            for at in range(len(lines) - count + 1)
            if lines[at : at + count] == _indented(self.before, _indentation(lines[at]))
        ]
        if len(places) != 1:
            raise CanaryError(f"{self.name}: {self.module} has its lines {len(places)} times, not once:\n{self.before}")
        return places[0] + 1, places[0] + count


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _indented(text: str, indentation: str) -> list[str]:
    return [indentation + line if line else "" for line in dedent(text).strip().splitlines()]


def _function_of(node: ast.AST, first: int, last: int, name: str = "") -> str | None:
    """The dotted name of the outermost function that holds these lines."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.lineno <= first and last <= (child.end_lineno or 0):
            dotted = f"{name}.{child.name}".lstrip(".")
            return _function_of(child, first, last, dotted) if isinstance(child, ast.ClassDef) else dotted
    return None


class _Loader(SourceFileLoader):
    """Compiles the module with the mistake in it. No byte code is read or kept."""

    def __init__(self, name: str, path: str, canary: Canary) -> None:
        super().__init__(name, path)
        self._canary = canary

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        return compile(self._canary.applied_to(source), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the one module, before anybody else does."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._canary.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            raise CanaryError(f"{self._canary.name}: there is no module {fullname}")
        spec.loader = _Loader(fullname, spec.origin, self._canary)
        return spec


def let_in(canary: Canary) -> None:
    """Make the mistake in this process, for as long as it lives. Raises CanaryError when that is too late."""
    if any(name.split(".")[0] == "copycat" for name in sys.modules):
        raise CanaryError(f"{canary.name}: Copycat has been imported before")
    sys.meta_path.insert(0, _Finder(canary))
