"""The entries of a state in the parts of a snapshot: flat, some at a time, and back."""

from typing import Any

import pytest

from copycat.resource import iter_parts, rows, section
from copycat.resource.parts import PART_BYTES


@pytest.mark.parametrize("size", [0, 1, 100, PART_BYTES, 3 * PART_BYTES])
@pytest.mark.parametrize("kind", [bytes, str])
def test_entries_come_back_from_parts_of_some_kilobytes(kind: Any, size: int) -> None:
    value = b"x" * size if kind is bytes else "x" * size
    entries = [(number, value, None) for number in range(2_000)]
    parts = list(iter_parts(entries))

    assert [entry for part in parts for entry in rows(part, 3)] == entries
    weights = [sum(size + 16 for _ in rows(part, 3)) for part in parts]
    assert all(PART_BYTES <= weight < PART_BYTES + size + 16 for weight in weights[:-1])


def test_parts_are_made_when_they_are_asked_for() -> None:
    entries = iter([(number, bytes(PART_BYTES)) for number in range(3)])

    next(iter_parts(entries))
    assert next(entries)[0] == 1


def test_no_entries_are_no_parts() -> None:
    assert list(iter_parts([])) == []


def test_a_part_that_holds_no_whole_entries_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(rows([1, 2, 3], 2))


def test_parts_of_several_things_have_names() -> None:
    assert list(section("members", iter([[1], [2]]))) == [("members", [1]), ("members", [2])]
