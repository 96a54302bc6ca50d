"""Term, vote and identity: two copies, of which one is always sound."""

import random
import struct
import zlib

import msgspec
import pytest

from copycat.errors import CorruptionError, ForeignDirectoryError, InvariantError, LogError
from copycat.io.storage.metadata import FILE_NAMES, PAYLOAD_BYTES_MAX, Metadata, MetadataStore
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import DIRECTORY, WatchedDisk, make_disk

IDENTITY = Metadata(term=3, vote="b", member_id="a", incarnation=b"i" * 16, members=["a=h:1", "b=h:2"])


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


def store_on(disk: FaultyDisk) -> MetadataStore:
    store = MetadataStore(disk, DIRECTORY)
    store.load()
    return store


def put(disk: FaultyDisk, data: bytes, name: str = "metadata-a") -> None:
    disk.open(f"{DIRECTORY}/{name}", create=True).write_at(0, data)


def sealed(payload: bytes, *, magic: bytes = b"COPYCATM", version: int = 1, length: int | None = None) -> bytes:
    """A record whose checksum is right, whatever it holds."""
    head = struct.pack("<8sII", magic, version, len(payload) if length is None else length) + payload
    return head + struct.pack("<I", zlib.crc32(head))


def test_the_layout_is_that_of_the_reference() -> None:
    disk = make_disk()
    saved = store_on(disk).save(IDENTITY)
    contents = [disk.contents(f"{DIRECTORY}/{name}") for name in FILE_NAMES]
    assert contents == [sealed(msgspec.msgpack.encode(saved))] * 2
    assert disk.list(DIRECTORY) == ["metadata-a", "metadata-b"]


def test_nothing_is_saved_before_what_is_there_has_been_loaded() -> None:
    with pytest.raises(InvariantError, match="loaded before it is saved"):
        MetadataStore(make_disk(), DIRECTORY).save(IDENTITY)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_incarnation_has_16_bytes(size: int) -> None:
    with pytest.raises(InvariantError, match="an incarnation has 16 bytes"):
        store_on(make_disk()).save(msgspec.structs.replace(IDENTITY, incarnation=bytes(size)))


def test_metadata_beyond_a_mebibyte_is_never_written() -> None:
    assert PAYLOAD_BYTES_MAX == 1 << 20
    disk = make_disk()
    overhead = len(msgspec.msgpack.encode(msgspec.structs.replace(IDENTITY, vote="v" * 100_000, sequence=1))) - 100_000
    largest = msgspec.structs.replace(IDENTITY, vote="v" * (PAYLOAD_BYTES_MAX - overhead))
    assert store_on(disk).save(largest).sequence == 1
    found = MetadataStore(disk, DIRECTORY).load()
    assert found is not None
    assert found.vote == largest.vote
    with pytest.raises(InvariantError, match="metadata is small"):
        store_on(disk).save(msgspec.structs.replace(largest, member_id="ab"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"COPYCATM\x01\0\0",
        sealed(b"payload", magic=b"COPYCATX"),
        sealed(b"payload"),
        sealed(msgspec.msgpack.encode({"term": "three"})),
        sealed(msgspec.msgpack.encode(IDENTITY))[:-1],
        sealed(msgspec.msgpack.encode(IDENTITY))[:-4] + bytes(4),
        sealed(msgspec.msgpack.encode(IDENTITY))[:-4] + b"\xff" * 4,
        sealed(msgspec.msgpack.encode(IDENTITY), length=PAYLOAD_BYTES_MAX + 1),
        sealed(msgspec.msgpack.encode(IDENTITY), length=1 << 16),
    ],
)
def test_what_is_not_a_whole_sound_record_is_bad(data: bytes) -> None:
    disk = make_disk()
    put(disk, data)
    with pytest.raises(CorruptionError, match="no copy of the metadata is sound"):
        MetadataStore(disk, DIRECTORY).load()
    put(disk, sealed(msgspec.msgpack.encode(IDENTITY)), "metadata-b")
    assert MetadataStore(disk, DIRECTORY).load() == IDENTITY


def test_the_newer_of_two_sound_copies_counts_whichever_it_is() -> None:
    for newer, older in (FILE_NAMES, FILE_NAMES[::-1]):
        disk = make_disk()
        put(disk, sealed(msgspec.msgpack.encode(msgspec.structs.replace(IDENTITY, vote="new", sequence=8))), newer)
        put(disk, sealed(msgspec.msgpack.encode(msgspec.structs.replace(IDENTITY, vote="old", sequence=7))), older)
        store = MetadataStore(disk, DIRECTORY)
        found = store.load()
        assert found is not None
        assert (found.vote, found.sequence) == ("new", 8)
        assert store.save(IDENTITY).sequence == 9


@pytest.mark.parametrize("older", FILE_NAMES)
def test_the_older_copy_is_written_first(older: str) -> None:
    disk = make_disk()
    for name in FILE_NAMES:
        put(
            disk,
            sealed(msgspec.msgpack.encode(msgspec.structs.replace(IDENTITY, sequence=7 if name == older else 8))),
            name,
        )
    before = {name: disk.contents(f"{DIRECTORY}/{name}") for name in FILE_NAMES}
    disk.stop_after = 4  # two opened and read, one opened and written; its sync fails
    with pytest.raises(PowerFailure):
        MetadataStore(disk, DIRECTORY).load()
    changed = [name for name in FILE_NAMES if disk.contents(f"{DIRECTORY}/{name}") != before[name]]
    assert changed == [older]


def test_a_first_save_is_under_its_name_only_once_it_is_whole() -> None:
    disk = make_disk()
    store = store_on(disk)
    disk.stop_after = 3  # opened, written, synced; not yet renamed
    with pytest.raises(PowerFailure):
        store.save(IDENTITY)
    disk.crash(random.Random(0), kept=1.0)
    assert disk.list(DIRECTORY) == ["metadata-a.tmp"]
    assert store_on(disk).save(IDENTITY).sequence == 1


def test_no_file_is_left_open() -> None:
    disk = WatchedDisk()
    store_on(disk).save(IDENTITY)
    store_on(disk)
    disk.fail_syncs = True
    with pytest.raises(OSError, match="Input/output"):
        store_on(disk)
    assert len(disk.opened) == 9
    assert disk.all_closed()
