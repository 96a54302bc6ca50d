"""The manager: paths lead to state machines, operations to the right one, and nothing a client sends stops a member."""

from typing import Any

import pytest

from copycat.errors import (
    ApplicationError,
    ConfigurationError,
    ResourceTypeError,
    SerializationError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
)
from copycat.handle import Copycat
from copycat.io.serializer import Serializer
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.entries import ItemKind, pack_types
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.wire import decode_results, encode_operations, encode_results
from copycat.resource import Executor, StateMachine
from copycat.resource.manager import MissingTypeError, ResourceManager
from copycat.resource.operations import CATALOG, CREATE, DELETE, EXISTS, GET, PAGE_MAX, PATHS
from copycat.testing.portrait import portrait
from tests.resource.harness import Replicas, connect
from tests.resource.machines import ADD, REMEMBER, Bank, BankAccount, Counter, CounterMachine, Receipt

COUNTER = ("test.counter", 1, 1)


@pytest.fixture
def replicas() -> Replicas:
    return Replicas(Counter, BankAccount, count=2)


@pytest.fixture
async def cc(replicas: Replicas) -> Copycat:
    return await connect(replicas)


def catalog(cc: Copycat) -> Any:
    """Commands and queries of target 0, as any client might send them."""
    client: Any = cc._client

    async def ask(operation_id: int, *arguments: Any) -> Any:
        if operation_id in (CREATE, DELETE):
            return await client.command(CATALOG, 0, operation_id, arguments)
        return await client.query(CATALOG, 0, operation_id, arguments, consistency=3)

    return ask


# -- the catalog -------------------------------------------------------------------------------------------------------


async def test_a_resource_is_known_by_the_index_of_its_creation(cc: Copycat) -> None:
    ask = catalog(cc)

    assert await ask(CREATE, "a", *COUNTER) == [3, *COUNTER]
    assert await ask(CREATE, "b", *COUNTER) == [4, *COUNTER]
    assert await ask(CREATE, "a", *COUNTER) == [3, *COUNTER]
    assert await ask(GET, "a") == [3, *COUNTER]
    assert await ask(GET, "c") is None
    assert (await ask(EXISTS, "b"), await ask(EXISTS, "c")) == (True, False)


async def test_a_path_holds_one_type(cc: Copycat) -> None:
    ask = catalog(cc)
    await ask(CREATE, "a", *COUNTER)

    with pytest.raises(ResourceTypeError, match=r"path .a. holds a .test\.counter. of version 1, not a .test\.bank."):
        await ask(CREATE, "a", "test.bank", 1, 1)
    with pytest.raises(ResourceTypeError, match="of version 2"):
        await ask(CREATE, "a", "test.counter", 2, 1)


async def test_a_path_freed_and_taken_again_is_another_resource(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)
    await counter.add(5)
    assert await counter.delete() is True
    assert await counter.delete() is False

    again = await cc.create("a", Counter)
    assert await again.total() == 0
    with pytest.raises(UnknownResourceError, match="there is no resource 3: it was deleted, or never was"):
        await counter.total()
    assert await counter.delete() is False
    assert await cc.exists("a")


async def test_a_deleted_resource_hears_no_timer_and_no_session(cc: Copycat, replicas: Replicas) -> None:
    counter = await cc.create("a", Counter)
    await counter.set_timer(1_000)
    machine = replicas.replicas[0].machine(3)
    await counter.delete()

    replicas.advance(2)
    replicas.register()
    assert machine.told == []
    assert len(replicas.replicas[0].clockwork.timers) == 0


async def test_a_machine_that_fails_to_be_deleted_is_deleted_all_the_same(cc: Copycat) -> None:
    counter = await cc.create("a", Counter)
    await counter.add(13)

    with pytest.raises(ApplicationError, match="unlucky"):
        await counter.delete()
    assert not await cc.exists("a")


async def test_paths_come_in_order_and_in_pages(cc: Copycat) -> None:
    ask = catalog(cc)
    for path in ["b/2", "a/1", "b/1", "c", "b", "b/10"]:
        await ask(CREATE, path, *COUNTER)
    await ask(CREATE, "b/bank", "test.bank", 1, 1)
    await ask(DELETE, "b/2", 0)

    assert await ask(PATHS, "", None, "", 100) == ["a/1", "b", "b/1", "b/10", "b/bank", "c"]
    assert await ask(PATHS, "b/", None, "", 2) == ["b/1", "b/10"]
    assert await ask(PATHS, "b/", None, "b/10", 2) == ["b/bank"]
    assert await ask(PATHS, "b/", None, "b/bank", 2) == []
    assert await ask(PATHS, "", "test.bank", "", 100) == ["b/bank"]
    assert await ask(PATHS, "", None, "a", 1) == ["a/1"]


async def test_no_answer_holds_more_paths_than_a_page(cc: Copycat) -> None:
    ask = catalog(cc)
    for number in range(PAGE_MAX + 1):
        await ask(CREATE, f"{number:05}", *COUNTER)

    assert len(await ask(PATHS, "", None, "", 1 << 40)) == PAGE_MAX
    assert len(await cc.paths()) == PAGE_MAX + 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", *COUNTER), ConfigurationError),
        (("é" * 257, *COUNTER), TooLargeError),
        ((5, *COUNTER), SerializationError),
        ((["a"], *COUNTER), SerializationError),
        (("a", 5, 1, 1), SerializationError),
        (("a", ["test.counter"], 1, 1), SerializationError),
        (("a", "test.counter", True, 1), SerializationError),
        (("a", "test.counter", 1, None), SerializationError),
        (("a",), ApplicationError),
        ((), ApplicationError),
    ],
)
async def test_what_cannot_be_created_is_a_result(
    cc: Copycat, replicas: Replicas, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await catalog(cc)(CREATE, *arguments)
    assert await cc.paths() == []


# -- types -------------------------------------------------------------------------------------------------------------


async def test_a_type_that_not_every_member_runs_cannot_be_created(cc: Copycat, replicas: Replicas) -> None:
    counter = await cc.create("there already", Counter)
    replicas.append(ItemKind.TYPES, 0, 0, 0, 1, pack_types([("test.bank", 1)]))

    with pytest.raises(UnknownResourceTypeError, match=r"'test\.counter' version 1 cannot be created"):
        await cc.create("new", Counter)
    assert replicas.replicas[0].manager.allowed == [("test.bank", 1)]
    assert await (await cc.create("there already", Counter)).total() == await counter.total() == 0


async def test_nothing_can_be_created_before_the_log_says_what(replicas: Replicas) -> None:
    manager = ResourceManager(Clockwork(), Serializer(), [CounterMachine])

    assert (manager.types, manager.allowed) == ([("test.counter", 1)], [])


async def test_a_member_halts_at_the_creation_of_a_type_it_lacks(replicas: Replicas) -> None:
    session = replicas.register()
    replicas.append(ItemKind.TYPES, 0, 0, 0, 1, pack_types([("acme.other", 3)]))
    blob = encode_operations([[CATALOG, 0, CREATE, "a", "acme.other", 3, 1]])

    with pytest.raises(MissingTypeError, match=r"'acme\.other' version 3 at .a., and this member was started"):
        replicas.append(ItemKind.COMMANDS, session, 1, 0, 1, blob)


def test_a_machine_that_cannot_be_configured_is_found_at_the_start() -> None:
    class Twice(StateMachine, name="test.twice"):
        def configure(self, executor: Executor) -> None:
            executor.register_command(1, print)
            executor.register_query(1, print)

    with pytest.raises(ConfigurationError, match="Twice registers operation 1 twice"):
        ResourceManager(Clockwork(), Serializer(), [Twice])
    with pytest.raises(ConfigurationError, match="one name and version"):
        ResourceManager(Clockwork(), Serializer(), [Bank, Bank])


# -- operations --------------------------------------------------------------------------------------------------------


async def test_each_operation_of_a_batch_has_its_own_index_target_and_outcome(cc: Copycat, replicas: Replicas) -> None:
    one, two = await cc.create("1", Counter), await cc.create("2", Counter)
    session = replicas.replicas[0].executor.sessions.get(2)
    assert session is not None
    batch: list[list[Any]] = [
        [3, 7, 1, 10],
        [3, 8, 1, -1],
        [4, 9, 1, 20],
        [99, 1, 1, 1],
        [3, 7, 1, 1],
        [3, 7, 55],
        [3, 7, 2],
        [3, 7, 1, "x"],
        [3, 7, 1, 1, 1, 1],
    ]

    results = decode_results(encode_results(replicas.replicas[0].manager.execute(session, 100, batch, alike=False)))
    assert results[0] == [10, 100, 7]
    assert (results[1].kind, results[1].message) == ("ValueError", "cannot add -1")
    assert results[2] == [20, 102, 9]
    assert results[3].kind == "UnknownResourceError"
    assert results[4] == [11, 104, 7]
    assert [each.kind for each in results[5:]] == ["UnknownOperation", "UnknownOperation", "TypeError", "TypeError"]
    assert (await one.total(), await two.total()) == (11, 20)


async def test_a_result_is_what_it_was_when_its_operation_ended(cc: Copycat, replicas: Replicas) -> None:
    """A machine may answer with its own list, and go on changing it in the same batch."""
    await cc.create("a", Counter)
    session = replicas.replicas[0].executor.sessions.get(2)
    assert session is not None

    results = replicas.replicas[0].manager.execute(
        session, 100, [[3, 1, REMEMBER, "one"], [3, 1, REMEMBER, "two"]], alike=False
    )
    assert decode_results(encode_results(results)) == [["one"], ["one", "two"]]


async def test_an_error_that_cannot_say_what_it_is_stops_nothing(cc: Copycat, replicas: Replicas) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("mute")

    class Raising(int):
        def __lt__(self, other: object) -> bool:
            raise MuteError

    await cc.create("a", Counter)
    session = replicas.replicas[0].executor.sessions.get(2)
    assert session is not None

    assert replicas.replicas[0].manager.execute(session, 100, [[3, 1, ADD, Raising(1)]], alike=False) == [
        Failure("MuteError", "")
    ]


@pytest.mark.parametrize("error", [MemoryError, RecursionError, ImportError, OSError])
async def test_what_says_that_the_member_is_unwell_halts_it(
    cc: Copycat, replicas: Replicas, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Unwell(int):
        def __lt__(self, other: object) -> bool:
            raise error("unwell")

    await cc.create("a", Counter)
    session = replicas.replicas[0].executor.sessions.get(2)
    assert session is not None

    for others in ([], [[3, 1, 1, 1]]):
        with pytest.raises(error, match="unwell"):
            replicas.replicas[0].manager.execute(session, 100, [[3, 1, 1, Unwell(1)], *others], alike=False)


async def test_a_query_without_a_session_is_nobodys(cc: Copycat, replicas: Replicas) -> None:
    await cc.create("a", Counter)

    assert replicas.replicas[0].manager.query(None, [[3, 1, 2]], alike=False) == [0]


# -- sessions and timers -----------------------------------------------------------------------------------------------


async def test_every_resource_hears_of_every_session_and_expire_comes_before_close(
    cc: Copycat, replicas: Replicas
) -> None:
    one, two = await cc.create("1", Counter), await cc.create("2", Counter)
    session = replicas.register()
    replicas.end(session, expired=True)
    other = replicas.register()
    replicas.end(other)

    heard = [["register", session], ["expire", session], ["close", session], ["register", other], ["close", other]]
    assert await one.told() == await two.told() == heard


async def test_a_timer_fires_in_its_own_resource(cc: Copycat, replicas: Replicas) -> None:
    one, two = await cc.create("1", Counter), await cc.create("2", Counter)
    await two.set_timer(1_500)
    replicas.advance(2)

    assert await one.told() == []
    ((word, _, time),) = await two.told()
    assert (word, time) == ("timer", 3_000)


async def test_a_replay_of_the_log_makes_the_same_state(cc: Copycat, replicas: Replicas) -> None:
    counter, bank = await cc.create("1", Counter), await cc.create("2", BankAccount)
    await counter.add(1)
    assert await bank.deposit(5, "first") == Receipt(5, 6)
    await counter.set_timer(10)
    await cc.close()
    replicas.advance(1)

    fresh = replicas.replay()
    for index in (3, 4):
        before, after = replicas.replicas[1].machine(index), fresh.machine(index)
        assert portrait(before) == portrait(after)
