"""Writers that remember what was acknowledged, and the reader that compares it with what is there.

Each writer has a map and a session of its own, and writes two kinds of keys, so that both loss and duplication would
be seen:

- unique keys, each written once. The put returns the previous value, so it must return None: anything else means that
  the same put took effect before.
- one chained key, whose n-th put writes n and so must return n−1: n would mean that this put took effect twice, less
  that an acknowledged one is gone.

A put whose outcome is unknown counts as neither acknowledged nor lost; it may be there or not.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from copycat.client import CopycatClient
from copycat.collections.map import DistributedMap
from copycat.errors import CopycatError, IndeterminateError, Outcome, RetryableError, SessionError

CHAIN = "chain"
SESSION_TIMEOUT_S = 15.0
READ_CHUNK = 2_000

Map = DistributedMap[str, str]


@dataclass(slots=True)
class Tally:
    """What all writers together had acknowledged, and when. Times are the event loop's, in seconds."""

    acknowledged: int = 0
    last: float = 0.0
    longest_gap: float = 0.0

    def add(self, count: int, now: float) -> None:
        """`count` more acknowledgements arrived."""
        if self.acknowledged:
            self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        self.acknowledged += count


@dataclass(slots=True, kw_only=True)
class Pace:
    """How the writers write now: each has `batch` puts in flight, then rests for `rest` seconds."""

    batch: int
    rest: float = 0.0
    is_over: bool = False


@dataclass(slots=True)
class Row:
    """One line of the result."""

    acknowledged: int = 0
    found: int = 0
    lost: int = 0
    duplicated: int = 0

    def __add__(self, other: "Row") -> "Row":
        return Row(
            self.acknowledged + other.acknowledged,
            self.found + other.found,
            self.lost + other.lost,
            self.duplicated + other.duplicated,
        )


@dataclass(slots=True)
class Writer:
    """One client. `run` writes until the pace is over."""

    name: str
    client: CopycatClient
    map: Map
    next_key: int = 0
    acknowledged: list[int] = field(default_factory=list)
    keys_duplicated: int = 0
    chain_next: int = 1
    chain_acknowledged: list[int] = field(default_factory=list)
    chain_unsure: set[int] = field(default_factory=set)
    chain_lost: int = 0
    chain_duplicated: int = 0

    async def run(self, pace: Pace, tally: Tally) -> None:
        """Write. Raises what says that a put can never succeed."""
        loop = asyncio.get_running_loop()
        while not pace.is_over:
            first, link = self.next_key, self.chain_next
            self.next_key += pace.batch
            puts = [self.map.put(key_of(number), self.value_of(number)) for number in range(first, self.next_key)]
            chained = self.map.put(CHAIN, str(link))
            *results, previous = await asyncio.gather(*puts, chained, return_exceptions=True)
            outcomes = map(self._take, range(first, self.next_key), results)
            done = sum(outcomes, start=int(self._take_chained(link, previous)))
            if done:
                tally.add(done, loop.time())
            if pace.rest or not done:
                await asyncio.sleep(pace.rest or 0.01)

    @property
    def unacknowledged(self) -> int:
        """How many puts failed, or ended unknown."""
        return self.next_key - len(self.acknowledged) + self.chain_next - 1 - len(self.chain_acknowledged)

    def value_of(self, number: int) -> str:
        """The value of a unique key: about 100 bytes that no other key has."""
        return f"{self.name}/{number}".ljust(100, ".")

    def _take(self, number: int, result: Any) -> bool:
        """Note the outcome of one unique key's put; returns whether it was acknowledged."""
        if isinstance(result, BaseException):
            _raise_unless_expected(result)
            return False
        self.acknowledged.append(number)
        if result is not None:
            self.keys_duplicated += 1
        return True

    def _take_chained(self, link: int, previous: Any) -> bool:
        if isinstance(previous, BaseException):
            _raise_unless_expected(previous)
            if isinstance(previous, CopycatError) and previous.outcome is Outcome.NOT_APPLIED:
                return False
            self.chain_unsure.add(link)
            self.chain_next = link + 1
            return False
        self.chain_next = link + 1
        self.chain_acknowledged.append(link)
        before = int(previous or 0)
        if before >= link:
            self.chain_duplicated += 1
        else:
            # Between the value found and this link there may be only links whose outcome is unknown.
            self.chain_lost += sum(missing not in self.chain_unsure for missing in range(before + 1, link))
        return True


def key_of(number: int) -> str:
    """A unique key."""
    return f"key-{number}"


async def read_back(client: CopycatClient, writer: Writer) -> tuple[Row, Row]:
    """Compare what `writer` had acknowledged with what `client` reads: its unique keys, and its chained key."""
    values = await client.create(writer.map.path, DistributedMap[str, str])
    keys = Row(acknowledged=len(writer.acknowledged), duplicated=writer.keys_duplicated)
    for chunk in _chunks(writer.acknowledged):
        found = await asyncio.gather(*(values.get(key_of(number)) for number in chunk))
        keys.found += sum(value == writer.value_of(number) for number, value in zip(chunk, found, strict=True))
    keys.lost = keys.acknowledged - keys.found
    end = int(await values.get(CHAIN) or 0)
    return keys, _chain_row(writer, end)


def _chain_row(writer: Writer, end: int) -> Row:
    links = len(writer.chain_acknowledged)
    missing = sum(link > end for link in writer.chain_acknowledged)
    # What is there must be the last link acknowledged, or a later one whose outcome is unknown.
    last = max(writer.chain_acknowledged, default=0)
    is_foreign = end > last and end not in writer.chain_unsure
    lost = min(links, writer.chain_lost + missing)
    return Row(links, links - lost, lost, writer.chain_duplicated + is_foreign)


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), READ_CHUNK):
        yield numbers[start : start + READ_CHUNK]


def _raise_unless_expected(error: BaseException) -> None:
    """A put may fail while servers are down; anything else is a mistake, to be seen."""
    if not isinstance(error, RetryableError | IndeterminateError | SessionError):
        raise error


async def open_writers(addresses: str, count: int) -> list[Writer]:
    """So many clients, each with a map of its own."""

    async def make(number: int) -> Writer:
        name = f"demo-{number}"
        client = CopycatClient(addresses, session_timeout=SESSION_TIMEOUT_S, timeout=None)
        await client.open()
        return Writer(name, client, await client.create(name, DistributedMap[str, str]))

    return list(await asyncio.gather(*(make(number) for number in range(1, count + 1))))
