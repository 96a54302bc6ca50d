"""For pytest: the fixture `copycat_cluster`, a simulated cluster for an async test, and the marker that says which.

    @pytest.mark.copycat(seeds=range(10), resources=[Counter])
    async def test_a_hit_survives_its_leader(copycat_cluster):
        hits = await (await copycat_cluster.client()).create("hits", Hits)
        copycat_cluster.crash(copycat_cluster.leader())
        assert await hits.hit() == 1

Such a test runs in virtual time, once for each seed, on a cluster that has a leader when it begins and is checked when
it ends. pytest finds this module by itself when both are installed; nothing else of Copycat imports pytest.

With pytest-asyncio, in either mode, these tests are still run here, for its loops keep real time. So async fixtures of
its, which live on its loop, do not go with `copycat_cluster`; other fixtures do.
"""

import asyncio
import inspect
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import pytest

from copycat.testing.cluster import SimulatedCluster
from copycat.testing.loop import VirtualLoop

FIXTURE = "copycat_cluster"
MARKER = (
    "copycat(seeds=[0], members=3, resources=[], machines=None, config=None, rule=None): what copycat_cluster is; the "
    "test runs once for each seed"
)
OPTIONS = ("members", "resources", "machines", "config", "rule")
"""Those of SimulatedCluster."""

_RUNNER = pytest.StashKey[asyncio.Runner]()
_CLUSTER = pytest.StashKey[SimulatedCluster]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take --copycat-seeds."""
    parser.getgroup("copycat").addoption(
        "--copycat-seeds",
        metavar="N",
        type=int,
        help="run tests of copycat_cluster with the seeds 0 to N-1, whatever their marker says",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)
    count = config.getoption("--copycat-seeds")
    if count is not None and count < 1:
        raise pytest.UsageError(f"--copycat-seeds: there is 1 seed at least, not {count}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    name = metafunc.definition.name
    if FIXTURE not in metafunc.fixturenames:
        if any(mark.name == "copycat" for mark in metafunc.definition.own_markers):
            pytest.fail(
                f"{name} is marked with copycat and does not take {FIXTURE}, which that is about", pytrace=False
            )
        return
    if _coroutine_function(metafunc.function) is None:
        pytest.fail(f"{name} takes {FIXTURE}, so it has to be an async def: that runs in virtual time", pytrace=False)
    seeds = _seeds(name, _marked(metafunc.definition).pop("seeds", (0,)))
    count = metafunc.config.getoption("--copycat-seeds")
    chosen = range(count) if count is not None else seeds
    metafunc.parametrize(FIXTURE, chosen, indirect=True, ids=[f"seed-{seed}" for seed in chosen])


def _seeds(name: str, given: Any) -> list[int]:
    seeds = list(given) if isinstance(given, Iterable) else [given]
    if not isinstance(given, Iterable) or not seeds or not all(type(seed) is int for seed in seeds):
        pytest.fail(f"{name}: seeds are some numbers, such as range(10), not {given!r}", pytrace=False)
    return seeds


def _marked(item: pytest.Item) -> dict[str, Any]:
    """What the markers say: that of the test before that of its class, and so on."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers("copycat"):
        unknown = [repr(each) for each in mark.args] + [key for key in mark.kwargs if key not in ("seeds", *OPTIONS)]
        if unknown:
            takes = ", ".join(f"{key}=…" for key in ("seeds", *OPTIONS))
            pytest.fail(f"{item.name}: the marker copycat takes {takes}, not {', '.join(unknown)}", pytrace=False)
        found = {**mark.kwargs, **found}
    return found


@pytest.fixture
def copycat_cluster(request: pytest.FixtureRequest) -> Iterator[SimulatedCluster]:
    """A SimulatedCluster for an async test, which finds it started; see the marker `copycat`."""
    item = request.node
    options = {key: value for key, value in _marked(item).items() if key in OPTIONS}

    async def make() -> SimulatedCluster:
        return SimulatedCluster(seed=request.param, **options)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        cluster = runner.run(make())
        item.stash[_RUNNER], item.stash[_CLUSTER] = runner, cluster
        yield cluster


def _coroutine_function(function: Any) -> Any:
    """A test as it was written, if that is async: pytest-asyncio has wrapped it by the time it is called."""
    function = inspect.unwrap(function, stop=inspect.iscoroutinefunction)
    return function if inspect.iscoroutinefunction(function) else None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test in virtual time; None: it is not one of ours."""
    cluster = pyfuncitem.stash.get(_CLUSTER, None)
    if cluster is None:
        return None
    test = _coroutine_function(pyfuncitem.obj)
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run() -> None:
        async with cluster:
            await test(**arguments)

    pyfuncitem.stash[_RUNNER].run(run())
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the seed of a test that failed."""
    report = yield
    cluster = item.stash.get(_CLUSTER, None)
    if cluster is not None and report.failed:
        at = f"seed {cluster.streams.seed}, after {cluster.loop.now:.3f} simulated s"
        report.sections.append(("copycat", f"{at}; the same again: pytest '{item.nodeid}'"))
    return report
