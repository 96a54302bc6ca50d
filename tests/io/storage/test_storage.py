"""Settings, directories, locks, metadata, records from peers."""

import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from copycat.errors import (
    ConfigurationError,
    CorruptionError,
    DirectoryInUseError,
    ForeignDirectoryError,
    LogError,
    ProtocolError,
    StorageError,
)
from copycat.io.storage import Log, Storage, StorageLevel
from copycat.io.storage.disk import OsDisk
from copycat.io.storage.memory import MemoryLog
from copycat.io.storage.metadata import Metadata, MetadataStore
from copycat.io.storage.record import decode_records, record_bytes
from copycat.testing.disk import PowerFailure
from tests.io.storage.helpers import DIRECTORY, all_blocks, append, flush, make_disk

IDENTITY = Metadata(term=3, vote="b", member_id="a", incarnation=b"i" * 16, members=["a=h:1", "b=h:2"])


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


def test_metadata_round_trips_and_counts_its_saves() -> None:
    disk = make_disk()
    store = MetadataStore(disk, DIRECTORY)
    assert store.load() is None
    assert store.save(IDENTITY).sequence == 1
    assert store.save(IDENTITY).sequence == 2
    disk.crash(random.Random(0), kept=0.0)
    found = MetadataStore(disk, DIRECTORY).load()
    assert found is not None
    assert (found.vote, found.sequence, found.members) == ("b", 2, IDENTITY.members)


@pytest.mark.parametrize("bad", ["metadata-a", "metadata-b"])
def test_one_bad_copy_of_the_metadata_is_survived_even_if_mending_it_is_torn(bad: str) -> None:
    disk = make_disk()
    store = MetadataStore(disk, DIRECTORY)
    store.load()
    store.save(IDENTITY)
    paths = [f"{DIRECTORY}/metadata-a", f"{DIRECTORY}/metadata-b"]
    disk.flip_bit(f"{DIRECTORY}/{bad}", 30)
    before = [disk.contents(path) for path in paths]
    disk.stop_after = 4  # both opened and read, the first to be mended opened and written, not yet synced
    with pytest.raises(PowerFailure):
        MetadataStore(disk, DIRECTORY).load()
    changed = [path for path, content in zip(paths, before, strict=True) if disk.contents(path) != content]
    assert changed == [f"{DIRECTORY}/{bad}"]
    disk.crash(random.Random(0), kept=1.0)
    disk.flip_bit(changed[0], 20)
    found = MetadataStore(disk, DIRECTORY).load()
    assert found is not None
    assert found.vote == IDENTITY.vote
    assert disk.contents(paths[0]) == disk.contents(paths[1])


def test_two_bad_copies_of_the_metadata_are_refused() -> None:
    disk = make_disk()
    store = MetadataStore(disk, DIRECTORY)
    store.load()
    store.save(IDENTITY)
    for name in ("metadata-a", "metadata-b"):
        disk.flip_bit(f"{DIRECTORY}/{name}", 30)
    with pytest.raises(CorruptionError):
        MetadataStore(disk, DIRECTORY).load()


def test_a_vote_read_from_the_cache_after_a_failed_sync_is_made_durable() -> None:
    disk = make_disk()
    store = MetadataStore(disk, DIRECTORY)
    store.load()
    store.save(IDENTITY)
    disk.fail_syncs = True
    with pytest.raises(OSError, match="Input/output"):
        store.save(msgspec.structs.replace(IDENTITY, term=4, vote="c"))
    with pytest.raises(LogError):
        store.save(IDENTITY)
    disk.fail_syncs = False
    restarted = MetadataStore(disk, DIRECTORY).load()
    disk.crash(random.Random(0), kept=0.0)
    assert MetadataStore(disk, DIRECTORY).load() == restarted


def test_metadata_of_a_later_format_is_foreign() -> None:
    import struct
    import zlib

    disk = make_disk()
    head = struct.pack("<8sII", b"COPYCATM", 2, 0)
    disk.open(f"{DIRECTORY}/metadata-a", create=True).write_at(0, head + struct.pack("<I", zlib.crc32(head)))
    with pytest.raises(ForeignDirectoryError):
        MetadataStore(disk, DIRECTORY).load()


def test_a_crash_at_any_moment_of_a_save_leaves_the_old_or_the_new_vote() -> None:
    for seed in range(120):
        disk = make_disk()
        store = MetadataStore(disk, DIRECTORY)
        store.load()
        votes = ["", "", "b"]
        if seed % 2:
            store.save(Metadata(term=1, vote="a", member_id="a", incarnation=b"i" * 16))
            votes = ["a", "b"]
        disk.stop_after = seed // 2 % 12
        try:
            store.save(IDENTITY)
            votes = ["b"]
        except PowerFailure:
            pass
        disk.crash(random.Random(seed))
        found = MetadataStore(disk, DIRECTORY).load()
        assert (found.vote if found is not None else "") in votes


def test_any_changed_byte_of_a_run_from_a_peer_is_refused() -> None:
    log = MemoryLog()
    blocks = [append(log, b"one"), append(log, b"twotwo")]
    run, _ = log.read_records(1, 2, 1 << 20)
    assert decode_records(run, 100) == blocks
    assert decode_records(memoryview(run), 100) == blocks
    for position in range(len(run)):
        changed = bytearray(run)
        changed[position] ^= 0x10
        with pytest.raises(ProtocolError):
            decode_records(bytes(changed), 100)
        if position:
            with pytest.raises(ProtocolError):
                decode_records(run[: position if position != record_bytes(3) else position - 1], 100)
    with pytest.raises(ProtocolError):
        decode_records(run, 4)
