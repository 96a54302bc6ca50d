"""docs/reference/paper.md, from the tests: which test shows which section of the Raft dissertation.

`make fix` writes the page; a test fails while it is stale.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reference" / "paper.md"

SECTIONS = {
    "3.2": "Raft overview: what holds at all times",
    "3.3": "Raft basics: terms",
    "3.4": "Leader election",
    "3.5": "Log replication",
    "3.6.1": "Election restriction",
    "3.6.2": "Committing entries from previous terms",
    "3.6.3": "Safety argument",
    "3.7": "Follower and candidate crashes",
    "3.8": "Persisted state and server restarts",
    "3.9": "Timing and availability",
    "3.10": "Leadership transfer extension",
    "4.1": "Safety of membership changes",
    "4.2": "Availability while members change",
    "4.2.1": "Catching up new servers",
    "4.2.2": "Removing the current leader",
    "4.2.3": "Disruptive servers",
    "5.3": "Implementing InstallSnapshot",
    "6.2": "Routing requests to the leader",
    "6.3": "Implementing linearizable semantics",
    "6.4": "Processing read-only queries more efficiently",
    "6.4.1": "Using clocks to reduce messaging for read-only queries",
    "9.6": "Preventing disruptions when a server rejoins the cluster",
    "10.2.1": "Writing to the leader's disk in parallel",
    "10.2.2": "Batching and pipelining",
}

HEAD = """\
# The paper and the tests

Which test shows which rule of Raft as in Ongaro's dissertation, *Consensus: Bridging Theory and Practice* (2014), by
its sections. Where we differ, or say more, [the protocol](protocol.md#3-elections-leases-reads) says so. Not built:
joint consensus (§4.3), as members change one at a time, and compaction other than by snapshots (§5.2 to §5.4); see
[protocol §8](protocol.md#8-membership-and-snapshots).

The [scenarios](../../tests/scenarios/README.md) are scripts to read. This page is written by `make fix`.
"""


@dataclass(frozen=True, slots=True, order=True)
class Shown:
    """A test that shows a rule."""

    file: str
    line: int
    name: str

    @property
    def rule(self) -> str:
        """The name of the test as a sentence."""
        words = re.sub(r" (s|t)\b", r"'\1", self.name.removeprefix("test_").replace("_", " "))
        return words[0].upper() + words[1:]


def marked() -> dict[str, list[Shown]]:
    """The tests marked `pytest.mark.paper(section)`, by section."""
    found: dict[str, list[Shown]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.paper":
                    (section,) = map(ast.literal_eval, mark.args)
                    found[section].append(Shown(path.relative_to(ROOT).as_posix(), node.lineno, node.name))
    return found


def scenarios() -> dict[str, list[str]]:
    """The scenarios that name a section of the dissertation as their source."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((TESTS / "scenarios").glob("*.txt")):
        head = " ".join(
            line.removeprefix("# ") for line in path.read_text(encoding="utf-8").split("\n\n")[0].split("\n")
        )
        for cited in re.findall(r"dissertation (§[\d.]+(?:, §[\d.]+)*)", head):
            for section in re.findall(r"\d+(?:\.\d+)*", cited):
                found[section].append(path.stem)
    return found


def page() -> str:
    """The page as it should be."""
    tests, scripts = marked(), scenarios()
    parts = [HEAD]
    for section, title in SECTIONS.items():
        parts.append(f"## {section} {title}\n")
        rows = [f"| {each.rule} | `{each.name}` |" for each in sorted(tests[section])]
        if rows:
            parts.append("\n".join(["| Rule | Test |", "|---|---|", *rows]) + "\n")
        links = [f"[{each.replace('_', ' ')}](../../tests/scenarios/{each}.txt)" for each in scripts[section]]
        if links:
            parts.append("Scenarios: " + ",\n".join(links) + ".\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
