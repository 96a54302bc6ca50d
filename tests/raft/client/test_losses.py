"""What a client tells those who rely on its session: lost by its own clock, ended, alive after all, another begun.

In virtual time.
"""

import asyncio
from typing import Any

import pytest

from copycat.raft.client.client import RaftClient
from copycat.raft.client.keep_alive import LOST_SHARE
from copycat.raft.client.states import ClientState, Loss, Recovery
from copycat.raft.protocol.wire import Tag
from copycat.testing.loop import VirtualLoop
from tests.raft.client.frames import ended
from tests.raft.client.loops import Cluster, now, reach, say, turn, virtual

TIMEOUT = 3.0  # what the servers of this model grant


class Watch:
    """What a client told."""

    def __init__(self, client: RaftClient) -> None:
        self.losses: list[Loss] = []
        self.times: list[float] = []
        self.recoveries: list[int] = []
        client.on_loss(self._lose)
        client.on_recovery(self.recoveries.append)

    def _lose(self, loss: Loss) -> None:
        self.losses.append(loss)
        self.times.append(now())


def jump(seconds: float) -> None:
    """The loop is blocked for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.block(seconds)


@virtual
async def test_silence_for_the_timeout_less_a_twentieth_is_a_loss_told_once() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        begun = now()
        cluster.a.is_mute = True
        await asyncio.sleep(3 * TIMEOUT)

        assert [(loss.is_over, loss.is_last) for loss in watch.losses] == [(False, False)]
        assert watch.times[0] == pytest.approx(begun + TIMEOUT * LOST_SHARE, abs=0.01)
        assert f"for {TIMEOUT * LOST_SHARE:.1f} s of a 3 s session" in watch.losses[0].why
        assert client.is_lost


@virtual
async def test_what_is_answered_postpones_the_loss_from_when_it_was_sent() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        await asyncio.sleep(1.5)
        sent = now()
        await say(client, "a")
        cluster.a.is_mute = True
        await asyncio.sleep(2 * TIMEOUT)

        assert watch.times == [pytest.approx(sent + TIMEOUT * LOST_SHARE, abs=0.01)]


@virtual
async def test_a_session_kept_alive_is_not_lost() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        await asyncio.sleep(10 * TIMEOUT)

        assert (watch.losses, client.is_lost) == ([], False)


@virtual
async def test_a_session_that_proves_alive_is_lost_no_longer_and_may_be_lost_again() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        for _ in range(2):
            cluster.a.is_mute = True
            await asyncio.sleep(TIMEOUT)
            assert client.is_lost
            cluster.a.is_mute = False
            cluster.a.announce()
            await asyncio.sleep(TIMEOUT / 2)
            assert not client.is_lost

        assert [loss.is_over for loss in watch.losses] == [False, False]
        assert watch.recoveries == []


@virtual
async def test_an_ended_session_is_a_loss_and_the_next_one_a_recovery() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        first = client.session_id
        cluster.model.sessions.clear()
        cluster.a.tell(ended(session=first))
        await reach(client, ClientState.EXPIRED)
        assert client.is_lost or client.session_id != first
        await reach(client, ClientState.CONNECTED)

        assert [(loss.is_over, loss.is_last) for loss in watch.losses] == [(True, False)]
        assert watch.recoveries == [client.session_id]
        assert client.session_id != first
        assert not client.is_lost


@virtual
async def test_a_loss_by_the_clock_is_followed_by_another_when_the_session_has_ended() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        first = client.session_id
        cluster.a.is_mute = True
        await asyncio.sleep(TIMEOUT)
        cluster.a.is_mute = False
        cluster.a.tell(ended(session=first))
        await turn()

        assert [loss.is_over for loss in watch.losses] == [False, True]


@virtual
async def test_the_end_of_a_client_is_the_last_loss() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        watch = Watch(client)
        await client.close()

        assert [(loss.is_over, loss.is_last) for loss in watch.losses][-1:] == [(True, True)]
        assert client.is_lost


@virtual
async def test_a_client_that_closes_with_its_session_says_that_no_other_follows() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT, recovery=Recovery.CLOSE)
        watch = Watch(client)
        cluster.a.tell(ended(session=client.session_id))
        await reach(client, ClientState.CLOSED)

        assert all(loss.is_over and loss.is_last for loss in watch.losses)
        assert watch.losses
        assert watch.recoveries == []


@virtual
async def test_a_blocked_loop_is_told_of_once_and_a_long_one_loses_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        await cluster.client(session_timeout=TIMEOUT)  # sees it, too
        watch = Watch(client)
        jump(TIMEOUT / 3)  # until the next keep-alive is due, and no longer
        await asyncio.sleep(0.1)
        assert "blocked" not in caplog.text
        jump(TIMEOUT * 0.8)
        await turn()
        (record,) = [record for record in caplog.records if "blocked" in record.getMessage()]
        assert "the event loop was blocked for" in record.getMessage()
        assert "asyncio.to_thread" in record.getMessage()
        facts: Any = record
        assert facts.blocked_s > TIMEOUT / 3
        assert facts.session_timeout_s == TIMEOUT
        assert watch.losses == []

        cluster.a.is_mute = True
        jump(TIMEOUT)
        assert client.is_lost  # whoever asks before the loop has turned is told so
        await turn()
        assert [loss.is_over for loss in watch.losses] == [False]


@virtual
async def test_keep_alives_carry_stamps_of_the_client_s_clock_and_answers_repeat_them() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(session_timeout=TIMEOUT)
        engine = client._engine
        assert engine is not None
        await asyncio.sleep(TIMEOUT / 2)

        assert any(frame[0] == Tag.KEEP_ALIVE for frame in cluster.a.frames)
        assert engine.session.keep_alive.confirmed_at == pytest.approx(TIMEOUT / 3, abs=0.05)
