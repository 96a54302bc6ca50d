"""Pages and examples do what they say: every program in them runs, and every prompt shows what is printed."""

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from copycat.cli import backup, bench, chaos, demo, inspect, repair, restore, server, simulate, status
from copycat.testing.processes import free_ports

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROMPT = ">>> "
PLUGIN = "copycat.testing.pytest_plugin"
STARTS = ("asyncio.run(", "simulate(", "run_script(")  # what a block that is a whole program calls


def blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


TESTS = [
    pytest.param(block, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page), 1)
    if "@pytest.mark.copycat(" in block
]
PROGRAMS = [
    pytest.param(block, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page), 1)
    if any(start in block for start in STARTS)
]


def run(*arguments: str, cwd: Path, text: str | None = None) -> str:
    """Run Python, which must succeed; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, input=text, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_python_of_a_page_is_python(page: Path) -> None:
    for block in blocks(page):
        compile(block, name(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_a_page_runs(program: str, tmp_path: Path) -> None:
    assert run("-c", program, cwd=tmp_path)


@pytest.mark.parametrize("test", TESTS)
def test_a_test_in_a_page_passes(test: str, tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(test, encoding="utf-8")
    is_found = any(each.value == PLUGIN for each in entry_points(group="pytest11"))

    shown = run("-m", "pytest", "-q", *(() if is_found else ("-p", PLUGIN)), cwd=tmp_path)

    assert "10 passed" in shown


def test_the_tutorial_s_prompt_shows_what_the_page_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"^```\n(>>> .*?)^```", text, re.M | re.S) for line in block.splitlines()]
    typed = "\n".join(line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT))

    shown = run("-m", "asyncio", cwd=tmp_path, text=typed + "\n")

    printed = [line.replace(PROMPT, "") for line in shown.splitlines()]
    assert len(lines) > 10
    assert [line for line in printed if line] == [line for line in lines if not line.startswith(PROMPT)]


def test_what_was_written_to_one_replica_is_there_when_it_has_grown_to_three_and_is_gone_itself(tmp_path: Path) -> None:
    (program,) = blocks(ROOT / "docs" / "how-to" / "grow-from-one-to-three.md")

    assert run("-c", program, cwd=tmp_path) == "100 users, 41\n"


def test_the_first_steps_find_what_the_last_run_has_written(tmp_path: Path) -> None:
    first, second = (run(str(EXAMPLES / "first_steps.py"), cwd=tmp_path) for _ in range(2))

    assert "ann was None and is 41" in first
    assert "ann was 42 and is 41" in second


def test_a_resource_of_ones_own_keeps_its_promise(tmp_path: Path) -> None:
    assert run(str(EXAMPLES / "custom_resource.py"), cwd=tmp_path) == "balance: 50\nrefused: only 50 left\n"


def test_raft_without_resources_survives_its_leader(tmp_path: Path) -> None:
    shown = run(str(EXAMPLES / "raft_only.py"), three_members(), cwd=tmp_path)

    assert [line.partition(": ")[2] for line in ast.literal_eval(shown)] == ["one", "two", "three"]


def test_three_workers_do_each_job_once(tmp_path: Path) -> None:
    members = three_members()
    workers = [
        subprocess.Popen(
            [sys.executable, str(EXAMPLES / "workers.py"), worker, members],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in ("a", "b", "c")
    ]
    shown = [worker.communicate(timeout=50)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    done = [job for line in shown for job in ast.literal_eval(line.partition("its own: ")[2])]
    assert sorted(done) == [f"report {number}" for number in range(1, 7)]


def three_members() -> str:
    return ",".join(f"{member}=127.0.0.1:{port}" for member, port in zip("abc", free_ports(3), strict=True))


@pytest.mark.parametrize(
    "command",
    [
        server.COMMAND,
        status.COMMAND,
        backup.COMMAND,
        restore.COMMAND,
        inspect.COMMAND,
        repair.COMMAND,
        demo.COMMAND,
        bench.COMMAND,
        simulate.COMMAND,
        chaos.COMMAND,
    ],
    ids=lambda command: command.name,
)
def test_the_reference_has_every_setting_of_a_command(command: object) -> None:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    settings = getattr(command, "settings", ())

    assert settings
    assert not [setting.name for setting in settings if f"`--{setting.name}" not in text or setting.help not in text]
