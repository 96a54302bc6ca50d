"""Settings of the tests of processes: `pytest tests/process --every-call`."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-call", action="store_true", help="stop a server at each of its system calls in turn")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for."""
    if not config.getoption("--every-call", default=False):
        left_out = [item for item in items if item.get_closest_marker("sweep")]
        items[:] = [item for item in items if item not in left_out]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
