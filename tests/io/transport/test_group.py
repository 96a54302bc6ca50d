"""What the connections of one group have in common: they are written to together, and one harms none of the others."""

import asyncio
import logging

import pytest

from copycat.io.transport.group import ConnectionGroup, Limits


class Pipe:
    """A connection that counts; `broken` ones cannot be written to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.is_established = True
        self.is_to_be_flushed = False
        self.broken = broken
        self.flushed = 0
        self.error: Exception | None = None

    def send(self, group: ConnectionGroup) -> None:
        if not self.is_to_be_flushed:
            self.is_to_be_flushed = True
            group.flush_soon(self)

    def flush(self) -> None:
        self.is_to_be_flushed = False
        if self.broken:
            raise OSError("nobody reads this")
        self.flushed += 1

    def close(self) -> None: ...

    def abort(self, error: Exception | None = None) -> None:
        self.error = error


async def test_connections_are_flushed_once_at_the_end_of_the_turn_and_again_after_the_next() -> None:
    group, pipes = ConnectionGroup(Limits()), [Pipe(), Pipe()]
    for _ in range(2):
        for pipe in (*pipes, *pipes):
            pipe.send(group)
        assert [pipe.is_to_be_flushed for pipe in pipes] == [True, True]
        before = [pipe.flushed for pipe in pipes]
        await asyncio.sleep(0)
        assert [pipe.flushed for pipe in pipes] == [count + 1 for count in before]
        assert [pipe.is_to_be_flushed for pipe in pipes] == [False, False]


async def test_one_that_was_flushed_meanwhile_is_not_flushed_again() -> None:
    group, pipes = ConnectionGroup(Limits()), [Pipe(), Pipe()]
    for pipe in pipes:
        pipe.send(group)
    pipes[0].flush()
    await asyncio.sleep(0)
    assert [pipe.flushed for pipe in pipes] == [1, 1]


async def test_one_that_cannot_be_written_to_is_dropped_and_the_others_are_flushed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group, first, broken, last = ConnectionGroup(Limits()), Pipe(), Pipe(broken=True), Pipe()
    for pipe in (first, broken, last):
        pipe.send(group)
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0)
    assert (first.flushed, last.flushed) == (1, 1)
    assert isinstance(broken.error, OSError)
    assert "could not be written to" in caplog.text
    broken.broken = False
    broken.send(group)
    await asyncio.sleep(0)
    assert broken.flushed == 1
