"""DistributedTopic: messages reach every listener, once, in one order; and what ends a listener."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from copycat.coordination import DistributedTopic, topic
from copycat.errors import (
    ApplicationError,
    ClosedError,
    OverloadedError,
    SerializationError,
    TooLargeError,
    UnknownResourceError,
)
from tests.coordination.support import PATH, client, handles, machine, turns
from tests.resource.harness import Replicas, connect


@dataclass
class News:
    title: str


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedTopic, count=2)


@pytest.fixture
async def topics(replicas: Replicas) -> list[DistributedTopic[Any]]:
    """Three programs on one topic."""
    return await handles(replicas, DistributedTopic, 3)


def listening(replicas: Replicas) -> list[int]:
    """The sessions that listen, in order."""
    return list(machine(replicas)._audience._topics)


async def collected(handle: DistributedTopic[Any], heard: list[Any]) -> None:
    async for message in handle.messages():
        heard.append(message)  # noqa: PERF401  # as they come


async def collecting(handle: DistributedTopic[Any], heard: list[Any]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(collected(handle, heard))
    await turns()
    return task


# -- publishing --------------------------------------------------------------------------------------------------------


async def test_every_listener_hears_every_message_in_one_order(topics: list[DistributedTopic[Any]]) -> None:
    heard: list[list[Any]] = [[] for _ in topics]
    for each, ear in zip(topics, heard, strict=True):
        await each.on_message(ear.append)
    told = await asyncio.gather(*(topics[number % 3].publish(number) for number in range(9)))
    await turns()

    assert told == [3] * 9
    assert heard[0] == heard[1] == heard[2]
    assert sorted(heard[0]) == list(range(9))


async def test_a_message_nobody_listens_to_is_heard_by_nobody(topics: list[DistributedTopic[Any]]) -> None:
    heard: list[Any] = []

    assert await topics[0].publish("early") == 0
    await topics[1].on_message(heard.append)
    await topics[0].publish("late")
    await turns()
    assert heard == ["late"]


async def test_the_listeners_of_a_handle_hear_a_message_once_each(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    heard: list[tuple[int, Any]] = []
    for number in range(2):
        await topics[0].on_message(lambda message, number=number: heard.append((number, message)))  # type: ignore[misc]  # mypy cannot infer a default

    assert await topics[1].publish("one") == 1
    await turns()
    assert heard == [(0, "one"), (1, "one")]


async def test_two_handles_of_one_program_are_told_one_message_each(replicas: Replicas) -> None:
    cc = await connect(replicas)
    heard: list[Any] = []
    for _ in range(2):
        await (await cc.create(PATH, DistributedTopic)).on_message(heard.append)

    assert await (await cc.create(PATH, DistributedTopic)).publish("one") == 2
    await turns()
    assert heard == ["one", "one"]


async def test_a_publisher_has_heard_its_own_message_when_it_has_the_answer(
    topics: list[DistributedTopic[Any]],
) -> None:
    heard: list[Any] = []
    await topics[0].on_message(heard.append)

    await topics[0].publish("mine")
    assert heard == ["mine"]


async def test_messages_arrive_as_what_the_handle_says_they_are(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    cc = await connect(replicas)
    cc.serializer.register(News)
    news = await cc.create(PATH, DistributedTopic[News])
    other = await cc.create(PATH, DistributedTopic)
    heard: list[Any] = []
    await news.on_message(heard.append)
    await news.publish(News("one"))
    await turns()

    assert heard == [News("one")]
    assert await other.publish("not news") == 1
    await turns()
    assert "a message is no News" in caplog.text
    await news.publish(News("two"))
    await turns()
    assert heard == [News("one"), News("two")]


async def test_what_cannot_be_a_message_is_refused_at_the_call(topics: list[DistributedTopic[Any]]) -> None:
    for message, error in (
        (None, SerializationError),
        (object(), SerializationError),
        (b"x" * (1 << 20), TooLargeError),
    ):
        with pytest.raises(error):
            topics[0].publish(message)


async def test_bytes_are_all_a_topic_takes(topics: list[DistributedTopic[Any]]) -> None:
    with pytest.raises(ApplicationError, match="canonical bytes"):
        await topics[0].command(topic.PUBLISH, "text", what="publish")


# -- listening ---------------------------------------------------------------------------------------------------------


async def test_a_closed_listener_hears_no_more_and_the_last_one_deregisters(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    heard: list[Any] = []
    first, second = await topics[0].on_message(heard.append), await topics[0].on_message(heard.append)
    first.close()
    await topics[1].publish("one")
    await turns()
    assert heard == ["one"]

    second.close()
    second.close()
    assert listening(replicas) == []
    assert await topics[1].publish("two") == 0


async def test_a_listener_may_close_itself_publish_and_wait(topics: list[DistributedTopic[Any]]) -> None:
    heard: list[Any] = []

    async def answer(message: Any) -> None:
        heard.append((message, await topics[0].publish(f"re: {message}") if message == "one" else None))

    listener = await topics[0].on_message(answer)
    await topics[1].publish("one")
    await turns()
    assert heard == [("one", 1), ("re: one", None)] or heard == [("re: one", None), ("one", 1)]

    listener.close()
    closing = await topics[0].on_message(lambda _: closing.close())
    await topics[1].publish("two")
    await turns()
    assert await topics[1].publish("three") == 0


async def test_a_listener_that_raises_keeps_nobody_from_hearing(
    topics: list[DistributedTopic[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def broken(message: Any) -> None:
        raise RuntimeError("of the listener")

    await topics[0].on_message(broken)
    await topics[0].on_message(heard.append)
    await topics[0].publish("one")
    await turns()

    assert heard == ["one"]
    assert "RuntimeError: of the listener" in caplog.text


async def test_what_cannot_be_called_is_no_listener(topics: list[DistributedTopic[Any]], replicas: Replicas) -> None:
    nothing: Any = 1
    for arguments in ({"callback": nothing}, {"callback": print, "on_gap": nothing}):
        with pytest.raises(TypeError, match="must be callable"):
            topics[0].on_message(**arguments)
    assert listening(replicas) == []


async def test_a_lost_session_is_a_gap_and_the_next_one_listens_again(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    heard: list[Any] = []
    await topics[0].on_message(heard.append, on_gap=lambda: heard.append("gap"))
    await topics[1].publish("one")
    client(topics[0]).expire()
    await topics[1].publish("two")
    await turns()

    assert heard == ["one", "gap", "two"]
    assert listening(replicas) == [client(topics[0]).session]


async def test_a_session_that_proves_alive_is_no_gap(topics: list[DistributedTopic[Any]]) -> None:
    heard: list[Any] = []
    await topics[0].on_message(heard.append, on_gap=lambda: heard.append("gap"))
    client(topics[0]).lose()
    await topics[1].publish("one")
    client(topics[0]).resume()
    await turns()

    assert heard == ["one"]


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_messages_are_iterated_from_the_first_step_until_the_loop_is_left(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    heard: list[Any] = []
    task = await collecting(topics[0], heard)
    for number in range(3):
        await topics[1].publish(number)
    await turns()
    assert heard == [0, 1, 2]

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listening(replicas) == []


async def test_an_iteration_that_is_left_listens_no_longer(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    async def first() -> Any:
        async for message in topics[0].messages():
            return message
        return None

    task = asyncio.ensure_future(first())
    await turns()
    await topics[1].publish("one")
    assert await task == "one"
    await turns()
    assert listening(replicas) == []


@pytest.mark.parametrize("end", ["handle", "client"])
async def test_an_iteration_ends_with_its_handle_and_its_client_after_what_has_arrived(
    topics: list[DistributedTopic[Any]], replicas: Replicas, end: str
) -> None:
    heard: list[Any] = []
    task = await collecting(topics[0], heard)
    await topics[1].publish("the last")
    await (topics[0].close() if end == "handle" else client(topics[0]).close())

    with pytest.raises(ClosedError):
        await task
    assert heard == ["the last"]
    assert listening(replicas) == []


async def test_an_iteration_ends_when_the_topic_is_deleted(topics: list[DistributedTopic[Any]]) -> None:
    task = await collecting(topics[0], [])
    await topics[1].delete()

    with pytest.raises(UnknownResourceError, match="was deleted"):
        await task


async def test_a_listener_of_a_deleted_topic_is_closed_and_that_is_logged(
    topics: list[DistributedTopic[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    listener = await topics[0].on_message(print)
    await topics[1].delete()
    await turns()

    assert listener.is_closed
    assert "hear nothing more" in caplog.text
    with pytest.raises(UnknownResourceError):
        await topics[0].on_message(print)


async def test_an_iteration_that_falls_behind_gives_up(
    topics: list[DistributedTopic[Any]], replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic, "BEHIND_MAX", 3)
    heard: list[Any] = []
    task = await collecting(topics[0], heard)
    await asyncio.gather(*(topics[1].publish(number) for number in range(4)))

    with pytest.raises(OverloadedError, match="3 messages behind"):
        await task
    assert heard == []
    assert listening(replicas) == []


async def test_an_iteration_that_is_just_fast_enough_hears_everything(
    topics: list[DistributedTopic[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic, "BEHIND_MAX", 3)
    heard: list[Any] = []
    task = await collecting(topics[0], heard)
    for start in (0, 3):
        await asyncio.gather(*(topics[1].publish(number) for number in range(start, start + 3)))
        await turns()
    task.cancel()

    assert heard == [0, 1, 2, 3, 4, 5]


# -- the end of a handle -----------------------------------------------------------------------------------------------


async def test_closing_a_handle_closes_its_listeners_and_their_tasks(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    ended: list[bool] = []

    async def endless(message: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    listener = await topics[0].on_message(endless)
    await topics[1].publish("one")
    await turns()
    twin = topics[0].with_timeout(1)
    await topics[0].close()

    assert (ended, listener.is_closed, listening(replicas)) == ([True], True, [])
    for handle in (topics[0], twin):
        with pytest.raises(ClosedError):
            handle.on_message(print)


async def test_a_listener_may_close_its_handle(topics: list[DistributedTopic[Any]], replicas: Replicas) -> None:
    done: list[bool] = []

    async def close(message: Any) -> None:
        await topics[0].close()
        done.append(True)

    await topics[0].on_message(close)
    await topics[1].publish("one")
    await turns()

    assert done == [True]
    assert listening(replicas) == []


async def test_nobody_is_added_while_a_handle_closes(topics: list[DistributedTopic[Any]], replicas: Replicas) -> None:
    """Closing waits for what listeners do: whoever adds one meanwhile would hear nothing."""

    async def slow(message: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await turns()

    await topics[0].on_message(slow)
    await topics[1].publish("one")
    await turns()
    closing = asyncio.ensure_future(topics[0].close())
    await asyncio.sleep(0)

    with pytest.raises(ClosedError):
        topics[0].on_message(print)
    await closing
    assert listening(replicas) == []


async def test_replicas_that_start_anew_know_the_same_listeners(
    topics: list[DistributedTopic[Any]], replicas: Replicas
) -> None:
    first = await topics[0].on_message(print)
    await topics[1].on_message(print)
    await topics[2].on_message(print)
    first.close()
    client(topics[1]).expire()

    again = replicas.replay().machine(3)._audience._topics
    assert list(again) == listening(replicas)
    assert len(again) == 2
