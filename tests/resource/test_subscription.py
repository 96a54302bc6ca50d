"""Subscriptions: one registration behind many listeners, kept up from session to session."""

import asyncio
from typing import Any

import pytest

from copycat.errors import (
    ClosedError,
    CommandTimeoutError,
    CopycatError,
    IndeterminateError,
    NoLeaderError,
    SessionExpiredError,
    UnknownResourceError,
)
from copycat.raft.client.states import Loss
from copycat.resource import Subscription
from copycat.util.listeners import Listener, Listeners


class FakeSession:
    """Losses and recoveries by hand."""

    def __init__(self) -> None:
        self.losses: Listeners[Loss] = Listeners("losses")
        self.recoveries: Listeners[int] = Listeners("recoveries")

    def on_loss(self, callback: Any) -> Listener[Loss]:
        return self.losses.add(callback)

    def on_recovery(self, callback: Any) -> Listener[int]:
        return self.recoveries.add(callback)

    @property
    def is_watched(self) -> bool:
        return bool(len(self.losses) or len(self.recoveries))


class Stage:
    """A subscription whose commands are answered by hand."""

    def __init__(self) -> None:
        self.session = FakeSession()
        self.called: list[str] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.error: CopycatError | None = None  # raised at the call
        self.subscription: Subscription[str] = Subscription(
            "news", lambda: self._start("listen"), lambda: self._start("unlisten"), self.session
        )

    def _start(self, verb: str) -> asyncio.Future[Any]:
        if self.error is not None:
            raise self.error
        self.called.append(verb)
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]

    async def answer(self, error: Exception | None = None) -> None:
        """Answer the newest command."""
        if error is None:
            self.futures[-1].set_result(None)
        else:
            self.futures[-1].set_exception(error)
        await turn()

    async def listener(self, *callbacks: Any) -> Listener[str]:
        """A listener that is registered."""
        adding = self.subscription.add(*callbacks or (print,))
        await self.answer()
        return await adding


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def stage() -> Stage:
    return Stage()


# -- one registration --------------------------------------------------------------------------------------------------


async def test_the_first_registers_and_the_last_deregisters(stage: Stage) -> None:
    first, second = stage.subscription.add(print), stage.subscription.add(print)
    assert stage.called == ["listen"]
    assert not first.done()
    await stage.answer()
    third = await stage.subscription.add(print)
    assert stage.called == ["listen"]

    (await first).close()
    third.close()
    assert stage.called == ["listen"]
    (await second).close()
    assert stage.called == ["listen", "unlisten"]
    assert not stage.session.is_watched


async def test_a_listener_hears_from_the_call_on(stage: Stage) -> None:
    heard: list[str] = []
    adding = stage.subscription.add(heard.append)
    stage.subscription.notify("one")
    await stage.answer()
    (await adding).close()
    stage.subscription.notify("two")

    assert heard == ["one"]


async def test_a_registration_that_fails_is_everybody_s_failure_and_the_next_one_s_fresh_start(stage: Stage) -> None:
    first, second = stage.subscription.add(print), stage.subscription.add(print)
    await stage.answer(UnknownResourceError("deleted"))

    for adding in (first, second):
        with pytest.raises(UnknownResourceError):
            await adding
    assert (len(stage.subscription), stage.session.is_watched) == (0, False)
    stage.subscription.add(print)
    assert stage.called == ["listen", "unlisten", "listen"]


async def test_a_registration_that_cannot_begin_leaves_nothing(stage: Stage) -> None:
    stage.error = ClosedError("the client is closed")

    with pytest.raises(ClosedError):
        stage.subscription.add(print)
    assert (len(stage.subscription), stage.session.is_watched) == (0, False)


async def test_cancelling_before_the_registration_is_done_closes_the_listener(stage: Stage) -> None:
    adding = stage.subscription.add(print)
    adding.cancel()
    await turn()

    assert len(stage.subscription) == 0
    assert stage.called == ["listen", "unlisten"]


async def test_cancelling_a_task_after_its_listener_was_added_closes_it(stage: Stage) -> None:
    async def add() -> None:
        await adding

    adding = stage.subscription.add(print)
    adding.add_done_callback(lambda _: task.cancel())  # added, and the task has not gone on
    task = asyncio.ensure_future(add())
    await turn()
    stage.futures[-1].set_result(None)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(stage.subscription) == 0


async def test_a_deregistration_that_fails_or_cannot_begin_is_nobody_s_trouble(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    (await stage.listener()).close()
    await stage.answer(IndeterminateError("the session ended"))
    listener = await stage.listener()
    stage.error = ClosedError("the client is closed")
    listener.close()

    assert len(stage.subscription) == 0
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_the_next_session_registers_again_and_tells_of_the_gap(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    gaps: list[str] = []
    await stage.listener(print, lambda: gaps.append("gap"))
    await stage.subscription.add(print)
    stage.session.recoveries.notify(2)

    assert stage.called == ["listen", "listen"]
    assert gaps == ["gap"]
    assert "may have missed events" in caplog.text  # the one that takes no notice


async def test_an_on_gap_that_raises_keeps_nobody_from_hearing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    gaps: list[str] = []

    def broken() -> None:
        raise RuntimeError("of on_gap")

    await stage.listener(print, broken)
    await stage.subscription.add(print, lambda: gaps.append("gap"))
    stage.session.recoveries.notify(2)

    assert gaps == ["gap"]
    assert "RuntimeError: of on_gap" in caplog.text


async def test_a_listener_closed_by_another_s_gap_is_not_told(stage: Stage) -> None:
    told: list[str] = []
    later: list[Listener[str]] = []
    await stage.listener(print, lambda: later[0].close())
    later.append(await stage.subscription.add(print, lambda: told.append("second")))
    stage.session.recoveries.notify(2)

    assert told == []


@pytest.mark.parametrize("attempts", [1, 3])
async def test_registering_again_is_tried_until_it_is_sent(stage: Stage, attempts: int) -> None:
    await stage.listener()
    stage.session.recoveries.notify(2)
    for _ in range(attempts):
        await stage.answer(NoLeaderError("not sent"))

    assert stage.called == ["listen"] * (2 + attempts)


async def test_registering_again_that_is_sent_and_unanswered_is_waited_for(stage: Stage) -> None:
    await stage.listener()
    stage.session.recoveries.notify(2)
    operation: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await stage.answer(CommandTimeoutError("no answer in time", operation=operation))
    adding = stage.subscription.add(print)
    await turn()
    assert not adding.done()
    operation.set_result(None)

    assert not (await adding).is_closed
    assert stage.called == ["listen", "listen"]


@pytest.mark.parametrize("error", [IndeterminateError("ended"), SessionExpiredError("ended")])
async def test_registering_again_in_a_session_that_ends_is_left_to_the_next(
    stage: Stage, error: CopycatError, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await stage.listener(print, print)
    stage.session.recoveries.notify(2)
    await stage.answer(error)
    assert stage.called == ["listen", "listen"]
    stage.session.recoveries.notify(3)

    assert stage.called == ["listen", "listen", "listen"]
    assert not listener.is_closed
    assert not caplog.records


async def test_registering_again_that_fails_for_good_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.listener(print, print)
    stage.session.recoveries.notify(2)
    await stage.answer(UnknownResourceError("deleted"))

    assert "hear nothing more: deleted" in caplog.text


async def test_an_answer_of_an_earlier_session_changes_nothing(stage: Stage) -> None:
    await stage.listener(print, print)
    stage.session.recoveries.notify(2)
    old = stage.futures[-1]
    stage.session.recoveries.notify(3)
    old.set_exception(NoLeaderError("not sent"))
    await turn()

    assert stage.called == ["listen", "listen", "listen"]


async def test_the_last_loss_ends_every_listener_and_earlier_ones_none(stage: Stage) -> None:
    ends: list[CopycatError] = []
    listener = await stage.listener(print, None, ends.append)
    for loss in (Loss("in doubt", is_over=False), Loss("expired", is_over=True)):
        stage.session.losses.notify(loss)
    assert len(stage.subscription) == 1
    stage.session.losses.notify(Loss("the client was closed", is_over=True, is_last=True))

    assert listener.is_closed
    assert [type(end) for end in ends] == [ClosedError]
    assert not stage.session.is_watched


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_whoever_waits_to_be_added_when_all_ends_is_told(stage: Stage) -> None:
    adding = stage.subscription.add(print)
    stage.subscription.end(ClosedError("the handle was closed"))
    stage.futures[0].set_result(None)

    with pytest.raises(ClosedError, match="closed meanwhile"):
        await adding


async def test_an_end_that_nobody_asked_for_is_logged_where_nobody_is_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(error: CopycatError) -> None:
        raise RuntimeError("of on_end")

    await stage.listener()
    await stage.subscription.add(print, None, broken)
    stage.subscription.end(UnknownResourceError("it was deleted"))

    assert "hear nothing more: it was deleted" in caplog.text
    assert "RuntimeError: of on_end" in caplog.text
    assert len(stage.subscription) == 0
