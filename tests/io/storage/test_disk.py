"""The disk of the operating system behind the small interface."""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat.errors import DirectoryInUseError
from copycat.io.storage.disk import OsDisk, OsFile


@pytest.fixture
def disk() -> OsDisk:
    return OsDisk()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[OsFile]:
    opened = OsDisk().open(str(tmp_path / "file"), create=True)
    assert isinstance(opened, OsFile)
    yield opened
    opened.close()


def test_a_file_is_written_and_read_at_offsets_and_read_short_only_at_its_end(file: OsFile) -> None:
    file.write_at(3, b"abcdef")
    assert file.size() == 9
    assert file.read(0, 100) == b"\0\0\0abcdef"
    assert file.read(4, 3) == b"bcd"
    assert file.read(9, 5) == b""
    file.write_at(0, b"xyz")
    assert file.read(0, 5) == b"xyzab"


def test_what_the_system_writes_or_reads_in_pieces_arrives_whole(file: OsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, bytes(data)[:4], offset))
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: read(fd, min(size, 3), offset))
    data = bytes(range(1, 24))
    file.write_at(5, data)
    assert file.size() == 28
    assert file.read(5, 23) == data
    assert file.read(5, 100) == data
    assert file.read(9, 7) == data[4:11]


def test_a_sync_reaches_the_disk_itself(file: OsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "fdatasync", synced.append, raising=False)
    file.sync()
    assert synced == [file._descriptor]


def test_on_macos_a_sync_goes_through_the_drives_cache(file: OsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: asked.append((descriptor, command)))
    file.sync()
    assert asked == [(file._descriptor, 51)]


def test_closing_twice_closes_nobody_elses_file(file: OsFile, tmp_path: Path) -> None:
    descriptor = file._descriptor
    file.close()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == descriptor  # the system gives the number to the next file
    file.close()
    os.fstat(other)
    os.close(other)
    with pytest.raises(OSError) as caught:
        os.fstat(descriptor)
    assert caught.value.errno == errno.EBADF


def test_the_first_descriptor_of_all_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    opened = OsFile(0)
    opened.close()
    opened.close()
    assert closed == [0]


def test_a_missing_file_is_made_only_on_request_and_for_the_owner_alone(disk: OsDisk, tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(FileNotFoundError):
        disk.open(str(path))
    disk.open(str(path), create=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opened = disk.open(str(path))
    opened.write_at(0, b"kept")
    opened.close()
    again = disk.open(str(path), create=True)
    assert again.read(0, 10) == b"kept"
    again.close()


def test_files_are_not_inherited_by_programs_started_from_here(disk: OsDisk, tmp_path: Path) -> None:
    opened = disk.open(str(tmp_path / "file"), create=True)
    assert isinstance(opened, OsFile)
    assert not os.get_inheritable(opened._descriptor)
    opened.close()


def test_directories_are_made_with_their_parents_for_the_owner_alone(
    disk: OsDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(disk, "sync_directory", synced.append)
    disk.make_directory(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    disk.make_directory(str(tmp_path / "a" / "b"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")} == {0o700}


def test_a_file_in_the_place_of_a_directory_is_named(disk: OsDisk, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory")
    with pytest.raises(NotADirectoryError) as caught:
        disk.make_directory(str(path))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTDIR, str(path))


def test_names_are_listed_in_order_renamed_and_removed(disk: OsDisk, tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        (tmp_path / name).write_text(name)
    assert disk.list(str(tmp_path)) == ["a", "b", "c"]
    assert disk.exists(str(tmp_path / "a"))
    assert not disk.exists(str(tmp_path / "z"))
    disk.rename(str(tmp_path / "a"), str(tmp_path / "z"))
    disk.remove(str(tmp_path / "b"))
    assert disk.list(str(tmp_path)) == ["c", "z"]
    assert (tmp_path / "z").read_text() == "a"


def test_names_become_durable_through_the_directory_whose_handle_is_given_back(
    disk: OsDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append((descriptor, stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    )
    disk.sync_directory(str(tmp_path))
    ((descriptor, is_directory),) = synced
    assert is_directory
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_the_room_left_is_that_of_the_file_system_for_this_user(
    disk: OsDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disk.free_space(str(tmp_path)) > 0

    class System:
        f_bavail, f_bfree, f_frsize, f_bsize = 3, 5, 4096, 1 << 20

    monkeypatch.setattr(os, "statvfs", lambda _path: System)
    assert disk.free_space(str(tmp_path)) == 3 * 4096  # not what is kept back for root, nor the size of transfers


def test_a_lock_names_its_holder_and_is_free_again_once_closed(disk: OsDisk, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("left by a process long gone, whose name was longer than any that comes now" * 10)
    held = disk.lock(str(path))
    assert path.read_text().startswith(f"pid {os.getpid()} (")
    assert path.read_text().count("\n") == 1
    assert path.read_text().endswith("\n")
    with pytest.raises(
        DirectoryInUseError, match=rf"{tmp_path} is in use by pid {os.getpid()} \(.*\), started \d{{4}}-"
    ):
        disk.lock(str(path))
    held.close()
    disk.lock(str(path)).close()


def test_a_holder_that_has_not_written_its_name_yet_is_unknown(disk: OsDisk, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = disk.lock(str(path))
    path.write_text("")
    with pytest.raises(DirectoryInUseError, match="in use by an unknown process"):
        disk.lock(str(path))
    held.close()


def test_a_lock_that_the_file_system_cannot_give_is_another_error(
    disk: OsDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        disk.lock(str(tmp_path / "lock"))


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process is read from /proc")
def test_the_start_named_in_a_lock_is_that_of_the_process_not_of_the_lock(disk: OsDisk, tmp_path: Path) -> None:
    held = disk.lock(str(tmp_path / "lock"))
    text = (tmp_path / "lock").read_text().strip().rpartition("started ")[2]
    started = time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))
    held.close()
    ticks = os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / ticks
    assert abs(time.time() - age - started) < 5
