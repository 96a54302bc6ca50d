"""`pytest tests/scenarios --rewrite` writes what happens into the scenarios. Read the difference before keeping it."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what happens into tests/scenarios/*.txt")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether scenarios are to be written anew."""
    return bool(request.config.getoption("--rewrite", default=False))
