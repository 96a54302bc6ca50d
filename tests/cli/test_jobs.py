"""The demo's jobs besides maps: what they count, and that they would see what must not be."""

import asyncio
from typing import Any, cast

import copycat
from copycat.cli.jobs import Counting, Publishing, TakingTurns, compare, open_jobs
from copycat.cli.workload import Pace, Row
from copycat.client import CopycatClient


def test_a_count_is_lost_below_what_was_acknowledged_and_doubled_above_what_may_be() -> None:
    assert compare(5, 0, 5) == Row(5, 5, 0, 0)
    assert compare(5, 2, 7) == Row(5, 5, 0, 0)
    assert compare(5, 2, 8) == Row(5, 5, 0, 1)
    assert compare(5, 2, 3) == Row(5, 3, 2, 0)


async def test_the_jobs_of_several_clients_lose_and_double_nothing() -> None:
    async with copycat.open() as cc:
        clients = cast(list[CopycatClient], [cc] * 3)
        jobs = await open_jobs(clients)
        pace = Pace(batch=1)
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(job.run(pace))
            await asyncio.sleep(0.5)
            pace.is_over = True
        for job in jobs:
            row = await job.read_back(clients[0])
            assert row.acknowledged > 0
            assert row == Row(row.acknowledged, row.acknowledged, 0, 0), job.name


class Found:
    """A reader whose resource holds something given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    async def create(self, _path: str, _kind: object) -> "Found":
        return self

    async def get(self, *_: object) -> Any:
        return self.value


def reader(value: Any) -> CopycatClient:
    return cast(CopycatClient, Found(value))


class Named:
    path = "somewhere"


async def test_a_counter_that_went_back_has_lost() -> None:
    counting = Counting([cast(Any, Named())], acknowledged=7)
    assert await counting.read_back(reader(6)) == Row(7, 6, 1, 0)
    assert await counting.read_back(reader(None)) == Row(7, 0, 7, 0)


async def test_turns_of_two_at_once_are_lost_and_tokens_that_fall_are_doubled() -> None:
    turns = TakingTurns([cast(Any, (None, Named()))], acknowledged=3, out_of_order=1)
    assert await turns.read_back(reader([90, 2])) == Row(3, 2, 1, 1)


async def test_messages_are_heard_by_all_once_and_in_one_order() -> None:
    first, second, third = (9, 1), (9, 2), (12, 1)
    said = [first, second, third]

    async def judged(*heard: list[tuple[int, int]], unsure: tuple[tuple[int, int], ...] = ()) -> Row:
        publishing = Publishing([], acknowledged=list(said), unsure=set(unsure), heard=list(heard))
        publishing.patience = 0.0
        return await publishing.read_back(reader(None))

    assert await judged(said, said) == Row(3, 3, 0, 0)
    assert await judged(said, [first, second]) == Row(3, 2, 2, 0)  # one is missing, and the lists differ
    assert await judged([*said, third], [*said, third]) == Row(3, 3, 0, 2)
    assert await judged([*said, (12, 2)], [*said, (12, 2)]) == Row(3, 3, 0, 2)  # nobody said that
    assert await judged([*said, (12, 2)], [*said, (12, 2)], unsure=((12, 2),)) == Row(3, 3, 0, 0)
    assert await judged([second, first, third], said) == Row(3, 3, 1, 0)
