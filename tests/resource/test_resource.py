"""Resource, for the authors of resources: the quick way, the class way, and what is told to whoever errs."""

from asyncio import Future
from typing import Any, Generic, TypeVar

import pytest

from copycat.errors import (
    ApplicationError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    Outcome,
    ResourceTypeError,
    SerializationError,
    UnknownResourceError,
)
from copycat.handle import Copycat
from copycat.resource import ConsistencyLevel, Query, Resource, StateMachine
from copycat.resource.resource import resource_class
from tests.resource.harness import Replicas, connect
from tests.resource.machines import (
    Balance,
    Bank,
    BankAccount,
    Broken,
    Counter,
    CounterMachine,
    Deposit,
    Notes,
    Receipt,
    Unnumbered,
)


@pytest.fixture
async def cc() -> Copycat:
    return await connect(Replicas(Counter, BankAccount, count=2))


@pytest.fixture
async def bank(cc: Copycat) -> BankAccount:
    return await cc.create("bank", BankAccount)


def calls(cc: Copycat) -> list[dict[str, Any]]:
    client: Any = cc._client
    found: list[dict[str, Any]] = client.calls
    return found


# -- the quick way -----------------------------------------------------------------------------------------------------


async def test_two_handles_are_two_participants(cc: Copycat) -> None:
    first, second = await cc.create("a", Counter), await cc.create("a", Counter)

    assert [(await each.add(1))[2] for each in (first, second, first, first.with_timeout(1))] == [1, 2, 1, 1]


async def test_what_the_state_machine_raises_is_raised_where_it_is_awaited(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)
    refused = counter.add(-1)

    with pytest.raises(ApplicationError, match="cannot add -1") as caught:
        await refused
    assert (caught.value.kind, caught.value.outcome) == ("ValueError", Outcome.APPLIED)


async def test_repr_names_path_state_and_leader(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)

    assert repr(counter) == "<Counter 'a' CONNECTED leader=a>"
    await cc.close()
    assert repr(counter) == "<Counter 'a' CLOSED leader=None>"
    await counter.close()
    assert repr(counter) == "<Counter 'a' closed>"


async def test_a_closed_handle_refuses_and_the_resource_stays(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)
    await counter.add(1)
    await counter.close()

    with pytest.raises(ClosedError, match="this handle on Counter 'a' is closed; create or get another"):
        counter.add(1)
    for call in (counter.total, counter.delete):
        with pytest.raises(ClosedError):
            call()
    assert await (await cc.get("a", Counter)).total() == 1


async def test_a_deleted_resource_is_unknown_to_every_handle(cc: Copycat) -> None:
    first, second = await cc.create("a", Counter), await cc.create("a", Counter)
    await first.delete()

    with pytest.raises(UnknownResourceError):
        await second.add(1)


# -- the class way -----------------------------------------------------------------------------------------------------


async def test_results_come_back_as_the_type_the_operation_names(bank: BankAccount) -> None:
    receipt = await bank.deposit(5, "rent")

    assert receipt == Receipt(5, 4)
    assert await bank.submit(Balance()) == 5
    assert await bank.submit(Notes()) == ["rent"]


async def test_a_result_of_none_is_none(bank: BankAccount) -> None:
    assert await bank.submit(Notes()) is None


async def test_a_level_is_the_calls_or_the_handles_or_the_querys(cc: Copycat, bank: BankAccount) -> None:
    class Lax(Query[int], id=2):
        consistency = ConsistencyLevel.SERIALIZABLE

        def arguments(self) -> tuple[Any, ...]:
            return ()

    async def level(asked: Future[int]) -> Any:
        await asked
        return calls(cc)[-1]["consistency"]

    lease = ConsistencyLevel.LINEARIZABLE_LEASE
    assert await level(bank.submit(Balance())) == ConsistencyLevel.LINEARIZABLE
    assert await level(bank.submit(Lax())) == ConsistencyLevel.SERIALIZABLE
    assert await level(bank.with_consistency(lease).submit(Lax())) == lease
    assert await level(bank.submit(Lax(), consistency=lease)) == lease


async def test_a_result_of_another_type_names_the_operation(bank: BankAccount) -> None:
    with pytest.raises(DecodeError, match="BankAccount 'bank': the result of Broken is no int: ") as caught:
        await bank.submit(Broken())
    assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("operation", "options", "error", "message"),
    [
        ("text", {}, ConfigurationError, "only a Command or a Query can be submitted, not 'text'"),
        (Deposit, {}, ConfigurationError, "only a Command or a Query can be submitted"),
        (Unnumbered(), {}, ConfigurationError, "operation Unnumbered has no id: declare it with `id=`"),
        (Deposit(1), {"consistency": ConsistencyLevel.SERIALIZABLE}, ConfigurationError, "Deposit is a command"),
        (Deposit(object()), {}, SerializationError, "object"),  # type: ignore[arg-type]  # the mistake
        (Balance(), {"consistency": 7}, ConfigurationError, "7 is no ConsistencyLevel"),
    ],
)
async def test_a_mistake_raises_at_the_call_and_sends_nothing(
    cc: Copycat, bank: BankAccount, operation: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = len(calls(cc))

    with pytest.raises(error, match=message):
        bank.submit(operation, **options)
    assert len(calls(cc)) == before


# -- classes -----------------------------------------------------------------------------------------------------------

T = TypeVar("T")


class Box(Resource, Generic[T], machine=CounterMachine):
    pass


def test_type_arguments_are_found_and_variables_mean_anything() -> None:
    assert resource_class(Box) == (Box, ())
    assert resource_class(Box[int]) == (Box, (int,))
    assert resource_class(Box[T]) == (Box, (Any,))  # type: ignore[valid-type]  # as a generic function might say


def test_a_subclass_has_the_machine_of_its_base() -> None:
    class Special(Counter):
        pass

    assert Special.machine_class() is CounterMachine


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (dict, ResourceTypeError, "<class 'dict'> is no Resource class"),
        ("map", ResourceTypeError, "'map' is no Resource class"),
        (None, ResourceTypeError, "None is no Resource class"),
        (Bank, ResourceTypeError, r"it is a state machine; write class X\(Resource, machine=Bank\) and use that"),
        (Resource, ConfigurationError, r"Resource names no state machine: class X\(Resource, machine=XMachine\)"),
    ],
)
def test_what_is_no_resource_class_is_named(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resource_class(wrong)


async def test_a_handle_is_not_its_class(bank: BankAccount) -> None:
    with pytest.raises(ResourceTypeError, match="it is a handle; give its class"):
        resource_class(bank)  # type: ignore[arg-type]  # the mistake


def test_a_machine_needs_a_name() -> None:
    class Nameless(StateMachine):
        pass

    with pytest.raises(ConfigurationError, match="machine= of resource Wrong must be a StateMachine class with a name"):

        class Wrong(Resource, machine=Nameless):
            pass
