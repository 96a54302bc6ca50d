"""Operations as bytes, each encoded when it is called.

So what the caller changes afterwards cannot change it, a value that cannot be sent is found at the call, and a batch
is its operations joined: the very bytes `encode_operations` would have made of them all.
"""

from collections.abc import Sequence
from typing import Any

from copycat.errors import SerializationError, TooLargeError, check
from copycat.raft.protocol.wire import encode_msgpack, join_array

ENTRY_BYTES_MAX = 1 << 20  # the largest operation, and the most a batch of several holds
BATCH_COUNT_MAX = 1024
"""More would gain nothing, and their results must fit a frame."""

BATCH_COUNT_FIRST = 128  # until the size of results is known

RESULTS_BYTES_AIM = 4 << 20  # where the results of earlier batches lead to expect more, batches are made smaller


def encode_operation(target: int, instance: int, operation_id: int, arguments: Sequence[Any], what: str) -> bytes:
    """One operation of a batch.

    Raises SerializationError for an argument MessagePack cannot express, TooLargeError above ENTRY_BYTES_MAX.
    """
    try:
        data = encode_msgpack([target, instance, operation_id, *arguments])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SerializationError(f"{what}: the arguments cannot be sent: {error}") from error
    if len(data) > ENTRY_BYTES_MAX:
        raise TooLargeError(
            f"{what}: an operation of {len(data)} bytes exceeds the limit of {ENTRY_BYTES_MAX}: send it in parts",
            size_bytes=len(data),
            limit_bytes=ENTRY_BYTES_MAX,
        )
    return data


def join_operations(operations: list[bytes]) -> bytes:
    """The blob of a batch of operations encoded one by one; at most BATCH_COUNT_MAX of them."""
    count = len(operations)
    check(0 < count <= BATCH_COUNT_MAX, "a batch holds one operation at least, and BATCH_COUNT_MAX at most", count)
    return join_array(operations)


def next_count_max(count_max: int, count: int, results_bytes: int) -> int:
    """How many operations the next batch may hold, after `count` of them had so many bytes of results."""
    return max(1, min(2 * count_max, BATCH_COUNT_MAX, RESULTS_BYTES_AIM * count // max(1, results_bytes)))


def count_that_fits(operations: list[bytes], limit: int) -> int:
    """How many of `operations`, at most `limit`, fit one batch by their bytes: at least one."""
    if sum(map(len, operations[:limit])) <= ENTRY_BYTES_MAX:
        return min(len(operations), limit)
    size = count = 0
    while size + len(operations[count]) <= ENTRY_BYTES_MAX:
        size += len(operations[count])
        count += 1
    return max(count, 1)
