"""What encoding and decoding keys and values costs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.micro import Timer, micro, time_with_pyperf
from copycat.io.serializer import Serializer


@dataclass(frozen=True, slots=True)
class User:
    """A record of the user's own."""

    name: str
    age: int
    tags: list[str]


USER = User("Ann Other", 41, ["admin", "early"])
DOCUMENT = {"name": "Ann Other", "age": 41, "tags": ["admin", "early"], "score": 0.75}


def make_serializer() -> Serializer:
    """One that knows User."""
    return Serializer().register(User, id=1)


def encode_key(key: Any) -> Timer:
    return Timer(lambda: partial(make_serializer().encode_key, key))


def decode_key(key: Any) -> Timer:
    return Timer(lambda: partial(make_serializer().decode_key, make_serializer().encode_key(key)))


def encode_value(value: Any) -> Timer:
    return Timer(lambda: partial(make_serializer().encode_value, value))


def decode_value(value: Any, kind: Any = Any) -> Timer:
    def make() -> Callable[[], Any]:
        serializer = make_serializer()
        return partial(serializer.decode_value, serializer.encode_value(value), kind)

    return Timer(make)


TIMERS = {
    "encode key, str": encode_key("user-4711"),
    "encode key, int": encode_key(4711),
    "encode key, tuple": encode_key(("user", 4711)),
    "decode key, str": decode_key("user-4711"),
    "decode key, tuple": decode_key(("user", 4711)),
    "encode value, 100 B": encode_value(bytes(100)),
    "encode value, int": encode_value(4711),
    "encode value, dict of 4": encode_value(DOCUMENT),
    "encode value, dataclass": encode_value(USER),
    "decode value, 100 B": decode_value(bytes(100)),
    "decode value, dict of 4": decode_value(DOCUMENT),
    "decode value, dataclass": decode_value(USER, User),
}

BENCHMARK = micro("serializer", "Microseconds to encode or decode one key or value.", TIMERS)

if __name__ == "__main__":
    time_with_pyperf("benchmarks.serializer", TIMERS)
