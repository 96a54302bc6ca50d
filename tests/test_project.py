"""The tree stays tidy: rules of STYLE.md that no linter knows, checked on every source file."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "copycat"
LINES_MAX = 500  # a guide says 400; past this a reader looks for a second question to split by
TASKS = "util/tasks.py"  # the only owner of tasks that no TaskGroup holds
BARRED_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}

Rule = Callable[[str, str], list[str]]


def too_long(name: str, text: str) -> list[str]:
    """A file answers one question; a very long one answers two."""
    count = len(text.splitlines())
    return [f"{name}: {count} lines; split by the reader's question ({LINES_MAX} at most)"] if count > LINES_MAX else []


def bare_tasks(name: str, text: str) -> list[str]:
    """Every task has an owner: a TaskGroup, or util/tasks.py, which sees it fail."""
    if name == TASKS:
        return []
    return [
        f"{name}:{node.lineno}: asyncio.{node.func.attr} without an owner; use a TaskGroup or copycat.util.tasks"
        for node in nodes(text)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "asyncio"
    ]


def pickles(name: str, text: str) -> list[str]:
    """Bytes are decoded by schema, with limits: never by anything that runs code."""
    found = []
    for node in nodes(text):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        found += [
            f"{name}:{node.lineno}: {module} runs code from bytes; decode by schema"
            for module in modules
            if module.split(".")[0] in BARRED_MODULES
        ]
    return found


def relative_imports(name: str, text: str) -> list[str]:
    """A module's full name says where it lives."""
    return [
        f"{name}:{node.lineno}: relative import; write it from copycat"
        for node in nodes(text)
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def asserts(name: str, text: str) -> list[str]:
    """A safety check survives `python -O`."""
    return [
        f"{name}:{node.lineno}: assert vanishes under python -O; use copycat.errors.check"
        for node in nodes(text)
        if isinstance(node, ast.Assert)
    ]


def missing_docstring(name: str, text: str) -> list[str]:
    """The first line of a file says what question it answers."""
    return [] if ast.get_docstring(ast.parse(text)) else [f"{name}: says nowhere what it is for (module docstring)"]


RULES: list[Rule] = [too_long, bare_tasks, pickles, relative_imports, asserts, missing_docstring]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        broken += rule(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))

    assert not broken, "\n".join(["", *broken])


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (too_long, '"""Long."""\n' + "x = 1\n" * LINES_MAX),
        (bare_tasks, "import asyncio\nasyncio.create_task(work())"),
        (bare_tasks, "import asyncio\nasyncio.ensure_future(work())"),
        (pickles, "import pickle"),
        (pickles, "def load():\n    from pickle import loads"),
        (relative_imports, "from .room import thing"),
        (asserts, "assert log.append(entry) == index"),
        (missing_docstring, "x = 1"),
    ],
)
def test_the_rule_sees_a_breach(rule: Rule, text: str) -> None:
    assert len(rule("made/up.py", text)) == 1


def test_a_tidy_file_breaks_no_rule() -> None:
    text = '"""Tidy."""\n\nfrom copycat.errors import check\n\ncheck(True, "pickle and assert may be spoken of")\n'

    assert [broken for rule in RULES for broken in rule("made/up.py", text)] == []


def nodes(text: str) -> Iterator[ast.AST]:
    """Walk every node of a module's tree."""
    return ast.walk(ast.parse(text))
