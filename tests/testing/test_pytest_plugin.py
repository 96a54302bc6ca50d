"""The fixture `copycat_cluster` and its marker, in pytest runs of their own, with pytest-asyncio and without."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
MODULE = "copycat.testing.pytest_plugin"
WAYS = {
    "without pytest-asyncio": ("-p", "no:asyncio"),
    "with pytest-asyncio, auto": ("-o", "asyncio_mode=auto"),
    "with pytest-asyncio, strict": ("-o", "asyncio_mode=strict"),
}
HEAD = """
import asyncio
import pytest
from copycat.collections import DistributedMap
from copycat.testing import SimulatedCluster, VirtualLoop
"""


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    """What pytest makes of a module."""
    pytester.makepyfile(HEAD + text)
    is_installed = any(each.value == MODULE for each in entry_points(group="pytest11"))
    load: tuple[str, ...] = () if is_installed else ("-p", MODULE)
    if "no:asyncio" not in arguments:
        load += ("-o", "asyncio_default_fixture_loop_scope=function")  # or pytest-asyncio warns
    return pytester.runpytest_inprocess(*load, "-W", "error", "--strict-markers", "-p", "no:cacheprovider", *arguments)


def told(pytester: pytest.Pytester, text: str, *arguments: str) -> str:
    """What pytest says against a module in which nothing passes."""
    result = run(pytester, text, *arguments)
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("way", WAYS)
def test_an_async_test_runs_in_virtual_time_on_a_cluster_that_has_begun(way: str, pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.fixture
def page():
    return "index"

async def test_it(page, copycat_cluster: SimulatedCluster):
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert copycat_cluster.streams.seed == 0
    hits = await (await copycat_cluster.client()).create("hits", DistributedMap[str, int])
    await hits.put(page, 1)
    copycat_cluster.crash(copycat_cluster.leader())
    await asyncio.sleep(60)
    assert await hits.get(page) == 1

class TestIt:
    async def test_a_method(self, copycat_cluster):
        assert len(copycat_cluster.nodes) == 3
        assert copycat_cluster.nodes[copycat_cluster.leader()].is_up
""",
        *WAYS[way],
    )

    result.assert_outcomes(passed=2)


def test_other_async_tests_are_still_pytest_asyncio_s(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
async def test_before():
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)

async def test_it(copycat_cluster):
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)

async def test_after():
    await asyncio.sleep(0)
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)

def test_not_async():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
""",
        *WAYS["with pytest-asyncio, auto"],
    )

    result.assert_outcomes(passed=4)


def test_the_marker_says_what_the_cluster_is_and_runs_once_for_each_seed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
from copycat import StateMachine
from copycat.raft.core.config import RaftConfig
from copycat.resource import Resource
from copycat.testing import LinkRule

class Counter(StateMachine, name="acme.counter"):
    count: int = 0

    def configure(self, executor):
        executor.register_command(1, self.hit)

    def hit(self, commit):
        self.count += 1
        return self.count

class Hits(Resource, machine=Counter):
    def hit(self):
        return self.command(1, what="hit")

CONFIG = RaftConfig(election_timeout_ms=1000, heartbeat_ms=100, lease_ms=500)

@pytest.mark.copycat(seeds=[3, 9], members=5, resources=[Counter], config=CONFIG, rule=LinkRule(latency=(0.1, 0.1)))
async def test_it(copycat_cluster):
    cluster = copycat_cluster
    assert cluster.streams.seed in (3, 9)
    assert (list(cluster.nodes), cluster.config) == (list("abcde"), CONFIG)
    assert await (await (await cluster.client()).create("hits", Hits)).hit() == 1
    assert cluster.loop.now > 0.4

@pytest.mark.copycat(seeds=[1], members=2)
class TestIt:
    @pytest.mark.copycat(members=1)
    @pytest.mark.parametrize("letter", "xy")
    async def test_the_nearer_marker_counts(self, copycat_cluster, letter):
        assert (copycat_cluster.streams.seed, len(copycat_cluster.nodes)) == (1, 1)

    def test_which_has_no_cluster_is_left_alone(self):
        pass
""",
        "-v",
    )

    result.assert_outcomes(passed=5)
    for name in ("test_it[seed-3]", "test_it[seed-9]", "[seed-1-x]", "[seed-1-y]"):
        assert name in result.stdout.str()


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_tells_the_seed_and_how_to_run_it_again(way: str, pytester: pytest.Pytester) -> None:
    text = """
@pytest.mark.copycat(seeds=range(4))
async def test_it(copycat_cluster):
    await asyncio.sleep(7.5)
    assert copycat_cluster.streams.seed != 2
"""
    result = run(pytester, text, *WAYS[way])

    result.assert_outcomes(passed=3, failed=1)
    (line,) = (each for each in result.outlines if "the same again" in each)
    assert line.startswith("seed 2, after ")
    assert float(line.split()[3]) > 7.5
    again = line.partition("pytest ")[2].strip("'")
    run(pytester, text, *WAYS[way], again).assert_outcomes(failed=1)


def test_what_the_cluster_did_wrong_fails_the_test(pytester: pytest.Pytester) -> None:
    shown = told(
        pytester,
        """
async def test_it(copycat_cluster):
    copycat_cluster.loop.call_soon(lambda: 1 // 0)
    await asyncio.sleep(1)
""",
    )

    assert "SimulationError" in shown
    assert "ZeroDivisionError" in shown
    assert "seed 0, after " in shown
    assert "1 failed" in shown


def test_the_command_line_can_ask_for_more_seeds_than_the_marker(pytester: pytest.Pytester) -> None:
    text = """
@pytest.mark.copycat(seeds=[77])
async def test_it(copycat_cluster):
    assert copycat_cluster.streams.seed < 5
"""
    run(pytester, text).assert_outcomes(failed=1)
    run(pytester, text, "--copycat-seeds", "5").assert_outcomes(passed=5)

    assert "--copycat-seeds: there is 1 seed at least, not 0" in told(pytester, text, "--copycat-seeds", "0")


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "(range(3))",
            "takes seeds=…, members=…, resources=…, machines=…, config=…, rule=…, not range(0, 3)",
        ),
        ("(seed=3)", "not seed"),
        ("(seeds=3)", "test_it: seeds are some numbers, such as range(10), not 3"),
        ("(seeds=[])", "such as range(10), not []"),
        ("(seeds=['1'])", "such as range(10), not ['1']"),
        ("(seeds='12')", "such as range(10), not '12'"),
        ("(members=9)", "a simulated cluster has 1 to 7 members, not 9"),
    ],
)
def test_a_marker_that_cannot_be_is_told(marker: str, message: str, pytester: pytest.Pytester) -> None:
    assert message in told(
        pytester,
        f"""
@pytest.mark.copycat{marker}
async def test_it(copycat_cluster):
    pass
""",
    )


def test_a_marked_test_without_a_cluster_and_a_cluster_in_a_plain_test_are_told(pytester: pytest.Pytester) -> None:
    assert "test_it is marked with copycat and does not take copycat_cluster" in told(
        pytester, "@pytest.mark.copycat(members=5)\nasync def test_it(): pass"
    )
    assert "test_it takes copycat_cluster, so it has to be an async def" in told(
        pytester, "def test_it(copycat_cluster): pass"
    )


def test_the_plugin_is_found_by_pytest_when_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["entry-points"]["pytest11"] == {"copycat": MODULE}
    assert not [each for each in project["dependencies"] if "pytest" in each]


def test_copycat_testing_does_without_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import copycat.testing.simulator, copycat.testing.shrink"

    subprocess.run([sys.executable, "-c", program], check=True)
