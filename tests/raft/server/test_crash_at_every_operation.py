"""A member's whole way to its disk, stopped at each operation in turn: what it could vouch for before is there after.

The way: a new directory, its identity, the cluster that forms, votes, blocks in more segments than one, a conflict that
replaces the end of the log, more blocks. The machine stops before the n-th operation, for every n; what was not synced
survives in part; and the next start is stopped as well, somewhere, before one that is left in peace.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from copycat.io.storage import Block
from copycat.io.storage.log import Log
from copycat.io.storage.storage import MEBIBYTE, Storage
from copycat.raft.protocol.members import Member
from copycat.raft.server.directory import Directory
from copycat.raft.server.identity import Identity
from copycat.testing.disk import FaultyDisk, PowerFailure
from tests.io.storage.helpers import all_blocks, append

A, B = Member("a", "h", 1), Member("b", "h", 2)
LARGE = MEBIBYTE // 3  # three of these fill a segment


@dataclass
class Told:
    """What the member could vouch for, and what it was about to.

    vote, next_vote: term and vote that are durable, and those that may be. log: blocks that are durable; kept: how many
    of them nothing was asked to remove. contents: every content the log may have been made to have since.
    """

    incarnation: bytes = b""
    cluster_id: bytes = b""
    vote: tuple[int, str] = (0, "")
    next_vote: tuple[int, str] = (0, "")
    log: list[Block] = field(default_factory=list)
    kept: int = 0
    contents: list[list[Block]] = field(default_factory=lambda: [[]])


def live(disk: FaultyDisk, told: Told) -> None:
    """The member's life, from wherever its disk left it."""
    directory = Directory(Storage("data", disk=disk, max_segment_size=MEBIBYTE), A, [A, B], random.Random(1))
    try:
        identity = directory.open()
        check_identity(identity, directory, told)
        form(identity, directory, told)
        _, log = directory.open_log(directory.open_snapshots())
        assert isinstance(log, Log)
        check_log(log, told)
        term = told.vote[0] + 1
        vote(directory, told, term, "a")
        for number in range(4):
            write(log, told, bytes([number]) * LARGE, term)
        prewrite(log)
        vote(directory, told, term + 1, "b")
        replace(log, told, term + 1)
        write(log, told, b"small", term + 1)
        log.close()
    finally:
        directory.close()


def form(identity: Identity, directory: Directory, told: Told) -> None:
    told.incarnation = identity.incarnation
    if not identity.is_formed:
        identity.heard["b"] = b"b" * 16
        assert identity.form_if_all_heard()
        directory.save_formed(identity)
    told.cluster_id = identity.cluster_id


def vote(directory: Directory, told: Told, term: int, name: str) -> None:
    told.next_vote = term, name
    directory.save_vote(term, name)
    told.vote = term, name


def write(log: Log, told: Told, body: bytes, term: int) -> None:
    append(log, body, term=term)
    flush(log, told)


def replace(log: Log, told: Told, term: int) -> None:
    """The last two blocks, by one of a later leader."""
    told.kept = len(told.log) - 2
    log.truncate_after(told.log[told.kept - 1].last_index if told.kept else 0)
    append(log, b"another", term=term)
    flush(log, told)


def flush(log: Log, told: Told) -> None:
    told.contents.append(all_blocks(log))
    job = log.take_flush()
    assert job is not None
    job.run()
    log.flushed(job)
    told.log = told.contents[-1]
    told.kept, told.contents = len(told.log), [told.log]


def prewrite(log: Log) -> None:
    job = log.take_prewrite()
    if job is not None:
        job.run()
        log.prewritten(job)


def check_identity(identity: Identity, directory: Directory, told: Told) -> None:
    if told.incarnation:
        assert identity.incarnation == told.incarnation, "the member has forgotten who it is"
    if told.cluster_id:
        assert identity.cluster_id == told.cluster_id, "the member has forgotten its cluster"
    metadata = directory._metadata
    assert metadata is not None
    found = metadata.term, metadata.vote
    assert found in (told.vote, told.next_vote), "the member has forgotten its vote"
    told.vote = told.next_vote = found


def check_log(log: Log, told: Told) -> None:
    found = all_blocks(log)
    assert not log.is_faulty, "a crash was taken for damage"
    assert found[: told.kept] == told.log[: told.kept], "what was durable is gone"
    assert any(found == each[: len(found)] for each in told.contents), "the log is nothing it ever was"
    told.log, told.kept, told.contents = found, len(found), [found]


def crash(disk: FaultyDisk, told: Told, stop_after: int, chooser: random.Random, kept: float | None) -> bool:
    """Live until that operation, then lose power. Returns whether it came so far."""
    disk.stop_after = stop_after
    try:
        live(disk, told)
    except PowerFailure:
        disk.crash(chooser, kept=kept)
        return True
    disk.end_process()
    return False


def operations_of_a_life() -> int:
    disk = FaultyDisk()
    live(disk, Told())
    return disk.operations


def lives(kept: float | None) -> Iterator[tuple[int, random.Random]]:
    for number in range(operations_of_a_life()):
        yield number, random.Random(f"{number}/{kept}")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.0, 1.0, None], ids=["nothing unsynced is kept", "all is", "some is"])
def test_a_member_that_loses_power_at_any_operation_has_all_it_could_vouch_for(kept: float | None) -> None:
    for stop_after, chooser in lives(kept):
        disk, told = FaultyDisk(), Told()
        assert crash(disk, told, stop_after, chooser, kept), f"operation {stop_after} of another life"
        crash(disk, told, chooser.randrange(60), chooser, kept)
        live(disk, told)


def test_a_life_is_long_enough_to_say_something() -> None:
    """Every kind of operation that a member does, some of them often."""
    disk = FaultyDisk()
    kinds: list[str] = []
    disk.delay = kinds.append
    live(disk, Told())

    assert {kind: kinds.count(kind) >= least for kind, least in (("write", 15), ("sync", 15), ("open", 10))} == {
        "write": True,
        "sync": True,
        "open": True,
    }
    assert {"rename", "sync_directory"} <= set(kinds)
    assert len([name for name in disk.list("data") if name.endswith(".log")]) >= 2
