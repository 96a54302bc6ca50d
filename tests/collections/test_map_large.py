"""Large values, many at a time: what fits no single answer comes in several, and a slow reader loses nothing."""

import asyncio
from collections import Counter

from copycat.collections import DistributedMap
from copycat.errors import Outcome, TooLargeError
from copycat.opening import open as open_copycat

VALUE = bytes(1_000_000)


async def test_many_large_values_are_read_at_once_and_a_server_sends_no_more_than_its_client_reads() -> None:
    async with open_copycat() as cc:
        values = await cc.create("values", DistributedMap[int, bytes])
        await asyncio.gather(*(values.put(key, VALUE) for key in range(60)))

        read = await asyncio.gather(*(values.get(key) for key in range(60)))

        assert Counter(value == VALUE for value in read) == {True: 60}


async def test_previous_values_that_are_too_much_for_one_answer_are_refused_with_the_command_applied() -> None:
    async with open_copycat() as cc:
        values = await cc.create("values", DistributedMap[int, bytes])
        await asyncio.gather(*(values.put(key, VALUE) for key in range(20)))

        removed = await asyncio.gather(*(values.remove(key) for key in range(20)), return_exceptions=True)

        assert {type(each) for each in removed} == {TooLargeError}
        assert {each.outcome for each in removed if isinstance(each, TooLargeError)} == {Outcome.APPLIED}
        assert await values.is_empty()
        await values.put(1, VALUE)
        assert await values.remove(1) == VALUE
