"""Where and how a member keeps its data: settings, directories, locks."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from copycat.errors import ConfigurationError, DirectoryInUseError, StorageError
from copycat.io.storage import Log, Storage, StorageLevel
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.metadata import Metadata
from copycat.testing.disk import FaultyDisk
from tests.io.storage.helpers import DIRECTORY, all_blocks, append, flush, newest_segment


def test_a_log_on_a_real_disk_survives_reopening(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "deep" / "data", max_segment_size=1 << 20)
    with_lock = storage.lock()
    log = storage.open_log()
    assert isinstance(log, Log)
    blocks = [append(log, os.urandom(200_000)) for _ in range(12)]
    prewrite = log.take_prewrite()
    flush(log)
    if prewrite is not None:
        prewrite.run()
        log.prewritten(prewrite)
    log.close()
    again = storage.open_log()
    assert all_blocks(again) == blocks
    again.close()
    with_lock.close()
    assert stat.S_IMODE((tmp_path / "deep" / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "data").iterdir()} == {0o600}


def test_two_processes_on_one_directory_are_told_who_holds_it(tmp_path: Path) -> None:
    program = (
        "import sys; from copycat.io.storage import Storage\n"
        "storage = Storage(sys.argv[1]); storage.lock(); print('locked', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(DirectoryInUseError, match=rf"pid {process.pid} .*started \d{{4}}"):
            Storage(tmp_path).lock()
    finally:
        process.communicate()
    storage = Storage(tmp_path)
    storage.lock()
    storage.close()


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(StorageError, match="a file is in the place of the directory"):
            Storage(path).lock()


def test_an_unwritable_directory_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OsDisk, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(OsDisk, "make_directory", refuse)
    with pytest.raises(StorageError, match="may not write there: change its owner"):
        Storage(tmp_path).open_log()


def test_settings_out_of_range_are_refused_by_name() -> None:
    for name, value in (("max_segment_size", 10), ("max_entry_size", 0), ("cache_size", -1), ("cache_size", "64")):
        with pytest.raises(ConfigurationError, match=name):
            Storage(**{name: value})  # type: ignore[arg-type]  # the very thing under test
    with pytest.raises(ConfigurationError, match="level"):
        Storage(level="disk")  # type: ignore[arg-type]  # the very thing under test
    with pytest.raises(AttributeError):
        Storage().directory = "x"


def test_memory_level_needs_no_directory() -> None:
    storage = Storage("/nonexistent/never", level=StorageLevel.MEMORY)
    storage.lock().close()
    assert isinstance(storage.open_log(), MemoryLog)
    assert storage.open_metadata().load() is None


def test_the_defaults_are_those_of_the_reference() -> None:
    storage = Storage()
    assert (storage.directory, storage.level) == (".", StorageLevel.DISK)
    assert (storage.max_segment_size, storage.max_entry_size, storage.cache_size) == (32 << 20, 1 << 20, 16 << 20)
    assert storage.free_space_min == 128 << 20
    assert isinstance(storage.disk, OsDisk)
    assert repr(Storage("d")) == "Storage('d', level=StorageLevel.DISK)"


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_segment_size", 1 << 20, 1 << 30),
        ("max_entry_size", 1 << 10, 32 << 20),
        ("cache_size", 1 << 20, 64 << 30),
        ("free_space_min", 0, 1 << 40),
    ],
)
def test_each_setting_has_its_range(name: str, low: int, high: int) -> None:
    for value in (low, high):
        settings = {"max_segment_size": 1 << 30, "max_entry_size": 1 << 10} | {name: value}
        assert getattr(Storage(**settings), name) == value  # type: ignore[arg-type]  # by name
    for wrong in (low - 1, high + 1, True, str(low), float(low)):
        with pytest.raises(ConfigurationError, match=rf"{name} is .*; it must be an int from {low} to {high} bytes"):
            Storage(**{name: wrong})  # type: ignore[arg-type]  # the very thing under test


def test_an_entry_fits_into_a_segment() -> None:
    assert Storage(max_entry_size=2 << 20, max_segment_size=2 << 20).max_entry_size == 2 << 20
    with pytest.raises(ConfigurationError, match="must not exceed max_segment_size"):
        Storage(max_entry_size=(2 << 20) + 1, max_segment_size=2 << 20)


def test_an_empty_name_is_no_directory() -> None:
    with pytest.raises(ConfigurationError, match="directory is empty"):
        Storage("")


def test_closing_a_storage_releases_all_its_locks_and_may_be_repeated(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.lock()
    storage.close()
    storage.close()
    Storage(tmp_path).lock().close()


def test_the_lock_is_a_file_in_the_directory_which_is_made_for_it() -> None:
    disk = FaultyDisk()
    Storage(DIRECTORY, disk=disk).lock()
    with pytest.raises(DirectoryInUseError):
        disk.lock(f"{DIRECTORY}/lock")


def test_a_log_is_opened_with_the_settings_of_its_storage() -> None:
    disk = FaultyDisk()
    storage = Storage(DIRECTORY, disk=disk, max_segment_size=3 << 20, cache_size=2 << 20)
    log = storage.open_log("other", cluster_id=b"c" * 16)
    assert isinstance(log, Log)
    assert (log.directory, log.name, log.cluster_id, log.max_segment_size) == (DIRECTORY, "other", b"c" * 16, 3 << 20)
    assert log._cache.limit_bytes == 2 << 20
    assert newest_segment(disk).startswith(f"{DIRECTORY}/other-")
    memory = Storage(level=StorageLevel.MEMORY).open_log(cluster_id=b"m" * 16)
    assert memory.cluster_id == b"m" * 16
    Storage(DIRECTORY, disk=disk).open_log()
    assert [name for name in disk.list(DIRECTORY) if name.startswith("copycat-")]


def test_metadata_is_opened_in_the_directory_which_is_made_for_it() -> None:
    disk = FaultyDisk()
    metadata = Storage(DIRECTORY, disk=disk).open_metadata()
    assert metadata.load() is None
    metadata.save(Metadata(term=1, vote="", member_id="a", incarnation=b"i" * 16))
    assert disk.list(DIRECTORY) == ["metadata-a", "metadata-b"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOTDIR, "a file is in the place of the directory"),
        (errno.EEXIST, "a file is in the place of the directory"),
        (errno.EACCES, rf"user {os.geteuid()} may not write there"),
        (errno.EPERM, rf"user {os.geteuid()} may not write there"),
        (errno.EROFS, "mounted read-only"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, "check the disk and the system's log"),
    ],
)
def test_what_the_system_refuses_is_explained_with_the_next_step(number: int, advice: str) -> None:
    class Refusing(FaultyDisk):
        def make_directory(self, path: str) -> None:
            raise OSError(number, "refused", path + "/deep")

    storage = Storage("d", disk=Refusing())
    for attempt in (storage.lock, storage.open_log, storage.open_metadata):
        with pytest.raises(StorageError, match=rf"cannot use d for data \(d/deep: refused\); .*{advice}"):
            attempt()


def test_an_error_without_a_file_names_the_directory() -> None:
    class Refusing(FaultyDisk):
        def make_directory(self, path: str) -> None:
            raise OSError("odd")

    with pytest.raises(StorageError, match=r"cannot use d for data \(d: odd\); check the disk"):
        Storage("d", disk=Refusing()).lock()


def test_memory_keeps_metadata_and_a_log_as_long_as_the_process() -> None:
    storage = Storage(level=StorageLevel.MEMORY)
    metadata = storage.open_metadata()
    saved = metadata.save(Metadata(term=1, vote="b", member_id="a", incarnation=b"i" * 16))
    assert (saved.vote, saved.sequence) == ("b", 1)
    assert metadata.save(saved).sequence == 2
    assert metadata.load() == msgspec.structs.replace(saved, sequence=2)
    log = storage.open_log()
    block = append(log)
    flush(log)
    assert log.take_prewrite() is None
    log.clear_fault()
    log.close()
    assert (all_blocks(log), log.is_faulty) == ([block], False)
    storage.close()
