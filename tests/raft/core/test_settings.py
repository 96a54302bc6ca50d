"""The settings of consensus: their defaults, and where they contradict each other."""

import pytest

from copycat.errors import ConfigurationError
from copycat.raft.core.config import RaftConfig


def test_the_defaults_are_those_of_the_reference() -> None:
    config = RaftConfig()
    assert (config.election_timeout_ms, config.heartbeat_ms, config.lease_ms) == (500, 100, 250)
    assert (config.inflight_bytes_max, config.append_bytes_max) == (8 << 20, 1 << 20)
    assert config.freshness_ms == 200


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"heartbeat_ms": 0}, "the heartbeat"),
        ({"heartbeat_ms": 500, "lease_ms": 1200, "election_timeout_ms": 500}, "the heartbeat"),
        ({"lease_ms": 200}, "the lease"),
        ({"lease_ms": 500}, "the lease"),
        ({"inflight_bytes_max": 0}, "inflight_bytes_max"),
        ({"append_bytes_max": 0}, "append_bytes_max"),
        ({"append_bytes_max": -1}, "append_bytes_max"),
    ],
)
def test_times_that_contradict_each_other_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RaftConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"heartbeat_ms": 1, "lease_ms": 3, "election_timeout_ms": 4},
        {"lease_ms": 201},
        {"lease_ms": 499},
        {"inflight_bytes_max": 1, "append_bytes_max": 1},
    ],
)
def test_the_narrowest_settings_are_accepted(settings: dict[str, int]) -> None:
    config = RaftConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings
