"""From a mistake in the product to a few lines that show it."""

from pathlib import Path

import pytest

from copycat.io.storage.metadata import MetadataStore
from copycat.testing.script import Script, parse
from copycat.testing.shrink import shrink
from copycat.testing.simulator import Settings, run_seed

pytestmark = pytest.mark.simulation

SETTINGS = Settings(
    faults=("cut-power", "partition", "pause", "slow-disk", "jump-clock", "isolate", "flap"), fault_pause=0.5
)
KEPT = Path(__file__).parent / "scripts" / "all_lose_their_power.txt"


def write_without_sync(store: MetadataStore, path: str, record: bytes) -> None:
    file = store._disk.open(path, create=not store._disk.exists(path))
    file.write_at(0, record)
    file.close()


@pytest.mark.slow
def test_metadata_that_is_not_synced_comes_down_to_a_loss_of_power(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MetadataStore, "_write", write_without_sync)
        reports = (run_seed(seed, seconds=10, settings=SETTINGS) for seed in range(20))
        report = next(each for each in reports if each.problems and len(each.actions) > 8)

        small = shrink(Script.of(report), tries=60)

        assert "no copy of the metadata is sound" in small.about
        assert len(small.actions) <= 3
        assert "cut-power" in {action.fault for action in small.actions}
        assert "no copy of the metadata is sound" in parse(str(small)).run().problems[0]
    assert not parse(str(small)).run().problems


def test_the_script_that_is_kept_of_it_still_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetadataStore, "_write", write_without_sync)

    (problem, *_) = parse(KEPT.read_text(encoding="utf-8")).run().problems

    assert "no copy of the metadata is sound" in problem
