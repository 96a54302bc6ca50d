"""What is saved of members that cannot go on, and what is said to be lost. Protocol §8.9."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from copycat.errors import ConfigurationError, LogError
from copycat.io.serializer import Serializer
from copycat.io.storage.backup_file import BackupFile
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.findings import Inspection
from copycat.io.storage.inspection import inspect_directory
from copycat.io.storage.read_only import ReadOnlyDisk
from copycat.raft.server.restoring import read_backup
from copycat.raft.server.salvage import Salvage, survey, write_backup
from tests.raft.server.cluster import Cluster, Notebook, add, put
from tests.raft.server.test_restoring import machines


def found_in(directory: Path, *names: str) -> list[Inspection]:
    return [inspect_directory(ReadOnlyDisk(), str(directory / name)) for name in names]


def judged(directory: Path, *names: str) -> Salvage:
    return survey(ReadOnlyDisk(), found_in(directory, *names))


def saved(salvage: Salvage, path: Path) -> Notebook:
    """The state in the backup that is written."""
    target = BackupFile(OsDisk(), str(path), force=False)
    file = write_backup(ReadOnlyDisk(), salvage, machines(), Serializer(), target)
    assert file.header.index == salvage.best.end.index
    restored = read_backup(OsDisk(), str(path), machines(), Serializer())
    machine = restored.executor.machines.hosts[0].machine
    assert isinstance(machine, Notebook)
    return machine


async def written(directory: Path, size: int = 3, count: int = 10) -> None:
    """Directories of members that held the same when they stopped."""
    async with Cluster(size, directory) as cluster:
        client = await cluster.client()
        for number in range(1, count + 1):
            assert await add(client, 1) == number
        await cluster.level()


def rot(directory: Path, name: str, share: float, *, pattern: str = "*.log") -> None:
    """One byte of the newest file that is used, at this share of it."""
    path = max((directory / name).glob(pattern))
    content = bytearray(path.read_bytes())
    used = len(bytes(content).rstrip(b"\0"))
    begin = 4096 if pattern == "*.log" else 0
    content[begin + round((used - begin) * share)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("names", ["abc", "ab", "bc"])
async def test_a_majority_of_whole_directories_loses_nothing(tmp_path: Path, names: str) -> None:
    await written(tmp_path)

    salvage = judged(tmp_path, *names)

    assert salvage.losses == []
    assert saved(salvage, tmp_path / "backup").total == 10


async def test_one_of_three_may_lack_what_the_others_acknowledged(tmp_path: Path) -> None:
    await written(tmp_path)

    salvage = judged(tmp_path, "b")

    assert "2 whole directories of theirs are needed" in salvage.losses[0]
    assert f"behind index {salvage.best.end.index} is lost" in salvage.losses[0]
    assert saved(salvage, tmp_path / "backup").total == 10
    twice = judged(tmp_path, "b", "b")
    assert len(twice.losses) == 1  # a copy is no second vote


async def test_the_directory_with_the_most_is_taken_wherever_it_stands(tmp_path: Path) -> None:
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        assert await add(client, 1) == 1
        await cluster.level()
        behind = cluster.others(await cluster.elected())[0]
        await cluster.stop(behind)
        for number in range(2, 8):
            assert await add(client, 1) == number
        await cluster.level()
        ahead = sorted(cluster.servers)

    for names in ([behind, *ahead], [*ahead, behind], [behind, ahead[0]]):
        salvage = judged(tmp_path, *names)
        assert salvage.best.member != behind
        assert salvage.losses == []
        assert saved(salvage, tmp_path / f"backup-{'-'.join(names)}").total == 7


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
async def test_of_a_single_member_with_a_hole_all_before_it_is_saved_and_the_rest_named(
    tmp_path: Path, share: float
) -> None:
    await written(tmp_path, 1, 40)
    rot(tmp_path, "a", share)

    salvage = judged(tmp_path, "a")

    fault = salvage.best.found.faulty_from
    assert fault is not None
    assert salvage.best.end.index == fault - 1
    (loss,) = salvage.losses
    assert f"indices {fault} to " in loss
    assert 0 <= saved(salvage, tmp_path / "backup").total < 40


async def test_a_hole_in_one_of_three_costs_nothing_while_two_are_whole(tmp_path: Path) -> None:
    await written(tmp_path, 3, 40)
    rot(tmp_path, "a", 0.4)

    assert judged(tmp_path, "a", "b", "c").losses == []
    partial = judged(tmp_path, "a", "b")
    assert partial.best.member == "b"
    assert "here are 1" in partial.losses[-1]
    assert saved(partial, tmp_path / "backup").total == 40


async def test_a_snapshot_and_the_log_behind_it_are_saved(tmp_path: Path) -> None:
    async with Cluster(1, tmp_path) as cluster:
        client = await cluster.client()
        await put(client, "k", "v")
        await add(client, 3)
        await cluster.servers["a"].take_snapshot()
        await add(client, 4)
    notebook = saved(judged(tmp_path, "a"), tmp_path / "backup")
    assert (notebook.total, notebook.values) == (7, {"k": "v"})


async def test_a_single_member_whose_metadata_has_rotted_is_saved(tmp_path: Path) -> None:
    await written(tmp_path, 1)
    for name in ("metadata-a", "metadata-b"):
        rot(tmp_path, "a", 0.5, pattern=name)

    salvage = judged(tmp_path, "a")

    assert salvage.losses == []
    assert saved(salvage, tmp_path / "backup").total == 10


async def test_a_rotten_snapshot_that_went_further_than_the_rest_makes_a_directory_less_than_whole(
    tmp_path: Path,
) -> None:
    await written(tmp_path, 1)
    (path,) = [tmp_path / "a" / f"copycat-{10**6:020}-1.snapshot"]
    path.write_bytes(b"rotten")

    salvage = judged(tmp_path, "a")

    assert len(salvage.losses) == 1
    assert saved(salvage, tmp_path / "backup").total == 10


async def test_where_nothing_is_left_it_says_so(tmp_path: Path) -> None:
    await written(tmp_path, 1)
    rot(tmp_path, "a", 0.0)
    with pytest.raises(LogError, match="nothing can be saved"):
        judged(tmp_path, "a")


async def test_directories_of_two_clusters_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    await written(tmp_path / "one", 1)
    await written(tmp_path / "other", 1)
    with pytest.raises(ConfigurationError, match="several clusters"):
        survey(ReadOnlyDisk(), [*found_in(tmp_path / "one", "a"), *found_in(tmp_path / "other", "a")])


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_acknowledged_is_in_whatever_majority_is_left_after_crashes(tmp_path: Path, seed: int) -> None:
    """Members stop at different times; any two directories of three have all that was acknowledged."""
    chooser = random.Random(seed)
    acknowledged = 0
    async with Cluster(3, tmp_path) as cluster:
        client = await cluster.client()
        for _ in range(3):
            acknowledged = await add(client, 1)
        stopped: Sequence[str] = chooser.sample(sorted(cluster.servers), 1)
        await cluster.stop(*stopped)
        for _ in range(chooser.randrange(1, 6)):
            acknowledged = await add(client, 1)
    left = chooser.sample("abc", 2)

    salvage = judged(tmp_path, *left)

    assert salvage.losses == [], f"seed {seed}"
    assert saved(salvage, tmp_path / "backup").total >= acknowledged, f"seed {seed}"
