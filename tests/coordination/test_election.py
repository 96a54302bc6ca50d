"""DistributedLeaderElection by `run` and `lead`: resigning, and who leads when sessions come and go."""

import asyncio

import pytest

from copycat.coordination import DistributedLeaderElection, Term
from copycat.errors import (
    ClosedError,
    ConfigurationError,
    LeadershipLostError,
    LockTimeoutError,
    NotHeldError,
    SessionExpiredError,
    UnknownResourceError,
)
from tests.coordination.support import (
    PATH,
    assert_nothing_is_left,
    call_first,
    client,
    for_ever,
    handles,
    holder,
    running,
    stopped,
    turns,
    waiting,
)
from tests.resource.harness import Replicas, connect


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


# -- run ---------------------------------------------------------------------------------------------------------------


async def test_run_returns_what_the_function_returns_and_resigns(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    async def lead(term: Term) -> int:
        assert await election.is_leader(term.epoch)
        return term.epoch

    assert await election.run(lead) > 0
    assert_nothing_is_left(replicas, election)


async def test_run_raises_what_the_function_raises_and_resigns(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    async def lead(term: Term) -> None:
        raise KeyError("of the function")

    with pytest.raises(KeyError, match="of the function"):
        await election.run(lead)
    assert_nothing_is_left(replicas, election)


async def test_one_leads_at_a_time_in_the_order_of_standing(elections: list[DistributedLeaderElection]) -> None:
    led: list[int] = []
    tasks = []
    for number, election in enumerate(elections):

        async def lead(term: Term, number: int = number) -> None:
            led.append(number)
            await for_ever(term)

        tasks.append(await running(election, lead))

    assert led == [0]
    await stopped(tasks[0])
    await turns()
    assert led == [0, 1]
    await stopped(tasks[1])
    await turns()
    assert led == [0, 1, 2]
    await stopped(tasks[2])


async def test_cancelling_run_while_standing_leaves_the_line(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    first, second = await running(elections[0]), await running(elections[1])
    await stopped(second)

    assert waiting(replicas) == []
    await stopped(first)
    assert_nothing_is_left(replicas, *elections)


@pytest.mark.parametrize("loss", ["lose", "expire"])
async def test_a_loss_cancels_the_function_and_run_stands_again(
    election: DistributedLeaderElection, replicas: Replicas, loss: str
) -> None:
    epochs: list[int] = []
    cancelled: list[int] = []

    async def lead(term: Term) -> None:
        epochs.append(term.epoch)
        try:
            await for_ever(term)
        except asyncio.CancelledError:
            cancelled.append(term.epoch)
            raise

    task = await running(election, lead)
    getattr(client(election), loss)()
    client(election).resume()
    await turns()

    assert len(epochs) == 2
    assert epochs[0] < epochs[1]
    assert cancelled == epochs[:1]
    assert task.cancelling() == 0
    await stopped(task)
    assert_nothing_is_left(replicas, election)


@pytest.mark.parametrize("how", ["swallows", "notices", "checks"])
async def test_a_function_that_returns_because_of_the_loss_is_run_again(
    election: DistributedLeaderElection, how: str
) -> None:
    terms: list[Term] = []

    async def lead(term: Term) -> str:
        terms.append(term)
        if len(terms) == 2:
            return "led"
        if how == "swallows":
            try:
                await for_ever(term)
            except asyncio.CancelledError:
                return "cut short"
        client(election)._is_lost = True  # time is up, and nobody was told
        asyncio.get_running_loop().call_later(0.001, client(election).resume)
        if how == "checks":
            term.check()
        return "cut short" if term.lost else "not reached"

    task = await running(election, lead)
    if how == "swallows":
        client(election).lose()
        client(election).resume()

    assert await task == "led"


async def test_a_loss_before_the_function_begins_stands_again(election: DistributedLeaderElection) -> None:
    began: list[int] = []

    async def lead(term: Term) -> int:
        began.append(term.epoch)
        return term.epoch

    task = asyncio.ensure_future(election.run(lead))
    await asyncio.sleep(0)
    (claim,) = election._claims.values()
    call_first(claim, lambda _: client(election).lose())
    asyncio.get_running_loop().call_later(0.001, client(election).resume)

    assert await task == began[0]
    assert len(began) == 1


async def test_a_session_that_ends_while_standing_is_followed_by_standing_again(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    leading = await running(elections[0])
    task = await running(elections[1], return_epoch)
    client(elections[1]).expire()
    await turns()

    assert waiting(replicas) == [client(elections[1]).session]
    await stopped(leading)
    assert await task > 0


@pytest.mark.parametrize(
    "error", [LeadershipLostError("of another election"), SessionExpiredError("of another client")]
)
async def test_errors_of_other_elections_and_clients_are_the_function_s(
    election: DistributedLeaderElection, error: Exception
) -> None:
    async def lead(term: Term) -> None:
        raise error

    with pytest.raises(type(error), match="another"):
        await election.run(lead)


async def test_run_ends_when_the_handle_the_client_or_the_election_is_gone(
    elections: list[DistributedLeaderElection],
) -> None:
    tasks = [await running(election) for election in elections]
    await elections[1].close()
    with pytest.raises(ClosedError):
        await tasks[1]
    await client(elections[0]).close()
    with pytest.raises(ClosedError):
        await tasks[0]
    await (await connect(client(elections[2]).replicas)).delete(PATH)
    with pytest.raises(UnknownResourceError):
        await tasks[2]


# -- lead --------------------------------------------------------------------------------------------------------------


async def test_lead_is_a_scope_that_waits_so_long(elections: list[DistributedLeaderElection]) -> None:
    async with elections[0].lead() as term:
        assert await elections[1].epoch() == term.epoch
        with pytest.raises(LockTimeoutError):
            async with elections[1].lead(timeout=0.001):
                pass
    assert await elections[1].epoch() == 0


async def test_is_leader_is_of_this_session_and_that_epoch(elections: list[DistributedLeaderElection]) -> None:
    async with elections[0].lead() as term:
        asked = [(elections[0], term.epoch), (elections[0], term.epoch + 1), (elections[1], term.epoch)]
        assert [await election.is_leader(epoch) for election, epoch in asked] == [True, False, False]
    assert not await elections[0].is_leader(term.epoch)


# -- resigning ---------------------------------------------------------------------------------------------------------


async def test_resigning_cancels_the_body_of_others_and_run_goes_to_the_end_of_the_line(
    elections: list[DistributedLeaderElection], replicas: Replicas
) -> None:
    terms: list[Term] = []

    async def lead(term: Term) -> None:
        terms.append(term)
        await for_ever(term)

    task = await running(elections[0], lead)
    behind = await running(elections[1])
    assert await elections[0].resign() is True
    await turns()

    assert terms[0].lost
    assert holder(replicas) == client(elections[1]).session
    assert waiting(replicas) == [client(elections[0]).session]
    await stopped(behind)
    await turns()
    assert len(terms) == 2
    await stopped(task)


async def test_resigning_cancels_the_body_of_lead(election: DistributedLeaderElection, replicas: Replicas) -> None:
    async def lead() -> None:
        async with election.lead() as term:
            await for_ever(term)

    task = asyncio.ensure_future(lead())
    await turns()
    await election.resign()

    with pytest.raises(LeadershipLostError, match="was given back"):
        await task
    assert_nothing_is_left(replicas, election)


async def test_a_function_that_resigns_goes_on_and_returns(
    election: DistributedLeaderElection, replicas: Replicas
) -> None:
    async def lead(term: Term) -> str:
        assert await election.resign(term.epoch) is True
        assert term.lost
        await turns()
        return "resigned"

    assert await election.run(lead) == "resigned"
    assert_nothing_is_left(replicas, election)


async def test_whoever_does_not_lead_cannot_resign(elections: list[DistributedLeaderElection]) -> None:
    with pytest.raises(NotHeldError, match="does not lead"):
        elections[0].resign()
    async with elections[0].lead() as term:
        with pytest.raises(NotHeldError, match="in epoch 1,"):
            elections[0].resign(1)
        with pytest.raises(NotHeldError):
            elections[1].resign(term.epoch)


async def test_a_wait_that_cannot_be_is_refused(election: DistributedLeaderElection) -> None:
    with pytest.raises(ConfigurationError):
        async with election.lead(timeout=-1):
            pass


async def return_epoch(term: Term) -> int:
    return term.epoch
