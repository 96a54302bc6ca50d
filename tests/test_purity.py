"""The heart is pure: nothing that `raft.core` or `raft.machine` can reach knows a clock, a socket, a file or chance.

Import contracts see which room imports which; this test sees the standard library too, through every module on the
way. It reads source, never runs it: an import inside a function or under TYPE_CHECKING counts like any other.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"

PURE_ROOMS = ("copycat.raft.core", "copycat.raft.machine")
REACHABLE = (*PURE_ROOMS, "copycat.raft.protocol", "copycat.errors")
BARRED_WITHIN_REACHABLE = ("copycat.raft.protocol.wire", "copycat.raft.protocol.message_wire")  # msgspec lives there
# Importing a module also runs the `__init__` of its parents; these two hold names for users, not the heart's needs.
PARENTS_NOT_FOLLOWED = ("copycat", "copycat.raft")

PURE_STANDARD_LIBRARY = {
    "__future__", "abc", "array", "bisect", "collections", "collections.abc", "dataclasses", "enum", "functools",
    "hashlib", "heapq", "itertools", "math", "operator", "struct", "types", "typing", "zlib",
}  # fmt: skip


def test_core_and_machine_reach_only_pure_modules() -> None:
    assert find_impurities(SOURCE, PURE_ROOMS) == []


def test_a_barred_module_is_found_with_the_chain_that_leads_to_it(tmp_path: Path) -> None:
    write(tmp_path, "copycat/raft/core/raft.py", "from copycat.raft.protocol.members import Member")
    write(tmp_path, "copycat/raft/protocol/members.py", "def now():\n    import time\n    return time.time()")

    assert find_impurities(tmp_path, PURE_ROOMS) == [
        "copycat.raft.core.raft → copycat.raft.protocol.members → time: not a pure standard-library module"
    ]


def test_every_kind_of_import_is_seen(tmp_path: Path) -> None:
    for statement, culprit in (
        ("import asyncio", "asyncio"),
        ("import os.path", "os.path"),
        ("import random as chance", "random"),
        ("from socket import socket", "socket"),
        ("from logging import getLogger", "logging"),
        ("import threading", "threading"),
        ("import msgspec", "msgspec"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio", "asyncio"),
        ("from copycat.raft.protocol import wire", "copycat.raft.protocol.wire"),
        ("from copycat.io.storage.log import Log", "copycat.io.storage.log"),
        ("from . import neighbour", "a relative import"),
    ):
        write(tmp_path, "copycat/raft/protocol/wire.py", "")
        write(tmp_path, "copycat/io/storage/log.py", "class Log: ...")
        write(tmp_path, "copycat/raft/machine/bad.py", statement)

        (impurity,) = find_impurities(tmp_path, PURE_ROOMS)

        assert impurity.startswith(f"copycat.raft.machine.bad → {culprit}: ")


def test_a_package_that_reexports_an_impure_module_is_found(tmp_path: Path) -> None:
    write(tmp_path, "copycat/raft/protocol/__init__.py", "from copycat.raft.protocol.wire import encode")
    write(tmp_path, "copycat/raft/protocol/wire.py", "import msgspec\ndef encode(): ...")
    write(tmp_path, "copycat/raft/protocol/members.py", "")
    write(tmp_path, "copycat/raft/core/raft.py", "import copycat.raft.protocol.members")

    assert find_impurities(tmp_path, PURE_ROOMS) == [
        "copycat.raft.core.raft → copycat.raft.protocol → copycat.raft.protocol.wire: outside what the heart may know"
    ]


def test_pure_imports_pass(tmp_path: Path) -> None:
    write(tmp_path, "copycat/__init__.py", "import asyncio")
    write(tmp_path, "copycat/errors.py", "import enum")
    write(tmp_path, "copycat/raft/core/raft.py", "import zlib\nfrom collections.abc import Callable\n")
    write(tmp_path, "copycat/raft/core/leader.py", "from copycat import errors\nfrom copycat.raft.core import raft")

    assert find_impurities(tmp_path, PURE_ROOMS) == []


def find_impurities(source: Path, rooms: tuple[str, ...]) -> list[str]:
    """Name, for every impure import reachable from `rooms`, the shortest chain of imports that leads to it."""
    impurities = []
    chains: dict[str, tuple[str, ...]] = {module: (module,) for module in modules_within(source, rooms)}
    waiting = list(chains)
    while waiting:
        importer = waiting.pop(0)
        for target in imports_of(source, importer):
            chain = (*chains[importer], target)
            if objection := objection_to(target):
                impurities.append(f"{' → '.join(chain)}: {objection}")
            elif target.startswith("copycat.") and target not in chains:
                chains[target] = chain
                waiting.append(target)
    return sorted(impurities)


def objection_to(module: str) -> str | None:
    """Say why the heart may not import `module`; None when it may."""
    if module == "a relative import":
        return "imports are absolute here"
    if module.split(".")[0] == "copycat":
        reachable = is_within(module, REACHABLE) and not is_within(module, BARRED_WITHIN_REACHABLE)
        return None if reachable else "outside what the heart may know"
    return None if module in PURE_STANDARD_LIBRARY else "not a pure standard-library module"


def imports_of(source: Path, importer: str) -> Iterator[str]:
    """Yield every module that `importer` imports, with the packages whose `__init__` runs on the way."""
    for node in ast.walk(ast.parse(path_of(source, importer).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            named = ["a relative import"]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: the name may itself be a module.
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in submodules if exists(source, name)]
            named = found if len(found) == len(submodules) else [node.module, *found]
        else:
            continue
        for name in named:
            yield from parents_that_run(source, name)
            yield name


def parents_that_run(source: Path, module: str) -> Iterator[str]:
    """Yield the packages above `module`, within the reachable rooms, that have an `__init__` to run."""
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if package not in PARENTS_NOT_FOLLOWED and is_within(package, REACHABLE) and exists(source, package):
            yield package


def modules_within(source: Path, rooms: tuple[str, ...]) -> list[str]:
    """List the modules found on disk inside `rooms`, in order of name."""
    found = []
    for room in rooms:
        for path in sorted((source / room.replace(".", "/")).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def is_within(module: str, rooms: tuple[str, ...]) -> bool:
    """Whether `module` is one of `rooms` or lies inside one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def exists(source: Path, module: str) -> bool:
    """Whether `module` is a file, or a package with an `__init__`, below `source`."""
    return path_of(source, module).exists()


def path_of(source: Path, module: str) -> Path:
    """Where `module` is kept: `a/b.py`, else `a/b/__init__.py`."""
    path = source / module.replace(".", "/")
    file = path.with_suffix(".py")
    return file if file.exists() else path / "__init__.py"


def write(source: Path, name: str, text: str) -> None:
    """Write a made-up module below `source`."""
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
