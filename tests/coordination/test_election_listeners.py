"""DistributedLeaderElection by listeners: those of a handle are one candidate, told when it leads and when not."""

import asyncio
from typing import Any

import pytest

from copycat.coordination import DistributedLeaderElection
from copycat.errors import (
    ClosedError,
    UnknownResourceError,
)
from tests.coordination.support import (
    assert_nothing_is_left,
    call_first,
    client,
    handles,
    holder,
    running,
    stopped,
    turns,
    waiting,
)
from tests.resource.harness import Replicas


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(DistributedLeaderElection, count=2)


@pytest.fixture
async def elections(replicas: Replicas) -> list[DistributedLeaderElection]:
    """Three programs that may stand."""
    return await handles(replicas, DistributedLeaderElection, 3)


@pytest.fixture
def election(elections: list[DistributedLeaderElection]) -> DistributedLeaderElection:
    return elections[0]


class Ear:
    """What the listeners of an election heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def elected(self, epoch: int) -> None:
        self.heard.append(("elected", epoch))

    def lost(self, epoch: int) -> None:
        self.heard.append(("lost", epoch))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.heard]


async def test_a_listener_stands_and_hears_when_it_is_elected(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    ears = [Ear() for _ in elections]
    listeners = [
        await election.on_election(ear.elected, on_lost=ear.lost) for election, ear in zip(elections, ears, strict=True)
    ]
    await turns()
    assert [ear.words for ear in ears] == [["elected"], [], []]

    listeners[0].close()
    listeners[0].close()
    await turns()
    assert [ear.words for ear in ears] == [["elected"], ["elected"], []]
    assert ears[0].heard[0][1] < ears[1].heard[0][1]
    for listener in listeners[1:]:
        listener.close()
    await turns()
    assert_nothing_is_left(replicas, *elections)


async def test_the_listeners_of_a_handle_are_one_candidate(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    first, second = Ear(), Ear()
    one, two = await asyncio.gather(election.on_election(first.elected), election.on_election(second.elected))
    await turns()
    assert first.heard == second.heard
    assert len(first.heard) == 1

    one.close()
    await turns()
    assert holder(replicas) is not None
    two.close()
    await turns()
    assert_nothing_is_left(replicas, election)


async def test_a_listener_added_while_this_leads_hears_of_it(election: DistributedLeaderElection) -> None:
    first, second = Ear(), Ear()
    await election.on_election(first.elected)
    await turns()
    await election.on_election(second.elected)
    await turns()

    assert second.heard == first.heard


@pytest.mark.parametrize("loss", ["lose", "expire"])
async def test_listeners_hear_of_the_loss_and_stand_again(
    election: DistributedLeaderElection, replicas: Replicas, loss: str
) -> None:
    ear = Ear()
    listener = await election.on_election(ear.elected, on_lost=ear.lost)
    await turns()
    getattr(client(election), loss)()
    client(election).resume()
    await turns()

    assert ear.words == ["elected", "lost", "elected"]
    assert ear.heard[0][1] == ear.heard[1][1] < ear.heard[2][1]
    listener.close()
    await turns()
    assert_nothing_is_left(replicas, election)


async def test_listeners_stand_again_when_the_session_ends_while_they_wait(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    ear = Ear()
    leading = await running(elections[0])
    await elections[1].on_election(ear.elected)
    client(elections[1]).expire()
    await turns()

    assert waiting(replicas) == [client(elections[1]).session]
    await stopped(leading)
    await turns()
    assert ear.words == ["elected"]


async def test_resigning_tells_the_listeners_which_stand_again(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    ear = Ear()
    await elections[0].on_election(ear.elected, on_lost=ear.lost)
    leading = await running(elections[1])
    assert await elections[0].resign() is True
    await turns()

    assert ear.words == ["elected", "lost"]
    assert waiting(replicas) == [client(elections[0]).session]
    await stopped(leading)
    await turns()
    assert ear.words == ["elected", "lost", "elected"]


async def test_a_listener_that_resigns_when_elected_keeps_the_next_from_hearing_of_it(
    elections: list[DistributedLeaderElection],
) -> None:
    second = Ear()
    leading = await running(elections[1])
    await elections[0].on_election(elections[0].resign)
    await elections[0].on_election(second.elected, on_lost=second.lost)
    behind = await running(elections[2])
    await stopped(leading)
    await turns()

    assert second.words == ["lost"]
    await stopped(behind)


async def test_a_listener_may_close_itself_when_elected(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    listeners: list[Any] = []
    leading = await running(elections[1])
    listeners.append(await elections[0].on_election(lambda _: listeners[0].close()))
    await stopped(leading)
    await turns()

    assert_nothing_is_left(replicas, *elections)


async def test_listeners_changed_while_they_are_told_of_the_loss_leave_one_candidate(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    listeners: list[Any] = []
    added: list[Any] = []

    def lost(epoch: int) -> None:
        listeners[0].close()
        added.append(election.on_election(Ear().elected))

    listeners.append(await election.on_election(Ear().elected, on_lost=lost))
    await turns()
    client(election).lose()
    client(election).resume()
    await turns()

    assert (len(election._claims) + len(election._grants), waiting(replicas)) == (1, [])
    (await added[0]).close()
    await turns()
    assert_nothing_is_left(replicas, election)


async def test_a_term_lost_before_its_listeners_are_told_is_not_told(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    ear = Ear()
    adding = election.on_election(ear.elected, on_lost=ear.lost)
    claim = election._candidacy._claim
    assert claim is not None

    def lose(_: object) -> None:
        client(election).lose()
        client(election).resume()

    call_first(claim, lose)
    await adding
    await turns()

    assert ear.words == ["elected"]
    assert holder(replicas) == client(election).session
    assert ear.heard == [("elected", await election.epoch())]


async def test_a_coroutine_listener_may_await_its_own_election(election: DistributedLeaderElection) -> None:
    heard: list[bool] = []

    async def elected(epoch: int) -> None:
        heard.append(await election.is_leader(epoch))

    async def lost(epoch: int) -> None:
        heard.append(await election.is_leader(epoch))

    await election.on_election(elected, on_lost=lost)
    await turns()
    client(election).lose()
    client(election).resume()
    await turns()

    assert heard == [True, False, True]


async def test_a_listener_that_raises_keeps_nobody_from_hearing(
    election: DistributedLeaderElection, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()

    def broken(epoch: int) -> None:
        raise RuntimeError("of the listener")

    await election.on_election(broken, on_lost=broken)
    await election.on_election(ear.elected, on_lost=ear.lost)
    await turns()
    client(election).lose()
    client(election).resume()

    assert ear.words == ["elected", "lost"]
    assert caplog.text.count("RuntimeError: of the listener") == 2


async def test_what_cannot_be_called_is_no_listener(election: DistributedLeaderElection, replicas: Replicas) -> None:
    nothing: Any = 1
    for arguments in ({"callback": nothing}, {"callback": print, "on_lost": nothing}):
        with pytest.raises(TypeError, match="must be callable"):
            election.on_election(**arguments)
    assert_nothing_is_left(replicas, election)


async def test_standing_that_fails_closes_the_listener(election: DistributedLeaderElection) -> None:
    await election.delete()

    with pytest.raises(UnknownResourceError):
        await election.on_election(print)
    assert len(election._candidacy._listeners) == 0


async def test_closing_the_handle_resigns_and_ends_what_listeners_do(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    ended: list[bool] = []

    async def elected(epoch: int) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    await elections[0].on_election(elected)
    await turns()
    twin = elections[0].with_timeout(1)
    await elections[0].close()

    assert ended == [True]
    assert_nothing_is_left(replicas, *elections)
    for handle in (elections[0], twin):
        with pytest.raises(ClosedError):
            handle.on_election(print)
    with pytest.raises(ClosedError):
        elections[0].resign()


async def test_a_listener_of_a_twin_outlives_the_twin(election: DistributedLeaderElection, replicas: Replicas) -> None:
    twin = election.with_timeout(1)
    listener = await twin.on_election(Ear().elected)
    await turns()
    await twin.close()
    assert holder(replicas) is not None
    listener.close()
    await turns()
    assert_nothing_is_left(replicas, election)
