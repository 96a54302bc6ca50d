"""The many entries of a state as the parts of its snapshot: some rows in each, one after the other in a flat list,
which is what is encoded and decoded the fastest.

    def snapshot(self) -> Iterable[Any]:
        return chain(
            section("entries", iter_parts(self._entries.copy().items())),  # entries are replaced, never changed
            section("lifetimes", self._lifetimes.snapshot()),
        )

    def restore(self, parts: Iterable[Any]) -> None:
        for name, part in parts:
            if name == "entries":
                self._entries.update(rows(part, 2))
            else:
                self._lifetimes.restore(self._executor, part)
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

PART_BYTES: Final = 16 << 10
"""About how large a part becomes: small enough to be encoded between two turns, large enough to be few."""

ROW_BYTES: Final = 16  # counted for each row, whatever it holds


def iter_parts(entries: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    """Parts of a snapshot: `entries` one after the other in flat lists, made as they are asked for.

    What `entries` goes over must not change meanwhile.
    """
    part: list[Any] = []
    size = 0
    for entry in entries:
        part += entry
        size += ROW_BYTES
        for each in entry:
            if each.__class__ is bytes or each.__class__ is str:
                size += len(each)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def rows(part: list[Any], width: int) -> Iterator[tuple[Any, ...]]:
    """The entries, of `width` members each, of one part. Raises ValueError when it holds no whole number of them."""
    members = iter(part)
    return zip(*[members] * width, strict=True)


def section(name: str, parts: Iterable[T]) -> Iterator[tuple[str, T]]:
    """These parts, each with a name, for snapshots that are made of several things."""
    return ((name, part) for part in parts)
