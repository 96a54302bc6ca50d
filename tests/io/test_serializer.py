"""Canonical keys, values that come back as they were, and bytes that cannot do harm."""

import enum
import importlib.metadata
import math
import struct
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.errors import DecodeError, RegistrationError, SerializationError, TooLargeError
from copycat.io.buffer import Buffer, BufferReader, BufferWriter
from copycat.io.resolvers import JdkTypeResolver, ServiceLoaderTypeResolver, StdlibTypeResolver
from copycat.io.serializer import Serializer, decode_key, decode_value, encode_key, encode_value


class Colour(enum.Enum):
    RED = 1
    ROT = 1  # noqa: PIE796 - an alias on purpose
    BLUE = 2


class Odd(enum.Enum):
    PAIR = (1, "x")
    TEXT = "t"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class User:
    name: str
    tags: set[str] = field(default_factory=set)
    place: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Token:
    number: int
    favourite: Colour = Colour.RED


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


class Dog(msgspec.Struct, tag=True):
    name: str


class Cat(msgspec.Struct, tag=True):
    name: str


class Row(msgspec.Struct, array_like=True):
    number: int
    when: date


class Account:
    """Writes itself."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.cents = 0

    def write_object(self, buffer: BufferWriter, serializer: Serializer) -> None:
        serializer.write_object(self.owner, buffer)
        buffer.write_long(self.cents)

    def read_object(self, buffer: BufferReader, serializer: Serializer) -> None:
        self.owner = serializer.read_object(buffer)
        self.cents = buffer.read_long()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and (other.owner, other.cents) == (self.owner, self.cents)

    __hash__ = None  # type: ignore[assignment]  # mutable


class Temperature:
    def __init__(self, kelvin: float) -> None:
        self.kelvin = kelvin


class Warm(Temperature):
    pass


class TemperatureSerializer:
    def write(self, obj: Temperature, writer: BufferWriter, serializer: Serializer) -> None:
        writer.write_double(obj.kelvin)

    def read(self, type: type[Temperature], reader: BufferReader, serializer: Serializer) -> Temperature:
        return type(reader.read_double())


def registered() -> Serializer:
    serializer = Serializer()
    serializer.register(Colour, id=1).register(Token, id=2).register(Point, id=3).register(Account, id=4)
    return serializer.register(Temperature, TemperatureSerializer(), 5).register(Access, id=6).register(Odd)


KEYS: st.SearchStrategy[Any] = st.recursive(
    st.text(max_size=20)
    | st.binary(max_size=20)
    | st.integers()
    | st.booleans()
    | st.uuids()
    | st.sampled_from([Colour.RED, Colour.BLUE]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)

HASHABLE: st.SearchStrategy[Any] = st.recursive(
    st.text(max_size=8)
    | st.binary(max_size=8)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from(Colour)
    | st.builds(Token, st.integers(), st.sampled_from(Colour))
    | st.builds(Point, st.integers(), st.integers())
    | st.none(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4) | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=12,
).filter(lambda value: value is not None)


def typed(value: Any) -> Any:
    """`value` with the type of every part beside it, so that 1, 1.0 and True differ."""
    if isinstance(value, list | tuple):
        return (type(value), [typed(each) for each in value])
    if isinstance(value, set | frozenset):
        return (type(value), sorted(map(repr, map(typed, value))))
    if isinstance(value, dict):
        return (dict, [(typed(key), typed(each)) for key, each in value.items()])
    return (type(value), repr(value.replace(fold=0) if isinstance(value, datetime | time) else value))


# --- keys -------------------------------------------------------------------------------------------------------------


@given(KEYS)
def test_a_key_comes_back_as_it_was(key: object) -> None:
    serializer = registered()
    assert typed(serializer.decode_key(serializer.encode_key(key))) == typed(key)


@given(KEYS, KEYS)
def test_key_bytes_are_equal_exactly_when_the_keys_are_of_one_type_and_equal(one: object, other: object) -> None:
    serializer = registered()
    assert (serializer.encode_key(one) == serializer.encode_key(other)) == (typed(one) == typed(other))


def test_keys_are_type_strict() -> None:
    keys = [True, 1, "1", b"1", (1,), ("1",), ((1,),), False, 0, "", b"", (), UUID(int=1), "t", b"t"]
    assert len({encode_key(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", [1.5, None, [], {}, set(), object(), float("nan"), (1, 2.0), (None,), Decimal(1)])
def test_a_key_of_another_type_is_refused_and_the_error_says_what_is_allowed(key: object) -> None:
    with pytest.raises(SerializationError, match="allowed are str, bytes, int, bool, UUID"):
        encode_key(key)


def test_a_subclass_of_a_key_type_is_refused_because_it_would_come_back_as_its_base() -> None:
    with pytest.raises(SerializationError, match="come back as str"):
        encode_key(type("Name", (str,), {})("x"))


def test_a_surrogate_key_is_refused() -> None:
    for key in ("\ud800", ("\ud800",)):
        with pytest.raises(SerializationError, match="surrogate"):
            encode_key(key)


def test_an_enum_key_needs_registration_with_an_id() -> None:
    with pytest.raises(SerializationError, match="register Colour with an id"):
        encode_key(Colour.RED)
    with pytest.raises(SerializationError, match="with an id"):
        Serializer().register(Colour).encode_key(Colour.RED)
    with pytest.raises(SerializationError, match="combination"):
        registered().encode_key(Access.READ | Access.WRITE)


def test_keys_are_limited_to_4_kib() -> None:
    assert decode_key(encode_key("x" * 4095)) == "x" * 4095
    for key in ("x" * 4096, b"x" * 4096, 1 << 40_000, 1 << 32_761, ("x" * 4095,), tuple(range(2000)), ("x" * 70_000,)):
        with pytest.raises(TooLargeError) as caught:
            encode_key(key)
        assert caught.value.limit_bytes == 4096 < caught.value.size_bytes


def test_keys_nest_16_deep() -> None:
    key: Any = 1
    for _ in range(16):
        key = (key,)
    assert decode_key(encode_key(key)) == key
    with pytest.raises(SerializationError, match="deeper"):
        encode_key((key,))
    inner = encode_key(key)
    with pytest.raises(DecodeError, match="deeper"):
        decode_key(b"(" + struct.pack(">H", len(inner)) + inner)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i",
        b"i\x00\x01",
        b"i\xff\xff",
        b"s\xff",
        b"u123",
        b"tt",
        b"x",
        b"(\x00",
        b"(\x00\x02s",
        b"(\x00\x00",
        b"e\0",
    ],
)
def test_bytes_that_are_not_the_one_encoding_of_a_key_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_key(data)


def test_enum_keys_are_strict_when_decoded() -> None:
    serializer = registered()
    assert serializer.decode_key(b"e\x00\x01RED") is Colour.RED
    for data in (b"e\x00\x01ROT", b"e\x00\x01NONE", b"e\x00\x02RED", b"e\x00\x09RED", b"e\x00\x01\xff"):
        with pytest.raises(DecodeError):
            serializer.decode_key(data)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a", str),
        (1 << 100, int),
        (-1, int | str),
        (1 << 100, int | str),
        (True, bool),
        (b"a", bytes),
        (UUID(int=1), UUID),
        (UUID(int=1), UUID | str),
        (Colour.RED, Colour),
        (("a", 1), tuple[str, int]),
        (("a", (1, b"")), tuple[str, tuple[int, bytes]]),
        ((1, 2, 3), tuple[int, ...]),
        ("a", Literal["a", "b"]),
        ((), tuple[()]),
        ((1,), tuple),
        ("a", NewType("Name", str)),
        ("a", Annotated[str, "a name"]),
        ((1, True), tuple[int, Any] | None),
        ("a", Any),
    ],
)
def test_a_key_comes_back_as_the_type_it_is_asked_for_as(key: Any, kind: Any) -> None:
    serializer = registered()
    assert typed(serializer.decode_key(serializer.encode_key(key), kind)) == typed(key)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (True, int),
        (1, bool),
        (1, float),
        (1, str),
        ("1", int),
        (str(UUID(int=1)), UUID),
        (UUID(int=1), str),
        (b"a", str),
        (1, Colour),
        ("RED", Colour),
        (Colour.RED, int),
        (("a", 1), tuple[str, bool]),
        (("a", 1), tuple[str, ...]),
        (("a",), list[str]),
        (("a", "b"), tuple[str]),
        ((), tuple[str]),
        (1, NewType("Name", str)),
        (True, Literal[1]),
        ("c", Literal["a", "b"]),
        (1, User),
    ],
)
def test_a_key_of_another_type_than_asked_for_is_refused_as_strictly_as_keys_are_told_apart(
    key: Any, kind: Any
) -> None:
    serializer = registered()
    with pytest.raises(DecodeError, match=r"is not"):
        serializer.decode_key(serializer.encode_key(key), kind)


@given(
    st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"(" + data) | KEYS.map(registered().encode_key)
)
def test_garbage_keys_raise_only_decode_error_and_what_decodes_is_canonical(data: bytes) -> None:
    serializer = registered()
    try:
        key = serializer.decode_key(data)
    except DecodeError:
        return
    assert serializer.encode_key(key) == data


def test_a_key_from_the_wire_over_4_kib_is_refused() -> None:
    with pytest.raises(DecodeError, match="4096"):
        decode_key(b"s" + b"x" * 4096)


# --- values -----------------------------------------------------------------------------------------------------------


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    serializer = registered()
    assert typed(serializer.decode_value(serializer.encode_value(value))) == typed(value)


@given(VALUES)
def test_encoding_what_was_decoded_gives_the_same_bytes(value: Any) -> None:
    serializer = registered()
    data = serializer.encode_value(value)
    assert serializer.encode_value(serializer.decode_value(data)) == data


@given(VALUES, VALUES)
def test_values_encode_alike_exactly_when_they_are_alike(one: Any, other: Any) -> None:
    serializer = registered()
    assert (serializer.encode_value(one) == serializer.encode_value(other)) == (typed(one) == typed(other))


@given(st.lists(st.integers() | st.text(max_size=4), unique=True))
def test_a_set_encodes_alike_in_every_order(members: list[Any]) -> None:
    assert encode_value(set(members)) == encode_value({*members[::-1]})


@pytest.mark.parametrize("count", [15, 16, 65_535, 65_536])
def test_sets_and_maps_of_every_header_size(count: int) -> None:
    assert decode_value(encode_value(set(range(count)))) == set(range(count))
    table = {(number,): number for number in range(count)}
    assert Serializer(max_size=1 << 24).decode_value(Serializer(max_size=1 << 24).encode_value(table)) == table


def test_containers_and_numbers_of_different_types_encode_differently() -> None:
    values: list[Any] = [[1], (1,), {1}, frozenset({1}), {1: 1}, 1, 1.0, True, Decimal(1), "1", b"1", 2**64, str(2**64)]
    assert len({encode_value(value) for value in values}) == len(values)


def test_there_is_one_nan() -> None:
    odd = struct.unpack(">d", b"\xff\xf8\x00\x00\x00\x00\x00\x01")[0]
    assert encode_value(odd) == encode_value(float("nan"))
    assert encode_value([odd, 2**70]) == encode_value([math.nan, 2**70])
    assert encode_value({"x": odd}) == encode_value({"x": math.nan})
    assert math.isnan(decode_value(encode_value(odd)))


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**100, -(10**100)])
def test_integers_of_any_size(number: int) -> None:
    assert decode_value(encode_value(number)) == number
    assert decode_value(encode_value([[number], {number}, {number: number}])) == [[number], {number}, {number: number}]
    assert decode_value(encode_value(number), int) == number


def test_none_means_absent_and_is_refused_at_the_top_only() -> None:
    with pytest.raises(SerializationError, match="absent"):
        encode_value(None)
    with pytest.raises(DecodeError, match="absent"):
        decode_value(b"\xc0")
    assert decode_value(encode_value([None])) == [None]


@pytest.mark.parametrize(
    "value", [object(), [object()], {"x": lambda: 1}, Colour.RED, Account(), Temperature(1), print]
)
def test_unknown_types_are_refused(value: object) -> None:
    with pytest.raises(SerializationError):
        encode_value(value)


def test_subclasses_of_built_in_types_are_refused_not_flattened() -> None:
    for base, argument in ((str, "x"), (int, 1), (list, [1]), (dict, {}), (tuple, (1,))):
        value = type("Mine", (base,), {})(argument)
        with pytest.raises(SerializationError, match=f"come back as {base.__name__}"):
            encode_value(value)


def test_surrogates_are_refused_everywhere() -> None:
    for value in ("\ud800", ["\ud800"], {"\ud800": 1}, ({"\ud800"},)):
        with pytest.raises(SerializationError, match="surrogate"):
            encode_value(value)


def test_values_are_limited_in_size() -> None:
    serializer = Serializer(max_size=100)
    for value in ("x" * 100, ["x" * 99]):
        with pytest.raises(TooLargeError) as caught:
            serializer.encode_value(value)
        assert caught.value.limit_bytes == 100 < caught.value.size_bytes
    with pytest.raises(TooLargeError):
        encode_value(b"x" * 1024 * 1024)


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset({v}), lambda v: {(1,): v}]
)
def test_values_nest_64_deep_and_no_deeper(wrap: Callable[[Any], Any]) -> None:
    value = nested(64, wrap) if wrap(1) != {(1,): 1} else nested(63, wrap)
    assert decode_value(encode_value(value)) == value
    with pytest.raises(SerializationError, match="nested deeper"):
        encode_value(wrap(wrap(value)))


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    account = Account()
    account.owner = account
    for value in (loop, {"x": loop}, account):
        with pytest.raises(SerializationError):
            registered().encode_value(value)


def bomb(depth: int, head: bytes) -> bytes:
    return head * depth + b"\x01"


@pytest.mark.parametrize("recursion_limit", [1000, 1_000_000])
def test_nested_bombs_from_the_wire_are_decode_errors(recursion_limit: int) -> None:
    """Also when the recursion limit is so high that the C stack would overflow before it."""
    extension = b"\x01"
    for _ in range(3000):
        body = b"\x91" + extension
        extension = b"\xc9" + struct.pack(">I", len(body)) + b"\x01" + body
    bombs = [
        bomb(500_000, b"\x91"),
        bomb(500_000, b"\x81"),
        bomb(500_000, b"\x81\x01"),
        bomb(65, b"\x92\x01"),
        extension,
    ]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(recursion_limit)
    try:
        for data in [*bombs, b"\x92" + encode_value("\u3060" * 50) + bomb(500_000, b"\x91")]:
            with pytest.raises(DecodeError):
                decode_value(data)
    finally:
        sys.setrecursionlimit(before)


def test_a_wide_value_is_not_mistaken_for_a_deep_one() -> None:
    value = [{"name": "\u3060", "at": (1, 2.5, -7, 2**40)}] * 100 + [[b"\x91" * 300, "x" * 70_000, {1}, None, -1]]
    assert decode_value(encode_value(value)) == value


@given(VALUES, VALUES)
def test_the_depth_is_measured_right_whatever_surrounds_it(before: Any, after: Any) -> None:
    """A value one too deep is refused and one just deep enough is not, among siblings of every kind."""
    serializer, lax = registered(), Serializer(max_depth=10_000)
    siblings: list[list[int]] = [[]] * 70  # enough containers for the depth to be looked at
    deep = nested(62, lambda value: [value])
    data = serializer.encode_value([[before, siblings, deep, after]])
    assert typed(serializer.decode_value(data)) == typed([[before, siblings, deep, after]])
    one_too_deep = [[[serializer.encode_value(before), before is None, siblings, deep]]]
    with pytest.raises(DecodeError, match="deeper"):
        serializer.decode_value(lax.encode_value(one_too_deep))


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda data: b"\xc7" + bytes([len(data)]) + b"\x0b" + data))
def test_garbage_values_raise_only_decode_error(data: bytes) -> None:
    try:
        registered().decode_value(data)
    except DecodeError:
        pass


@settings(max_examples=300)
@given(VALUES, st.data())
def test_damaged_values_raise_only_decode_error(value: Any, data: st.DataObject) -> None:
    serializer = Serializer(max_depth=2)
    damaged = bytearray(registered().encode_value(value))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for kind in (Any, User, list[int], Colour):
        try:
            serializer.decode_value(damaged, kind)
            registered().decode_value(damaged, kind)
        except DecodeError:
            pass


@pytest.mark.parametrize("code", range(13))
def test_extensions_with_bad_bodies_are_decode_errors(code: int) -> None:
    for body in (b"", b"\xff", b"\x80", b"\x91\x90", b"\x92\x01\x01", b"\x93\x01\x01\x01", b"\x92\x90\x01"):
        data = b"\xc7" + bytes([len(body), code]) + body
        try:
            decode_value(data)
        except DecodeError:
            continue
        assert code in (1, 2, 3, 5)  # ([],) is a tuple, {1, 1} a set, and any bytes are an int


# --- typed decoding ---------------------------------------------------------------------------------------------------


def test_a_dataclass_needs_no_registration_when_its_type_is_given() -> None:
    user = User("ann", {"a", "b"}, (1, 2))
    data = encode_value(user)
    assert decode_value(data, User) == user
    assert decode_value(data) == {"name": "ann", "tags": {"a", "b"}, "place": (1, 2)}
    assert decode_value(encode_value([user]), list[User]) == [user]
    assert decode_value(encode_value({"x": user}), dict[str, User | None]) == {"x": user}


def test_structs_keep_their_tags_and_shapes() -> None:
    assert decode_value(encode_value(Point(1, 2)), Point) == Point(1, 2)
    for pet in (Dog("rex"), Cat("tom")):
        assert decode_value(encode_value(pet), Dog | Cat) == pet
    row = Row(1, date(2020, 1, 2))
    assert decode_value(encode_value(row), Row) == row


def test_registered_types_need_no_type_argument() -> None:
    serializer = registered()
    account = Account()
    account.owner, account.cents = Point(1), -5
    for value in (
        Colour.BLUE,
        Odd.PAIR,
        [Odd.TEXT],
        Token(2**80, Colour.BLUE),
        Point(1, 2),
        account,
        Access.WRITE,
        [account, {Token(1): 2}],
    ):
        assert serializer.decode_value(serializer.encode_value(value)) == value
    warm = serializer.decode_value(serializer.encode_value(Warm(300.5)))
    assert (type(warm), warm.kelvin) == (Temperature, 300.5)


def test_registered_types_decode_with_a_type_argument_too() -> None:
    serializer = registered()
    for value, kind in (
        (Colour.RED, Colour),
        (Odd.PAIR, Odd),
        ([Colour.RED, Colour.BLUE], list[Colour]),
        (Token(1), Token),
        ([Token(1, Colour.BLUE)], list[Token]),
        (Point(1), Point | None),
    ):
        assert serializer.decode_value(serializer.encode_value(value), kind) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1", int),
        (1, str),
        (True, int),
        (1, bool),
        (1.5, int),
        ([1], list[str]),
        ({"nom": 1}, User),
        (b"", str),
        (1, Colour),
    ],
)
def test_a_value_of_another_type_is_a_decode_error(value: object, kind: Any) -> None:
    if kind is Colour:
        value = 7
    with pytest.raises(DecodeError, match="is not"):
        decode_value(encode_value(value), kind)


def test_a_type_that_cannot_be_decoded_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        decode_value(encode_value([1]), list[Dog | Point])


def test_times_keep_their_offsets() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    for value in (datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=zone), time(1, 2, tzinfo=zone), timedelta.max, timedelta.min):
        assert repr(decode_value(encode_value(value))) == repr(value)


# --- serializer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [128, 255, 1023, -1, 65_536, True])
def test_reserved_and_impossible_ids_are_refused(number: int) -> None:
    with pytest.raises(RegistrationError):
        Serializer().register(Point, id=number)


def test_ids_at_the_edges_are_taken() -> None:
    serializer = Serializer().register(Point, id=127).register(Token, id=1024).register(Colour, id=65_535)
    assert serializer.decode_value(serializer.encode_value(Point(1))) == Point(1)


def test_types_and_ids_are_registered_once() -> None:
    serializer = Serializer().register(Point, id=1)
    with pytest.raises(RegistrationError, match="already"):
        serializer.register(Point, id=2)
    with pytest.raises(RegistrationError, match="taken by Point"):
        serializer.register(Token, id=1)


@pytest.mark.parametrize("kind", [Temperature, int, dict, 5, object])
def test_what_cannot_be_written_cannot_be_registered(kind: Any) -> None:
    with pytest.raises(RegistrationError):
        Serializer().register(kind)


def test_a_record_whose_fields_cannot_be_decoded_is_refused_at_registration() -> None:
    @dataclass
    class Pair:
        either: User | Token

    with pytest.raises(RegistrationError, match="cannot be decoded"):
        Serializer().register(Pair)


def test_registration_without_an_id_uses_the_name_and_imports_nothing() -> None:
    serializer = Serializer().register(Point)
    data = serializer.encode_value(Point(1))
    assert b":Point" in data
    assert serializer.decode_value(data) == Point(1)
    with pytest.raises(DecodeError, match="no type is registered"):
        decode_value(data)


def test_the_stdlib_types_are_there_from_the_start() -> None:
    values: list[Any] = [bytearray(b"x"), 1 + 2j, Fraction(1, 3), deque([1], 3), OrderedDict(a=1), range(1, 9, 2)]
    for value in values:
        back = decode_value(encode_value(value))
        assert (type(back), back) == (type(value), value)


def test_resolving_twice_is_harmless() -> None:
    assert JdkTypeResolver is StdlibTypeResolver
    Serializer(StdlibTypeResolver(), ServiceLoaderTypeResolver()).resolve(ServiceLoaderTypeResolver())


class Advertised:
    """An entry point that is a resolver."""

    def resolve(self, serializer: Serializer) -> None:
        if not serializer.is_registered(Token):
            serializer.register(Token, id=77).register(Colour, id=78)


def test_installed_packages_advertise_types_and_resolvers(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [EntryPoint(name, f"{__name__}:{name}", group) for name in ("Point", "Advertised")]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, _this_module()))
    serializer = Serializer(ServiceLoaderTypeResolver()).resolve(ServiceLoaderTypeResolver())
    for value in (Point(1), Token(1)):
        assert serializer.decode_value(serializer.encode_value(value)) == value


def test_a_type_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [EntryPoint("gone", "no_such_module_anywhere:Gone", "copycat.serializable")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: broken)
    with pytest.raises(RegistrationError, match="cannot load gone"):
        Serializer(ServiceLoaderTypeResolver())


def _this_module() -> ModuleType:
    module = ModuleType(__name__)
    vars(module).update(globals())
    return module


def test_objects_follow_one_another_in_a_buffer() -> None:
    serializer = registered()
    buffer = Buffer.allocate(1)
    for value in (None, "x", Point(1)):
        assert serializer.write_object(value, buffer) is buffer
    buffer.flip()
    assert [serializer.read_object(buffer) for _ in range(3)] == [None, "x", Point(1)]
    assert buffer.remaining == 0


def test_write_object_allocates_a_buffer_ready_to_read() -> None:
    buffer = Serializer().write_object({"a": 1})
    assert Serializer().read_object(bytes(buffer)) == {"a": 1}
    assert Serializer().read_object(buffer, dict[str, int]) == {"a": 1}


@given(st.binary())
def test_garbage_objects_raise_only_decode_error_and_leave_the_position(data: bytes) -> None:
    buffer = Buffer.wrap(data)
    try:
        Serializer().read_object(buffer)
    except DecodeError:
        assert buffer.position == 0


def test_an_object_with_bytes_left_over_is_refused() -> None:
    serializer = registered()
    with pytest.raises(DecodeError, match="too many"):
        serializer.decode_value(encode_value([b"x"])[:0] + _registered_bytes(5, bytes(9)))
    with pytest.raises(DecodeError):
        serializer.decode_value(_registered_bytes(5, bytes(7)))
    with pytest.raises(DecodeError):
        serializer.decode_value(_registered_bytes(3, bytes(7)))


def _registered_bytes(number: int, body: bytes) -> bytes:
    payload = msgspec.msgpack.encode([number, body])
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(11, payload))


def test_a_copy_is_equal_and_shares_nothing() -> None:
    user = User("ann", {"a"})
    other = Serializer().copy(user)
    other.tags.add("b")
    assert user == User("ann", {"a"})
    assert Serializer().copy(None) is None


def test_a_clone_knows_the_same_types_and_is_independent() -> None:
    serializer = Serializer(max_size=500).register(Point, id=1)
    clone = serializer.clone().register(Colour, id=2)
    assert clone.decode_value(serializer.encode_value(Point(1))) == Point(1)
    assert clone.max_size == 500
    assert not serializer.is_registered(Colour)


def test_state_is_encoded_as_values_are_of_any_size_and_none_too() -> None:
    serializer = Serializer(max_size=10)
    for state in (None, "x" * 100, {("a", 1): {2}}, b"1", 1 << 70):
        assert serializer.decode_state(serializer.encode_state(state)) == state
    assert serializer.encode_state("text") == serializer.encode_value("text")
    assert serializer.decode_state(serializer.encode_state({"a": 1}), dict[str, float]) == {"a": 1.0}


def test_state_of_another_type_or_nested_too_deeply_is_an_error() -> None:
    serializer = Serializer()
    with pytest.raises(DecodeError):
        serializer.decode_state(serializer.encode_state("text"), int)
    with pytest.raises(SerializationError, match="a object cannot be a value"):
        serializer.encode_state(object())
    with pytest.raises(DecodeError):
        serializer.decode_state(b"\x91" * 100_000)
