"""The tree stays tidy: rules of STYLE.md that no linter knows, and pages that say what the code does.

Every source file keeps the rules. What it cites exists; so does what a page links to, and the tests a page names; and
the layouts in the reference are the code's.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from struct import Struct
from types import ModuleType

import pytest

from copycat.io import keys, msgpack
from copycat.io.storage import metadata, record, segment, snapshot_file
from copycat.io.transport import frame
from copycat.raft.protocol import entries, wire

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "copycat"
TESTS = ROOT / "tests"
REFERENCE = ROOT / "docs" / "reference"
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


def dangling_citations(name: str, text: str) -> list[str]:
    """What a source line cites can be looked up: a section or item of docs/reference, or a page."""
    text = re.sub(r"\s+(?:# )?", " ", text)  # a citation may be cut by the end of a line
    cited = [
        (f"{page} §{section}", section in headings(page))
        for page, sections in re.findall(r"\b(protocol|reliability) (§[\d.]+(?:(?:,| and| to) §[\d.]+)*)", text)
        for section in re.findall(r"\d+(?:\.\d+)*", sections)
    ]
    cited += [
        (f'{page} "{heading}"', heading in headings(page))
        for page, heading in re.findall(r'\b(protocol|reliability) §[\d.]+ "([^"]+)"', text)
    ]
    for page, section, items in re.findall(r"\b(protocol|reliability) §(\d+) (\(\d[\d, ]*\)(?: to \(\d+\))?)", text):
        numbers = [int(number) for number in re.findall(r"\d+", items)]
        wanted = range(numbers[0], numbers[-1] + 1) if " to " in items else numbers
        cited += [(f"{page} §{section} ({number})", number in items_of(page, section)) for number in wanted]
    cited += [(path, (ROOT / path).is_file()) for path in re.findall(r"\bdocs/[\w/-]+\.md", text)]
    return [f"{name}: cites {what}, which does not exist" for what, exists in cited if not exists]


RULES: list[Rule] = [too_long, bare_tasks, pickles, relative_imports, asserts, missing_docstring, dangling_citations]


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
        (dangling_citations, '"""Source: protocol §1.1 to §1.99."""'),
        (dangling_citations, '"""Source: Raft dissertation §3; reliability §4 "Meteorites"."""'),
        (dangling_citations, "# As everyone gets wrong (reliability\n# §5 (8, 999))."),
        (dangling_citations, '"""Source: docs/decisions/9999-nothing.md."""'),
    ],
)
def test_the_rule_sees_a_breach(rule: Rule, text: str) -> None:
    assert len(rule("made/up.py", text)) == 1


def test_a_tidy_file_breaks_no_rule() -> None:
    text = '"""Tidy."""\n\nfrom copycat.errors import check\n\ncheck(True, "pickle and assert may be spoken of")\n'

    assert [broken for rule in RULES for broken in rule("made/up.py", text)] == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in pages():
        text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                continue  # elsewhere
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")

    assert not broken, "\n".join(["", *broken])


def test_the_tests_that_pages_name_exist() -> None:
    named = {
        name for page in pages() for name in re.findall(r"`((?:test_|Test)\w+)`", page.read_text(encoding="utf-8"))
    }
    tests = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))

    defined = set(re.findall(r"\b(\w+)(?:\(| = )", tests))  # in one pass: there are many names

    assert not sorted(named - defined)


@pytest.mark.parametrize(
    "module",
    [keys, msgpack, metadata, record, segment, snapshot_file, frame, entries, wire],
    ids=lambda module: module.__name__,
)
def test_the_layouts_in_the_reference_are_those_of_the_code(module: ModuleType) -> None:
    text = (REFERENCE / "protocol.md").read_text(encoding="utf-8")
    layouts = {name: each for name, each in vars(module).items() if isinstance(each, Struct)}

    assert layouts
    assert not [name for name, layout in layouts.items() if f"`{layout.format}" not in text]


def test_the_reference_names_every_tag_kind_and_reason() -> None:
    text = (REFERENCE / "protocol.md").read_text(encoding="utf-8")

    assert not [tag for tag in wire.Tag if f"| {tag:d} | {tag.name} |" not in text]
    assert not [kind for kind in entries.ItemKind if f"| {kind:d} | {kind.name} |" not in text]
    assert not [kind for kind in entries.BlockKind if f"{kind:d} {kind.name}" not in text]
    text = " ".join(text.split())
    for words in (wire.Reason, entries.End):
        assert not [each for each in words if f"{each:d} {each.name.lower().replace('_', ' ')}" not in text]


def nodes(text: str) -> Iterator[ast.AST]:
    """Walk every node of a module's tree."""
    return ast.walk(ast.parse(text))


def pages() -> list[Path]:
    """The pages for people, tools' own left out."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part.startswith(".") or part in {"build", "dist"} for part in path.relative_to(ROOT).parts)
    )


@cache
def headings(page: str) -> frozenset[str]:
    """The numbers and the words of the headings of a page of the reference."""
    found = re.findall(
        r"^#+ (?:(\d+(?:\.\d+)*)\.? )?(.+)$", (REFERENCE / f"{page}.md").read_text("utf-8"), re.MULTILINE
    )
    return frozenset(part for heading in found for part in heading if part)


@cache
def items_of(page: str, section: str) -> frozenset[int]:
    """The numbered items (`- **8.** …`) of a section of a page of the reference."""
    sections = re.split(r"^## ", (REFERENCE / f"{page}.md").read_text("utf-8"), flags=re.MULTILINE)
    texts = [text for text in sections if text.startswith(f"{section}. ")]
    return frozenset(int(number) for text in texts for number in re.findall(r"^- \*\*(\d+)\.\*\*", text, re.MULTILINE))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What links to a page may name behind `#`: its headings as forges spell them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found)
