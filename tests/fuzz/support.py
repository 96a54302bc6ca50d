"""What every fuzz test shares: strange bytes, and the judge of what a reader does with them.

A few seconds in all as a rule; `HYPOTHESIS_PROFILE=long` for an evening.
"""

import os
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

R = TypeVar("R")

_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=100, **_COMMON)
settings.register_profile("long", max_examples=20_000, **_COMMON)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
TIMEOUT = 60 if PROFILE == "short" else 7200
fuzz = settings(settings.get_profile(PROFILE))

CALLS_EACH, CALLS_MORE = 40, 500  # a reader may make so many calls for each byte it is given, and so many more
BYTES_EACH, BYTES_MORE = 200, 64 << 10  # an empty list is one byte of MessagePack and eighty of memory


def judge(read: Callable[[], R], size: int, *documented: type[Exception], count_calls: bool = True) -> R | None:
    """What `read` makes of `size` bytes; None when it raised one of the documented errors. Others are not caught.

    Work is counted in calls and memory in bytes at the peak: both must be in proportion to what came, whatever is
    announced in it. No clock decides. count_calls: False where what watches the code calls, too.
    """
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    tracemalloc.start()
    if count_calls:
        sys.setprofile(count)
    try:
        found = read()
    except documented:
        found = None
    finally:
        sys.setprofile(before)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert calls <= CALLS_EACH * size + CALLS_MORE, f"{calls} calls for {size} bytes"
    assert peak <= BYTES_EACH * size + BYTES_MORE, f"{peak} bytes of memory for {size}"
    return found


# -- strange bytes -----------------------------------------------------------------------------------------------------

HOSTILE = [
    b"\xa1\xff",  # a text that is not UTF-8
    b"\xa3\xed\xa0\x80",  # a lone surrogate
    b"\x91" * 3000 + b"\xc0",  # deep lists
    b"\x81\xa1a" * 3000 + b"\xc0",  # deep maps
    b"\x81" + b"\x91" * 500 + b"\xc0\xc0",  # a deep key
    b"\x81\x80\xc0",  # a map for a key
    b"\xdd\xff\xff\xff\xff",  # a list of four thousand million, none of which comes
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc7\x0c\xff" + b"\xff" * 12,  # a time of that many nanoseconds
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xd4\x01\xc1",  # a failure that cannot be read
    b"\xc7\x03\x01\x92\xa0\xa0",  # one that can
    b"\xd4\x7f\x00",  # an extension nobody knows
    b"\xcf" + b"\xff" * 8,  # the largest number
    b"\xd3\x80" + bytes(7),  # the smallest
    b"\xcb\x7f\xf8" + bytes(6),  # not a number
    b"\xc1",  # no MessagePack at all
]


def _packed(members: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Lists and short maps of what is packed already."""
    lists = st.lists(members, max_size=12).map(lambda each: bytes((0x90 | len(each),)) + b"".join(each))
    pairs = st.lists(st.tuples(members, members), max_size=4)
    return lists | pairs.map(lambda each: bytes((0x80 | len(each),)) + b"".join(key + value for key, value in each))


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.integers(0, 9), st.text(max_size=9), st.binary()
)
DOCUMENTS = st.recursive(_scalars.map(msgspec.msgpack.encode) | st.sampled_from(HOSTILE), _packed, max_leaves=12)
"""MessagePack of any shape, with something hostile in it now and then."""


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Sound bytes after up to three mishaps: bits flipped, pieces cut out, put twice or replaced by anything."""
    data = bytearray(draw(sound))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(begin + 40, len(data))))
        mishap = draw(st.sampled_from(["flip", "cut", "repeat", "replace", "end"]))
        if mishap == "flip" and begin < len(data):
            data[begin] ^= 1 << draw(st.integers(0, 7))
        elif mishap == "cut":
            del data[begin:end]
        elif mishap == "repeat":
            data[end:end] = data[begin:end]
        elif mishap == "replace":
            data[begin:end] = draw(st.binary(max_size=20) | DOCUMENTS)
        elif mishap == "end":
            del data[end:]
    return bytes(data)
