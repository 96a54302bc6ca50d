"""Whether a replica that begins with a snapshot goes on as one that has applied everything."""

from collections.abc import Iterator
from typing import Any

from copycat.raft.machine.executor import Registered
from copycat.raft.machine.snapshot import Kind, capture, restore
from copycat.raft.protocol.chunks import decode_chunks, encode_chunks
from copycat.testing.portrait import picture, picture_differences
from copycat.testing.replicas import Block, Replica, ReplicatedLog

SNAPSHOTS_MAX = 16


def check_snapshots(log: ReplicatedLog[Any], count: int = SNAPSHOTS_MAX) -> None:
    """Apply the log from each of `count` snapshots on, taken evenly over it: each must come out as the whole log does.

    Compared are the state, sessions and timers when it was restored and in the end, what every block did, and the bytes
    of the snapshot: those of another replica, and those made while commands went on.

    Raises AssertionError that tells what differs, SnapshotError for a machine that cannot be snapshotted.
    """
    whole, blocks = log.make(), log.blocks
    chosen = {len(blocks) * number // count for number in range(1, count + 1)}
    taken: dict[int, _Snapshot] = {}
    did: list[Any] = []
    for number, block in enumerate(blocks, 1):
        did.append(_apply(whole, block))
        if number in chosen:
            taken[number] = _Snapshot(whole)
    for number, snapshot in taken.items():
        where = f"the snapshot at index {snapshot.index}"
        _compare_bytes(f"{where} changed while commands went on", snapshot.chunks, list(snapshot.made_later))
        again = log.make()
        restore(again.executor, decode_chunks(snapshot.chunks))
        differs = picture_differences(snapshot.picture, picture(again.executor))
        if differs:
            raise AssertionError(f"{where} was restored as another state: {differs}")
        restored = list(encode_chunks(capture(again.executor)))
        _compare_bytes(f"{where} is another one when it is taken of what was restored", snapshot.chunks, restored)
        for block, expected in zip(blocks[number:], did[number:], strict=True):
            came = _apply(again, block)
            if came != expected:
                raise AssertionError(
                    f"from {where} on, index {block.first_index} came out as {came}, and without it as {expected}"
                )
        differs = picture_differences(picture(whole.executor), picture(again.executor))
        if differs:
            raise AssertionError(f"from {where} on, the log led to another state: {differs}")


class _Snapshot:
    """What a replica is, in bytes made now and in bytes to be made later."""

    def __init__(self, replica: Replica) -> None:
        self.index = replica.executor.applied_index
        self.picture = picture(replica.executor)
        self.chunks = list(encode_chunks(capture(replica.executor)))
        self.made_later: Iterator[bytes] = encode_chunks(capture(replica.executor))


def _apply(replica: Replica, block: Block) -> list[Any]:
    """What a block did."""
    outcomes = replica.executor.apply(block)
    told = [("registered", each.session.id) if isinstance(each, Registered) else each for each in outcomes]
    return [told, replica.executor.take_published()]


def _compare_bytes(what: str, first: list[bytes], second: list[bytes]) -> None:
    """Raise AssertionError that names the state machine whose records are the first to differ."""
    if first == second:
        return
    machine = "time, sessions and timers"
    for one, other in zip(decode_chunks(first), decode_chunks(second), strict=False):
        if one != other:
            raise AssertionError(f"{what}: {machine}: {one!r:.300} and {other!r:.300}")
        if one[0] == Kind.MACHINE:
            machine = f"{one[2] or 'the state machine'} ({one[1]})"
    raise AssertionError(f"{what}: {machine}: one has more than the other")
